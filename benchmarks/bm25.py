"""BM25 as plain as it comes, to compare with: stemmed words without stop words, Chinese by characters and pairs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from extmem.text.terms import asked, content, terms


class Bm25:
    """Over texts. `k1` 1.2 and `b` 0.75 are what most engines have."""

    def __init__(self, texts: Sequence[str], k1: float = 1.2, b: float = 0.75) -> None:
        counts = [Counter(content(terms(text))) for text in texts]
        lengths = np.array([sum(count.values()) for count in counts])
        self.count, self.k1 = len(texts), k1
        self.norms = k1 * (1 - b + b * lengths / lengths.mean())
        self.holders: dict[str, list[tuple[int, int]]] = {}
        for number, count in enumerate(counts):
            for term, times in count.items():
                self.holders.setdefault(term, []).append((number, times))

    def scores(self, query: str) -> np.ndarray:
        """(N,)."""
        scores = np.zeros(self.count)
        for term in asked(query):
            held = np.array(self.holders.get(term, np.empty((0, 2))), np.int64).reshape(-1, 2)
            rarity = math.log1p((self.count - len(held) + 0.5) / (len(held) + 0.5))
            scores[held[:, 0]] += rarity * held[:, 1] * (self.k1 + 1) / (held[:, 1] + self.norms[held[:, 0]])
        return scores

    def ranked(self, query: str) -> list[int]:
        """The numbers of the texts, the best first."""
        return np.argsort(-self.scores(query), kind="stable").tolist()
