"""Erasing is real: after `forget` returns no file of the memory holds what was forgotten."""

from __future__ import annotations

import random
import signal
import string
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from figures import SEED, Figures, rounds

from extmem import Memory
from extmem.indexes.datastore import Entries


@pytest.fixture
def chance() -> random.Random:
    return random.Random(SEED)


def marker(chance: random.Random) -> str:
    """A word that nothing else holds. Stemming and prefix compression leave its middle whole."""
    return "".join(chance.choices("bcdfghjklmnpqrtvwxz", k=24))


def holding(folder: Path, word: str) -> list[str]:
    """The files that hold the word, or the middle of it, in any of the ways text is written."""
    parts = [part.encode(code) for part in (word, word.upper(), word[6:16]) for code in ("utf-8", "utf-16-le")]
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if any(part in path.read_bytes() for part in parts)]


def keep(memory: Memory, key: str, value: object, seed: int) -> None:
    """Stores it, indexes its words, memorizes entries of it."""
    with memory.transaction():
        memory.store(key, value)
        vectors = np.random.default_rng(seed).normal(size=(20, 4)).astype(np.float32)
        entries = Entries(memory.record(key).id, vectors, np.arange(20), np.zeros((20, 2), int))
        memory.datastore("model", 4).append([entries])
    memory.search("word")


WAYS = [
    "value",
    "key",
    "metadata",
    "author",
    "history",
    "validity",
    "overwritten",
    "many",
    "namespace",
    "json",
    "bytes",
]


@pytest.mark.parametrize("way", WAYS)
def test_what_was_forgotten_is_in_no_file(tmp_path, way, chance):
    folder, figures = tmp_path / "m", Figures(f"forgotten: {way}")
    with Memory(folder) as memory, Memory(folder) as other:
        for number in range(300):
            memory.store(f"other {number}", f"other words {number} " * 5)
        for turn in range(rounds(2, 30)):
            word, here = marker(chance), memory.namespace("alice") if way == "namespace" else memory
            key = word if way == "key" else f"key {turn}"
            text = f"word {word} " * chance.choice([1, 40, 900])
            if way in ("metadata", "author"):
                here.store(key, "word", metadata={"a": [text]}, author=text)
            elif way == "history":
                here.keep_history()
                here.store(key, text)
                here.store(key, "another")
            elif way == "validity":
                here.store(key, text, valid_from=1.0, valid_to=2.0)
                here.store(key, "later", valid_from=3.0)
            elif way == "overwritten":
                here.store(key, text)
                here.store(key, "clean")
            else:
                value = {"json": {"a": [text]}, "bytes": text.encode(), "key": "word"}.get(way, text)
                keep(here, key, value, turn)
            here.search("word")
            other.retrieve(key)
            assert way == "overwritten" or holding(folder, word), "it was there"
            if way == "namespace":
                assert memory.drop_namespace("alice")
            elif way == "many":
                assert here.forget_many([key, "other 1"])
            else:
                assert here.forget(key)
            figures.rounds += 1
            figures.checked += sum(path.is_file() for path in folder.rglob("*"))
            if left := holding(folder, word):
                figures.fail(f"turn {turn}: still in {left}")
            else:
                figures.outcomes["right"] += 1
        assert memory.verify() == []
    figures.close("markers, all files searched each time")


def test_no_piece_of_what_moved_between_pages_is_left(tmp_path, chance):
    """Rows move as the trees grow and shrink, and SQLite leaves pieces of them where no row lies."""
    words = [marker(chance) for _ in range(rounds(6_000, 60_000))]
    figures = Figures("forgotten among many, pieces of 12 letters")
    with Memory(tmp_path / "m") as memory:
        memory.store_many((word, f"value {word[::-1]}") for word in words)
        chance.shuffle(words)
        gone, kept = words[::2], words[1::2]
        memory.forget_many(gone[:-20])
        for word in gone[-20:]:
            memory.forget(word)
        content = b"".join(path.read_bytes() for path in (tmp_path / "m").rglob("*") if path.is_file())
        letters = bytes(range(ord("a"), ord("z") + 1))
        runs = content.translate(bytes(byte if byte in letters else 32 for byte in range(256))).split()
        pieces = {run[start : start + 12] for run in runs for start in range(len(run) - 11)}
        assert all(kept[0][start : start + 12].encode() in pieces for start in range(13)), "the search finds one"
        for word in gone:
            figures.rounds, figures.checked = figures.rounds + 1, figures.checked + 26
            parts = [way[start : start + 12].encode() for way in (word, word[::-1]) for start in range(13)]
            if pieces.isdisjoint(parts):
                figures.outcomes["right"] += 1
            else:
                figures.fail(f"a piece of {word}")
        assert set(memory.keys()) == set(kept) and memory.verify() == []
    figures.close("keys and values")


def test_what_has_expired_is_in_no_file_once_anything_is_asked(tmp_path, chance, monkeypatch):
    import time

    word, real = marker(chance), time.time
    with Memory(tmp_path / "m") as memory:
        memory.store("k", f"word {word}", ttl=60)
        memory.search("word")
        assert holding(tmp_path / "m", word)
        monkeypatch.setattr(time, "time", lambda: real() + 61)
        assert len(memory) == 0
        assert holding(tmp_path / "m", word) == []


STORE = """
import sys
from extmem import Memory
memory = Memory(sys.argv[1])
memory.store("k", sys.argv[2] * 30)
memory.search(sys.argv[2])
print("stored", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_left_is_erased_as_well(tmp_path, chance):
    word = marker(chance)
    child = subprocess.Popen(
        [sys.executable, "-c", STORE, str(tmp_path / "m"), f"{word} "], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout.readline() == b"stored\n"
        child.send_signal(signal.SIGKILL)
    assert holding(tmp_path / "m", word)
    with Memory(tmp_path / "m") as memory:
        assert memory.forget("k")
        assert holding(tmp_path / "m", word) == []


def test_what_is_encrypted_is_in_no_file_from_the_beginning(tmp_path, chance):
    word = marker(chance)
    with Memory(tmp_path / "m", key=bytes(32), author=word) as memory:
        memory.keep_history()
        for place in (memory, memory.namespace(word)):
            keep(place, f"key {word}", f"word {word}", 1)
            place.store(f"key {word}", f"another {word}", metadata={word: word})
            assert place.search(word)
        assert holding(tmp_path / "m", word) == []


def test_the_search_for_markers_finds_one(tmp_path):
    (tmp_path / "file").write_bytes(b"..." + string.ascii_lowercase.encode() + b"...")
    assert holding(tmp_path, string.ascii_lowercase) == ["file"]


DROP = """
import os, signal, sys
from pathlib import Path
from extmem import Memory
memory = Memory(sys.argv[1])
Path.unlink = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
memory.drop_namespace("alice")
"""


def test_the_files_of_a_namespace_whose_dropping_was_killed_go_when_the_memory_is_opened(tmp_path):
    with Memory(tmp_path / "m") as memory:
        keep(memory.namespace("alice"), "k", "word", 1)
        keep(memory.namespace("alice").namespace("work"), "k", "word", 1)
        keep(memory.namespace("bob"), "k", "word", 1)
    assert len(list((tmp_path / "m").rglob("*.safetensors"))) == 3
    assert subprocess.run([sys.executable, "-c", DROP, tmp_path / "m"]).returncode == -signal.SIGKILL
    assert len(list((tmp_path / "m").rglob("*.safetensors"))) == 3
    with Memory(tmp_path / "m") as memory:
        assert memory.namespaces() == ["bob"] and memory.verify() == []
        assert len(list((tmp_path / "m").rglob("*.safetensors"))) == 1
        assert len(memory.namespace("bob").datastore("model", 4)) == 20
