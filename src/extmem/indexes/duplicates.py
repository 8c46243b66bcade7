"""Near-duplicates: pairs of texts that share most of their wording. Reported, never merged.

Knows: texts. Does not know: records, what anybody does about it.

Two texts are as similar as their sets of shingles (runs of SHINGLE words; of characters in a text
without spaces): |A ∩ B| / |A ∪ B| (Broder 1997). All pairs at least `threshold` alike are found, exactly:
rarest shingles first, two such sets must share one among the first (1 − threshold)·n + 1 of each
(prefix filter; Bayardo, Ma and Srikant 2007), so only texts with a rare shingle in common are compared.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from extmem.errors import InvalidInput

SHINGLE = 3
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


class Pair(NamedTuple):
    """Two keys whose values are near-duplicates, and how similar they are, 0 to 1."""

    key: str
    other: str
    similarity: float


def shingles(text: str) -> frozenset[str]:
    """The runs of SHINGLE words of a text, upper and lower case alike; all its words if it has fewer."""
    words = _WORD.findall(text.casefold())
    runs = (" ".join(words[start : start + SHINGLE]) for start in range(max(1, len(words) - SHINGLE + 1)))
    return frozenset(filter(None, runs))


def near_duplicates(texts: Iterable[tuple[str, str]], threshold: float) -> Iterator[Pair]:
    """All pairs of (key, text) that are at least `threshold` alike, the key that came first first. Raises
    InvalidInput for a threshold that is not above 0 and at most 1."""
    if not isinstance(threshold, int | float) or not 0 < threshold <= 1:
        raise InvalidInput(f"threshold is {threshold!r}: give a number above 0, at most 1.", threshold)
    sets = [(key, found) for key, text in texts if (found := shingles(text))]
    count = Counter(shingle for _, found in sets for shingle in found)
    holders: defaultdict[str, list[int]] = defaultdict(list)
    for number, (key, found) in enumerate(sets):
        rarest = sorted(found, key=lambda shingle: (count[shingle], shingle))
        prefix = rarest[: len(rarest) - math.ceil(threshold * len(rarest) - 1e-9) + 1]
        for candidate in sorted({holder for shingle in prefix for holder in holders[shingle]}):
            other_key, other = sets[candidate]
            shared = len(found & other)
            similarity = shared / (len(found) + len(other) - shared)
            if similarity >= threshold:
                yield Pair(other_key, key, similarity)
        for shingle in prefix:
            if count[shingle] > 1:
                holders[shingle].append(number)
