"""Memories under real processes: many writers, kill -9, and what is left in the files."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

from extmem import LanguageModel, Memory
from extmem.records.connection import connect
from extmem.records.schema import APPLICATION, FORMAT, create, marks

WRITER = """
import sys
from extmem import Memory
memory, name = Memory(sys.argv[1]), sys.argv[2]
for number in range(int(sys.argv[3])):
    memory.store(f"{name}-{number}", f"value {number} of {name}")
    print(number, flush=True)
"""
MAKER = """
import sys
from extmem import Memory
from extmem.records import sqlite  # so that opening is all that is left to do
print("ready", flush=True)
sys.stdin.readline()
Memory(sys.argv[1]).store(sys.argv[2], f"value of {sys.argv[2]}")
"""
MANY = """
import sys
from extmem import Memory
memory = Memory(sys.argv[1])
def items():
    for number in range(10**9):
        if number == 3000:
            print("half way", flush=True)
        yield f"many-{number}", "value"
memory.store_many(items())
"""
MEMORIZER = """
import sys
from extmem import LanguageModel, Memory
model, memory = LanguageModel.load(sys.argv[1]), Memory(sys.argv[2])
for number in range(10**9):
    model.memorize(memory, {f"k{number % 5}": f"The value of item {number} is a list."})
    memory.forget(f"k{(number + 2) % 5}")
    print(number, flush=True)
"""


def ignored(*_: object) -> int:
    return 0


def started(code: str, *words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def killed(process: subprocess.Popen[str]) -> list[str]:
    """Kills it; the lines it had printed and nobody has read."""
    process.send_signal(signal.SIGKILL)
    with process:
        return process.stdout.readlines()


def test_processes_that_make_a_memory_at_once_make_one(tmp_path):
    for number in range(4):
        makers = [started(MAKER, tmp_path / f"m{number}", name) for name in "abcdef"]
        assert all(maker.stdout.readline() == "ready\n" for maker in makers)
        for maker in makers:
            maker.stdin.write("go\n")
            maker.stdin.flush()
        for maker in makers:
            maker.communicate(timeout=60)
        assert [maker.returncode for maker in makers] == [0] * 6
        with Memory(tmp_path / f"m{number}") as memory:
            assert dict(memory.items()) == {name: f"value of {name}" for name in "abcdef"}
            assert memory.verify() == []


def test_a_file_is_one_of_ours_or_empty_while_another_makes_it(tmp_path):
    one, other = (connect(tmp_path / "records.db", frozen=False, create=True, logged=ignored) for _ in range(2))

    def between(_: object, statement: str, __: object) -> bool:
        if "user_version" in statement:  # the application was read, the format is next
            create(other)
        return True

    with closing(one), closing(other):
        one.exec_trace = between
        assert marks(one) == (0, 0)
        one.exec_trace = None
        assert marks(one) == (APPLICATION, FORMAT)


def test_four_processes_writing_to_one_folder_lose_nothing(tmp_path):
    writers = [started(WRITER, tmp_path / "m", name, 50) for name in "abcd"]
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    with Memory(tmp_path / "m") as memory:
        expected = {f"{name}-{n}": f"value {n} of {name}" for name in "abcd" for n in range(50)}
        assert dict(memory.items()) == expected
        assert memory.verify() == []


def test_what_was_acknowledged_before_a_kill_is_there(tmp_path):
    writer = started(WRITER, tmp_path / "m", "w", 10**9)
    acknowledged = [int(writer.stdout.readline()) for _ in range(60)]
    acknowledged += [int(line) for line in killed(writer)]
    with Memory(tmp_path / "m") as memory:
        assert all(memory.retrieve(f"w-{number}") == f"value {number} of w" for number in acknowledged)
        assert len(memory) in (len(acknowledged), len(acknowledged) + 1)
        assert memory.verify() == []
        memory.store("after", "a kill")


def test_many_killed_half_way_are_none(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memory.store("before", "x")
    writer = started(MANY, tmp_path / "m")
    assert writer.stdout.readline() == "half way\n"
    killed(writer)
    with Memory(tmp_path / "m") as memory:
        assert list(memory.keys()) == ["before"]
        assert memory.verify() == []


def test_memorizing_and_forgetting_killed_anywhere_leaves_records_and_entries_in_step(tmp_path, model, corpus):
    for lines in (1, 4, 9):
        worker = started(MEMORIZER, corpus.parent / "model", tmp_path / "m")
        for _ in range(lines):
            worker.stdout.readline()
        killed(worker)
        with Memory(tmp_path / "m") as memory:
            assert memory.verify() == []
            datastore = model.datastore(memory)
            owners = {datastore.cite(entry)[0] for entry in range(len(datastore))}
            assert owners == {record.id for record in memory.records.iterate()}
            segments = (tmp_path / "m" / "datastores" / model.fingerprint).iterdir()
            assert {path.name for path in segments} == set(memory.records.ledger(f"segments:{model.fingerprint}"))


def test_threads_share_a_memory(tmp_path):
    memory, failed = Memory(tmp_path / "m"), []

    def write(name: str) -> None:
        try:
            for number in range(30):
                memory.store(f"{name}{number}", number)
                assert memory.retrieve(f"{name}{number}") == number
            memory.forget(f"{name}0")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(memory) == 4 * 29
    memory.close()


def holding(folder: Path, words: list[bytes]) -> list[str]:
    """The files in which any of these words can be found."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if any(word in path.read_bytes().lower() for word in words)]


def test_a_forgotten_text_is_in_no_file_of_the_folder(tmp_path, model: LanguageModel):
    words = [b"quetzal", b"popoca"]  # what the keyword index's stems begin with
    with Memory(tmp_path / "m") as memory:
        for number in range(20):
            memory.store(f"other {number}", f"other words {number}")
        model.memorize(memory, {"secret": "The quetzalcoatl lives in Popocatepetl. " * 50})
        hidden = memory.namespace("alice")
        hidden.store("hers", "another quetzalcoatl")
        assert holding(tmp_path / "m", words)
        memory.forget("secret")
        assert holding(tmp_path / "m", words), "alice's is hers"
        with memory.transaction():
            hidden.forget("hers")
        assert holding(tmp_path / "m", words) == []
    assert holding(tmp_path / "m", words) == []
