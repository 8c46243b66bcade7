"""GivenEncoder: an embedding model that a program hands over as two functions.

Knows: what an encoder must give. Does not know: whose functions they are.

Only that program can embed with it: another one that opens the memory searches by words, and says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from extmem.errors import ModelError
from extmem.text.encoder import GIVEN, Encoder

Vectors = Sequence[Sequence[float]]


class GivenEncoder(Encoder):
    """`documents` embeds texts that are to be found, `query` one to search with. Vectors of two encoders of the same
    `name` and width are taken for the same model's."""

    def __init__(
        self, name: str, documents: Callable[[list[str]], Vectors], query: Callable[[str], Sequence[float]]
    ) -> None:
        """Asks once, for the width of its vectors. Raises ModelError where that fails."""
        self.name, self._documents, self._query = f"{GIVEN}{name}", documents, query
        self.dim = self._asked(["width"], True).shape[-1]
        self.fingerprint = hashlib.sha256(json.dumps([self.name, self.dim]).encode()).hexdigest()[:32]

    def embed(self, texts: Sequence[str], query: bool) -> NDArray[np.float32]:
        return self._asked(list(texts), query)

    def _asked(self, texts: list[str], query: bool) -> NDArray[np.float32]:
        try:
            found: Vectors = [self._query(text) for text in texts] if query else self._documents(texts)
            vectors = np.array(found, np.float32)
            if vectors.ndim != 2:
                raise ValueError("no list of vectors")
            return vectors
        except Exception as error:  # whatever a program's own functions raise
            said = str(error).strip().partition("\n")[0]
            raise ModelError(f"{self.name} did not embed ({type(error).__name__}: {said}).", self.name) from error
