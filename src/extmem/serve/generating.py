"""/v1/generate: a text that the model writes with the memory, whole or as events, a token each; /v1/memorize: what it
shall write with.

Knows: a LanguageModel as what it writes. Does not know: how it writes. One text is written at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import anyio
from fastapi import APIRouter, Request, Response
from pydantic import Field

from extmem.serve.access import Reader, Space, Writer
from extmem.serve.answers import Events, Refused, beside, heeded, reply
from extmem.serve.records import Body

if TYPE_CHECKING:
    from extmem.lm.generate import GeneratedToken, Generation
    from extmem.lm.memorize import Memorized
    from extmem.lm.model import LanguageModel
    from extmem.memory import Memory

LENGTH, TOKENS = 200_000, 10_000  # characters of a prompt, tokens of a text: the model is for others too
WORDS = 100  # of the likeliest, at most
BEAMS = 16  # of a search, at most
PATIENCE = 0.1  # seconds between two looks at whether a request that waits for its turn is still there

router = APIRouter(prefix="/v1")


class Prompt(Body):
    """What to go on from, and how: the fields of `Sampling`, whose defaults they have."""

    prompt: Annotated[str, Field(max_length=LENGTH)]
    stream: bool = False
    memory: bool = True
    allow_unknown: bool = False
    max_tokens: Annotated[int, Field(le=TOKENS)] | None = None
    min_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    beams: Annotated[int, Field(le=BEAMS)] | None = None
    repetition: float | None = None
    no_repeat: int | None = None
    seed: int | None = None
    follow: int | None = None
    top: Annotated[int, Field(le=WORDS)] | None = None

    def options(self) -> dict[str, Any]:
        """What was said of how."""
        return self.model_dump(exclude={"prompt", "stream", "memory"}, exclude_none=True)

    def memory_of(self, space: Space) -> Memory | None:
        """What it is written with; None where it shall be without."""
        return space.memory if self.memory else None


class Keys(Body):
    """Which records are memorized; without keys all of the namespace."""

    keys: list[str] | None = None


@router.post("/generate")
async def generate(said: Prompt, space: Reader, request: Request) -> Response:
    """Writes on from a prompt; each token has its citations. With `stream` each is an event, and the last is
    [DONE]; a client that goes away stops it."""
    space.note("generate")
    desk = Desk.of(request)
    memory, options = said.memory_of(space), said.options()
    if said.stream:
        return Events(partial(_events, desk, said.prompt, memory, options))
    text = await desk.whole(request, said.prompt, memory, options)
    return reply({"text": text.text, "tokens": list(map(_token, text.tokens, text.pieces))})


@router.post("/memorize")
async def memorize(said: Keys, space: Writer, request: Request) -> Response:
    """Has the model read texts of the memory, so that it writes with them; those that it has read are passed over."""
    desk = Desk.of(request)
    space.note("memorize", keys=said.keys)
    found = await anyio.to_thread.run_sync(desk.memorize, space.memory, said.keys, limiter=beside())
    return reply({"documents": found.documents, "entries": found.entries})


class Desk(NamedTuple):
    """A model, and whose turn it is to write with it."""

    model: LanguageModel
    turn: threading.Lock

    @classmethod
    def of(cls, request: Request) -> Desk:
        """The server's. Raises Refused where it has no model."""
        model = getattr(request.app.state, "model", None)
        if model is None:
            raise Refused(404, "model_not_found", "no model writes here: extmem serve --model FOLDER.")
        return cls(model, request.app.state.writing)

    @contextmanager
    def mine(self) -> Iterator[None]:
        """Waits for its turn, in a thread; no longer than its request does."""
        while not self.turn.acquire(timeout=PATIENCE):
            anyio.from_thread.check_cancelled()
        try:
            yield
        finally:
            self.turn.release()

    async def whole(self, request: Request, prompt: str, memory: Memory | None, options: dict[str, Any]) -> Generation:
        """A text, unless its client goes away."""
        from extmem.lm.generate import generate
        from extmem.lm.sampling import Sampling

        def write(told: Callable[[object], None], allow_unknown: bool, **sampling: Any) -> Generation:
            with self.mine():
                chosen = Sampling.of(sampling)
                return generate(self.model, prompt, memory, chosen, allow_unknown, told, partial(told, None))

        return await heeded(request, partial(write, **options))

    def pieces(
        self, prompt: str, memory: Memory | None, options: dict[str, Any]
    ) -> Generator[tuple[GeneratedToken, str]]:
        """Each token as soon as it is chosen, and as it stands in the text."""
        from extmem.lm.generate import Written

        with self.mine():
            written = Written.behind(self.model, prompt)
            for token in self.model.stream(prompt, memory, **options):
                yield token, written.add(token)

    def memorize(self, memory: Memory, keys: list[str] | None) -> Memorized:
        """Has the texts of these keys read, or all."""
        from extmem.lm.memorize import memorize_records

        with self.mine():
            return memorize_records(self.model, memory, keys)


def _events(
    desk: Desk, prompt: str, memory: Memory | None, options: dict[str, Any], event: Callable[[object], None]
) -> None:
    with closing(desk.pieces(prompt, memory, options)) as found:
        for token, piece in found:
            event(_token(token, piece))


def _token(token: GeneratedToken, piece: str) -> dict[str, Any]:
    return token.to_json() | {"piece": piece}
