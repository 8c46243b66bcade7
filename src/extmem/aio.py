"""AsyncMemory: a Memory for asyncio. The library is synchronous; its twin runs it in threads.

Knows: Memory, threads. Does not know: what any operation does.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, nullcontext, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from extmem.errors import InvalidInput
from extmem.memory import Memory
from extmem.opening import MasterKey
from extmem.records.base import Record, joined
from extmem.records.values import Value
from extmem.records.where import Where

if TYPE_CHECKING:
    from typing_extensions import Self

P = ParamSpec("P")
R = TypeVar("R")
PAGE = 500  # records that an iteration fetches at once
_ASIDE = "a transaction was left while one within it, of another task, was open: leave the inner one first."


def _twin(
    method: Callable[Concatenate[Memory, P], R],
) -> Callable[Concatenate[AsyncMemory, P], Coroutine[Any, Any, R]]:
    """The method of Memory, awaited."""

    @functools.wraps(method)
    async def call(self: AsyncMemory, /, *words: P.args, **options: P.kwargs) -> R:
        return await self._run(lambda: method(self.memory, *words, **options))

    return call


class _Progress:
    """What the handles of one memory have not done yet."""

    def __init__(self) -> None:
        self.calls: set[Future[Any]] = set()
        self.transactions: set[object] = set()


class _Threads:
    """Where a handle's calls run: many threads, or the one of a transaction."""

    def __init__(self, count: int, progress: _Progress, single: bool = False) -> None:
        self.pool, self.progress, self.single = ThreadPoolExecutor(count, "extmem"), progress, single
        self.entered: list[AbstractContextManager[None]] = []  # the transactions in it, each within the one before

    def submit(self, call: Callable[[], R]) -> Future[R]:
        """Has it called. Raises InvalidInput where the memory is closed or the transaction has ended."""
        try:
            job = self.pool.submit(call)
        except RuntimeError as error:
            raise InvalidInput("this memory is closed, or its transaction has ended: open another.") from error
        self.progress.calls.add(job)
        job.add_done_callback(self.progress.calls.discard)
        return job

    def enter(self, handle: AsyncMemory) -> AbstractContextManager[None]:
        """Begins a transaction in the thread that this is called in."""
        transaction = handle.memory.transaction()
        transaction.__enter__()
        self.entered.append(transaction)
        return transaction

    def leave(self, entering: Future[AbstractContextManager[None]], error: BaseException | None) -> None:
        """Ends a transaction in its thread, if it was entered: rolled back where there is an error, and
        where one within it, of another task, is still open."""
        if entering.cancelled() or entering.exception():
            return
        transaction, aside = entering.result(), InvalidInput(_ASIDE)
        if transaction not in self.entered:  # it was rolled back with the one around it
            if error is None:
                raise aside
            return
        place, stack = self.entered.index(transaction), ExitStack()
        if error is None and transaction is not self.entered[-1]:
            error = aside
        for left in self.entered[place:]:
            stack.push(left)
        del self.entered[place:]
        stack.__exit__(None if error is None else type(error), error, None if error is None else error.__traceback__)
        if error is aside:
            raise aside


class AsyncMemory:
    """The public API of `Memory`, awaited: the same names, parameters, answers and errors.

    async with AsyncMemory("fruit.mem") as memory:
        await memory.store("apple", "A fruit")
        async for key in memory.keys(): ...
        async with memory.transaction() as inside:      # what `inside` does is one change
            await inside.store("pear", "Another")

    `threads` is how many operations run at once. A task that is cancelled leaves the operation it waits
    for to finish; in a transaction it is rolled back, unless it was being committed. Models read a
    memory synchronously: give them `memory.memory`.
    """

    def __init__(
        self,
        place: str | Path | None = None,
        *,
        author: str | None = None,
        key: MasterKey | None = None,
        threads: int = 8,
    ) -> None:
        memory = Memory(place, author=author, key=key)
        self._bind(memory, "", memory, _Threads(threads, _Progress()))

    def _bind(self, root: Memory, path: str, memory: Memory | None, threads: _Threads) -> None:
        self._root, self._path, self._memory, self._threads = root, path, memory, threads

    @property
    def memory(self) -> Memory:
        """The synchronous memory that is run in threads. To make one may wait for a transaction, so that
        the handles do it in their threads."""
        if self._memory is None:
            self._memory = self._root.at(self._path)
        return self._memory

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
    embed = _twin(Memory.embed)
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
        return self._handle(joined(self._path, name), None, self._threads)

    def at(self, path: str) -> AsyncMemory:
        """See `Memory.at`."""
        return functools.reduce(AsyncMemory.namespace, path.split("/") if path else (), self)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncMemory]:
        """All of what is done by the handle it gives, or nothing. Other handles are not part of it; a
        transaction of this handle, or of its namespaces, lies within it."""
        progress = self._threads.progress
        threads = self._threads if self._threads.single else _Threads(1, progress, single=True)
        inside = self._handle(self._path, self._memory, threads)
        entering, entered = threads.submit(lambda: threads.enter(inside)), False
        progress.transactions.add(inside)
        error: BaseException | None = None
        try:
            await asyncio.wrap_future(entering)
            entered = True
            yield inside
        except BaseException as raised:
            error = raised
            raise
        finally:
            progress.transactions.discard(inside)
            with nullcontext() if error is None else suppress(InvalidInput):  # it has ended with the one around it
                leaving = threads.submit(lambda: threads.leave(entering, error))  # behind what runs there
                if threads is not self._threads:
                    threads.pool.shutdown(wait=False)
                if entered:
                    await asyncio.shield(asyncio.wrap_future(leaving))

    async def close(self) -> None:
        """Waits for what is running, and lets go of files. Raises InvalidInput while a task is in a
        transaction; the memory then goes on."""
        progress = self._threads.progress
        if not progress.transactions:
            await asyncio.to_thread(wait, progress.calls.copy())
        if progress.transactions:
            raise InvalidInput("close() inside a transaction: leave it first.")
        await asyncio.to_thread(lambda: self.memory.close())
        self._threads.pool.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _run(self, call: Callable[[], R]) -> R:
        return await asyncio.wrap_future(self._threads.submit(call))

    def _handle(self, path: str, memory: Memory | None, threads: _Threads) -> AsyncMemory:
        handle = object.__new__(AsyncMemory)
        handle._bind(self._root, path, memory, threads)
        return handle

    async def _each(self, iterate: Callable[[], Iterator[R]]) -> AsyncIterator[R]:
        items = await self._run(iterate)
        while page := await self._run(lambda: list(islice(items, PAGE))):
            for item in page:
                yield item
