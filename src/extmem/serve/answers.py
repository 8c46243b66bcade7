"""Answers: records, hits and errors as JSON over HTTP.

Knows: JSON, statuses. Does not know: routes, who asks. Bytes stand under "bytes" as base64, as in an export.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import anyio
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from extmem.errors import (
    ExtmemError,
    InvalidInput,
    PromptTooLong,
    VersionConflict,
    WrongModel,
)
from extmem.exchange.lines import known_of, value_json
from extmem.reading import Hit
from extmem.records.base import Record

R = TypeVar("R")
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
GONE = 499  # nothing was answered, or nobody was there to be answered
STATUSES = ((InvalidInput, 400), (PromptTooLong, 400), (WrongModel, 409))


class Error(BaseModel):
    """What went wrong: the error's name, and one line."""

    type: str
    message: str


class Failure(BaseModel):
    """The one form of all errors."""

    error: Error


class Refused(Exception):
    """A request that is not granted: its status, the name of the error, and one line."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message


def reply(said: object, status: int = 200) -> Response:
    """JSON, as it is: what comes out of a memory needs no checks of FastAPI's."""
    try:
        text = _JSON(said)
    except ValueError:  # JSON has no NaN, which Python's values may be
        text = _JSON(_finite(said))
    return Response(text, status, media_type="application/json")


def _finite(said: Any) -> Any:
    """The same with null for NaN and Infinity."""
    if isinstance(said, dict):
        return {name: _finite(one) for name, one in said.items()}
    if isinstance(said, list | tuple):
        return [_finite(one) for one in said]
    return None if isinstance(said, float) and not math.isfinite(said) else said


def failure(status: int, kind: str, message: str, headers: Mapping[str, str] | None = None, **more: object) -> Response:
    """The one form of all errors."""
    said = {"error": {"type": kind, "message": " ".join(message.split()), **more}}
    return Response(json.dumps(said), status, headers, media_type="application/json")


def not_there(key: str) -> Response:
    """The answer for a key without a value."""
    return failure(404, "NotFound", f"there is no record {key!r}.")


def record_json(record: Record) -> dict[str, Any]:
    """A record with all that is known of it."""
    return {"key": record.key, **value_json(record.value), **known_of(record)}


def hit_json(hit: Hit) -> dict[str, Any]:
    """A hit, with why it was found."""
    beside = {"before": hit.before, "after": hit.after}
    return {
        "key": hit.key,
        **value_json(hit.value),
        "score": hit.score,
        "source": hit.source,
        "parts": dict(hit.parts),
        "words": list(hit.words),
        "span": hit.span and list(hit.span),
        **{side: [{"key": key, **value_json(value)} for key, value in some] for side, some in beside.items()},
    }


async def failed(request: Request, error: Exception) -> Response:
    """What an error is to a client: never a path, never a trace."""
    if isinstance(error, Refused):
        return failure(error.status, error.kind, error.message)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return failure(422, "InvalidInput", f"{place}: {first['msg']}.")
    if isinstance(error, HTTPException):
        kind = {404: "NotFound", 405: "MethodNotAllowed"}.get(error.status_code, "InvalidInput")
        return failure(error.status_code, kind, str(error.detail), error.headers)
    if isinstance(error, VersionConflict):
        known = {"expected": error.expected, "version": error.version}
        return failure(409, "VersionConflict", str(error), None, key=error.subject, **known)
    for kind_of, status in STATUSES:
        if isinstance(error, kind_of):
            return failure(status, type(error).__name__, str(error))
    if isinstance(error, ExtmemError):  # its message may name a path
        message = "the memory cannot do that now: the server's log says why."
        request.scope["fault"] = str(error)
        return failure(503, type(error).__name__, message, {"retry-after": "1"})
    return failure(500, "InternalError", "something went wrong here: the server's log says what.")


async def heeded(request: Request, call: Callable[[Callable[[object], None]], R]) -> R:
    """What `call` gives from a thread of its own. It is handed what to tell its progress to, which raises ClientGone
    once nobody waits for it any more. Raises Refused where the client went away."""
    given_up = threading.Event()
    found: list[R] = []
    error: Exception | None = None

    def told(_: object) -> None:
        if given_up.is_set():
            raise ClientGone

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        tasks.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            try:
                found.append(await anyio.to_thread.run_sync(call, told, abandon_on_cancel=True, limiter=beside()))
            except Exception as raised:  # a group of tasks would wrap it
                error = raised
            tasks.cancel_scope.cancel()
    finally:
        given_up.set()
    if error is not None:
        raise error
    if not found:
        request.scope["fault"] = "the client went away"
        raise Refused(GONE, "ClientGone", "the client went away")
    return found[0]


def beside() -> anyio.CapacityLimiter:
    """For a thread that may wait long, on a client or a model: one more, that takes none of those which others wait
    for. There are no more of them than requests in progress."""
    return anyio.CapacityLimiter(1)


class ClientGone(Exception):
    """Nobody is there to write to any more, or nobody who may read it."""


class Streamed(Response):
    """What `produce` writes from its thread, as it comes; a client that goes away stops it at its next piece.
    An error before the first piece is answered as any other; behind it the connection breaks off."""

    def __init__(self, produce: Callable[[Callable[[bytes], None]], object], media_type: str) -> None:
        super().__init__(media_type=media_type)
        del self.headers["content-length"]
        self.produce = produce

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        gone = started = False
        error: Exception | None = None

        async def watch() -> None:
            nonlocal gone
            while (await receive())["type"] != "http.disconnect":
                pass
            gone = True

        async def begin() -> None:
            nonlocal started
            if not started:
                started = True
                await send(start)

        async def pass_on(piece: bytes) -> None:
            await begin()
            await send({"type": "http.response.body", "body": piece, "more_body": True})

        def write(piece: bytes) -> None:
            if gone:
                raise ClientGone
            anyio.from_thread.run(pass_on, piece)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            try:
                await anyio.to_thread.run_sync(partial(self.produce, write), limiter=beside())
            except Exception as raised:
                error = raised
            tasks.cancel_scope.cancel()
        if isinstance(error, ClientGone):
            scope["fault"] = str(error) or "the client went away"
        elif error is not None:
            raise error
        else:
            await begin()
            await send({"type": "http.response.body", "body": b""})


class Events(Streamed):
    """What `produce` says, each an event of JSON that is sent by the server, and [DONE] at its end."""

    def __init__(self, produce: Callable[[Callable[[object], None]], object]) -> None:
        def written(write: Callable[[bytes], None]) -> None:
            produce(lambda said: write(f"data: {json.dumps(said, ensure_ascii=False)}\n\n".encode()))
            write(b"data: [DONE]\n\n")

        super().__init__(written, "text/event-stream")
