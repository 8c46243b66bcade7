"""A whole memory: namespaces that cannot be left, snapshots, verification and repair, older formats, forks."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from extmem import Memory
from extmem.errors import InvalidInput, MemoryFormatError
from extmem.indexes.datastore import Entries
from extmem.indexes.postings import Document


def memorize(memory: Memory, key: str, count: int = 3) -> None:
    """A record with entries in a datastore."""
    with memory.transaction():
        memory.store(key, f"text of {key}")
        random = np.random.default_rng(len(key))
        entries = Entries(
            memory.record(key).id, random.normal(size=(count, 4)).astype(np.float32), np.arange(count),
            np.zeros((count, 2), int),
        )  # fmt: skip
        memory.datastore("model", 4).append([entries])


def everything(memory: Memory) -> dict:
    handles = [memory, *(memory.at(name) for name in memory.namespaces())]
    return {
        handle.records.namespace: (list(handle.scan()), [r.key for r in handle.scan() for _ in handle.history(r.key)],
                                   [hit.key for hit in handle.search("text fruit")], len(handle.datastore("model", 4)))
        for handle in handles
    }  # fmt: skip


def fill(memory: Memory) -> None:
    for handle in (memory, memory.namespace("alice"), memory.namespace("alice").namespace("work")):
        handle.keep_history()
        handle.store("apple", "A fruit", metadata={"page": 1}, author="ann", trust=0.5)
        handle.store("apple", "A red fruit")
        handle.store("bytes", b"\0\xff")
        handle.store("until", "fruit", valid_from=1.0, valid_to=9e9)
        memorize(handle, "memorized")


def test_dropping_a_namespace_erases_all_of_it_and_only_it(memory):
    fill(memory)
    before = everything(memory)
    bob = memory.namespace("bob")
    bob.store("k", "fruit text")
    assert memory.drop_namespace("alice") == 8
    assert memory.namespaces() == ["bob"]
    assert everything(memory)[""] == before[""]
    alice = memory.namespace("alice")
    assert len(alice) == 0 and alice.search("fruit") == [] and alice.history("apple") == []
    assert len(alice.datastore("model", 4)) == 0
    assert memory.verify() == []
    assert memory.drop_namespace("alice") == 0
    alice.store("apple", "again")
    assert [hit.value for hit in alice.search("again")] == ["again"]


def test_an_error_does_not_tell_what_another_namespace_holds(memory):
    memory.namespace("bob").store("secret", "purple", expect=0)
    with pytest.raises(Exception) as refused:
        memory.namespace("alice").store("secret", "green", expect=7)
    assert "purple" not in str(refused.value) and "bob" not in str(refused.value)
    assert refused.value.version == 0


def test_a_snapshot_is_the_whole_memory_and_opens_as_one(memory, key, tmp_path):
    fill(memory)
    before = everything(memory)
    memory.snapshot(tmp_path / "copy")
    memory.forget("apple")
    with Memory(tmp_path / "copy", key=key) as copy:
        assert everything(copy) == before
        assert copy.verify() == []
        assert copy.store("new", 1) == 1
    with pytest.raises(InvalidInput, match="not empty"):
        memory.snapshot(tmp_path / "copy")
    memory.namespace("alice").snapshot(tmp_path / "hers")
    with Memory(tmp_path / "hers", key=key) as hers:
        assert hers.namespaces() == ["work"] and [r.key for r in hers.scan()] == [
            "apple",
            "bytes",
            "memorized",
            "until",
        ]
        assert hers.verify() == []


def test_a_snapshot_is_of_one_moment_though_others_write(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memory.store_many((f"k{number}", 0) for number in range(2000))
        memorize(memory, "x")
        stop = threading.Event()

        def write() -> None:
            for turn in range(1, 10**6):
                with memory.transaction():
                    memory.store_many((f"k{number}", turn) for number in range(0, 2000, 50))
                    memorize(memory, f"entries {turn % 5}")
                if stop.is_set():
                    return

        writer = threading.Thread(target=write)
        writer.start()
        for number in range(4):
            memory.snapshot(tmp_path / f"copy{number}")
            with Memory(tmp_path / f"copy{number}") as copy:
                assert len({copy.retrieve(f"k{n}") for n in range(0, 2000, 50)}) == 1, "a transaction is seen whole"
                assert copy.verify() == []
        stop.set()
        writer.join()


def damaged(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_anywhere_in_the_records_is_found_and_named(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memory.store_many((f"k{number}", "fruit " * 20) for number in range(500))
    path = tmp_path / "m" / "records.db"
    for page in range(2, path.stat().st_size // 4096, 7):
        damaged(path, page * 4096 + 2000)
        try:
            with Memory(tmp_path / "m") as memory:
                said = memory.verify()
        except MemoryFormatError as error:  # one that is read in opening
            said = [str(error)]
        assert said and all("records.db" in line for line in said)
        damaged(path, page * 4096 + 2000)
    with Memory(tmp_path / "m") as memory:
        assert memory.verify() == []


def test_a_damaged_keyword_index_is_found_and_derived_anew(tmp_path):
    from typer.testing import CliRunner

    from extmem.cli import app

    with Memory(tmp_path / "m") as memory:
        memory.store_many((f"k{number}", f"quick fox {number} " * 5) for number in range(3000))
        assert len(memory.search("fox", k=3000)) == 3000
        where = f"name = '{memory.derived.keyword._postings.table}' AND pagetype = 'leaf'"
        (page,) = memory.records.run(f"SELECT max(pageno) FROM dbstat WHERE {where}")[0]
    damaged(tmp_path / "m" / "records.db", (page - 1) * 4096 + 1000)
    with Memory(tmp_path / "m") as memory:
        assert memory.verify()
        assert memory.retrieve("k7") == "quick fox 7 " * 5
    assert CliRunner().invoke(app, ["verify", "--repair", "--memory", str(tmp_path / "m")]).exit_code == 0
    with Memory(tmp_path / "m") as memory:
        assert memory.verify() == []
        assert len(memory) == len(memory.search("fox", k=3000)) == 3000


def test_words_that_do_not_fit_their_record_are_found(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memory.store_many([("a", "quick"), ("b", "fox"), ("c", "dog")])
        memory.search("fox")
        postings, ids = memory.derived.keyword._postings, [memory.record(key).id for key in "abc"]
        with memory.transaction():
            postings.remove(Document(ids[0], {"quick": 1}, 2))
            postings.remove(Document(ids[1], {"b": 1, "fox": 1}, 2))
            postings.add([Document(99, {"nobody": 1}, 1)])
        said = memory.verify()
        assert len(said) == 3 and all("keyword index" in line for line in said)
        memory.repair()
        assert memory.verify() == [] and [hit.key for hit in memory.search("quick")] == ["a"]


FORMAT_1 = """
CREATE TABLE records (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL, key TEXT NOT NULL, kind TEXT NOT NULL, value BLOB NOT NULL,
    UNIQUE (namespace, key)
);
CREATE TABLE ledger (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, note TEXT NOT NULL,
    UNIQUE (namespace, kind, name)
);
CREATE VIRTUAL TABLE words_e3b0c44298fc1c14 USING fts5(words, tokenize='porter unicode61 remove_diacritics 2');
INSERT INTO words_e3b0c44298fc1c14 (rowid, words) VALUES (1, 'text fruit');
INSERT INTO records VALUES (1, '', 'text', 'text', CAST('A fruit' AS BLOB)), (2, '', 'bytes', 'bytes', x'00ff'),
    (3, '', 'json', 'json', CAST('{"a": [1, null]}' AS BLOB)), (5, 'alice', 'hers', 'text', CAST('苹果' AS BLOB));
UPDATE sqlite_sequence SET seq = 9 WHERE name = 'records';
PRAGMA application_id = 1702392941;
PRAGMA user_version = 1;
"""


def test_a_memory_of_the_first_format_is_read_and_becomes_one_of_this_format(tmp_path):
    with Memory(tmp_path / "new") as memory:
        memorize(memory.namespace("alice"), "hers")
        notes = memory.namespace("alice").records.ledger("segments:model")
        (segment,) = (tmp_path / "new").rglob("*.safetensors")
    space = segment.parts[-4]
    old = tmp_path / "old" / "datastores" / f"model-{space[:16]}" / segment.name
    old.parent.mkdir(parents=True)
    old.write_bytes(segment.read_bytes())
    with sqlite3.connect(tmp_path / "old" / "records.db") as file:
        file.executescript(FORMAT_1)
        for name, note in notes.items():
            row = ("alice", "segments:model", name, str(note).replace("'", '"'))
            file.execute("INSERT INTO ledger (namespace, kind, name, note) VALUES (?, ?, ?, ?)", row)
        file.execute(
            "INSERT INTO ledger (namespace, kind, name, note) VALUES ('alice', 'datastore', 'model', '{\"dim\": 4}')"
        )
    file.close()
    shutil.copytree(tmp_path / "old", tmp_path / "killed")
    words = [sys.executable, "-c", "import os; from extmem import Memory; Memory('killed'); os._exit(9)"]
    assert subprocess.run(words, cwd=tmp_path).returncode == 9
    assert Memory(tmp_path / "killed").retrieve("text") == "A fruit", "migrated, and never closed"
    for _ in range(2):
        with Memory(tmp_path / "old") as memory:
            assert dict(memory.items()) == {"text": "A fruit", "bytes": b"\0\xff", "json": {"a": [1, None]}}
            alice = memory.namespace("alice")
            assert alice.retrieve("hers") == "苹果" and alice.search("苹果")[0].key == "hers"
            assert [hit.key for hit in memory.search("fruit")] == ["text"]
            assert len(alice.datastore("model", 4)) == 3
            assert memory.records.connection.reserve_bytes("main") == 8, "its pages have checksums now"
            assert [line for line in memory.verify() if "which is gone" not in line] == []
            assert memory.store("text", "A fruit") == 1
    with Memory(tmp_path / "old") as memory:
        memory.store("later", 1)
        assert memory.record("later").id > 9
    assert not (tmp_path / "old" / "datastores").exists()


def test_a_newer_format_is_refused_and_left_alone(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memory.store("k", 1)
        memory.records.connection.execute("PRAGMA user_version = 99")
    before = (tmp_path / "m" / "records.db").read_bytes()
    with pytest.raises(MemoryFormatError, match="format 99"):
        Memory(tmp_path / "m")
    assert (tmp_path / "m" / "records.db").read_bytes() == before


def _child(memory: Memory, queue: multiprocessing.Queue) -> None:
    memory.store("child", os.getpid())
    queue.put(memory.retrieve("parent"))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_uses_the_memory_by_connections_of_its_own(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memory.store("parent", "here")
        fork = multiprocessing.get_context("fork")
        queue = fork.Queue()
        children = [fork.Process(target=_child, args=(memory, queue)) for _ in range(3)]
        for child in children:
            child.start()
        assert [queue.get(timeout=60) for _ in children] == ["here"] * 3
        for child in children:
            child.join()
        assert memory.retrieve("child") in {child.pid for child in children}
        memory.store("parent", "still here")
        assert memory.verify() == []


def test_threads_that_have_ended_hold_no_files(tmp_path):
    with Memory(tmp_path / "m") as memory:
        counts = []
        for _ in range(40):
            thread = threading.Thread(target=memory.retrieve, args=("k",))
            thread.start()
            thread.join()
            counts.append(len(os.listdir("/proc/self/fd")))
        assert max(counts) <= counts[2]


def test_closing_inside_a_transaction_is_refused_and_a_closed_memory_opens_again(tmp_path):
    memory = Memory(tmp_path / "m")
    with memory.transaction():
        memory.store("a", 1)
        with pytest.raises(InvalidInput, match="inside a transaction"):
            memory.close()
    memory.close()
    assert memory.retrieve("a") == 1
    memory.close()


def test_near_duplicates_are_reported_and_never_merged(memory):
    text = "The with statement is used to wrap the execution of a block with methods defined by a context manager."
    memory.store("a", text)
    memory.store("b", text.replace("used", "made"))
    memory.store("c", text.upper())
    memory.store("far", "The try statement specifies exception handlers for a group of statements.")
    memory.store("zh1", "苹果是一种水果，味道很好，大家都喜欢吃它。")
    memory.store("zh2", "苹果是一种水果，味道很好，大家都喜欢吃她。")
    memory.store("bytes", text.encode())
    pairs = memory.duplicates(0.6)
    assert [(pair.key, pair.other) for pair in pairs] == [("a", "c"), ("zh1", "zh2"), ("a", "b"), ("b", "c")]
    assert pairs[0].similarity == 1.0 and len(memory) == 7
    assert [(pair.key, pair.other) for pair in memory.duplicates(1.0)] == [("a", "c")]
