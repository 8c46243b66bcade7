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
from concurrent.futures import ThreadPoolExecutor

import pytest
from figures import SEED, Figures, rounds

from extmem import Memory
from extmem.errors import ExtmemError, InvalidInput, StorageError
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


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://ann:s3cret#w0rd@127.0.0.1:1/db",
        "postgresql://ann:12#s3cret@127.0.0.1:1/db",
        "postgresql://ann:s3cret@w0rd@127.0.0.1:1/db",
        "postgresql://ann:s3cret/w0rd@127.0.0.1:1/db",
        "postgresql://ann:1/w0rd@127.0.0.1:1/db",
        "postgresql://ann:s3cret?w0rd@127.0.0.1:1/db",
        "postgresql://ann:s3cretw0rd%zz@127.0.0.1:1/db",
        "postgresql://ann:s3cret%00w0rd@127.0.0.1:1/db",
        "postgresql://ann:s3cret%20w0rd@127.0.0.1:1/db",
        "postgresql://ann:s3cret w0rd@127.0.0.1:1/db",
        "postgresql://ann@127.0.0.1:s3cretw0rd/db",
        "postgresql://127.0.0.1:1/db?user=ann&password=s3cretw0rd",
        "postgresql://127.0.0.1:1/db?user=ann&password=s3cretw0rd%0",
        "postgresql://127.0.0.1:1/db?user=ann&passwort=s3cretw0rd",
    ],
)
def test_no_part_of_a_password_is_shown_wherever_it_stands(address):
    with pytest.raises(ExtmemError) as error:
        Memory(address)
    shown = f"{error.value} {error.value.subject} {error.value.__cause__}"
    assert "\n" not in str(error.value) and not re.search("s3cret|w0rd|%zz|%0", shown), shown
    assert "percent-encoded" in shown or "127.0.0.1:1/db does not answer" in shown


def test_a_server_that_quotes_a_password_is_not_quoted(postgres):
    port = re.search(r":(\d+)/", postgres.url)[1]
    for password, written in (("postg", "postg"), ("no  where", "no%20%20where")):
        address = f"postgresql://postgres:{written}@127.0.0.1:{port}/no%20%20where%20postg"
        with pytest.raises(StorageError) as error:
            Memory(address)
        said = re.search(r"refused \((.*)\): create", str(error.value))[1]
        assert "***" in said and " ".join(password.split()) not in said


def test_a_refusal_is_told_from_silence(server):
    port = re.search(r":(\d+)/", server.url)[1]
    with pytest.raises(StorageError, match=r"refused \(.*nowhere.*createdb nowhere\), or check the user and password"):
        Memory(f"postgresql://postgres@127.0.0.1:{port}/nowhere")
    with pytest.raises(StorageError, match="refused"):
        Memory(f"postgresql://nobody@127.0.0.1:{port}/postgres")
    rules = server.folder / "data" / "pg_hba.conf"
    rules.write_text("host all all 127.0.0.1/32 scram-sha-256\n")
    server.stop()
    server.start()
    for user in ("postgres:s3cret", "postgres"):
        with pytest.raises(StorageError, match=r"refused \(.*password.*check the user and password") as error:
            Memory(f"postgresql://{user}@127.0.0.1:{port}/postgres")
        assert "s3cret" not in str(error.value)
    rules.write_text("local all all trust\n")
    server.stop()
    server.start()
    with pytest.raises(StorageError, match="refused"):
        Memory(server.url)
    server.stop()
    with pytest.raises(StorageError, match="does not answer"):
        Memory(server.url)


def test_readers_do_not_wait_for_writers_that_wait(postgres):
    with Memory(f"{postgres.url}?extmem_schema=queue") as memory:
        memory.store("k", "v")
        with memory.transaction():
            writers = [threading.Thread(target=memory.store, args=(f"w{n}", n)) for n in range(40)]
            for writer in writers:
                writer.start()
            time.sleep(0.5)
            began = time.monotonic()
            with ThreadPoolExecutor(8) as readers:
                assert list(readers.map(memory.retrieve, ["k"] * 8)) == ["v"] * 8
            assert time.monotonic() - began < 2
        for writer in writers:
            writer.join()
        assert len(memory) == 41


def test_a_writer_that_waits_for_too_long_is_told_so(postgres, monkeypatch):
    monkeypatch.setattr("extmem.records.server.PATIENCE", 0.2)
    with Memory(f"{postgres.url}?extmem_schema=patience") as memory:
        said = []

        def write():
            with pytest.raises(StorageError, match="another writer holds the memory for long: wait for it") as error:
                memory.store("k", 1)
            said.append(error.value)

        with memory.transaction():
            writer = threading.Thread(target=write)
            writer.start()
            writer.join()
            with pytest.raises(InvalidInput, match="leave it first"):
                memory.close()
        assert len(said) == 1 and memory.store("k", 1) == 1


FORK = """
import os, sys
from extmem import Memory
from extmem.errors import InvalidInput

def block(child):
    with memory.transaction():
        memory.store("a", 1)
        if not inner:
            return half(child)
        with memory.transaction():
            half(child)

def half(child):
    global number
    number = os.fork()
    if number:
        assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == 7
        memory.store("b", 2)
    elif child == "raises":
        raise KeyError

memory, inner, number = Memory(sys.argv[1]), sys.argv[3] == "inner", None
memory.store("c", 0)
try:
    block(sys.argv[2])
except (KeyError, InvalidInput) as error:
    right = isinstance(error, KeyError) if sys.argv[2] == "raises" else "does not cross os.fork" in str(error)
    there = dict(memory.items()) == {"c": 0}  # with a connection of its own
    os._exit(7 if number == 0 and right and there else 8)
memory.store("c", 3)
print(dict(memory.items()))
"""


@pytest.mark.parametrize("child", ["raises", "leaves"])
@pytest.mark.parametrize("where", ["outer", "inner"])
def test_a_transaction_does_not_cross_a_fork(postgres, child, where):
    address = f"{postgres.url}?extmem_schema=fork_{child}_{where}"
    words = [sys.executable, "-c", FORK, address, child, where]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.stdout == "{'a': 1, 'b': 2, 'c': 3}\n", done.stderr


def test_a_transaction_that_somebody_ended_is_not_acknowledged(postgres):
    with Memory(f"{postgres.url}?extmem_schema=ended") as memory:
        with pytest.raises(StorageError, match="ended by somebody else"), memory.transaction():
            memory.store("lost", 1)
            memory.records.server.run("ROLLBACK")
        assert memory.retrieve("lost") is None and memory.store("after", 1) == 1


def test_a_transaction_within_one_is_undone_alone(postgres):
    with Memory(f"{postgres.url}?extmem_schema=inner") as memory:
        with memory.transaction():
            memory.store("a", "outer")
            with pytest.raises(KeyError), memory.transaction():
                memory.store("a", "inner")
                memory.store("b", "inner")
                with memory.transaction():
                    memory.store("c", "innermost")
                assert memory.search("innermost")[0].key == "c"
                raise KeyError
            assert dict(memory.items()) == {"a": "outer"} and memory.search("inner innermost") == []
            with memory.transaction():
                memory.store("d", "inner")
                with pytest.raises(KeyError), memory.transaction():
                    memory.forget("a")
                    raise KeyError
            with pytest.raises(StorageError), memory.transaction():
                memory.records.server.run("SELECT 1 / 0")
            memory.store("e", "outer")
        assert dict(memory.items()) == {"a": "outer", "d": "inner", "e": "outer"}
        with pytest.raises(StorageError, match="an error before has ended this transaction"), memory.transaction():
            with pytest.raises(StorageError):
                memory.records.server.run("SELECT 1 / 0")
            memory.store("f", "no")
        assert memory.verify() == [] and "f" not in memory


def test_what_is_read_stays_of_one_moment_though_something_is_written_inside(postgres):
    with Memory(f"{postgres.url}?extmem_schema=moment") as memory:
        with memory.records.reading():
            assert len(memory.records) == 0
            memory.store("k", 1)
            assert len(memory.records) == 0
        assert len(memory.records) == 1
