"""AsyncMemory is Memory, awaited."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from extmem import AsyncMemory, Memory
from extmem.errors import StorageError, VersionConflict


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
