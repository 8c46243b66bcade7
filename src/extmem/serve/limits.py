"""Limits: how much, how long, how many at once, how often, and from where.

Knows: ASGI. Does not know: keys, memories, routes. Each is a plain ASGI application around another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from extmem.serve.answers import failure

STREAMS = "/v1/import"  # a body of any length, in pieces
READS = ("GET", "HEAD", "OPTIONS")
HASTE = 10.0  # seconds in which headers come, and in which a request without a key is answered
BUSY = {"retry-after": "1"}


@dataclass(frozen=True)
class Limits:
    """Bytes of a body, seconds until an answer begins, requests in progress, requests a second and key (0: any)."""

    body: int = 16 << 20
    seconds: float = 30.0
    requests: int = 256
    rate: float = 0.0


class Capacity:
    """At most `most` requests in progress; beyond that 503 at once."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most, self.now = app, most, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if self.now >= self.most:
            answer = failure(503, "Busy", "too many requests in progress: try again in a second.", BUSY)
            return await answer(scope, receive, send)
        self.now += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.now -= 1


class Origin:
    """Refuses what a page of another site has a browser write, and addresses that are not UTF-8."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if scope["method"] not in READS and _from_elsewhere(dict(scope["headers"])):
                answer = failure(403, "CrossSite", "pages of other sites may not write here.")
                return await answer(scope, receive, send)
            if not _is_text(scope["raw_path"] or b"", scope["query_string"]):
                answer = failure(400, "InvalidInput", "the address is not UTF-8.")
                return await answer(scope, receive, send)
        await self.app(scope, receive, send)


def _from_elsewhere(headers: dict[bytes, bytes]) -> bool:
    site, origin = headers.get(b"sec-fetch-site", b"none"), headers.get(b"origin")
    return site not in (b"none", b"same-origin") or (
        origin is not None and origin.partition(b"://")[2] != headers.get(b"host")
    )


def _is_text(*parts: bytes) -> bool:
    try:
        for part in parts:
            if b"%" in part or not part.isascii():
                unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        return False
    return True


class Size:
    """Bodies of at most `most` bytes: 413 beyond it, before it is read where its length is said."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in READS or scope["path"] == STREAMS:
            return await self.app(scope, receive, send)
        answer = failure(413, "TooLarge", f"a body may have {self.most:,} bytes.", {"connection": "close"})
        said = dict(scope["headers"]).get(b"content-length", b"0")
        if said.isdigit() and int(said) > self.most:
            return await answer(scope, receive, send)
        left, answered = self.most, False

        async def counted() -> Message:
            nonlocal left, answered
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0 and not answered:
                answered = True
                await answer(scope, receive, send)
            return {"type": "http.disconnect"} if answered else message

        async def sent(message: Message) -> None:
            if not answered:
                await send(message)

        await self.app(scope, counted, sent)


class Time:
    """An answer begins within `seconds`, 504 else; once it has begun, each further piece comes within them. So does
    each piece of a body that is a stream."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app, self.seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began = False

        async def received() -> Message:
            message = await receive()
            if scope["path"] == STREAMS:
                limit.deadline = anyio.current_time() + self.seconds if message.get("more_body") else math.inf
            return message

        async def sent(message: Message) -> None:
            nonlocal began
            began = True
            limit.deadline = anyio.current_time() + self.seconds
            await send(message)

        with anyio.move_on_after(self.seconds) as limit:
            await self.app(scope, received, sent)
        if limit.cancelled_caught:
            if began:
                raise TimeoutError("the client took no more")
            answer = failure(504, "TooSlow", f"this took longer than {self.seconds:g} seconds.", BUSY)
            await answer(scope, receive, send)


class Rate:
    """So many requests a second and key, as many at once (a token bucket); 0 is no limit."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._left: dict[str, tuple[float, float]] = {}  # of keys that exist, so few

    def wait(self, who: str, now: float) -> float:
        """Takes one, and returns 0; or the seconds until there is one."""
        if not self.per_second:
            return 0.0
        most = max(1.0, self.per_second)
        left, then = self._left.get(who, (most, now))
        left = min(most, left + (now - then) * self.per_second)
        self._left[who] = (left - 1 if left >= 1 else left), now
        return 0.0 if left >= 1 else (1 - left) / self.per_second
