"""Ngrams: texts as sparse vectors of their words, pairs, first words and runs of characters, weighed by TF-IDF.

Knows: scikit-learn's hashing of n-grams. Does not know: labels, records.

There is no vocabulary: an n-gram's number is its hash. Of many texts, those in fewer than two are left out. Words with
their marks, and characters, are of length 1 each.
Shapes: N texts, F n-grams that are kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.preprocessing import normalize

from extmem.text.spacing import CJK

WORDS, CHARACTERS = 1 << 18, 1 << 19  # numbers that hashes fall on
OPENING = 3  # words at the beginning that are marked as such
_TOKEN = re.compile(rf"[{CJK}]|[^\W{CJK}]+(?:'[^\W{CJK}]+)?|[^\w\s]")


class Ngrams:
    """`kept` (F,) int64 are the numbers of n-grams, `idf` (F,) float32 the weight of each."""

    def __init__(self, kept: NDArray[np.int64], idf: NDArray[np.float32]) -> None:
        self.kept, self.idf = kept, idf
        self._words = int(np.searchsorted(kept, WORDS))

    @classmethod
    def count(cls, texts: Sequence[str]) -> Ngrams:
        """Those of these texts: idf = ln((1 + N) / (1 + n)) + 1."""
        held = np.bincount(_counted(texts).indices, minlength=WORDS + CHARACTERS)
        kept = np.flatnonzero(held >= 2)
        kept = kept if len(kept) > len(texts) else np.flatnonzero(held)  # few texts, or with little in common
        return cls(kept, (np.log((1 + len(texts)) / (1 + held[kept])) + 1).astype(np.float32))

    def of(self, texts: Sequence[str]) -> csr_matrix:
        """(N, F): (1 + ln f) · idf, of length 1 within words and within characters."""
        counted = _counted(texts)[:, self.kept]
        counted.data = 1 + np.log(counted.data)
        weighed = counted.multiply(self.idf).tocsr()
        halves = [normalize(weighed[:, : self._words]), normalize(weighed[:, self._words :])]
        return hstack(halves, format="csr", dtype=np.float32)


def grams(text: str) -> list[str]:
    """The words of a text, pairs of neighbours, and how it begins."""
    words = _TOKEN.findall(text.lower()) or [""]
    opening = [f"^{number} {' '.join(words[:number])}" for number in range(1, OPENING + 1)]
    return [*words, *map(" ".join, pairwise(words)), *opening]


def _counted(texts: Sequence[str]) -> csr_matrix:
    shared = {"norm": None, "alternate_sign": False, "dtype": np.float32}
    words = HashingVectorizer(analyzer=grams, n_features=WORDS, **shared)
    characters = HashingVectorizer(analyzer="char_wb", ngram_range=(1, 5), n_features=CHARACTERS, **shared)
    return hstack([words.transform(texts), characters.transform(texts)], format="csr")
