"""EndpointEncoder: embeddings from a server that speaks as OpenAI's does, POST …/v1/embeddings.

Knows: HTTP, and what such a server is asked and answers. Does not know: models.

    http://localhost:8080/v1#bge-small       the address, then the model's name
The key is EXTMEM_EMBEDDINGS_KEY of the environment; where that is not set and the server is OpenAI's own,
OPENAI_API_KEY, which is sent to nobody else. A server that is busy (429, 502, 503, 504) is asked again,
later each time or when it says; redirections are not followed, as the key would go along.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from http.client import HTTPException, HTTPMessage
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

import numpy as np
from numpy.typing import NDArray

from extmem.errors import InvalidInput, ModelError
from extmem.text.encoder import Encoder

TOGETHER = 64  # texts in one request
BUSY = (429, 502, 503, 504)
LONGEST = 30.0  # seconds that it waits for a busy server at once


class EndpointEncoder(Encoder):
    """`timeout` and `pause` are seconds: how long an answer may take, and the first wait for a busy server,
    which doubles with each of the `attempts`."""

    def __init__(self, spec: str, *, timeout: float = 60.0, attempts: int = 5, pause: float = 0.5) -> None:
        """Asks the server once, for the width of its vectors. Raises InvalidInput for what is no address;
        ModelError where the server does not answer as it should."""
        address, _, self.model = spec.partition("#")
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or not self.model:
            raise InvalidInput(f"{spec!r} is not a server and a model: write http://host:port/v1#model.", spec)
        if "@" in parts.netloc:
            raise InvalidInput("a key in the address would be shown: give it in EXTMEM_EMBEDDINGS_KEY.")
        self.name = spec
        self.address = address.rstrip("/").removesuffix("/embeddings")
        self.timeout, self.attempts, self.pause = timeout, attempts, pause
        self._key = os.environ.get("EXTMEM_EMBEDDINGS_KEY")
        if self._key is None and parts.scheme == "https" and f".{parts.hostname}".endswith(".openai.com"):
            self._key = os.environ.get("OPENAI_API_KEY")
        self._opener: OpenerDirector = build_opener(_Stay)
        self.dim = self._vectors(["width"]).shape[1]
        said = json.dumps([self.address, self.model, self.dim])
        self.fingerprint = hashlib.sha256(said.encode()).hexdigest()[:32]

    def embed(self, texts: Sequence[str], query: bool) -> NDArray[np.float32]:
        """(N, D) float32; the server is not told which are queries."""
        parts = [self._vectors(texts[start : start + TOGETHER]) for start in range(0, len(texts), TOGETHER)]
        widths = {part.shape[1] for part in parts} - {self.dim}
        if widths:
            raise self._error(f"gave vectors of width {widths.pop()}, before they had {self.dim}: another model runs")
        return np.concatenate(parts)

    def _vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of at most TOGETHER texts, as the server gives them."""
        answer = self._asked({"model": self.model, "input": list(texts), "encoding_format": "float"})
        try:
            found = {int(item["index"]): item["embedding"] for item in answer["data"]}
            if sorted(found) != list(range(len(texts))) or len(answer["data"]) != len(texts):
                raise self._error(f"gave {len(answer['data'])} vectors for {len(texts)} texts: it is no such server")
            vectors = np.array([found[number] for number in range(len(texts))], np.float32)
        except (KeyError, TypeError, ValueError) as error:  # ValueError: rows of several widths
            raise self._error('did not answer {"data": [{"index": 0, "embedding": […]}, …]}: check it') from error
        if vectors.ndim != 2 or not vectors.shape[1]:
            raise self._error("gave something else than lists of numbers: check that it is an embedding model")
        if not np.isfinite(vectors).all():
            raise self._error("gave a vector with NaN or Inf: check the model")
        return vectors

    def _asked(self, question: dict[str, Any]) -> Any:
        """What the server answers, once it has time."""
        for attempt in range(self.attempts):
            try:
                return self._answer(question)
            except HTTPError as error:
                with error:
                    said, wait = _said(error), error.headers.get("Retry-After", "")
                if error.code not in BUSY or attempt == self.attempts - 1:
                    often = f" {self.attempts} times" if error.code in BUSY else ""
                    raise self._error(f"answered {error.code}{often}{said}: {_cure(error.code)}") from error
                time.sleep(min(LONGEST, float(wait) if wait.isdecimal() else self.pause * 2**attempt))
        raise AssertionError("attempts is at least 1")

    def _answer(self, question: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = Request(f"{self.address}/embeddings", json.dumps(question).encode(), headers)
        try:
            with self._opener.open(request, timeout=self.timeout) as answer:
                return json.loads(answer.read())
        except HTTPError:
            raise
        except TimeoutError as error:
            raise self._error(f"did not answer within {self.timeout:g} s: is it running?") from error
        except URLError as error:
            late = isinstance(error.reason, TimeoutError)
            what = f"did not answer within {self.timeout:g} s" if late else f"cannot be reached ({error.reason})"
            raise self._error(f"{what}: is it running, is the address right?") from error
        except (OSError, HTTPException) as error:
            raise self._error(f"broke off its answer ({error}): is it running?") from error
        except ValueError as error:
            raise self._error("answered something else than JSON: give its address, which often ends in /v1") from error

    def _error(self, what: str) -> ModelError:
        return ModelError(f"{self.name} {what}{'' if what.endswith('?') else '.'}", self.name)


class _Stay(HTTPRedirectHandler):
    """Follows no redirection."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def _cure(code: int) -> str:
    cures = {401: "set EXTMEM_EMBEDDINGS_KEY", 403: "set EXTMEM_EMBEDDINGS_KEY", 404: "check address and model"}
    return "try again later" if code in BUSY else cures.get(code, "check address, model and key")


def _said(error: HTTPError) -> str:
    """What a server says of its refusal, in at most 200 characters of one line."""
    try:
        text = " ".join(error.read(10_000).decode("utf-8", "replace").split())
    except (OSError, HTTPException):
        return ""
    return f" ({text[:200]})" if text else ""
