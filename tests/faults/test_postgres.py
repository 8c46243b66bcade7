"""The PostgreSQL server stopped, killed and started again under load: a clear line each time, no
acknowledged write lost, nothing half there, and the same handles go on by themselves."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from figures import SEED, Figures, rounds

from extmem import Memory
from extmem.errors import ExtmemError, StorageError
from postgres_server import HOMES, running_server

THREADS = 6


@pytest.fixture
def server():
    """A server of this test's own, to be stopped at will."""
    if not HOMES:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with running_server() as own:
        yield own


class Load:
    """Threads that store and read through one handle, and note what was acknowledged and what was said."""

    def __init__(self, memory: Memory) -> None:
        self.memory, self.ended = memory, threading.Event()
        self.stored: dict[str, str] = {}
        self.pairs: dict[str, bool] = {}  # stored two at a time: whether it was acknowledged
        self.errors: list[Exception] = []
        self.wrong: list[str] = []
        self.counts = [0] * THREADS
        self.threads = [threading.Thread(target=self._work, args=(number,)) for number in range(THREADS)]
        for thread in self.threads:
            thread.start()

    def _work(self, thread: int) -> None:
        number = 0
        while not self.ended.is_set():
            number, name = number + 1, f"{thread} {number + 1}"
            try:
                if number % 3:
                    self.memory.store(name, f"value of {name}")
                    self.stored[name] = f"value of {name}"
                else:
                    self.pairs[name] = False
                    with self.memory.transaction():
                        self.memory.store(f"{name} left", number)
                        self.memory.store(f"{name} right", number)
                    self.pairs[name] = True
                known = f"{thread} {number // 2}"
                if known in self.stored and self.memory.retrieve(known) != self.stored[known]:
                    self.wrong.append(f"{known} is not what was stored")
                self.counts[thread] += 1
            except Exception as error:
                self.errors.append(error)

    def goes_on(self) -> bool:
        """Whether every thread does its work again, within half a minute."""
        before, until = list(self.counts), time.monotonic() + 30
        while time.monotonic() < until:
            if all(now > then + 1 for now, then in zip(self.counts, before, strict=True)):
                return True
            time.sleep(0.02)
        return False

    def end(self) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()


def test_a_server_stopped_and_started_under_load_loses_nothing(server):
    figures, draw, slowest = Figures("PostgreSQL stopped, killed and started under load"), random.Random(SEED), 0.0
    with Memory(server.url) as memory:
        load = Load(memory)
        try:
            for turn in range(rounds(4, 60)):
                assert load.goes_on()
                how = ("fast", "immediate", "kill")[turn % 3]
                time.sleep(draw.random() * 0.2)
                server.kill() if how == "kill" else server.stop(how)
                time.sleep(draw.random() * 0.2)
                server.start()
                began = time.monotonic()
                if not load.goes_on():
                    figures.fail(f"turn {turn}, {how}: not every thread works again")
                slowest = max(slowest, time.monotonic() - began)
                figures.rounds += 1
        finally:
            load.end()
        there = dict(memory.items())
        figures.checked = len(load.stored) + len(load.pairs)
        for name, value in load.stored.items():
            if there.get(name) != value:
                figures.fail(f"{name} was acknowledged and is {there.get(name)!r}")
        for name, acknowledged in load.pairs.items():
            left, right = there.get(f"{name} left"), there.get(f"{name} right")
            if left != right or (acknowledged and left is None):
                figures.fail(f"a transaction is {left!r} and {right!r}, acknowledged: {acknowledged}")
        for said in [*load.wrong, *memory.verify()]:
            figures.fail(said)
        for error in load.errors:
            clear = isinstance(error, StorageError) and "\n" not in str(error) and "127.0.0.1" in str(error)
            if clear:
                figures.outcomes["clear"] += 1
            else:
                figures.fail(f"unclear: {type(error).__name__}: {error}")
        figures.outcomes["right"] = figures.checked
    assert load.errors, "it was under load"
    figures.close(f"the same handle works again within {slowest:.1f} s")


def test_a_transaction_cut_off_says_so_and_is_not_there(server):
    with Memory(server.url) as memory:
        memory.store("before", "here")
        with pytest.raises(StorageError) as error, memory.transaction():
            memory.store("half", "x")
            server.kill()
            server.start()
            memory.store("other half", "y")
        assert "\n" not in str(error.value)
        assert dict(memory.items()) == {"before": "here"}
        memory.store("after", "goes on")
        assert len(memory) == 2


WORKER = """
import sys
from extmem import Memory
memory, number = Memory(sys.argv[1]), 0
while True:
    number += 1
    with memory.transaction():
        memory.store(f"{sys.argv[2]} {number} left", "x" * 500)
        memory.store(f"{sys.argv[2]} {number} right", "x" * 500)
    print(number, flush=True)
"""


def test_a_client_killed_in_the_middle_leaves_whole_transactions_and_no_lock(server):
    figures, draw = Figures("kill -9 of a PostgreSQL client"), random.Random(SEED)
    with Memory(server.url) as memory:
        for turn in range(rounds(3, 40)):
            words = [sys.executable, "-c", WORKER, server.url, str(turn)]
            with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
                assert child.stdout.readline() == "1\n"
                time.sleep(draw.random() * 0.3)
                child.send_signal(signal.SIGKILL)
                acknowledged = int([1, *child.stdout.read().split()][-1])
            memory.store(f"after {turn}", "no lock was left")
            there = set(memory.keys(f"{turn} "))
            figures.rounds, figures.checked = figures.rounds + 1, figures.checked + acknowledged
            whole = {f"{turn} {number} {side}" for number in range(1, acknowledged + 1) for side in ("left", "right")}
            next_one = {f"{turn} {acknowledged + 1} {side}" for side in ("left", "right")}
            if there in (whole, whole | next_one):
                figures.outcomes["right"] += 1
            else:
                figures.fail(f"turn {turn}: {len(there)} records after {acknowledged} acknowledged")
        assert memory.verify() == []
    figures.close("transactions, whole or not at all")


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://ann:s3cretword@127.0.0.1:1/postgres",
        "postgresql://ann:s3cretword@127.0.0.1:{port}/nowhere",
        "postgresql://nobody:s3cretword@127.0.0.1:{port}/postgres",
        "postgresql://ann:s3cretword@127.0.0.1:{port}/postgres?sslmode=require",
        "postgresql://ann:s3cretword@no-such-host.invalid/postgres",
        "postgresql://ann:s3cretword@127.0.0.1:port/postgres",
        "postgresql://ann:s3cretword@[::1/postgres",
        "postgresql://ann:s3cretword@127.0.0.1:{port}/postgres?extmem_schema=No;Drop",
        "postgresql://ann:s3cretword@127.0.0.1:{port}/postgres?nonsense=1",
    ],
)
def test_an_address_that_does_not_work_gets_a_line_without_the_password(postgres, address):
    port = re.search(r":(\d+)/", postgres.url)[1]
    with pytest.raises(ExtmemError) as error:
        Memory(address.format(port=port))
    assert "\n" not in str(error.value) and "s3cretword" not in str(error.value)


def test_two_memories_in_one_database_know_nothing_of_each_other(postgres):
    with (
        Memory(f"{postgres.url}?extmem_schema=one") as one,
        Memory(f"{postgres.url}?extmem_schema=two") as two,
        Memory(f"{postgres.url}?extmem_schema=one") as same,
    ):
        one.store("k", "of one")
        one.namespace("alice").store("k", "alice's")
        assert two.retrieve("k") is None and two.namespaces() == [] and same.retrieve("k") == "of one"
        two.store("k", "of two")
        with one.transaction():  # a writer of one does not wait for the other's
            one.store("k", "again")
            two.store("other", "not waiting")
        assert one.forget("k") and two.retrieve("k") == "of two"
