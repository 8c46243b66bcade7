"""Running a server: in this process, or in several that share a socket and a folder.

Knows: sockets, processes, signals, uvicorn. Does not know: routes, memories.

Python runs one thread at a time, so a server of one process has one core. Each worker is a fork that opens the memory
for itself: two processes on one memory are both right. A worker that dies is replaced; a signal ends them all, each
when it has finished what it began.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from extmem.errors import ExtmemError, InvalidInput, ModelError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    Making = Callable[[], AbstractContextManager[ASGIApp]]

QUEUE = 2_048  # connections that wait until one is accepted
TURN = 8  # that a worker accepts at once
ENDING = (signal.SIGTERM, signal.SIGINT)
PAUSE = 1.0  # seconds before a worker that died is replaced
READY = "ready"
FIGURES = "PROMETHEUS_MULTIPROC_DIR"  # where prometheus_client adds up what several processes count


def listening(host: str, port: int) -> socket.socket:
    """A socket at that address. Raises InvalidInput."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise InvalidInput(f"there is no address {host}: give one of this machine's.", host) from error
    try:
        return bound(family, address)
    except OSError as error:
        cause = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
        raise InvalidInput(f"{host} port {port} {cause}: give another --port.", port) from error


def bound(family: int, address: Any) -> socket.socket:
    """A socket that listens there. Raises OSError, OverflowError."""
    # asyncio sends small answers at once (TCP_NODELAY) only where the protocol is named
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(QUEUE)
    except BaseException:
        listener.close()
        raise
    return listener


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def run(made: Making, listener: socket.socket, workers: int, folder: Path, ready: Callable[[], None]) -> None:
    """Serves what `made()` gives until SIGTERM or SIGINT; `ready` is called when it is made everywhere. Workers count
    together in `folder`; prometheus_client must not have been imported yet. Raises what `made` raises; of workers
    ModelError with the first one's line."""
    if workers == 1:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # until it serves: an end as Ctrl-C is one
        with made() as app:
            _serve(app, listener, QUEUE, ready)
    elif hasattr(os, "fork"):
        os.environ[FIGURES] = str(folder)
        _Workers(made, listener).run(workers, ready)
    else:
        raise InvalidInput("this system cannot have --workers: leave it out.", workers)


def _serve(app: ASGIApp, listener: socket.socket, accepted: int, ready: Callable[[], None]) -> None:
    import uvicorn

    from extmem.serve.connections import Connection

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            listener.listen(QUEUE)  # which the backlog below has just made short

    # asyncio's loop takes turns, where uvloop let some of 64 connections wait for seconds (docs/log.md). uvicorn's
    # backlog is also how many connections are accepted a turn: of workers few, so that the others get theirs.
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, date_header=False, lifespan="off", loop="asyncio",
        backlog=accepted, proxy_headers=False, http=Connection,
    )  # fmt: skip
    server = Server(config)
    for ending in ENDING:  # from here on; uvicorn raises them again when it has ended
        signal.signal(ending, server.handle_exit)
    ready()
    server.run(sockets=[listener])


class _Workers:
    """The processes that serve, seen from the one that started them."""

    def __init__(self, made: Making, listener: socket.socket) -> None:
        self.made, self.listener = made, listener
        self.there: set[int] = set()
        self.ended = False
        self.lifeline = os.pipe()  # nothing is written: it ends when this process does

    def run(self, count: int, ready: Callable[[], None]) -> None:
        """Until all have ended."""
        from prometheus_client.multiprocess import mark_process_dead

        for ending in ENDING:
            signal.signal(ending, self.end)
        reading, writing = os.pipe()
        for _ in range(count):
            self.begin(writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as said:
            lines = [line.decode().strip() for line in said]
        failures = [line for line in lines if line != READY]
        if len(lines) < count and not self.ended:
            failures.append("a worker ended before it was ready: see what it said.")
        if failures:
            self.end()
        elif not self.ended:
            ready()
        while self.there:
            worker, _ = os.wait()
            self.there.discard(worker)
            mark_process_dead(worker)  # type: ignore[no-untyped-call]
            if not self.ended:
                time.sleep(PAUSE)
                self.begin()
        if failures:
            raise ModelError(failures[0])

    def end(self, *_: object) -> None:
        """Has every worker finish what it began."""
        self.ended = True
        for worker in self.there:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(worker, signal.SIGTERM)

    def begin(self, said: int | None = None) -> None:
        """One more worker, which says on `said` that it is ready, or in a line why it cannot be."""
        if self.ended:
            return
        sys.stdout.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # what comes meanwhile is for whom it was meant
        worker = os.fork()
        if not worker:
            self._work(said)
        self.there.add(worker)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)

    def _work(self, said: int | None) -> NoReturn:
        status = 1
        try:
            for ending in ENDING:
                signal.signal(ending, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
            os.close(self.lifeline[1])
            threading.Thread(target=self._end_with_it, daemon=True).start()
            with self.made() as app:
                _serve(app, self.listener, TURN, partial(_say, said, READY))
            status = 0
        except ExtmemError as error:
            _say(said, " ".join(str(error).split()))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def _end_with_it(self) -> None:
        os.read(self.lifeline[0], 1)
        os.kill(os.getpid(), signal.SIGTERM)


def _say(said: int | None, line: str) -> None:
    """To the process that waits for it; of a worker that took another's place a failure to standard error."""
    if said is not None:
        os.write(said, f"{line}\n".encode())
        os.close(said)
    elif line != READY:
        os.write(2, f"{line}\n".encode())
