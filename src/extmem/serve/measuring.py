"""/v1/evaluate and /v1/results: how well the model foretells a text, with the memory and without.

Knows: a LanguageModel as what measures. Does not know: how it measures. One text is written or measured at a time. It
may take longer than an answer may take to begin, so it is answered as server-sent events: how far it is, at least every
second, then the result. Of what was measured figures alone are kept, while the server runs, and never the text.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from extmem.errors import InvalidInput, WrongModel
from extmem.serve.access import Reader, Space
from extmem.serve.answers import ClientGone, Events, reply
from extmem.serve.generating import LENGTH, Desk
from extmem.serve.records import Body

if TYPE_CHECKING:
    from extmem.lm.evaluate import Evaluation

KEPT = 100  # results that are shown
BEAT = 1.0  # seconds between events, at most

router = APIRouter(prefix="/v1")


class Measured(Body):
    """A text to be measured, that neither model nor memory should have seen."""

    text: Annotated[str, Field(min_length=1, max_length=LENGTH)]


class Results:
    """The figures that were measured, each with the namespace it was measured in: a file in the folder that the
    processes of a server share."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "results.jsonl"

    def keep(self, path: str, found: Evaluation) -> dict[str, Any]:
        """Keeps them; as they are shown."""
        said = {"time": round(time.time(), 3), **found.to_json()}
        with self._file.open("ab") as file:
            file.write(json.dumps({"namespace": path, "said": said}).encode() + b"\n")
        return said

    def of(self, path: str) -> list[dict[str, Any]]:
        """The last ones of a namespace, the newest first."""
        if not self._file.exists():
            return []
        lines = self._file.read_text("utf-8").split("\n")[:-1]  # behind the last one another process may be writing
        every = map(json.loads, lines)
        return [one["said"] for one in every if one["namespace"] == path][: -KEPT - 1 : -1]


@router.post("/evaluate")
async def evaluate(said: Measured, space: Reader, request: Request) -> Response:
    """Measures the perplexity of a text with the memory and without: events {"read": …, "of": …} in tokens, then
    {"result": …} or {"error": …}, and the last is [DONE]. A client that goes away stops it."""
    space.note("evaluate")
    return Events(partial(_events, Desk.of(request), request.app.state.results, space, said.text))


@router.get("/results")
async def results(space: Reader, request: Request) -> Response:
    """What was measured in this namespace since the server began, the newest first."""
    return reply({"results": await space.run(request.app.state.results.of, space.path)})


def _events(desk: Desk, results: Results, space: Space, text: str, event: Callable[[object], None]) -> None:
    far, given_up = [0, 0], threading.Event()

    def progress(*done: int) -> None:
        far[:] = done
        if given_up.is_set():
            raise ClientGone

    began = False
    while not desk.turn.acquire(timeout=BEAT):
        event({"read": 0, "of": 0})
        began = True
    try:
        with ThreadPoolExecutor(1) as worker:
            measuring = worker.submit(desk.model.evaluate, {"": text}, space.memory, progress=progress)
            try:
                while not wait([measuring], BEAT).done:
                    event(dict(zip(("read", "of"), far, strict=True)))
                    began = True
            finally:
                given_up.set()
        event({"result": results.keep(space.path, measuring.result())})
    except (InvalidInput, WrongModel) as error:  # any other may name a path
        if not began:  # it is answered with its status
            raise
        event({"error": {"type": type(error).__name__, "message": str(error)}})
    finally:
        desk.turn.release()
