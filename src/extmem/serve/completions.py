"""/v1/completions as OpenAI's clients ask for it: the server's model writes on from a prompt, with the memory.

Knows: OpenAI's form of a completion. Does not know: how it is written (`generating.py`). Each choice has the citations
of its tokens beside its text; of a stream each chunk has those of its token. Usage counts the model's tokens, the
prompt's without the ends of paragraphs.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from extmem.serve.access import Reader, Space
from extmem.serve.answers import Events, reply
from extmem.serve.generating import LENGTH, TOKENS, Desk
from extmem.serve.openai import WRITES, Asked, OpenAIRoute, StreamOptions

router = APIRouter(prefix="/v1", route_class=OpenAIRoute)


class Prompt(Asked):
    """What to go on from. Without a temperature the likeliest token is taken."""

    prompt: Annotated[str, Field(max_length=LENGTH)]
    max_tokens: Annotated[int, Field(ge=1, le=TOKENS)] = 16
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None

    def options(self) -> dict[str, Any]:
        """For `LanguageModel.generate`."""
        said = self.model_dump(include={"max_tokens", "temperature", "top_p", "seed"}, exclude_none=True)
        return {"allow_unknown": True, **said}


@router.post("/completions")
async def complete(said: Prompt, space: Reader, request: Request) -> Response:
    """Writes on from a prompt, whole or in chunks."""
    said.check(WRITES)
    desk = Desk.of(request)
    space.note("generate")
    opening = {"id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion", "created": int(time.time())}
    opening["model"] = WRITES
    if said.stream:
        return Events(partial(_chunks, desk, said, space, opening))
    text = await desk.whole(request, said.prompt, space.memory, said.options())
    choice = _choice("".join(text.pieces), [token.to_json()["citations"] for token in text.tokens])
    choice["finish_reason"] = _ended(said, len(text.tokens))
    return reply({**opening, "choices": [choice], "usage": _usage(desk, said, len(text.tokens))})


def _chunks(desk: Desk, said: Prompt, space: Space, opening: dict[str, Any], event: Callable[[object], None]) -> None:
    count = 0
    with closing(desk.pieces(said.prompt, space.memory, said.options())) as found:
        for token, piece in found:
            event({**opening, "choices": [_choice(piece, [token.to_json()["citations"]])]})
            count += 1
    event({**opening, "choices": [{**_choice("", []), "finish_reason": _ended(said, count)}]})
    if said.stream_options and said.stream_options.include_usage:
        event({**opening, "choices": [], "usage": _usage(desk, said, count)})


def _choice(text: str, citations: Sequence[object]) -> dict[str, Any]:
    return {"index": 0, "text": text, "finish_reason": None, "logprobs": None, "citations": citations}


def _ended(said: Prompt, count: int) -> str:
    return "length" if count == said.max_tokens else "stop"


def _usage(desk: Desk, said: Prompt, count: int) -> dict[str, int]:
    end = desk.model.vocabulary.word(desk.model.vocabulary.eos)
    asked = sum(word != end for word in desk.model.tokenizer.encode(said.prompt).words)
    return {"prompt_tokens": asked, "completion_tokens": count, "total_tokens": asked + count}
