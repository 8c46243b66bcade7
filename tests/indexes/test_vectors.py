"""The embeddings of records are what they would be had they been made anew, whatever happened meanwhile."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from letters import Letters

from extmem import Memory
from extmem.errors import InvalidInput
from extmem.indexes.datastore import Datastore, Entries, Limits
from extmem.indexes.quantizer import Quantizer
from extmem.indexes.vectors import BEGINS, HEAD, QUANTIZERS, TOGETHER, VectorIndex, parts
from extmem.reading import Span
from extmem.text.encoder import Encoder

FRUIT = {"apple": "A red fruit", "car": "It has four wheels", "pear": "A green fruit, sweet"}
KEY = bytes(range(32))
_numbers = itertools.count()


@pytest.fixture(params=["ram", "folder", "postgres", "sealed folder"])
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Memory]:
    place: str | Path | None = None if request.param == "ram" else tmp_path / "memory"
    if request.param == "postgres":
        place = f"{request.getfixturevalue('postgres').url}?extmem_schema=vectors_{next(_numbers)}"
    with Memory(place, key=KEY if request.param.startswith("sealed") else None) as opened:
        yield opened


def index_of(memory: Memory, encoder: Encoder | None = None) -> VectorIndex:
    return VectorIndex(memory.records, encoder or Letters(), memory.derived.datastore)


def found(memory: Memory, index: VectorIndex, query: str, k: int = 10) -> list[tuple[str, float, Span]]:
    """What a search finds, by key, with its similarity and its passage."""
    vector = index.encoder.encode_query(query)
    ids = index.nearest(vector, k)
    alike = index.similarity(ids, vector[None])[0]
    spans = index.passages(ids.tolist(), vector)
    return [
        (memory.records.by_id(number).key, score, spans.get(number))
        for number, score in zip(ids.tolist(), alike.tolist(), strict=True)
    ]


def test_the_nearest_record_comes_first_with_its_passage(memory):
    memory.store_many(FRUIT.items())
    memory.store("picture", b"\x00\x01")
    memory.store("blank", " ")
    memory.store("list", ["a", {"b": "four wheels"}])
    index, seen = index_of(memory), []
    assert index.waiting() == 6
    assert index.catch_up(lambda done, total: seen.append((done, total))) == 4
    assert seen == [(6, 6)] and index.waiting() == 0 and index.catch_up() == 0
    best = found(memory, index, "A red fruit")
    assert [key for key, _, _ in best][:2] == ["apple", "pear"] and len(best) == 4
    assert best[0][1] == pytest.approx(1, abs=1e-2) and best[0][2] == Span(0, 11)
    assert found(memory, index, "A red fruit", 2) == best[:2]
    assert index.verify() == memory.verify() == []


def test_a_record_counts_once_with_its_best_passage(memory):
    sentences = [f"{word} " * 100 + "end." for word in ("apple", "wheel", "zebra")]
    text = " ".join(sentences)
    memory.store("long", text)
    memory.store("short", "zebra")
    index = index_of(memory)
    index.catch_up()
    assert len(index.datastore) == 5, "how the long one begins, its three passages, the short one"
    best = found(memory, index, "zebra", 5)
    assert sorted(key for key, _, _ in best) == ["long", "short"]
    span = dict((key, span) for key, _, span in best)["long"]
    assert text[span.start : span.end] == sentences[2]


def test_a_similarity_is_of_how_a_record_begins_and_of_its_best_passage(memory):
    memory.store_many([*FRUIT.items(), ("long", "apple " * 200 + "end. " + "zebra " * 150 + "end.")])
    index = index_of(memory)
    index.catch_up()
    memory.store("new", "A red fruit")
    ids = np.array([memory.record(key).id for key in ("new", "long", "car")])
    queries = index.encoder.encode_queries(["sweet fruit", "zebra"])
    texts = [part for part, _ in parts(memory.record("long"))]
    assert len(texts) > 2 and texts[0] == ("apple " * HEAD).strip()
    cosines = queries @ index.encoder.encode(texts).T
    expected = [
        np.zeros(2),
        BEGINS * cosines[:, 0] + (1 - BEGINS) * cosines.max(1),
        queries @ index.encoder.encode([FRUIT["car"]])[0],
    ]
    assert np.allclose(index.similarity(ids, queries), np.array(expected).T, atol=2e-3)
    assert index.similarity(ids[:0], queries).shape == (2, 0)


def test_forgetting_and_overwriting_reach_the_embeddings(memory):
    memory.store_many(FRUIT.items())
    index = index_of(memory)
    index.catch_up()
    memory.forget("apple")
    memory.store("pear", "four wheels as well")
    assert [key for key, _, _ in found(memory, index, "A red fruit")] == ["car"]
    assert index.waiting() == 1
    index.catch_up()
    assert {key for key, _, _ in found(memory, index, "wheels")} == {"car", "pear"}
    assert memory.verify() == index.verify() == []
    with memory.transaction():
        index.clear()
    assert index.waiting() == 2 and found(memory, index, "wheels") == []


def test_namespaces_know_nothing_of_each_other(memory):
    alice = memory.namespace("alice")
    alice.store("apple", "A red fruit")
    memory.store("car", "It has four wheels")
    index, hers = index_of(memory), index_of(alice)
    index.catch_up()
    hers.catch_up()
    assert [key for key, _, _ in found(memory, index, "A red fruit")] == ["car"]
    assert [key for key, _, _ in found(alice, hers, "four wheels")] == ["apple"]
    with alice.transaction():
        hers.discard(alice.record("apple"))
        alice.forget("apple")
    assert memory.namespaces() == []


def test_another_encoder_drops_the_embeddings_of_the_one_before(memory):
    memory.store_many(FRUIT.items())
    index_of(memory).catch_up()
    other = index_of(memory, Letters(dim=24, name="other"))
    assert other.waiting() == 3 and found(memory, other, "A red fruit") == []
    assert other.catch_up() == 3
    assert list(memory.records.ledger("datastore")) == [other.datastore.fingerprint]
    assert list(memory.records.ledger("embedded")) == [other.encoder.fingerprint]
    assert found(memory, other, "A red fruit")[0][0] == "apple"
    assert len(index_of(memory).datastore) == 0 and index_of(memory).waiting() == 3


@pytest.mark.parametrize("vector", [np.ones(3, np.float32), np.full(32, np.nan, np.float32)])
def test_a_vector_that_is_none_is_refused(vector):
    memory = Memory()
    memory.store("a", "b")
    index = index_of(memory)
    index.catch_up()
    with pytest.raises(InvalidInput):
        index.nearest(vector, 3)


def test_what_is_damaged_is_told_struck_out_and_embedded_again(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memory.store_many(FRUIT.items())
        index_of(memory).catch_up()
        before = found(memory, index_of(memory), "A red fruit")
        for file in filter(Path.is_file, (tmp_path / "m" / "datastores").rglob("*")):
            file.write_bytes(file.read_bytes()[:-9])
        index = index_of(memory)
        assert index.verify() != []
        with memory.transaction():
            index.mend()
        assert index.catch_up() == 3
        assert found(memory, index, "A red fruit") == before and index.verify() == []


class Meddling(Letters):
    """Does something while it encodes."""

    def __init__(self, meddle) -> None:
        super().__init__()
        self.meddle = meddle

    def embed(self, texts: Sequence[str], query: bool) -> np.ndarray:
        meddle, self.meddle = self.meddle, lambda: None
        meddle()
        return super().embed(texts, query)


def test_what_changes_while_it_encodes_is_seen(memory):
    memory.store_many(FRUIT.items())

    def meddle() -> None:
        memory.forget("apple")
        memory.store("car", "A new text")
        index_of(memory).catch_up()

    index = index_of(memory, Meddling(meddle))
    assert index.catch_up() == 0
    assert len(index.datastore) == 2 and index.waiting() == 0 and index.verify() == []


def test_threads_that_catch_up_at_once_embed_nothing_twice(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memory.store_many((str(number), f"text of {number}") for number in range(2 * TOGETHER + 10))
        threads = [threading.Thread(target=index_of(memory).catch_up) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(index_of(memory).datastore) == 2 * TOGETHER + 10 and index_of(memory).verify() == []


WORKER = """
import sys
from extmem import Memory
from extmem.indexes.vectors import VectorIndex
from letters import Letters
memory = Memory(sys.argv[1])
VectorIndex(memory.records, Letters(), memory.derived.datastore).catch_up(lambda done, total: print(done, flush=True))
"""


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_a_killed_process_loses_at_most_a_batch(tmp_path, batches):
    count = 5 * TOGETHER + 7
    with Memory(tmp_path / "m") as memory:
        memory.store_many((str(number), f"text of {number}") for number in range(count))
    words = [sys.executable, "-c", WORKER, str(tmp_path / "m")]
    with subprocess.Popen(words, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True) as worker:
        for _ in range(batches):
            worker.stdout.readline()
        os.kill(worker.pid, signal.SIGKILL)
    with Memory(tmp_path / "m") as memory:
        index = index_of(memory)
        left = index.waiting()
        assert left <= count - batches * TOGETHER
        assert len(index.datastore) == count - left and index.verify() == memory.verify() == []
        assert index.catch_up() == left
        assert len(index.datastore) == count and index.verify() == []


KEYS = ["a", "b", "c", "d"]
WORDS = ["apple", "red", "wheel", "苹果。", "Then.", "end.\n"]
texts = st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join)
stores = st.tuples(st.just("store"), st.sampled_from(KEYS), texts | st.just(b"bytes") | st.lists(texts, max_size=2))
forgets = st.tuples(st.just("forget"), st.sampled_from(KEYS), st.none())
others = st.tuples(st.sampled_from(["catch up", "other encoder", "open again"]), st.none(), st.none())


@pytest.mark.parametrize("place", ["ram", "folder"])
@settings(max_examples=40)
@given(steps=st.lists(stores | forgets | others, max_size=16), query=texts)
def test_an_index_equals_the_one_made_anew(place, steps, query):
    with tempfile.TemporaryDirectory() as folder:
        memory = Memory(None if place == "ram" else Path(folder) / "m")
        index, query = index_of(memory), f"q {query}"
        for step, key, value in steps:
            if step == "store":
                memory.store(key, value)
            elif step == "forget":
                memory.forget(key)
            elif step == "catch up":
                index.catch_up()
            elif step == "other encoder":
                index_of(memory, Letters(name="other")).catch_up()
            else:
                index = index_of(memory)
        index.catch_up()
        anew = Memory()
        for record in sorted(memory.scan(), key=lambda record: record.id):
            anew.store(record.key, record.value)
        fresh = index_of(anew)
        fresh.catch_up()
        assert found(memory, index, query) == found(anew, fresh, query)
        assert found(memory, index, query, 1) == found(anew, fresh, query, 1)
        assert memory.verify() == index.verify() == []
        memory.close()


def coded(memory: Memory) -> VectorIndex:
    """An index in which a few hundred are many."""
    limits = Limits(exact=200, segment=128, minimum=16)
    return VectorIndex(memory.records, Letters(), lambda name, dim: Datastore(memory.records, name, dim, limits=limits))


def test_many_embeddings_are_found_by_codes_that_no_record_has_a_part_in(tmp_path):
    draw = random.Random(0)
    texts = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz ", k=60)) for _ in range(600)]
    with Memory(tmp_path / "memory") as memory, Memory(tmp_path / "fresh") as fresh:
        memory.store_many((f"t{number}", text) for number, text in enumerate(texts))
        index = coded(memory)
        index.catch_up()
        view = index.datastore.view()
        assert not view.exact and len(view.segments) > 4 and index.verify() == []
        assert index.datastore.stats()["search"] == "all codes"
        queries = index.encoder.encode_queries(texts[::7])
        exact = np.argsort(-(queries @ view.keys(np.arange(len(view))).T), axis=1, kind="stable")[:, :10]
        near = view.search(queries, 10)[0]
        assert np.mean([len(np.intersect1d(*both)) / 10 for both in zip(exact, near, strict=True)]) > 0.95
        for number in range(0, 600, 3):
            memory.forget(f"t{number}")
        fresh.store_many((f"t{number}", text) for number, text in enumerate(texts) if number % 3)
        again = coded(fresh)
        again.catch_up()
        for text in texts[::11]:
            assert found(memory, coded(memory), text) == found(fresh, again, text)
        name = f"datastores/{index.datastore.fingerprint}/quantizer.safetensors"
        assert memory.records.read_file(name) == fresh.records.read_file(name)


def test_a_query_that_is_scanned_by_several_threads_finds_the_same(tmp_path, monkeypatch):
    answers, before = [], faiss.omp_get_max_threads()
    with Memory(tmp_path / "memory") as memory:
        memory.store_many((f"t{number}", f"{number:b} {number:x} {number * 7919:x}") for number in range(700))
        coded(memory).catch_up()
        queries = Letters().encode_queries([f"{n:x} {n:b}" for n in range(0, 700, 13)])
        try:
            faiss.omp_set_num_threads(4)
            for part in (1 << 40, 1):
                monkeypatch.setattr("extmem.indexes.scanner.PART", part)
                view = coded(memory).datastore.view()
                assert len(view.segments) % 4, "the lists do not come out even"
                answers.append([view.search(query[None], 50) for query in queries])
        finally:
            faiss.omp_set_num_threads(before)
    for (entries, distances), (other, same) in zip(*answers, strict=True):
        assert (entries == other).all() and (distances == same).all()


def test_many_passages_of_few_records_are_coded_as_they_come_and_opening_again_writes_nothing(tmp_path):
    with Memory(tmp_path / "memory") as memory:
        memory.store_many((f"t{number}", f"{number:x} {number * 7:b}. " * 90) for number in range(60))
        index = coded(memory)
        index.catch_up()
        assert len(index.datastore) > 200 > len(memory) and index.datastore.stats()["search"] == "all codes"
        first = found(memory, index, "3f 101")
    with Memory(tmp_path / "memory") as memory:
        index, before = coded(memory), memory.records.generation()
        assert index.catch_up() == 0 and found(memory, index, "3f 101") == first
        assert memory.records.generation() == before and index.datastore.stats()["search"] == "all codes"


def test_a_quantiser_is_kept_after_a_transaction_that_failed(tmp_path):
    def entries(memory: Memory, numbers: range) -> list[Entries]:
        vectors = Letters().encode([f"{number:x} {number:b}" for number in numbers])
        nothing = np.zeros(1, np.int32), np.array([[0, 1]])
        ids = [memory.record(f"t{number}").id for number in numbers]
        return [Entries(number, vector[None], *nothing) for number, vector in zip(ids, vectors, strict=True)]

    with Memory(tmp_path / "memory") as memory:
        memory.store_many((f"t{number}", "text") for number in range(300))
        store = coded(memory).datastore
        with pytest.raises(RuntimeError), memory.transaction():
            store.append(entries(memory, range(300)))
            raise RuntimeError
        assert len(store) == 0 and not memory.records.ledger("datastore")
        with memory.transaction():
            store.append(entries(memory, range(300)))
        again = coded(memory).datastore
        assert again.stats()["search"] == store.stats()["search"] == "all codes" and again.verify() == []
        with memory.transaction():
            store.clear()
        assert memory.records.ledger("datastore") == {}
        with memory.transaction():
            store.append(entries(memory, range(250)))
        assert coded(memory).datastore.stats()["search"] == "all codes"


def test_embeddings_of_a_version_before_keep_the_quantiser_that_was_learned_for_them(tmp_path):
    texts = [f"{number:b} {number:x} {number * 7919:x}" for number in range(500)]
    learned = Quantizer.train(Letters().encode(texts))
    with Memory(tmp_path / "memory") as memory:
        memory.store_many((f"t{number}", text) for number, text in enumerate(texts))
        index = index_of(memory)
        index.catch_up()
        before = found(memory, index, texts[7])
        with memory.transaction():
            name = f"{QUANTIZERS}/{index.encoder.fingerprint}.safetensors"
            memory.records.write_file(name, learned.to_bytes())
        index = coded(memory)
        index.catch_up()
        assert index.datastore.stats()["search"].endswith(f"of {len(learned.cells)} cells, for recall 0.99")
        assert found(memory, index, texts[7])[0] == before[0]
        memory.store("new", "a new text")
        index.catch_up()
        assert coded(memory).datastore.stats()["search"] == index.datastore.stats()["search"]


def test_threads_that_search_while_another_stores_and_forgets_find_what_is_there(tmp_path, monkeypatch):
    """Segments are written anew all the time, and the files of a moment that a thread still reads are deleted."""
    monkeypatch.setattr("extmem.indexes.vectors.LIMITS", Limits(exact=100, segment=64, minimum=8))
    failed, stop = list[str](), threading.Event()
    with Memory(tmp_path / "memory") as memory:
        memory.store_many((f"k{number}", f"the number {number:b}") for number in range(300))
        memory.embed(Letters())

        def ask(start: int) -> None:
            number = start
            while not stop.is_set():
                number = (number + 7) % 150
                try:
                    hits = memory.search(f"the number {number:b}", k=3)
                    if f"k{number}" not in [hit.key for hit in hits]:
                        failed.append(f"k{number} was not found")
                except Exception as error:
                    failed.append(repr(error))

        threads = [threading.Thread(target=ask, args=(start,)) for start in range(3)]
        for thread in threads:
            thread.start()
        for number in range(300, 420):
            memory.store(f"k{number}", f"the number {number:b}")
            memory.forget(f"k{number - 100}")
            memory.embed()
        stop.set()
        for thread in threads:
            thread.join()
        assert failed == [] and memory.verify() == []
