"""OpenAIServer: a server that speaks as OpenAI's does, asked with one JSON object and answering with one, or with a
stream of them (server-sent events).

Knows: HTTP, how such a server refuses, where its key is found. Does not know: what it is asked for.

    http://localhost:8080/v1#bge-small       the address, then the model's name
The key is the environment variable that the caller names; where that is not set and the server is OpenAI's own,
OPENAI_API_KEY, which is sent to nobody else. A server that is busy (429, 502, 503, 504) is asked again, later each
time or when it says; redirections are not followed, as the key would go along.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from http.client import HTTPException, HTTPMessage
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from extmem.errors import InvalidInput, ModelError, ServerRefused

BUSY = (429, 502, 503, 504)
LONGEST = 30.0  # seconds that it waits for a busy server at once


class OpenAIServer:
    """`timeout` and `pause` are seconds: how long an answer may take, and the first wait for a busy server, which
    doubles with each of the `attempts`. `key` names the environment variable that its key is in."""

    def __init__(self, spec: str, key: str, *, timeout: float, attempts: int, pause: float) -> None:
        """Asks nothing yet. Raises InvalidInput for what is no address."""
        address, _, self.model = spec.partition("#")
        try:
            parts = urlsplit(address)
        except ValueError as error:
            raise InvalidInput(f"{spec!r} is no address ({error}): write http://host:port/v1#model.", spec) from error
        if parts.scheme not in ("http", "https") or not parts.hostname or not self.model:
            raise InvalidInput(f"{spec!r} is not a server and a model: write http://host:port/v1#model.", spec)
        if "@" in parts.netloc:
            raise InvalidInput(f"a key in the address would be shown: give it in {key}.")
        self.name, self._variable = spec, key
        self.address = address.rstrip("/").removesuffix("/embeddings").removesuffix("/chat/completions")
        self.timeout, self.attempts, self.pause = timeout, attempts, pause
        self._key = os.environ.get(key)
        if self._key is None and parts.scheme == "https" and f".{parts.hostname}".endswith(".openai.com"):
            self._key = os.environ.get("OPENAI_API_KEY")
        self._opener: OpenerDirector = build_opener(_Stay)

    def ask(self, path: str, question: dict[str, Any]) -> Any:
        """What the server answers to POST address/path, once it has time. Raises ServerRefused, and ModelError where it
        does not answer, or not in JSON."""
        for answer in self.events(path, question):
            return answer
        raise self.error("answered nothing: give its address, which often ends in /v1")

    def events(self, path: str, question: dict[str, Any]) -> Iterator[Any]:
        """The objects that it answers with, as they come: those of a stream up to "[DONE]", or the one that it answers
        without. Raises as `ask`, in the middle as well."""
        for attempt in range(self.attempts):
            try:
                yield from self._answer(path, question)
                return
            except HTTPError as error:
                with error:
                    said, wait = _said(error), error.headers.get("Retry-After", "")
                if error.code not in BUSY or attempt == self.attempts - 1:
                    often = f" {self.attempts} times" if error.code in BUSY else ""
                    shown = f" ({said})" if said else ""
                    message = f"{self.name} answered {error.code}{often}{shown}: {self._cure(error.code)}."
                    raise ServerRefused(message, self.name, error.code, said) from error
                time.sleep(min(LONGEST, float(wait) if wait.isdecimal() else self.pause * 2**attempt))
        raise AssertionError("attempts is at least 1")

    def error(self, what: str) -> ModelError:
        """The ModelError that says this of the server."""
        return ModelError(f"{self.name} {what}{'' if what.endswith('?') else '.'}", self.name)

    def _answer(self, path: str, question: dict[str, Any]) -> Iterator[Any]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = Request(f"{self.address}/{path}", json.dumps(question).encode(), headers)
        try:
            with self._opener.open(request, timeout=self.timeout) as answer:
                if answer.headers.get_content_type() != "text/event-stream":
                    yield json.loads(answer.read())
                    return
                for line in answer:
                    name, _, data = line.decode("utf-8").strip().partition(":")
                    if name == "data" and data.strip() != "[DONE]":
                        yield json.loads(data)
        except HTTPError:
            raise
        except TimeoutError as error:
            raise self.error(f"did not answer within {self.timeout:g} s: is it running?") from error
        except URLError as error:
            late = isinstance(error.reason, TimeoutError)
            what = f"did not answer within {self.timeout:g} s" if late else f"cannot be reached ({error.reason})"
            raise self.error(f"{what}: is it running, is the address right?") from error
        except (OSError, HTTPException) as error:
            raise self.error(f"broke off its answer ({error}): is it running?") from error
        except (ValueError, RecursionError) as error:
            raise self.error("answered something else than JSON: give its address, which often ends in /v1") from error

    def _cure(self, code: int) -> str:
        if code in BUSY:
            return "try again later"
        cures = {401: f"set {self._variable}", 403: f"set {self._variable}", 404: "check address and model"}
        return cures.get(code, "check address, model and key")


class _Stay(HTTPRedirectHandler):
    """Follows no redirection."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def _said(error: HTTPError) -> str:
    """What a server says of its refusal, in at most 200 characters of one line."""
    try:
        text = " ".join(error.read(10_000).decode("utf-8", "replace").split())
    except (OSError, HTTPException):
        return ""
    return text[:200]
