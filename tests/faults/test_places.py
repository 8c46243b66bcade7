"""The folder of a memory: relative paths, links, folders that are moved, replaced and removed, files left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from extmem import Memory
from extmem.errors import ExtmemError, InvalidInput, StorageError
from extmem.indexes.datastore import Entries
from extmem.opening import rescued

MARKER = "QXZJVWKPFYHB"


def holds(folder: Path, marker: str = MARKER) -> bool:
    """Whether any file in the folder has the marker's bytes."""
    return any(marker.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def in_thread(work) -> object:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def test_a_program_that_changes_its_folder_keeps_its_memory(tmp_path, monkeypatch):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        with Memory(tmp_path / name / "notes.mem") as memory:
            memory.store("who", name)
    monkeypatch.chdir(tmp_path / "here")
    with Memory("notes.mem") as memory:
        memory.store("secret", MARKER)
        monkeypatch.chdir(tmp_path / "there")
        assert in_thread(lambda: memory.retrieve("who")) == "here"
        in_thread(lambda: memory.store("from a thread", 1))
        assert memory.forget("secret") and not holds(tmp_path / "here")
    with Memory(tmp_path / "there" / "notes.mem") as memory:
        assert list(memory) == ["who"]


def test_a_memory_behind_a_link_is_like_any_other(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for _ in range(2):
        with Memory(tmp_path / "link" / "m") as memory:
            memory.store("secret", MARKER)
            assert holds(tmp_path / "real")
            assert memory.forget("secret") and not holds(tmp_path / "real")
            assert memory.verify() == []


@pytest.mark.parametrize("how", ["moved", "removed", "replaced"])
def test_nothing_is_acknowledged_in_a_folder_that_is_not_there_any_more(tmp_path, how):
    memory = Memory(tmp_path / "m")
    memory.store("before", 1)
    if how == "moved":
        (tmp_path / "m").rename(tmp_path / "elsewhere")
    else:
        shutil.rmtree(tmp_path / "m")
    if how == "replaced":
        Memory(tmp_path / "m").store("another", "memory")
    for work in (lambda: memory.store("after", 1), lambda: memory.store_many([("a", 1), ("b", 2)])):
        with pytest.raises(StorageError, match="moved, removed or replaced"):
            work()
    if how == "replaced":
        assert in_thread(lambda: isinstance(error_of(lambda: memory.retrieve("another")), StorageError))
        assert list(Memory(tmp_path / "m")) == ["another"]


def error_of(work) -> ExtmemError | None:
    try:
        work()
    except ExtmemError as error:
        return error
    return None


@pytest.mark.parametrize("place", ["redis://localhost", "sqlite:///x.db", "postgresql+psycopg://u:secret@h/d",
                                   Path("postgresql://u:secret@h/d"), "/tmp/\udcff"])  # fmt: skip
def test_what_is_no_folder_makes_none(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput) as refused:
        Memory(place)
    assert "secret@" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


SWEPT = """
import os, sys
from extmem import Memory
from extmem.records.database import Database
memory = Memory(sys.argv[1])
Database._tidy = lambda self, session: os._exit(9)
memory.namespace("alice").forget("doc")
"""


def test_a_kill_right_after_a_forget_leaves_no_file_of_it(tmp_path):
    with Memory(tmp_path / "m") as memory:
        alice = memory.namespace("alice")
        alice.store("doc", "x")
        store = alice.datastore("model", 4)
        with alice.transaction():
            spans = np.array([[0, 1], [1, 2]])
            store.append([Entries(alice.record("doc").id, np.ones((2, 4)), np.array([1, 2]), spans)])
    (segment,) = (tmp_path / "m").rglob("*.safetensors")
    assert subprocess.run([sys.executable, "-c", SWEPT, tmp_path / "m"]).returncode == 9
    assert segment.exists()
    with Memory(tmp_path / "m") as memory:
        assert not segment.exists() and not memory.namespace("alice").forget("doc")
        assert memory.verify() == []
    assert not (tmp_path / "m" / "namespaces").exists()


def test_what_was_forgotten_leaves_the_log_when_the_reader_in_the_way_has_ended(tmp_path):
    memory = Memory(tmp_path / "m")
    memory.store("secret", MARKER)
    reader = memory.records.database.open()
    reader.execute("BEGIN; SELECT 1 FROM records").fetchall()
    in_thread(lambda: memory.forget("secret"))
    assert holds(tmp_path / "m"), "else this shows nothing"
    reader.execute("COMMIT")
    reader.close()
    memory.store("other", "x")
    assert not holds(tmp_path / "m")


def test_what_a_killed_process_had_forgotten_leaves_the_log_at_the_next_opening(tmp_path):
    memory = Memory(tmp_path / "m")
    memory.store("secret", MARKER)
    with memory.records.reading():
        in_thread(lambda: memory.forget("secret"))
        shutil.copytree(tmp_path / "m", tmp_path / "killed")
    assert holds(tmp_path / "killed")
    os.unlink(tmp_path / "killed" / "records.db-shm")
    with Memory(tmp_path / "killed"):
        assert not holds(tmp_path / "killed")


def test_a_value_that_expires_among_others_of_its_key_leaves_the_files(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memory.keep_history()
        memory.store("k", MARKER, ttl=0.3)
        memory.store("k", "stays")
        time.sleep(0.35)
        assert memory.history("k")[0].value == "stays" and holds(tmp_path / "m")
        memory.store("other", "x")
        assert not holds(tmp_path / "m")


def test_a_database_that_was_moved_away_can_be_put_back(tmp_path):
    memory = Memory(tmp_path / "m")
    memory.store("k", "v")
    (tmp_path / "m" / "records.db").rename(tmp_path / "away")
    assert isinstance(in_thread(lambda: error_of(lambda: memory.retrieve("k"))), StorageError)
    assert not (tmp_path / "m" / "records.db").exists()
    (tmp_path / "away").rename(tmp_path / "m" / "records.db")
    assert Memory(tmp_path / "m").retrieve("k") == "v"


def test_what_can_be_read_of_a_damaged_memory_is_rescued(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memory.keep_history()
        memory.store_many((f"k{number:05}", f"value {number} " * 20) for number in range(2000))
        memory.store("k00007", "again")
        memory.namespace("alice").store("job", "cook")
        alice = memory.namespace("alice")
        with alice.transaction():
            spans = np.array([[0, 1]])
            store = alice.datastore("model", 4)
            store.append([Entries(alice.record("job").id, np.ones((1, 4)), np.array([1]), spans)])
        before = dict(memory.items())
    size = (tmp_path / "m" / "records.db").stat().st_size
    for seed, place in enumerate(range(3 * 4096, size, size // 12)):
        shutil.copytree(tmp_path / "m", tmp_path / f"d{seed}")
        with open(tmp_path / f"d{seed}" / "records.db", "r+b") as file:
            file.seek(place)
            file.write(b"\xff\x00\xff")
        records, unreadable = rescued(tmp_path / f"d{seed}", tmp_path / f"r{seed}")
        with Memory(tmp_path / f"r{seed}") as memory:
            found = dict(memory.items())
            assert found.items() <= before.items() and len(found) > 1000, place
            assert unreadable or found == before
            assert records == len(found) + len(memory.namespace("alice"))
            assert memory.verify() == []
    with pytest.raises(InvalidInput, match="there is no memory"):
        rescued(tmp_path / "nothing", tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_what_has_expired_leaves_the_files_at_the_next_write_opening_and_closing(tmp_path):
    memory = Memory(tmp_path / "m")
    alice = memory.namespace("alice")
    alice.store("brief", MARKER, ttl=0.3)
    assert holds(tmp_path / "m")
    time.sleep(0.35)
    assert alice.retrieve("brief") is None
    alice.store("other", "x")
    assert not holds(tmp_path / "m"), "by the next write in its namespace"
    alice.store("brief", MARKER, ttl=0.3)
    time.sleep(0.35)
    memory.close()
    assert not holds(tmp_path / "m"), "by closing"
    alice.store("brief", MARKER, ttl=0.3)
    shutil.copytree(tmp_path / "m", tmp_path / "killed")
    (tmp_path / "killed" / "records.db-shm").unlink()
    time.sleep(0.35)
    with Memory(tmp_path / "killed"):
        assert not holds(tmp_path / "killed"), "by opening"
    memory.snapshot(tmp_path / "copy")
    assert not holds(tmp_path / "copy"), "and no copy is made of it"
