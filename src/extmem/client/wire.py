"""Wire: JSON asked over HTTP, over connections that are kept; refusals become the errors they were on the server.

Knows: HTTP (the standard library's: `pip install extmem` is all a client needs), the form of errors. Does not know:
routes, records.
"""

from __future__ import annotations

import json
import os
import select
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import IO, Any
from urllib.parse import urlencode, urlsplit

from extmem.errors import (
    ExtmemError,
    InvalidInput,
    MemoryFormatError,
    ModelError,
    PromptTooLong,
    StorageError,
    VersionConflict,
    WrongKey,
    WrongModel,
)


class NotThere(InvalidInput):
    """What was asked for is not there."""


AT_FAULT = {
    "InvalidInput": InvalidInput, "CorpusError": InvalidInput, "NoNamespace": InvalidInput, "NotFound": NotThere,
}  # fmt: skip
KINDS: dict[str, type[ExtmemError]] = {
    "TooLarge": InvalidInput, "NoKey": WrongKey, "NotAllowed": WrongKey, "WrongKey": WrongKey,
    "MemoryFormatError": MemoryFormatError, "ModelError": ModelError, "WrongModel": WrongModel,
    "PromptTooLong": PromptTooLong,
}  # fmt: skip


class Wire:
    """A server and a key. Any thread may ask; each asks on a connection of its own, which is kept for the next.
    `timeout` is in seconds, for a connection and for every piece of an answer."""

    def __init__(self, address: str, key: str, timeout: float) -> None:
        """Asks nothing yet. Raises InvalidInput for what is no address, WrongKey for what can be no key."""
        try:
            parts = urlsplit(address)
            self._place = parts.hostname or "", parts.port
        except (ValueError, AttributeError, TypeError) as error:
            raise InvalidInput(f"{address!r} is no address ({error}): give http://host:port.", address) from error
        if parts.scheme not in ("http", "https") or not self._place[0]:
            raise InvalidInput(f"{address!r} is no address: give http://host:port.", address)
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise InvalidInput("an address is http://host:port and no more: give the key as `key`.")
        if not isinstance(key, str) or not key.isascii() or not key.isprintable():
            raise WrongKey("this can be no server's key: give one that `extmem grant` printed (em_…).")
        self.address, self.timeout = address.rstrip("/"), timeout
        self._base, self._secure, self._key = parts.path.rstrip("/"), parts.scheme == "https", key
        self._idle: deque[HTTPConnection] = deque()
        self._process = os.getpid()

    def ask(self, method: str, path: str, query: Mapping[str, object], said: object = None) -> Any:
        """The object that the server answers with. Raises what the server refused with, StorageError where it does
        not answer."""
        body = None if said is None else json.dumps(said).encode()
        with self.opened(method, path, query, body, "application/json") as answer:
            return self.parsed(answer.read())

    @contextmanager
    def opened(
        self, method: str, path: str, query: Mapping[str, object], body: bytes | IO[bytes] | None = None, kind: str = ""
    ) -> Iterator[HTTPResponse]:
        """The answer as it comes. Raises as `ask`."""
        connection = self._connection()
        headers = {"Authorization": f"Bearer {self._key}", **({"Content-Type": kind} if kind and body else {})}
        given = urlencode({name: value for name, value in query.items() if value is not None})
        try:
            try:
                connection.request(method, f"{self._base}{path}{'?' if given else ''}{given}", body, headers)
            except (BrokenPipeError, ConnectionResetError):  # it may have refused before it had read all
                if connection.sock is None:
                    raise
            answer = connection.getresponse()
            if answer.status != 200:
                raise self._refusal(answer.status, answer.read())
            yield answer
            if answer.isclosed() and connection.sock is not None:
                self._idle.append(connection)
                connection = None  # type: ignore[assignment]
        except TimeoutError as error:
            raise self.error(f"did not answer within {self.timeout:g} s: is it busy?") from error
        except ConnectionRefusedError as error:
            raise self.error("cannot be reached: is it running, is the address right?") from error
        except ExtmemError:
            raise
        except (OSError, HTTPException) as error:
            what = " ".join(str(error).split())[:200] or type(error).__name__
            raise self.error(f"broke off ({what}): is it running?") from error
        finally:
            if connection is not None:
                connection.close()

    def error(self, what: str) -> StorageError:
        """The StorageError that says this of the server."""
        return StorageError(f"{self.address} {what}{'' if what.endswith('?') else '.'}", self.address)

    def close(self) -> None:
        """Lets go of the connections that are kept."""
        while self._idle:
            with suppress(IndexError):  # another thread took it
                self._idle.pop().close()

    def _connection(self) -> HTTPConnection:
        """One that is kept and that the server has not closed meanwhile, or a new one."""
        if os.getpid() != self._process:  # those are the parent's
            self._idle, self._process = deque(), os.getpid()
        with suppress(IndexError):
            while True:
                kept = self._idle.pop()
                if kept.sock is not None and not _readable(kept.sock.fileno()):
                    return kept
                kept.close()
        return (HTTPSConnection if self._secure else HTTPConnection)(*self._place, timeout=self.timeout)

    def parsed(self, body: bytes) -> Any:
        """The object of an answer. Raises StorageError where it is none."""
        try:
            said = json.loads(body)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise self.error("answers, but is no extmem server: check the address")
        return said

    def _refusal(self, status: int, body: bytes) -> ExtmemError:
        try:
            error = json.loads(body)["error"]
            kind, message = str(error["type"]), error["message"]
            if kind == "VersionConflict":
                return VersionConflict(error["key"], error["expected"], error["version"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return self.error(f"answered {status}, and is no extmem server: check the address")
        if kind in AT_FAULT:
            return AT_FAULT[kind](message)
        return KINDS.get(kind, StorageError)(f"{self.address}: {message}", self.address)


def _readable(descriptor: int) -> bool:
    """Whether something came unasked, as the end of a connection does."""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(0))
