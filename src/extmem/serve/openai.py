"""/v1/chat/completions, /v1/embeddings, /v1/models as OpenAI's clients ask for them.

Knows: OpenAI's forms; `tasks.answer`. Does not know: how answers are found, how texts are written (`completions.py`).
The model "memory" answers the last message of the user from what the namespace holds, with citations beside it, and
stores nothing: such clients send the whole conversation each time. Usage counts terms (`text/terms.py`), as no model's
tokens are read.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from functools import cache, partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from extmem.errors import ExtmemError
from extmem.serve.access import Reader
from extmem.serve.answers import Events, Refused, failed, reply
from extmem.tasks.answer import Answer, answer
from extmem.text.encoder import DEFAULT, Encoder, encoder_named
from extmem.text.terms import terms

MODEL, WRITES = "memory", "lm"
TEXTS = 2048  # of one request for embeddings, as at OpenAI
UNOFFERED = (
    "tools", "tool_choice", "functions", "function_call", "logprobs", "top_logprobs", "logit_bias", "stop",
    "response_format", "audio", "modalities", "prediction", "web_search_options",
)  # fmt: skip


class OpenAIRoute(APIRoute):
    """A route whose errors have OpenAI's form: with "param" and "code"."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's own, and what it raises told so."""
        inner = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await inner(request)
            except (Refused, RequestValidationError, HTTPException, ExtmemError) as error:
                said = await failed(request, error)
                told = json.loads(bytes(said.body))["error"]
                code = error.kind if isinstance(error, Refused) else None
                said_so = reply({"error": told | {"param": None, "code": code}}, said.status_code)
                if "retry-after" in said.headers:
                    said_so.headers["retry-after"] = said.headers["retry-after"]
                return said_so

        return handler


router = APIRouter(prefix="/v1", route_class=OpenAIRoute)


class Asked(BaseModel):
    """What OpenAI's clients send; fields that change no answer here are let pass."""

    model_config = ConfigDict(extra="allow", strict=True)
    model: str

    def check(self, *models: str) -> None:
        """Raises Refused for another model, and for what is not offered."""
        if self.model not in models:
            raise Refused(404, "model_not_found", f"there is no model {self.model!r} here: {', '.join(models)}.")
        extra = self.model_extra or {}
        if extra.get("n") not in (None, 1):
            raise Refused(400, "unsupported", "n: there is one answer.")
        for name in UNOFFERED:
            if extra.get(name):
                raise Refused(400, "unsupported", f"{name} is not offered here: leave it out.")


class Part(BaseModel):
    """A piece of a message: only text is read."""

    type: Literal["text"]
    text: str


class Turn(BaseModel):
    """One message of a conversation."""

    role: str
    content: str | list[Part] | None = None

    def text(self) -> str:
        """What it says."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(BaseModel):
    """Whether a last chunk tells the usage."""

    include_usage: bool = False


class Conversation(Asked):
    """The whole of it; its last message of the user is answered."""

    model: Annotated[str, Field(json_schema_extra={"enum": [MODEL]})]
    messages: list[Turn]
    stream: bool | None = False
    stream_options: StreamOptions | None = None


class Texts(Asked):
    """What to embed."""

    model: Annotated[str, Field(json_schema_extra={"enum": [DEFAULT]})]
    input: str | list[str]
    encoding_format: Literal["float", "base64"] = "float"


@router.get("/models")
async def models(space: Reader, request: Request) -> Response:
    """What may be asked for as `model`: "lm" where the server has one that writes."""
    names = (MODEL, DEFAULT, *[WRITES] * hasattr(request.app.state, "model"))
    said = [{"id": name, "object": "model", "created": 0, "owned_by": "extmem"} for name in names]
    return reply({"object": "list", "data": said})


@router.post("/chat/completions")
async def chat(said: Conversation, space: Reader) -> Response:
    """Answers the last message of the user from the memory, whole or in chunks; the citations stand beside it."""
    said.check(MODEL)
    question = next((turn.text() for turn in reversed(said.messages) if turn.role == "user"), "")
    found = await space.search(answer, space.memory, question)
    space.note("answer", keys=[one.key for one in found.citations])
    counts = len(terms(question)), len(terms(str(found)))
    usage = {"prompt_tokens": counts[0], "completion_tokens": counts[1], "total_tokens": sum(counts)}
    opening = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": MODEL}
    if said.stream:
        last = usage if said.stream_options and said.stream_options.include_usage else None
        return Events(partial(_chunks, opening, found, last))
    message = {"role": "assistant", "content": str(found), "citations": _citations(found)}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return reply({**opening, "object": "chat.completion", "choices": [choice], "usage": usage})


@router.post("/embeddings")
async def embeddings(said: Texts, space: Reader) -> Response:
    """A vector of length 1 for each text, as one that is to be found."""
    said.check(DEFAULT)
    texts = [said.input] if isinstance(said.input, str) else said.input
    if not 0 < len(texts) <= TEXTS or (said.model_extra or {}).get("dimensions"):
        raise Refused(400, "unsupported", f"give 1 to {TEXTS} texts, and no dimensions: they are the model's.")
    vectors_ND = await space.run(lambda: _encoder().encode(texts))
    coded = said.encoding_format == "base64"
    data = [
        {
            "object": "embedding",
            "index": place,
            "embedding": base64.b64encode(row.astype("<f4").tobytes()).decode() if coded else row.tolist(),
        }
        for place, row in enumerate(vectors_ND)
    ]
    count = sum(len(terms(text)) for text in texts)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return reply({"object": "list", "data": data, "model": DEFAULT, "usage": usage})


@cache
def _encoder() -> Encoder:
    """Loaded once."""
    return encoder_named(DEFAULT)


def _citations(found: Answer) -> list[dict[str, Any]]:
    return [asdict(citation) for citation in found.citations]


def _chunks(
    opening: dict[str, Any], found: Answer, usage: dict[str, int] | None, event: Callable[[object], None]
) -> None:
    """The answer, then how it ended and its citations, then the usage where it is wanted."""
    delta = {"role": "assistant", "content": str(found)}
    end = {"index": 0, "delta": {}, "finish_reason": "stop", "citations": _citations(found)}
    said: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {"choices": [end]},
    ]
    if usage:
        said.append({"choices": [], "usage": usage})
    for chunk in said:
        event({**opening, "object": "chat.completion.chunk", **chunk})
