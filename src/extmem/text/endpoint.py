"""EndpointEncoder: embeddings from a server that speaks as OpenAI's does, POST …/v1/embeddings.

Knows: what such a server is asked for embeddings, and answers. Does not know: HTTP (`openai.py`), models.
Its key is EXTMEM_EMBEDDINGS_KEY of the environment.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from extmem.text.encoder import Encoder
from extmem.text.openai import OpenAIServer

TOGETHER = 64  # texts in one request
KEY = "EXTMEM_EMBEDDINGS_KEY"


class EndpointEncoder(Encoder):
    """`timeout`, `attempts` and `pause` as in OpenAIServer."""

    def __init__(self, spec: str, *, timeout: float = 60.0, attempts: int = 5, pause: float = 0.5) -> None:
        """Asks the server once, for the width of its vectors. Raises InvalidInput for what is no address;
        ModelError where the server does not answer as it should."""
        self.server = OpenAIServer(spec, KEY, timeout=timeout, attempts=attempts, pause=pause)
        self.name = spec
        self.dim = self._vectors(["width"]).shape[1]
        said = json.dumps([self.server.address, self.server.model, self.dim])
        self.fingerprint = hashlib.sha256(said.encode()).hexdigest()[:32]

    def embed(self, texts: Sequence[str], query: bool) -> NDArray[np.float32]:
        """(N, D) float32; the server is not told which are queries."""
        parts = [self._vectors(texts[start : start + TOGETHER]) for start in range(0, len(texts), TOGETHER)]
        widths = {part.shape[1] for part in parts} - {self.dim}
        if widths:
            raise self.server.error(
                f"gave vectors of width {widths.pop()}, before they had {self.dim}: another model runs"
            )
        return np.concatenate(parts)

    def _vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of at most TOGETHER texts, as the server gives them."""
        question = {"model": self.server.model, "input": list(texts), "encoding_format": "float"}
        answer = self.server.ask("embeddings", question)
        try:
            found = {int(item["index"]): item["embedding"] for item in answer["data"]}
            if sorted(found) != list(range(len(texts))) or len(answer["data"]) != len(texts):
                raise self.server.error(
                    f"gave {len(answer['data'])} vectors for {len(texts)} texts: it is no such server"
                )
            vectors = np.array([found[number] for number in range(len(texts))], np.float32)
        except (KeyError, TypeError, ValueError) as error:  # ValueError: rows of several widths
            raise self.server.error('did not answer {"data": [{"index": 0, "embedding": […]}, …]}: check it') from error
        if vectors.ndim != 2 or not vectors.shape[1]:
            raise self.server.error("gave something else than lists of numbers: check that it is an embedding model")
        if not np.isfinite(vectors).all():
            raise self.server.error("gave a vector with NaN or Inf: check the model")
        return vectors
