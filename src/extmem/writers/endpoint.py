"""EndpointCompleter: a model behind a server that speaks as OpenAI's does, POST …/v1/chat/completions.

Knows: what such a server is asked for an answer, and answers. Does not know: HTTP (`text/openai.py`), sources.
Its key is EXTMEM_WRITER_KEY of the environment.
"""

from __future__ import annotations

import re
from typing import Any

from extmem.errors import PromptTooLong, ServerRefused
from extmem.text.openai import OpenAIServer
from extmem.writers.base import Heard
from extmem.writers.prompted import Completer, Prompt

KEY = "EXTMEM_WRITER_KEY"
_TOO_LONG = re.compile(r"context|too long|too large|too many tokens|maximum.{0,20}(?:length|token)", re.IGNORECASE)


class EndpointCompleter(Completer):
    """`timeout`, `attempts` and `pause` as in OpenAIServer."""

    def __init__(self, spec: str, *, timeout: float = 120.0, attempts: int = 5, pause: float = 0.5) -> None:
        """Asks nothing yet. Raises InvalidInput for what is no address."""
        self.server, self.name = OpenAIServer(spec, KEY, timeout=timeout, attempts=attempts, pause=pause), spec

    def complete(self, prompt: Prompt, max_tokens: int, heard: Heard | None = None) -> str:
        limits = {"max_tokens": max_tokens, "temperature": 0}
        question = {"model": self.server.model, "messages": prompt.messages(), **limits}
        try:
            if heard is not None:
                return self._streamed(question, heard)
            return self._text(self.server.ask("chat/completions", question))
        except ServerRefused as error:
            if error.status == 413 or (error.status in (400, 422) and _TOO_LONG.search(error.said)):
                raise PromptTooLong(f"{self.name} has no room for this ({error.said}): ask less.", self.name) from error
            raise

    def _streamed(self, question: dict[str, Any], heard: Heard) -> str:
        """The answer, told piece by piece; whole where the server does not stream."""
        pieces, ended, event = list[str](), False, None
        for event in self.server.events("chat/completions", {**question, "stream": True}):
            choice = _choice(event)
            piece = self._text(event) if "message" in choice else (choice.get("delta") or {}).get("content")
            if isinstance(piece, str) and piece:
                heard(piece)
                pieces.append(piece)
            ended = ended or "message" in choice or bool(choice.get("finish_reason"))
        if not ended and not pieces:
            return self._text(event)
        if not ended:
            raise self.server.error("broke off its answer: is it running?")
        return "".join(pieces)

    def _text(self, answer: Any) -> str:
        """The text of an answer that came whole."""
        try:
            text = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError) as error:
            raise self.server.error('did not answer {"choices": [{"message": {"content": "…"}}]}: check it') from error
        if not isinstance(text, str):
            raise self.server.error(f"answered with {text!r} instead of text: check that it is a chat model")
        return text


def _choice(event: Any) -> dict[str, Any]:
    """The first choice of an answer, or of a piece of one; nothing where it has none."""
    choices = event.get("choices") if isinstance(event, dict) else None
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
