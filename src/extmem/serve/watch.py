"""What is seen of a request from outside: its id, its line in the log, its place in the metrics.

Knows: ASGI, prometheus. Does not know: what a request is about; addresses, which hold keys, are in no line.
"""

from __future__ import annotations

import os
import secrets
import time
import traceback
from itertools import count

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from extmem.serve.answers import GONE, failure
from extmem.serve.journal import Journal
from extmem.serve.running import FIGURES

SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class Metrics:
    """Figures of one server, in a registry of its own; of workers they lie in the folder that FIGURES names."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter("extmem_requests", "Requests answered.", labels, registry=self.registry)
        self.seconds = Histogram("extmem_request_seconds", "Until the answer's end.", registry=self.registry)
        self.now = Gauge(
            "extmem_requests_in_progress", "Requests in progress.", registry=self.registry, multiprocess_mode="livesum"
        )

    def text(self) -> bytes:
        """What Prometheus reads: of all processes of the server."""
        if FIGURES not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


class Watched:
    """Gives each request an id and each answer its headers; logs, measures, and answers 500 for what nobody caught."""

    def __init__(self, app: ASGIApp, log: Journal, metrics: Metrics) -> None:
        self.app, self.log, self.metrics = app, log, metrics
        self._numbers, self._server = count(1), secrets.token_hex(4)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        number = f"{self._server}-{next(self._numbers)}"
        status, done, started = GONE, False, time.perf_counter()
        fault: str | None = None

        async def sent(message: Message) -> None:
            nonlocal status, done
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", number.encode()), *SECURITY]
            else:
                done = not message.get("more_body")
            await send(message)

        self.metrics.now.inc()
        try:
            await self.app(scope, receive, sent)
        except Exception:
            fault = traceback.format_exc()
            if status == GONE:
                answer = failure(500, "InternalError", "something went wrong here: the server's log says what.")
                await answer(scope, receive, sent)
            elif not done:
                raise
        finally:
            self._note(scope, number, status, time.perf_counter() - started, fault or scope.get("fault"))

    def _note(self, scope: Scope, number: str, status: int, seconds: float, fault: str | None) -> None:
        route = getattr(scope.get("route"), "path", "-")
        self.metrics.now.dec()
        self.metrics.seconds.observe(seconds)
        self.metrics.requests.labels(scope["method"], route, status).inc()
        self.log.write(
            time=round(time.time(), 3), id=number, method=scope["method"], route=route, status=status,
            ms=round(seconds * 1e3, 2), who=scope.get("who"), fault=fault,
        )  # fmt: skip
