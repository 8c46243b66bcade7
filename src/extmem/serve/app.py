"""The server, put together: routes, who may use them, limits around them.

Knows: all of serve/. Does not know: how it is started (cli/serve.py).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from extmem.errors import ExtmemError
from extmem.memory import Memory
from extmem.serve import generating, measuring, openai, page_files, records
from extmem.serve.access import Access, Admin
from extmem.serve.answers import Refused, failed, failure, reply
from extmem.serve.journal import Journal
from extmem.serve.limits import Capacity, Origin, Size, Time
from extmem.serve.page_files import Page
from extmem.serve.sessions import Sessions
from extmem.serve.watch import Metrics, Watched

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig

    from extmem.lm.evaluate import Evaluation
    from extmem.lm.model import LanguageModel

SILENT: TelemetryConfig = {  # FastAPI's OpenTelemetry, which an environment variable could turn on
    "tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False,
}  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """Bytes of a body, seconds until an answer begins, requests in progress, requests a second and key (0: any)."""

    body: int = 16 << 20
    seconds: float = 30.0
    requests: int = 256
    rate: float = 0.0


def build(memory: Memory, audit: Journal, sessions: Sessions, limits: Limits, *, direct: bool) -> FastAPI:
    """The routes of a memory. `direct`: its reads may run in the event loop."""
    app = FastAPI(title="extmem", version="1", docs_url=None, redoc_url=None, redirect_slashes=False, telemetry=SILENT)
    app.state.access, app.state.metrics = Access(memory, audit, sessions, limits.rate, direct=direct), Metrics()
    app.include_router(records.router)
    app.include_router(openai.router)
    app.include_router(page_files.router)
    for kind in (Refused, RequestValidationError, HTTPException, ExtmemError, Exception):
        app.add_exception_handler(kind, failed)
    app.add_api_route("/healthz", healthy)
    app.add_api_route("/readyz", ready)
    app.add_api_route("/metrics", metrics)
    return app


def with_model(app: FastAPI, model: LanguageModel, measured: Sequence[Evaluation] = ()) -> None:
    """Lets a model write and measure there; `measured` are results of the whole memory that were there before."""
    app.state.model, app.state.writing, app.state.results = model, threading.Lock(), measuring.Results()
    for one in measured:
        app.state.results.keep("", one)
    app.include_router(generating.router)
    app.include_router(measuring.router)


def limited(app: FastAPI, limits: Limits, log: Journal) -> ASGIApp:
    """The routes behind their limits, and the page beside them."""
    inner = Size(Origin(Time(app, limits.seconds)), limits.body)
    return Page(Watched(Capacity(inner, limits.requests), log, app.state.metrics))


async def healthy() -> Response:
    """This process answers."""
    return reply({"status": "ok"})


async def ready(request: Request) -> Response:
    """The memory can be read."""
    try:
        await anyio.to_thread.run_sync(request.app.state.access.memory.record, "")
    except ExtmemError:
        return failure(503, "NotReady", "the memory cannot be read now.")
    return reply({"status": "ok"})


async def metrics(space: Admin, request: Request) -> Response:
    """Figures for Prometheus."""
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE_LATEST)
