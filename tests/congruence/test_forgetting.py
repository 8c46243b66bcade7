"""Forgetting equals never having stored: the same probabilities, bit for bit."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extmem import Memory
from extmem.indexes.datastore import Datastore, Entries

DIM = 6
KEYS = ["a", "b", "c", "d", "e"]


def entries(record_id: int, seed: int, count: int) -> Entries:
    random = np.random.default_rng(seed)
    keys = random.normal(size=(count, DIM)).astype(np.float32)
    spans = np.stack([np.arange(count), np.arange(count) + 1], axis=1)
    return Entries(record_id, keys, random.integers(0, 9, count), spans)


def memorize(memory: Memory, key: str, seed: int, count: int) -> None:
    with memory.transaction():
        memory.store(key, f"text {seed}")
        record = memory.records.find(key)
        assert record is not None
        datastore = memory.datastore("model", DIM)
        if not datastore.holds(record.id):
            datastore.append([entries(record.id, seed, count)])


def answers(memory: Memory) -> tuple:
    datastore: Datastore = memory.datastore("model", DIM)
    queries = np.random.default_rng(99).normal(size=(25, DIM)).astype(np.float32)
    found, distances = datastore.search(queries, 12)
    cited = [
        None if entry < 0 else (memory.records.by_id(datastore.cite(entry)[0]).key, datastore.cite(entry)[1])
        for entry in found.flatten()
    ]
    tokens = np.where(found < 0, -1, datastore.tokens[found] if len(datastore) else -1)
    weights = np.exp(-distances)
    hits = [(hit.key, hit.score) for hit in memory.search("text 1 2 3")]
    return distances.tobytes(), tokens.tobytes(), weights.tobytes(), cited, hits, list(memory.keys())


stores = st.tuples(st.just("store"), st.sampled_from(KEYS), st.integers(0, 40), st.integers(1, 30))
forgets = st.tuples(st.just("forget"), st.sampled_from(KEYS))


@pytest.mark.parametrize("place", ["ram", "folder"])
@settings(max_examples=60)
@given(steps=st.lists(stores | forgets, max_size=14), victim=st.sampled_from(KEYS))
def test_forgetting_equals_never_having_stored(place, steps, victim):
    with tempfile.TemporaryDirectory() as folder:
        paths = [None, None] if place == "ram" else [Path(folder) / "with.mem", Path(folder) / "without.mem"]
        with Memory(paths[0]) as memory, Memory(paths[1]) as never:
            for kind, key, *how in steps:
                for one in (memory, never):
                    if key == victim and one is never:
                        continue
                    if kind == "store":
                        memorize(one, key, *how)
                    else:
                        one.forget(key)
            memory.forget(victim)
            assert answers(memory) == answers(never)
            assert memory.verify() == []


def test_no_file_holds_the_entries_of_a_forgotten_record(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memorize(memory, "kept", 1, 20)
        memorize(memory, "gone", 2, 20)
        marker = entries(0, 2, 20).keys.astype(np.float16).tobytes()[:64]
        held = [path for path in tmp_path.rglob("*.safetensors") if marker in path.read_bytes()]
        assert held, "the marker is there before"
        memory.forget("gone")
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and marker in path.read_bytes()]


def test_a_datastore_opened_elsewhere_sees_what_was_stored_and_forgotten(tmp_path):
    with Memory(tmp_path / "m") as writer, Memory(tmp_path / "m") as reader:
        memorize(writer, "a", 1, 20)
        assert len(reader.datastore("model", DIM)) == 20
        memorize(writer, "b", 2, 7)
        assert answers(reader) == answers(writer)
        reader.forget("a")
        assert len(writer.datastore("model", DIM)) == 7
        assert answers(reader) == answers(writer)


def test_what_fails_inside_a_transaction_leaves_nothing(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memorize(memory, "a", 1, 20)
        before = answers(memory)
        with pytest.raises(RuntimeError, match="stop"), memory.transaction():
            memorize(memory, "b", 2, 20)
            memory.forget("a")
            raise RuntimeError("stop")
        assert answers(memory) == before
