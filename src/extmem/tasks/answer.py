"""Answer: a question, the sentence of the memory that answers it, and "not in memory" where none does.

Knows: what a search finds, sentences, how a question covers them. Does not know: indexes, models, how it is shown.

No language model is needed. Of the sentences of the passages found, with w_t the rarity of a term t of the question:

    cover(s) = Σ_t w_t max([t in s], ½ [t in the sentence before s], 0.3 [t in the one before that]) / Σ_t w_t
    score(s) = cover(s) + 0.1 [s is of the first passage] − 0.1 [s has nothing of the kind that is asked for]

and the memory knows the answer where cover(s), and the cosine of question and sentence beyond what any two texts
have, reach KNOWN. The constants were found on half of XQuAD's articles (benchmarks/tasks.py judges on the others).
Where a writer is given, it writes the answer from those passages, and what it cites is checked.
Shapes: S sentences, T terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extmem.memory import Memory
from extmem.reading import Citation, Hit, Span
from extmem.records.where import Where
from extmem.text.asking import fits, subject, tells
from extmem.text.sentences import sentences
from extmem.text.terms import terms
from extmem.writers.base import TOKENS, Writer

PASSAGES = 3  # of which the sentences are looked at
BEFORE = (0.5, 0.3)  # what a term counts that stands 1, 2 sentences before
FIRST, UNFIT = 0.1, 0.1
CENTRE, KNOWN = 0.45, 0.30
NOT_IN_MEMORY = "not in memory"


@dataclass(frozen=True)
class Answer:
    """`text` is the answer, None where the memory has none; `citations` are the places that it is from, the
    weightiest first: their weights sum to 1. `confidence` is what speaks for it, known from KNOWN on. Of a writer's
    answer, `dropped` are the citations of what it was not given, `left_out` the passages it had no room for."""

    text: str | None
    citations: tuple[Citation, ...]
    confidence: float
    dropped: int = 0
    left_out: int = 0

    def __str__(self) -> str:
        return NOT_IN_MEMORY if self.text is None else self.text


@dataclass(frozen=True)
class _Sentence:
    hit: Hit
    span: Span
    text: str
    cover: float
    score: float


def answer(
    memory: Memory,
    question: str,
    *,
    where: Where | None = None,
    passages: int = PASSAGES,
    writer: Writer | None = None,
    max_tokens: int = TOKENS,
) -> Answer:
    """What the memory says to a question: its best sentence among the first `passages` found, or what a `writer`
    (`writers.base.writer_named`) makes of them. Raises InvalidInput; with a writer ModelError, where nothing is lost
    and the same question can be asked without one."""
    hits = [hit for hit in memory.search(question, passages, where) if isinstance(hit.value, str)]
    found = _ranked(memory, question, hits)
    confidence = _confidence(memory, question, found[0]) if found else 0.0
    if confidence < KNOWN:
        return Answer(None, (), confidence)
    if writer is None:
        best = found[0]
        return Answer(best.text, (Citation(best.hit.key, *best.span, 1.0),), confidence)
    return _written(writer, question, hits, found, confidence, max_tokens)


def _written(
    writer: Writer, question: str, hits: Sequence[Hit], found: Sequence[_Sentence], confidence: float, max_tokens: int
) -> Answer:
    """What a writer makes of the passages; it cites the best sentence of each that it names."""
    written = writer.write(question, [str(hit.value) for hit in hits], max_tokens)
    if not written.text or written.text.strip(" .\n").lower() == NOT_IN_MEMORY:
        return Answer(None, (), confidence, written.dropped, written.left_out)
    best = {one.hit.key: one.span for one in reversed(found)}
    cited = [hits[place].key for place in written.cited]
    citations = tuple(Citation(key, *best[key], 1 / len(cited)) for key in cited if key in best)
    return Answer(written.text, citations, confidence, written.dropped, written.left_out)


def _ranked(memory: Memory, question: str, hits: Sequence[Hit]) -> list[_Sentence]:
    """The sentences of what was found, the best first."""
    with memory.records.reading():
        matches = memory.derived.keyword.search(subject(question))
    known = {term: float(w) for term, w in zip(matches.terms, matches.rarity, strict=True)}
    wanted = {term: rarity for term, rarity in known.items() if tells(term)} or known
    rarity_T = np.array(list(wanted.values()))
    found: list[_Sentence] = []
    for place, hit in enumerate(hits):
        spans = sentences(str(hit.value))
        texts = [str(hit.value)[start:end] for start, end in spans]
        for span, text, covered in zip(spans, texts, _cover(texts, list(wanted), rarity_T).tolist(), strict=True):
            score = covered + FIRST * (place == 0) - UNFIT * (not fits(question, text))
            found.append(_Sentence(hit, span, text, covered, score))
    return sorted(found, key=lambda one: -one.score)


def _cover(texts: Sequence[str], wanted: Sequence[str], rarity_T: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S,): the part of the terms' rarity that each of these sentences holds, or, faded, those before it."""
    there = [set(terms(text)) for text in texts]
    own_ST = np.array([[term in words for term in wanted] for words in there], float).reshape(len(texts), len(wanted))
    held_ST = own_ST.copy()
    for places, fade in enumerate(BEFORE, 1):
        held_ST[places:] = np.maximum(held_ST[places:], fade * own_ST[:-places])
    total: NDArray[np.float64] = held_ST @ rarity_T / max(float(rarity_T.sum()), 1e-9)
    return total


def _confidence(memory: Memory, question: str, best: _Sentence) -> float:
    vectors = memory.derived.vectors()
    if vectors is None or not vectors.encoder.reads(question):
        return best.cover
    cosine = float(vectors.encoder.encode([best.text])[0] @ vectors.encoder.encode_query(question))
    return best.cover + cosine - CENTRE
