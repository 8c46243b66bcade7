"""AsyncMemory: a Memory for asyncio. The library is synchronous; its twin runs it in threads.

Knows: Memory, threads. Does not know: what any operation does.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from extmem.memory import Memory
from extmem.opening import MasterKey
from extmem.records.base import Record
from extmem.records.values import Value
from extmem.records.where import Where

if TYPE_CHECKING:
    from typing_extensions import Self

P = ParamSpec("P")
R = TypeVar("R")
PAGE = 500  # records that an iteration fetches at once


def _twin(
    method: Callable[Concatenate[Memory, P], R],
) -> Callable[Concatenate[AsyncMemory, P], Coroutine[Any, Any, R]]:
    """The method of Memory, awaited."""

    @functools.wraps(method)
    async def call(self: AsyncMemory, /, *words: P.args, **options: P.kwargs) -> R:
        return await self._run(functools.partial(method, self.memory, *words, **options))

    return call


class AsyncMemory:
    """The public API of `Memory`, awaited: the same names, parameters, answers and errors.

    async with AsyncMemory("fruit.mem") as memory:
        await memory.store("apple", "A fruit")
        async for key in memory.keys(): ...
        async with memory.transaction() as inside:      # what `inside` does is one change
            await inside.store("pear", "Another")

    `threads` is how many operations run at once. A task that is cancelled leaves the operation it waits
    for to finish. Models read a memory synchronously: give them `memory.memory`.
    """

    def __init__(
        self,
        place: str | Path | None = None,
        *,
        author: str | None = None,
        key: MasterKey | None = None,
        threads: int = 8,
    ) -> None:
        self._bind(Memory(place, author=author, key=key), ThreadPoolExecutor(threads, thread_name_prefix="extmem"))

    def _bind(self, memory: Memory, pool: ThreadPoolExecutor) -> None:
        self.memory, self._pool = memory, pool

    store = _twin(Memory.store)
    store_many = _twin(Memory.store_many)
    retrieve = _twin(Memory.retrieve)
    retrieve_many = _twin(Memory.retrieve_many)
    record = _twin(Memory.record)
    history = _twin(Memory.history)
    keep_history = _twin(Memory.keep_history)
    forget = _twin(Memory.forget)
    forget_many = _twin(Memory.forget_many)
    search = _twin(Memory.search)
    duplicates = _twin(Memory.duplicates)
    count = _twin(Memory.__len__)
    contains = _twin(Memory.__contains__)
    namespaces = _twin(Memory.namespaces)
    drop_namespace = _twin(Memory.drop_namespace)
    stats = _twin(Memory.stats)
    verify = _twin(Memory.verify)
    repair = _twin(Memory.repair)
    snapshot = _twin(Memory.snapshot)
    rotate_master = _twin(Memory.rotate_master)
    rotate_keys = _twin(Memory.rotate_keys)

    def keys(self, prefix: str = "", after: str | None = None) -> AsyncIterator[str]:
        """See `Memory.keys`."""
        return self._each(lambda: self.memory.keys(prefix, after))

    def items(self, prefix: str = "", after: str | None = None) -> AsyncIterator[tuple[str, Value]]:
        """See `Memory.items`."""
        return self._each(lambda: self.memory.items(prefix, after))

    def scan(self, prefix: str = "", after: str | None = None, where: Where | None = None) -> AsyncIterator[Record]:
        """See `Memory.scan`."""
        return self._each(lambda: self.memory.scan(prefix, after, where))

    def namespace(self, name: str) -> AsyncMemory:
        """See `Memory.namespace`."""
        handle = object.__new__(AsyncMemory)
        handle._bind(self.memory.namespace(name), self._pool)
        return handle

    def at(self, path: str) -> AsyncMemory:
        """See `Memory.at`."""
        return functools.reduce(AsyncMemory.namespace, path.split("/"), self)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncMemory]:
        """All of what is done by the handle it gives, or nothing. Other handles are not part of it."""
        with ThreadPoolExecutor(1, thread_name_prefix="extmem-transaction") as thread:
            inside = object.__new__(AsyncMemory)
            inside._bind(self.memory, thread)
            transaction = self.memory.transaction()
            await inside._run(transaction.__enter__)
            try:
                yield inside
            except BaseException as error:
                failed = functools.partial(transaction.__exit__, type(error), error, error.__traceback__)
                await asyncio.shield(inside._run(failed))
                raise
            await asyncio.shield(inside._run(functools.partial(transaction.__exit__, None, None, None)))

    async def close(self) -> None:
        """Waits for what is running, and lets go of files."""
        await asyncio.to_thread(self._pool.shutdown)
        self.memory.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _run(self, call: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    async def _each(self, iterate: Callable[[], Iterator[R]]) -> AsyncIterator[R]:
        items = await self._run(iterate)
        while page := await self._run(lambda: list(islice(items, PAGE))):
            for item in page:
                yield item
