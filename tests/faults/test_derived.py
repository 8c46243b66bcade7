"""What is derived, under mishaps: namespaces side by side, damaged segments, rollbacks, threads."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from extmem import ExternalMemoryLayer, LanguageModel, Memory, Reading
from extmem.errors import InvalidInput, MemoryFormatError

TEXT = "The value of the first item is a list of the names."


def segments(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def test_namespaces_keep_their_datastores_apart(model: LanguageModel, tmp_path):
    memory = Memory(tmp_path / "m")
    spaces = [memory, memory.namespace("alice"), memory.namespace("bob")]
    for number, space in enumerate(spaces):
        model.memorize(space, {f"k{number}": TEXT * (number + 1)})
    sizes = [len(model.datastore(space)) for space in spaces]
    spaces[1].forget("k1")
    with Memory(tmp_path / "m") as again:
        handles = [again, again.namespace("alice"), again.namespace("bob")]
        assert [len(model.datastore(space)) for space in handles] == [sizes[0], 0, sizes[2]]
        assert again.verify() == []
    assert len(segments(tmp_path / "m")) == 2


def test_verify_looks_into_every_namespace(model, tmp_path):
    memory = Memory(tmp_path / "m")
    model.memorize(memory.namespace("a").namespace("b"), {"k": TEXT})
    assert memory.verify() == []
    segments(tmp_path / "m")[0].unlink()
    assert ["namespace a/b" in line for line in Memory(tmp_path / "m").verify()] == [True]


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_segment_is_named_and_mended_by_rebuild_and_memorize(model, tmp_path, damage):
    with Memory(tmp_path / "m") as memory:
        model.memorize(memory, {"a": TEXT, "b": TEXT * 2})
        whole = len(model.datastore(memory))
    (path,) = segments(tmp_path / "m")
    path.unlink() if damage == "missing" else path.write_bytes(path.read_bytes()[:200])
    with Memory(tmp_path / "m") as memory:
        with pytest.raises(MemoryFormatError, match="extmem verify --repair"):
            model.generate("The value", memory)
        assert memory.verify()
        memory.repair()
        assert model.memorize(memory, {"a": TEXT, "b": TEXT * 2}).documents == 2
        assert len(model.datastore(memory)) == whole
        assert memory.verify() == []


def test_a_damaged_segment_does_not_keep_a_record_from_being_forgotten(model, tmp_path):
    with Memory(tmp_path / "m") as memory:
        model.memorize(memory, {"a": TEXT})
    segments(tmp_path / "m")[0].write_bytes(b"cut")
    with Memory(tmp_path / "m") as memory:
        assert memory.forget("a")
        assert memory.verify() == []
    assert segments(tmp_path / "m") == []


@pytest.mark.parametrize("place", ["ram", "folder"])
def test_what_was_rolled_back_is_read_no_more(model, tmp_path, place):
    memory = Memory(None if place == "ram" else tmp_path / "m")
    model.memorize(memory, {"a": TEXT})
    before = len(model.datastore(memory))
    with pytest.raises(RuntimeError), memory.transaction():
        model.memorize(memory, {"b": TEXT})
        assert len(model.datastore(memory)) == 2 * before
        raise RuntimeError
    assert len(model.datastore(memory)) == before
    assert memory.verify() == []


def test_a_thread_that_comes_later_reads_what_is_there_then(model, tmp_path):
    memory = Memory(tmp_path / "m")
    model.memorize(memory, {"a": TEXT, "b": TEXT})
    seen: list[int] = []

    def read() -> None:
        seen.append(len(model.datastore(memory)))

    for forgotten in ("a", "b"):
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        memory.forget(forgotten)
    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert seen[0] == 2 * seen[1] > 0 == seen[2]


def test_threads_find_what_is_in_ram_while_it_is_written():
    memory, missed = Memory(), []
    memory.store("k", "fruit")

    def read() -> None:
        try:
            for _ in range(300):
                if memory.retrieve("k") is None or not memory.search("fruit"):
                    missed.append("a record that is there")
        except BaseException as error:
            missed.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(300):
        memory.store("k", f"fruit {number}")
    for reader in readers:
        reader.join()
    assert missed == []


class Few:
    """Finds one entry of the three asked for."""

    def nearest(self, queries: np.ndarray, k: int) -> Reading:
        entries = np.full((len(queries), k), -1)
        entries[:, 0] = 5
        return Reading(entries, np.zeros((len(queries), k), np.float32), np.ones((len(queries), k, 8), np.float32))


@pytest.mark.parametrize("slots", [0, 2])
def test_the_layer_gives_no_weight_to_entries_that_are_not_there(slots):
    layer = ExternalMemoryLayer(8, slots=slots, neighbours=3)
    read = layer.retrieve(layer.empty(1), torch.randn(1, 4, 8), Few())
    assert torch.equal(read.weights[:, :, slots + 1 :], torch.zeros(1, 4, 2))
    assert torch.allclose(read.weights.sum(2), torch.ones(1, 4))


def test_folders_with_files_of_one_name_are_not_memorized_over_one_another(model, tmp_path):
    for folder in ("p", "q"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.txt").write_text(TEXT)
    with pytest.raises(InvalidInput, match=r"both hold a document 'x.txt'"):
        model.memorize(Memory(), [tmp_path / "p", tmp_path / "q"])


def test_a_fit_needs_something_memorized(model, corpus):
    with pytest.raises(InvalidInput, match="memorize first"):
        model.fit(Memory(), corpus.parent / "held-out.txt")
