"""Letters: a small real encoder, the same everywhere and fast: a text's runs of three characters, hashed.

Knows: characters. Does not know: what they mean.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from extmem.text.encoder import Encoder


class Letters(Encoder):
    """(N, dim): how often each run of three characters comes, the runs spread over `dim` numbers."""

    def __init__(self, dim: int = 32, name: str = "letters") -> None:
        self.dim, self.name, self.fingerprint = dim, name, f"{name}-{dim}"

    def embed(self, texts: Sequence[str], query: bool) -> np.ndarray:
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            padded = f"  {text} "
            for start in range(len(padded) - 2):
                row[zlib.crc32(padded[start : start + 3].encode()) % self.dim] += 1
        return vectors
