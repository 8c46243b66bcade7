"""AsyncMemory is Memory, awaited."""

from __future__ import annotations

import asyncio
import inspect
import time
from contextlib import asynccontextmanager

import pytest

from extmem import AsyncMemory, Memory
from extmem.errors import InvalidInput, StorageError, VersionConflict


@pytest.fixture(params=["ram", "folder", "server"])
def place(request, tmp_path):
    """Where a memory lies; each test's is empty."""
    if request.param == "server":
        server = request.getfixturevalue("postgres")
        return f"{server.url}?extmem_schema=t{time.monotonic_ns()}"
    return tmp_path / "m" if request.param == "folder" else None


@asynccontextmanager
async def never_blocked(longest=15.0):  # whoever waits for a writer on the loop itself waits 30 s
    """Fails if the event loop stood still for longer than that."""
    slowest = 0.0

    async def beat():
        nonlocal slowest
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            slowest = max(slowest, time.monotonic() - began)

    task = asyncio.create_task(beat())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        await asyncio.sleep(0.02)
        task.cancel()
    assert slowest < longest, f"the loop stood still for {slowest:.1f} s"


def test_every_public_method_has_its_twin_with_the_same_parameters():
    other = {"transaction", "datastore", "datastores", "close"}  # a context, what models read, and the end
    for name, method in vars(Memory).items():
        if not name.startswith("_") and name not in other:
            twin = getattr(AsyncMemory, name)
            assert str(inspect.signature(twin)).split("->")[0] == str(inspect.signature(method)).split("->")[0], name


@pytest.mark.parametrize("place", [None, "m"])
def test_tasks_share_a_memory(place, tmp_path):
    async def work() -> None:
        async with AsyncMemory(place and tmp_path / place) as memory:
            await asyncio.gather(*(memory.store(f"k{number}", f"fruit {number}") for number in range(200)))
            assert await memory.count() == 200 and await memory.contains("k7")
            assert [key async for key in memory.keys("k19")] == ["k19", *(f"k19{n}" for n in range(10))]
            assert len([item async for item in memory.items()]) == 200
            assert [record.key async for record in memory.scan(where={"value": "fruit 3"})] == ["k3"]
            assert (await memory.search("fruit 7", k=1))[0].key == "k7"
            alice = memory.namespace("alice")
            await alice.store("k", "hers")
            assert await memory.retrieve("k") is None and await memory.namespaces() == ["alice"]
            assert await memory.drop_namespace("alice") == 1
            assert await memory.verify() == []

    asyncio.run(work())


def test_compare_and_set_among_tasks_loses_no_count(tmp_path):
    async def add(memory: AsyncMemory) -> None:
        while True:
            record = await memory.record("n")
            try:
                await memory.store("n", (record.value if record else 0) + 1, expect=record.version if record else 0)
                return
            except VersionConflict:
                pass

    async def work() -> None:
        async with AsyncMemory(tmp_path / "m") as memory:
            await asyncio.gather(*(add(memory) for _ in range(60)))
            assert await memory.retrieve("n") == 60

    asyncio.run(work())


def test_a_transaction_is_what_its_handle_does_and_others_do_not_see_it(tmp_path):
    async def work() -> None:
        async with AsyncMemory(tmp_path / "m") as memory:
            with pytest.raises(KeyError):
                async with memory.transaction() as inside:
                    await inside.store("a", 1)
                    assert await inside.retrieve("a") == 1 and await memory.retrieve("a") is None
                    raise KeyError
            async with memory.transaction() as inside:
                await asyncio.gather(*(inside.store(f"k{number}", number) for number in range(20)))
            assert await memory.count() == 20 and await memory.retrieve("a") is None
            task = asyncio.create_task(cancelled(memory))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await memory.retrieve("never") is None
            await memory.store("after", "it is free to write")

    asyncio.run(work())


async def cancelled(memory: AsyncMemory) -> None:
    async with memory.transaction() as inside:
        await inside.store("never", 1)
        await asyncio.sleep(60)


def test_waiting_for_oneself_ends_with_an_error(monkeypatch):
    monkeypatch.setattr("extmem.records.ram.PATIENCE", 0.1)

    async def work() -> None:
        async with AsyncMemory() as memory, memory.transaction():
            with pytest.raises(StorageError, match="transaction is open"):
                await memory.store("outside", 1)

    asyncio.run(work())


def run(work, seconds=60):
    asyncio.run(asyncio.wait_for(work(), seconds))


def test_a_transaction_cancelled_while_it_begins_leaves_the_memory_free(place):
    async def work() -> None:
        async with never_blocked(), AsyncMemory(place) as memory:
            for turn in range(8):
                task = asyncio.create_task(cancelled(memory))
                for _ in range(turn):
                    await asyncio.sleep(0)
                await asyncio.sleep(0.002 * (turn // 4))
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await memory.store("after", turn)
            assert dict([item async for item in memory.items()]) == {"after": 7}

    run(work)


def test_waiting_for_another_transaction_can_be_given_up_at_once(place):
    async def work() -> None:
        async with never_blocked(), AsyncMemory(place) as memory:
            async with memory.transaction() as inside:
                await inside.store("first", 1)
                began = time.monotonic()
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(cancelled(memory), 0.2)
                assert time.monotonic() - began < 1
            await memory.store("after", 2)
            assert dict([item async for item in memory.items()]) == {"first": 1, "after": 2}

    run(work, 25)


def test_a_transaction_cancelled_twice_is_rolled_back_and_the_memory_goes_on(place):
    async def work() -> None:
        async with never_blocked(), AsyncMemory(place) as memory:
            entered = asyncio.Event()

            async def busy() -> None:
                async with memory.transaction() as inside:
                    await inside.store("never", 1)
                    entered.set()
                    await inside.store_many((f"never {n}", "x") for n in range(20_000))

            task = asyncio.create_task(busy())
            await entered.wait()
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await memory.store("after", 1)
            assert dict([item async for item in memory.items()]) == {"after": 1}

    run(work)


def test_a_transaction_within_a_transaction_joins_it(place):
    async def work() -> None:
        async with never_blocked(), AsyncMemory(place) as memory:
            async with memory.transaction() as inside:
                await inside.store("a", 1)
                async with inside.transaction() as deeper:
                    await deeper.store("b", 2)
                    async with inside.namespace("n").transaction() as theirs:
                        await theirs.store("c", 3)
                        assert await inside.retrieve("a") == 1
            assert await memory.at("n").retrieve("c") == 3 and await memory.at("").retrieve("b") == 2
            with pytest.raises(KeyError):
                async with memory.transaction() as inside:
                    async with inside.transaction() as deeper:
                        await deeper.store("b", "undone")
                    async with inside.namespace("n").transaction() as theirs:
                        await theirs.store("c", "undone")
                    raise KeyError
            assert await memory.retrieve("b") == 2 and await memory.namespace("n").retrieve("c") == 3

    run(work, 25)


def test_transactions_within_one_of_several_tasks_are_not_left_out_of_order(place):
    async def work() -> None:
        async with never_blocked(), AsyncMemory(place) as memory:
            opened, left = asyncio.Event(), asyncio.Event()

            async def other(inside: AsyncMemory) -> None:
                async with inside.transaction() as theirs:
                    await theirs.store("inner", 1)
                    opened.set()
                    await left.wait()

            with pytest.raises(InvalidInput, match="leave the inner one first"):
                async with memory.transaction() as inside:
                    await inside.store("outer", 1)
                    task = asyncio.create_task(other(inside))
                    await opened.wait()
            left.set()
            with pytest.raises(InvalidInput, match="ended"):
                await task
            with pytest.raises(InvalidInput, match="ended"):
                await inside.store("late", 1)
            await memory.store("after", 1)
            assert dict([item async for item in memory.items()]) == {"after": 1}

    run(work)


def test_closing_while_a_task_is_in_a_transaction_is_refused_and_the_memory_goes_on(place):
    async def work() -> None:
        memory = AsyncMemory(place)
        async with memory.transaction() as inside:
            await inside.store("a", 1)
            with pytest.raises(InvalidInput, match=r"close\(\) inside a transaction: leave it first"):
                await memory.close()
            await inside.store("b", 2)
        assert await memory.retrieve_many(["a", "b"]) == {"a": 1, "b": 2}
        late = asyncio.create_task(memory.store("c", 3))
        await asyncio.sleep(0)
        await memory.close()
        assert await late == 1
        with pytest.raises(InvalidInput, match="closed"):
            await memory.store("d", 4)

    run(work)


def test_a_transaction_of_a_thread_outside_is_not_closed_either(postgres):
    async def work(place) -> None:
        memory = AsyncMemory(place)
        with memory.memory.transaction():
            memory.memory.store("a", 1)
            with pytest.raises(InvalidInput, match="leave it first"):
                await memory.close()
        assert await memory.retrieve("a") == 1
        await memory.close()

    run(lambda: work(f"{postgres.url}?extmem_schema=outside"))


def test_a_namespace_may_be_named_while_a_transaction_is_open(place):
    async def work() -> None:
        async with never_blocked(), AsyncMemory(place) as memory:
            async with memory.transaction() as inside:
                await inside.namespace("a").store("k", 1)
                handle = memory.namespace("a")
            assert await handle.retrieve("k") == 1
            with pytest.raises(InvalidInput):
                memory.namespace("")

    run(work, 25)
