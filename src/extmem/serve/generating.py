"""/v1/generate: a text written by the model with the memory, whole or as server-sent events, a token each.

Knows: a LanguageModel as what it writes. Does not know: how it writes. One text is written at a time.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from fastapi import APIRouter, Request, Response

from extmem.serve.access import Reader, Space
from extmem.serve.answers import ClientGone, Streamed, reply
from extmem.serve.records import Body

if TYPE_CHECKING:
    from extmem.lm.generate import GeneratedToken
    from extmem.lm.model import LanguageModel
    from extmem.memory import Memory

router = APIRouter(prefix="/v1")


class Prompt(Body):
    """What to go on from, and how: the fields of `Sampling`, whose defaults they have."""

    prompt: str
    stream: bool = False
    memory: bool = True
    allow_unknown: bool = False
    max_tokens: int | None = None
    min_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    beams: int | None = None
    repetition: float | None = None
    no_repeat: int | None = None
    seed: int | None = None
    follow: int | None = None
    top: int | None = None

    def options(self) -> dict[str, Any]:
        """What was said of how."""
        return self.model_dump(exclude={"prompt", "stream", "memory"}, exclude_none=True)

    def memory_of(self, space: Space) -> Memory | None:
        """What it is written with; None where it shall be without."""
        return space.memory if self.memory else None


@router.post("/generate")
async def generate(said: Prompt, space: Reader, request: Request) -> Response:
    """Writes on from a prompt; each token has its citations. With `stream` each is an event, and the last is
    [DONE]; a client that goes away stops it."""
    space.note("generate")
    model, turn = request.app.state.model, request.app.state.writing
    if said.stream:
        return Streamed(partial(_events, model, turn, said, space), "text/event-stream")
    given_up = threading.Event()

    def on_token(token: GeneratedToken) -> None:
        if given_up.is_set():
            raise ClientGone

    def write() -> Any:
        with turn:
            return model.generate(said.prompt, said.memory_of(space), on_token=on_token, **said.options())

    try:
        text = await anyio.to_thread.run_sync(write, abandon_on_cancel=True, limiter=space.access.threads)
    finally:
        given_up.set()
    return reply({"text": text.text, "tokens": list(map(_token, text.tokens, text.pieces))})


def _events(
    model: LanguageModel, turn: threading.Lock, said: Prompt, space: Space, write: Callable[[bytes], None]
) -> None:
    from extmem.lm.generate import Written

    with turn:
        written = Written.behind(model, said.prompt)
        for token in model.stream(said.prompt, said.memory_of(space), **said.options()):
            write(f"data: {json.dumps(_token(token, written.add(token)), ensure_ascii=False)}\n\n".encode())
    write(b"data: [DONE]\n\n")


def _token(token: GeneratedToken, piece: str) -> dict[str, Any]:
    return token.to_json() | {"piece": piece}
