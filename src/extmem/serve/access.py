"""Access: from a request's key to the handle of a namespace, which is all that a route gets.

Knows: keys, namespaces, rates, ASGI. Does not know: what routes do. A namespace that is not the key's is answered for
before anything is looked up, so that nothing can be learnt of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import anyio
from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from extmem.memory import Memory
from extmem.serve.answers import ClientGone, Refused, failure
from extmem.serve.journal import Journal
from extmem.serve.keys import FRESH, Grant, Keys
from extmem.serve.limits import HASTE, Rate, Time
from extmem.serve.sessions import Sessions

R = TypeVar("R")
GRANT = "grant"  # in a request's scope: what its key opens
OPEN = ("/healthz", "/readyz", "/openapi.json", "/v1/session")  # without a key
HANDLES = 1_000  # of namespaces, kept at once


class Access:
    """The doors of one memory. `direct`: its reads are short and may run in the event loop; `threads` is how many
    operations run beside it at once, `searches` how many of them compute: more would only take turns on the one
    interpreter, which costs twice the time."""

    def __init__(
        self,
        memory: Memory,
        audit: Journal,
        sessions: Sessions,
        rate: float,
        *,
        direct: bool,
        threads: int = 8,
        searches: int = 2,
    ) -> None:
        self.memory, self.audit, self.sessions, self.direct = memory, audit, sessions, direct
        self.keys, self.rate = Keys(memory, direct=direct), Rate(rate)
        self.threads = anyio.CapacityLimiter(threads)
        self.searches = anyio.CapacityLimiter(searches) if direct else self.threads  # a database's server computes too
        self._handles: dict[str, Memory] = {"": memory}

    async def enter(self, request: Request, may: str, path: str | None) -> Space:
        """The namespace that is asked for, or else the key's first. Raises Refused."""
        grant: Grant = request.scope[GRANT]
        path = grant.namespaces[0] if path is None else path
        if not grant.covers(path):
            raise Refused(404, "NoNamespace", f"there is no namespace {path!r}.")
        if not grant.allows(may):
            raise Refused(403, "NotAllowed", f"this key may only {grant.may}: this needs {may}; ask for another key.")
        handle = self._handles.get(path)
        if handle is None:
            handle = await anyio.to_thread.run_sync(self.memory.at, path)
            if len(self._handles) >= HANDLES:
                self._handles = {"": self.memory}
            self._handles[path] = handle
        return Space(handle, path, grant, self)

    async def grant(self, authorization: str) -> Grant | None:
        """What the key in a header opens now; None where there is none that is valid."""
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        return await self.keys.of(key.strip()) or self.sessions.of(key.strip())


class Door:
    """Asks for the key before anything of a body is read, and again while a body or an answer goes on: a key that is
    revoked opens no more of it."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access
        self.open = Time(app, HASTE)  # whoever has no key holds no place for long

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if scope["path"] in OPEN:
            return await self.open(scope, receive, send)
        authorization = Headers(scope=scope).get("authorization", "")
        grant = await self.access.grant(authorization)
        if grant is None:
            message = "give a key that is valid: Authorization: Bearer em_…"
            return await failure(401, "NoKey", message, {"www-authenticate": "Bearer"})(scope, receive, send)
        scope["who"], scope[GRANT] = grant.id, grant
        looked = time.monotonic()
        if wait := self.access.rate.wait(grant.id, looked):
            said = failure(429, "TooMany", "too many requests with this key.", {"retry-after": str(int(wait) + 1)})
            return await said(scope, receive, send)

        async def look() -> None:
            nonlocal looked
            if time.monotonic() - looked > FRESH:
                looked = time.monotonic()
                if await self.access.grant(authorization) is None:
                    raise ClientGone("its key was revoked")

        async def received() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                await look()
            return message

        async def sent(message: Message) -> None:
            if message.get("more_body"):
                await look()
            await send(message)

        await self.app(scope, received, sent)


@dataclass(frozen=True, slots=True)
class Space:
    """A namespace as one key may use it."""

    memory: Memory
    path: str
    grant: Grant
    access: Access

    async def run(self, call: Callable[..., R], *words: Any) -> R:
        """What may wait, in a thread; what was begun is finished."""
        return await anyio.to_thread.run_sync(call, *words, limiter=self.access.threads)

    async def search(self, call: Callable[..., R], *words: Any) -> R:
        """What computes for some milliseconds, in one of few threads."""
        return await anyio.to_thread.run_sync(call, *words, limiter=self.access.searches)

    async def read(self, call: Callable[..., R], *words: Any) -> R:
        """A short read."""
        return call(*words) if self.access.direct else await self.run(call, *words)

    def note(self, did: str, key: str | None = None, keys: list[str] | None = None) -> None:
        """A line of the audit: never values."""
        self.access.audit.write(
            time=round(time.time(), 3), who=self.grant.id, did=did, namespace=self.path, key=key, keys=keys
        )


async def _reader(request: Request, namespace: str | None = None) -> Space:
    return await request.app.state.access.enter(request, "read", namespace)  # type: ignore[no-any-return]


async def _writer(request: Request, namespace: str | None = None) -> Space:
    return await request.app.state.access.enter(request, "write", namespace)  # type: ignore[no-any-return]


async def _admin(request: Request, namespace: str | None = None) -> Space:
    return await request.app.state.access.enter(request, "admin", namespace)  # type: ignore[no-any-return]


Reader = Annotated[Space, Depends(_reader)]
Writer = Annotated[Space, Depends(_writer)]
Admin = Annotated[Space, Depends(_admin)]
