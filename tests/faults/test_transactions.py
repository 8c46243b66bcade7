"""Transactions that something goes wrong in: forks, closing, a full disk, errors that are caught half way."""

from __future__ import annotations

import contextlib
import os
import threading
import time

import numpy as np
import pytest

from extmem import Memory
from extmem.errors import ExtmemError, InvalidInput, StorageError
from extmem.indexes.datastore import Entries


def test_a_child_that_leaves_the_transaction_neither_commits_nor_undoes_it(tmp_path):
    memory = Memory(tmp_path / "m")
    said = os.pipe()
    parent = os.getpid()
    try:
        with memory.transaction():
            memory.store("before", 1)
            child = os.fork()
            if child:
                os.waitpid(child, 0)
                memory.store("after", 2)
    except InvalidInput as error:
        assert os.getpid() != parent
        os.write(said[1], str(error).encode())
    finally:
        if os.getpid() != parent:
            os._exit(0)
    assert b"does not cross os.fork" in os.read(said[0], 1000)
    assert dict(memory.items()) == {"after": 2, "before": 1} and memory.verify() == []


def test_closing_waits_for_no_transaction_but_refuses(tmp_path):
    memory, inside, leave = Memory(tmp_path / "m"), threading.Event(), threading.Event()

    def work() -> None:
        with memory.transaction():
            memory.store("one", 1)
            inside.set()
            leave.wait(10)
            memory.store("two", 2)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(10)
    with pytest.raises(InvalidInput, match="inside a transaction"):
        memory.close()
    leave.set()
    thread.join()
    memory.close()
    assert dict(memory.items()) == {"one": 1, "two": 2}


def test_closing_beside_threads_at_work_breaks_nothing(tmp_path):
    memory, errors, stop = Memory(tmp_path / "m"), [], threading.Event()
    memory.store_many((f"k{number:05}", "x" * 50) for number in range(5000))

    def work(name: str) -> None:
        while not stop.is_set():
            try:
                assert memory.retrieve("k00007") == "x" * 50
                assert len(memory.retrieve_many([f"k{number:05}" for number in range(900)])) == 900
                memory.store(name, time.time())
            except ExtmemError:
                pass  # closed under it
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for _ in range(30):
        time.sleep(0.02)
        with contextlib.suppress(InvalidInput):
            memory.close()
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == [] and memory.verify() == []


def test_a_transaction_that_the_disk_undid_takes_nothing_more(tmp_path):
    memory = Memory(tmp_path / "m")
    memory.store("base", 1)
    for setting in ("max_page_count=200", "cache_size=20"):
        memory.records.connection.execute(f"PRAGMA {setting}").fetchall()
    with pytest.raises(StorageError), memory.transaction():
        memory.store("one", "1")
        with pytest.raises(ExtmemError):
            memory.store_many((f"b{number}", "x" * 3000) for number in range(2000))
        if not memory.records.connection.in_transaction:
            with pytest.raises(StorageError, match="failed before"):
                memory.store("two", "2")
        raise StorageError("given up")
    assert list(Memory(tmp_path / "m")) == ["base"]


@pytest.mark.parametrize("place", ["ram", "folder"])
def test_an_error_caught_inside_a_transaction_leaves_nothing_half_done(tmp_path, place):
    memory = Memory(tmp_path / "m" if place == "folder" else None)
    memory.store("z", "zebra")

    def items():
        yield from ((f"k{number}", "x") for number in range(1500))
        raise OSError("the source broke")

    with memory.transaction():
        memory.store("kept", "kangaroo")
        with pytest.raises(OSError, match="the source broke"):
            memory.store_many(items())
        with pytest.raises(InvalidInput):
            memory.store("z", object(), expect=1)
    assert dict(memory.items()) == {"kept": "kangaroo", "z": "zebra"}
    assert [hit.key for hit in memory.search("zebra kangaroo")] == ["z", "kept"] or len(memory.search("zebra")) == 1
    assert memory.verify() == []


def test_a_sealed_memory_searches_right_after_a_transaction_was_undone(tmp_path):
    memory = Memory(tmp_path / "m", key=bytes(32))
    with pytest.raises(RuntimeError), memory.transaction():
        memory.store("a", "foo")
        assert [hit.key for hit in memory.search("foo")] == ["a"]
        raise RuntimeError
    memory.store("b", "bar")
    assert [hit.key for hit in memory.search("bar")] == ["b"] and memory.search("foo") == []
    assert memory.verify() == []


def test_many_are_read_as_of_one_moment(tmp_path):
    memory, stop = Memory(tmp_path / "m"), threading.Event()
    keys = [f"k{number:04}" for number in range(2000)]
    memory.store_many((key, 0) for key in keys)

    def work() -> None:
        with Memory(tmp_path / "m") as other:
            for number in range(1, 10**6):
                if stop.is_set():
                    return
                other.store_many((key, number) for key in keys)

    thread = threading.Thread(target=work)
    thread.start()
    mixed = [values for _ in range(100) if len(values := set(memory.retrieve_many(keys).values())) != 1]
    stop.set()
    thread.join()
    assert mixed == []


def test_nothing_is_changed_inside_a_reading(tmp_path):
    memory = Memory(tmp_path / "m")
    memory.store("k", 1)
    for work in (lambda: memory.store("new", 1), lambda: memory.store("k", 2), lambda: memory.forget("k")):
        with pytest.raises(InvalidInput, match="inside a reading"), memory.records.reading():
            work()
    assert dict(memory.items()) == {"k": 1}


def test_a_search_inside_a_transaction_ends_however_much_others_stored(tmp_path, monkeypatch):
    monkeypatch.setattr("extmem.indexes.keyword.FAR", 20)
    memory = Memory(tmp_path / "m")
    memory.store("x", "hello")
    assert memory.search("hello")
    for number in range(100):
        memory.namespace("other").store(f"k{number}", "hello")
    assert memory.search("hello")
    with memory.transaction():
        for number in range(100):
            memory.namespace("other").store(f"l{number}", "hello")
        assert [hit.key for hit in memory.search("hello")] == ["x"]


def test_threads_that_search_a_datastore_beside_one_that_forgets_are_never_given_another_record(tmp_path):
    memory, stop, wrong = Memory(tmp_path / "m"), threading.Event(), []
    store = memory.datastore("model", 8)
    for number in range(40):
        memory.store(f"k{number}", "x")
        with memory.transaction():
            keys = np.full((50, 8), number, np.float32)
            spans = np.zeros((50, 2), np.int32)
            store.append([Entries(memory.record(f"k{number}").id, keys, np.full(50, number), spans)])

    def work() -> None:
        while not stop.is_set():
            for number in (39, 20):
                found = store.nearest(np.full((1, 8), number, np.float32), 3)
                if not (found.distances == ((found.vectors - number) ** 2).sum(-1)).all():
                    wrong.append(found)

    thread = threading.Thread(target=work)
    thread.start()
    for number in range(20):
        memory.forget(f"k{number}")
    stop.set()
    thread.join()
    assert wrong == [] and len(store) == 1000
