"""The server, put together: routes, who may use them, limits around them.

Knows: all of serve/. Does not know: how it is started (`starting.py`).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import anyio
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from extmem.errors import ExtmemError
from extmem.serve import completions, generating, measuring, openai, page_files, records, talking
from extmem.serve.access import Access, Admin, Door
from extmem.serve.answers import Failure, Refused, failed, failure, reply
from extmem.serve.journal import Journal
from extmem.serve.limits import Capacity, Limits, Origin, Size, Time
from extmem.serve.page_files import Page
from extmem.serve.watch import Metrics, Watched

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig
    from opentelemetry.sdk.trace import TracerProvider

    from extmem.lm.model import LanguageModel
    from extmem.writers.base import Writer

SILENT: TelemetryConfig = {  # FastAPI's OpenTelemetry, which an environment variable could turn on
    "tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False,
}  # fmt: skip


def build(access: Access, writer: Writer | None = None, tracer: TracerProvider | None = None) -> FastAPI:
    """The routes of a memory; `writer` replies in chats, `tracer` takes a span of each request."""
    telemetry = SILENT if tracer is None else {**SILENT, "tracing": True, "tracer_provider": tracer}
    app = FastAPI(
        title="extmem", version="1", docs_url=None, redoc_url=None, redirect_slashes=False, telemetry=telemetry,
        responses={"default": {"model": Failure, "description": "Refused, or failed: why, in one line"}},
    )  # fmt: skip
    app.state.access, app.state.metrics, app.state.talks = access, Metrics(), talking.Talks(writer)
    app.include_router(records.router)
    app.include_router(talking.router)
    app.include_router(openai.router)
    app.include_router(completions.router)
    app.include_router(page_files.router)
    for kind in (Refused, RequestValidationError, HTTPException, ExtmemError, Exception):
        app.add_exception_handler(kind, failed)
    app.add_api_route("/healthz", healthy)
    app.add_api_route("/readyz", ready)
    app.add_api_route("/metrics", metrics)
    return app


def with_model(app: FastAPI, model: LanguageModel) -> None:
    """Lets a model write and measure there."""
    app.state.model, app.state.writing = model, threading.Lock()
    app.state.results = measuring.Results(app.state.access.sessions.folder)
    app.include_router(generating.router)
    app.include_router(measuring.router)


def limited(app: FastAPI, limits: Limits, log: Journal) -> ASGIApp:
    """The routes behind their limits, and the page beside them."""
    inner = Time(Door(Size(Origin(app), limits.body), app.state.access), limits.seconds)
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
    """Figures for Prometheus: of the whole memory, so for a key of all of it."""
    if not space.grant.covers(""):
        raise Refused(403, "NotAllowed", "this key is of some namespaces, the figures are of all: ask for another key.")
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE_LATEST)
