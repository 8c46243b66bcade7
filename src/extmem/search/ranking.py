"""Ranking: how what is known of candidates becomes one score.

Knows: arrays. Does not know: records, indexes, where any number came from.

    score = cover · C + meaning · D + (residual + joint · C) · R + group · max D + named + time + length + asking

C is the part of what the question's words could give (BM25 with K1 and B near 0: which of them occur, the rarer the
more) that a record reaches, with words of its neighbours counted, faded. D and R are cosine similarities to the
question, and to what is left of it without its rare words: what is asked, not about whom; where the words tell of
whom a record is, R tells which of these it is. max D is of the record's group. The constants were found on three
conversations of LoCoMo and half of MedQuAD's questions (benchmarks/search.py prints the others apart).
Shapes: N candidates, T terms. Candidates stand in rows: those of one group behind one another, in order of storing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

PREVIOUS = (0.9, 0.7, 0.5, 0.35, 0.25, 0.15)  # what a word counts that stands 1, 2, … records before
NEXT = (0.7, 0.55, 0.4, 0.3, 0.2, 0.1)  # … and behind
WINDOW = len(PREVIOUS)

_CHINESE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_ENDS = re.compile(r"[.!?]+(?=\s|$)|[。！？]+")


@dataclass(frozen=True)
class Weights:
    """What each part counts."""

    cover: float = 1.2
    meaning: float = 1.0
    residual: float = 0.15
    joint: float = 1.5
    group: float = 0.8
    named: float = 0.5
    time: float = 1.0
    length: float = 0.2
    asking: float = -0.3


def shifted(x: Array, group: NDArray[np.int64], by: int) -> Array:
    """x (…, N) of the candidate `by` places before each (behind it, where negative); 0 where that is of another
    group."""
    moved = np.zeros_like(x)
    if abs(by) >= x.shape[-1]:
        return moved
    here, there = (slice(by, None), slice(None, -by)) if by > 0 else (slice(None, by), slice(-by, None))
    moved[..., here] = np.where(group[here] == group[there], x[..., there], 0)
    return moved


def cover(given: Array, most: Array, group: NDArray[np.int64]) -> Array:
    """(N,): the part of what the terms could give, `most` (T,), that candidates reach; `given` (T, N) is what each
    gives them, or a neighbour, faded."""
    best = given.copy()
    alone = len(group) == int(group.max(initial=-1)) + 1  # nobody stands beside another
    for fades, sign in () if alone else ((PREVIOUS, 1), (NEXT, -1)):
        for places, fade in enumerate(fades, 1):
            np.maximum(best, fade * shifted(given, group, sign * places), out=best)
    total: Array = best.sum(0) / max(float(most.sum()), 1e-9)
    return total


def grouped(similarity: Array, group: NDArray[np.int64]) -> Array:
    """(N,): the highest of each candidate's group."""
    top = np.full(int(group.max(initial=-1)) + 1, -np.inf, np.float32)
    np.maximum.at(top, group, similarity)
    return top[group]


def length(text: str) -> float:
    """How much a text says by its length alone, 0 to 1: all from 30 words on, or 45 Chinese characters."""
    begin = text[:400]
    words = begin.count(" ") + 1 + len(_CHINESE.findall(begin)) / 1.5
    return math.log1p(min(words, 30)) / math.log(31)


def asking(text: str) -> float:
    """The part of a text's sentences that are questions: they ask for what others answer."""
    if "?" not in text and "？" not in text:
        return 0.0
    ends = _ENDS.findall(text)
    open_end = text.rstrip()[-1:] not in ".!?。！？"  # a last sentence without a mark
    return sum("?" in end or "？" in end for end in ends) / max(len(ends) + open_end, 1)
