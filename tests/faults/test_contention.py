"""Eight processes of eight threads on the same keys: nothing lost, compare-and-set linearizable."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import NamedTuple

from figures import Figures, rounds

from extmem import Memory

WORKER = """
import json, random, sys, threading, time
from extmem import Memory
from extmem.errors import VersionConflict
memory, name, turns = Memory(sys.argv[1]), sys.argv[2], int(sys.argv[3])
done, lock = [], threading.Lock()
def work(thread):
    chance = random.Random(f"{name} {thread}")
    for turn in range(turns):
        key = f"counter {chance.randrange(3)}"
        while True:
            begun = time.monotonic_ns()
            record = memory.record(key)
            version, value = (record.version, record.value) if record else (0, 0)
            read = ["read", key, begun, time.monotonic_ns(), version, value]
            begun = time.monotonic_ns()
            try:
                stored = memory.store(key, value + 1, expect=version)
            except VersionConflict:
                stored = None
            with lock:
                done.append(read)
                if stored:
                    done.append(["write", key, begun, time.monotonic_ns(), stored, value + 1])
            if stored:
                break
        memory.store(f"{name} {thread} {turn}", f"quick {turn}")
        if turn % 5 == 0:
            memory.search("quick", k=3)
threads = [threading.Thread(target=work, args=(number,)) for number in range(int(sys.argv[4]))]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(done))
"""


class Operation(NamedTuple):
    """Something done to a key: between when, which version it read or wrote, with what value."""

    kind: str
    key: str
    begun: int
    ended: int
    version: int
    value: int


def contradiction(history: list[Operation]) -> str | None:
    """Why no order of these operations on one key, each at a moment between its begin and end, explains
    what they returned; None if there is one.

    Every write gives a version of its own and versions count up, so the order of writes is known, and
    (Gibbons and Korach 1997) it is enough that no operation shows an older version than one that had
    ended before it began, nor one that is written only after it ended.
    """
    writes = {op.version: op for op in history if op.kind == "write"}
    if sorted(writes) != list(range(1, len(writes) + 1)) or len(writes) != sum(op.kind == "write" for op in history):
        return "a version was given twice, or is missing"
    for op in history:
        if op.version and op.value != writes[op.version].value:
            return f"{op} returned a value that was not written with its version"
        if op.version and writes[op.version].begun > op.ended:
            return f"{op} saw a version before it was written"
    by_begin = sorted(history, key=lambda op: op.begun)
    by_end = iter(sorted(history, key=lambda op: op.ended))
    ended, newest = next(by_end, None), 0
    for op in by_begin:
        while ended is not None and ended.ended < op.begun:
            newest = max(newest, ended.version)
            ended = next(by_end, None)
        if op.version < newest or (op.kind == "write" and op.version == newest):
            return f"{op} came after version {newest}"
    return None


def test_the_checker_refuses_histories_that_cannot_be():
    first, second = Operation("write", "k", 0, 10, 1, 1), Operation("write", "k", 20, 30, 2, 2)
    assert (
        contradiction([first, second, Operation("read", "k", 25, 26, 1, 1), Operation("read", "k", 25, 40, 2, 2)])
        is None
    )
    assert contradiction([first, second, Operation("read", "k", 5, 6, 0, 0)]) is None
    for wrong in (
        Operation("read", "k", 40, 50, 1, 1),  # older than what had been written
        Operation("read", "k", 12, 15, 2, 2),  # before it was written
        Operation("read", "k", 40, 50, 2, 7),  # another value
        Operation("write", "k", 40, 50, 2, 3),  # a version given twice
        Operation("write", "k", 40, 50, 4, 3),  # a version left out
        Operation("read", "k", 11, 12, 0, 0),  # nothing, after something was written
    ):
        assert contradiction([first, second, wrong]) is not None, wrong
    swapped = [Operation("write", "k", 20, 30, 1, 1), Operation("write", "k", 0, 10, 2, 2)]
    assert contradiction(swapped) is not None


def test_processes_and_threads_lose_nothing_and_see_one_order(tmp_path):
    processes, threads, turns = rounds(3, 8), rounds(3, 8), rounds(4, 25)
    figures = Figures(f"{processes} processes of {threads} threads on the same keys")
    Memory(tmp_path / "m").close()
    words = [sys.executable, "-c", WORKER, str(tmp_path / "m")]
    workers = [
        subprocess.Popen([*words, f"p{number}", str(turns), str(threads)], stdout=subprocess.PIPE, text=True)
        for number in range(processes)
    ]
    history = [Operation(*op) for worker in workers for op in json.loads(worker.communicate(timeout=900)[0])]
    assert all(worker.returncode == 0 for worker in workers)
    with Memory(tmp_path / "m") as memory:
        counters = {key: memory.retrieve(key) for key in memory.keys("counter")}
        assert sum(counters.values()) == processes * threads * turns
        own = [f"p{p} {t} {turn}" for p in range(processes) for t in range(threads) for turn in range(turns)]
        assert len(memory.retrieve_many(own)) == len(own)
        assert memory.verify() == []
    figures.rounds, figures.checked = processes * threads * turns, len(history)
    for key in counters:
        own_history = [op for op in history if op.key == key]
        if said := contradiction(own_history):
            figures.fail(f"{key}: {said}")
        figures.outcomes["right"] += len(own_history)
    figures.close("reads and compare-and-sets, linearizable; no count lost")
