"""Answer: a question, what in the memory answers it, a fact or a sentence, and "not in memory" where nothing does.

Knows: what a search finds, facts, sentences, how a question covers them. Does not know: indexes, how it is shown.

No language model is needed. A fact is a record whose key is a statement and whose value ends it in a few words ("The
capital of France is" -> "Paris"); a question is about it where it speaks of the same name (`text/names.py`) and asks
for nothing of another kind. One whose key is no more than a name answers only what asks for little else. Of the facts
that it is about and the sentences of the passages found, with T the terms that say what the question is about and w_t
the rarity of each,

    held(t, s) = max([t in s], ½ [t in the sentence before s], 0.3 [t in the one before that])
    score(s) = Σ_t held(t, s) / |T| + 0.3 [a fact] + 0.1 [of the first passage] − 0.1 [nothing of the kind asked for]
    cover(s) = Σ_t w_t held(t, s) / Σ_t w_t

The best score is chosen; of facts that cover a question alike, the newest. The memory knows the answer where it is a
fact, or where cover(s), and the cosine of question and sentence beyond what any two texts have, reach KNOWN. So rare
words say whether it is known, and all alike which sentence tells it: what is rare is what the whole passage is about.
The constants were found on half of XQuAD's articles and of CounterFact's facts (benchmarks/tasks.py judges on the
others). Where a writer is given, it writes the answer from what was found, and what it cites is checked.
Shapes: S sentences, T terms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extmem.errors import InvalidInput
from extmem.indexes.keyword import is_grouped
from extmem.memory import Memory
from extmem.reading import Citation, Hit, Span
from extmem.records.base import Record
from extmem.records.where import Where
from extmem.text.asking import fits, subject, tells
from extmem.text.names import Question, name_in
from extmem.text.sentences import sentences
from extmem.text.terms import terms
from extmem.writers.base import NOT_IN_MEMORY, TOKENS, Writer

FOUND = 16  # records that a search finds, among which facts are looked for
PASSAGES = 3  # of which the sentences are looked at
STATEMENT, VALUE = 40, 12  # words of a fact, at most
BEFORE = (0.5, 0.3)  # what a term counts that stands 1, 2 sentences before
FACT, FIRST, UNFIT = 0.3, 0.1, 0.1
SAME = 0.02  # facts that differ by less cover a question alike
CENTRE, KNOWN = 0.45, 0.27
NAMED = 0.8  # a term, or a record whose key is a name alone, must cover so much of the question
PASSAGE, TERM = "passage", "term"  # metadata "kind": what a domain read, and its glossary's terms
ARTICLES = frozenset(("a", "an", "the"))
GLOSSARY = "glossary/"  # begins the keys of terms
EDITED = "edited/"  # begins the keys of facts that stand over what was known


@dataclass(frozen=True)
class Answer:
    """`text` is the answer, None where the memory has none; `citations` are the places that it is from, the weightiest
    first: their weights sum to 1, but where a writer cites nothing. `confidence` is what speaks for it, known from
    KNOWN on. Of a writer's answer, `dropped` are the citations of what it was not given, `left_out` the passages it had
    no room for."""

    text: str | None
    citations: tuple[Citation, ...]
    confidence: float
    dropped: int = 0
    left_out: int = 0

    def __str__(self) -> str:
        return NOT_IN_MEMORY if self.text is None else self.text


@dataclass(frozen=True)
class _Candidate:
    """What may be the answer: text[span] of a record; `said` is all that speaks for it."""

    key: str
    span: Span
    text: str
    said: str
    cover: float
    score: float
    fact: bool


def edit(memory: Memory, statement: str, value: str) -> None:
    """Has the memory answer `value` to what `statement` says, whatever it knew: `edit(memory, "The capital of France
    is", "Lyon")`. What was known stays beneath, and is the answer again when `EDITED + statement` is forgotten; what is
    stored later on the same name is newer than this."""
    memory.store(f"{EDITED}{statement}", value)


def answer(
    memory: Memory,
    question: str,
    *,
    where: Where | None = None,
    passages: int = PASSAGES,
    least: float = KNOWN,
    writer: Writer | None = None,
    max_tokens: int = TOKENS,
) -> Answer:
    """What the memory says to a question: the fact or the best sentence of the first `passages` found, or what a
    `writer` (`writers.base.writer_named`) makes of them; nothing where the confidence is below `least`. Raises
    InvalidInput; with a writer ModelError, where nothing is lost and the question can be asked without one."""
    if not isinstance(question, str) or not question.strip():
        raise InvalidInput(f"{question!r} asks nothing: give a question.", question)
    hits = [hit for hit in memory.search(question, max(FOUND, passages), where) if type(hit.value) in (str, int, float)]
    wanted = _wanted(memory, question)
    texts = [hit for hit in hits if isinstance(hit.value, str)][:passages]
    found = [*_facts(memory, question, hits, wanted), *_sentences(question, texts, wanted)]
    if not found or not wanted:
        return Answer(None, (), 0.0)
    best = max(found, key=lambda one: one.score)  # of equal ones the first
    confidence = max(best.cover, KNOWN) if best.fact else best.cover + _nearness(memory, question, best.text)
    if confidence < least:
        return Answer(None, (), confidence)
    if writer is None:
        return Answer(best.text, (Citation(best.key, *best.span, 1.0),), confidence)
    return _written(writer, question, found, texts, confidence, max_tokens)


def _written(
    writer: Writer,
    question: str,
    found: Sequence[_Candidate],
    hits: Sequence[Hit],
    confidence: float,
    max_tokens: int,
) -> Answer:
    """What a writer makes of the facts and passages; it cites the best sentence of each that it names."""
    best = {one.key: one for one in sorted(found, key=lambda one: one.score)}
    facts = {one.key: one.said for one in found if one.fact}
    sources = facts | {hit.key: str(hit.value) for hit in hits if hit.key not in facts}
    written = writer.write(question, list(sources.values()), max_tokens)
    if not written.known:
        return Answer(None, (), confidence, written.dropped, written.left_out)
    keys = list(sources)
    cited = [keys[place] for place in written.cited if keys[place] in best]
    citations = tuple(Citation(key, *best[key].span, 1 / len(cited)) for key in cited)
    return Answer(written.text, citations, confidence, written.dropped, written.left_out)


def _wanted(memory: Memory, question: str) -> dict[str, float]:
    """The terms that say what a question is about, and how rare each is in the memory."""
    with memory.records.reading():
        matches = memory.derived.keyword.search(subject(question))
    known = {term: float(rarity) for term, rarity in zip(matches.terms, matches.rarity, strict=True)}
    return {term: rarity for term, rarity in known.items() if tells(term)}


def _facts(memory: Memory, question: str, hits: Sequence[Hit], wanted: dict[str, float]) -> list[_Candidate]:
    """The facts that a question is about, of those that cover it best; the newest first."""
    asked, found = Question(question), list[tuple[_Candidate, Span, int]]()
    for hit in hits:
        statement, value = hit.key.removeprefix(EDITED).removeprefix(GLOSSARY), str(hit.value)
        name = name_in(statement)
        place = asked.place(name) if name else None
        record = None if place is None else memory.record(hit.key)  # the last to be looked at: it is read for that
        if place is None or record is None or not _may_be_fact(record, statement, value):
            continue
        if question.rstrip().endswith(("?", "\uff1f")) and not fits(question, f"it is {value}"):
            continue  # what is to be gone on from, as "When he was young, he", asks for no kind
        clause = asked.clause(place)
        in_clause = set(terms(clause))
        there = {term: rarity for term, rarity in wanted.items() if term in in_clause} or wanted
        cover = float((_held([statement], there) @ _weights(there))[0])
        bare = [term for n, term in enumerate(terms(statement)) if n or term not in ARTICLES]
        if bare == list(name.terms) and cover < NAMED:
            continue
        cover = 1.0 + cover if statement.casefold().startswith(clause.casefold().rstrip("?")) else cover
        said = f"{statement}{':' if hit.key.startswith(GLOSSARY) else ''} {value}"
        fact = _Candidate(hit.key, Span(0, len(value)), value, said, cover, cover + FACT, True)
        found.append((fact, place, record.id))
    whole = [(one, number) for one, place, number in found if not any(_within(place, other) for _, other, _ in found)]
    top = max((one.cover for one, _ in whole), default=0.0)
    return [one for one, _ in sorted(whole, key=lambda pair: -pair[1]) if one.cover >= top - SAME]


def _may_be_fact(record: Record, statement: str, value: str) -> bool:
    """Whether a record has the form of a fact, or is a term of a glossary; a passage and a labelled text are none."""
    about = record.metadata or {}
    if about.get("kind") == PASSAGE or "label" in about or is_grouped(record) or not any(map(str.isalnum, value)):
        return False
    return about.get("kind") == TERM or (len(value.split()) <= VALUE and len(statement.split()) <= STATEMENT)


def _within(one: Span, other: Span) -> bool:
    return one != other and other.start <= one.start and one.end <= other.end


def _sentences(question: str, hits: Sequence[Hit], wanted: dict[str, float]) -> list[_Candidate]:
    """The sentences of passages."""
    rarity_T = _weights(wanted)
    found: list[_Candidate] = []
    for place, hit in enumerate(hits):
        spans = sentences(str(hit.value))
        texts = [str(hit.value)[start:end] for start, end in spans]
        held_ST = _held(texts, wanted)
        for span, text, held_T in zip(spans, texts, held_ST, strict=True):
            score = float(held_T.mean()) + FIRST * (place == 0) - UNFIT * (not fits(question, text))
            found.append(_Candidate(hit.key, span, text, text, float(held_T @ rarity_T), score, False))
    return found


def _held(texts: Sequence[str], wanted: Iterable[str]) -> NDArray[np.float64]:
    """(S, T): whether each of these sentences holds a term, or, faded, those before it."""
    there = [set(terms(text)) for text in texts]
    own_ST = np.array([[term in words for term in wanted] for words in there], float)
    held_ST = own_ST.copy()
    for places, fade in enumerate(BEFORE, 1):
        held_ST[places:] = np.maximum(held_ST[places:], fade * own_ST[:-places])
    return held_ST


def _weights(wanted: dict[str, float]) -> NDArray[np.float64]:
    """(T,): of the terms' rarity, the part of each."""
    rarity_T = np.array(list(wanted.values()))
    weights_T: NDArray[np.float64] = rarity_T / max(float(rarity_T.sum()), 1e-9)
    return weights_T


def _nearness(memory: Memory, question: str, sentence: str) -> float:
    """How much nearer in meaning a sentence is to a question than any two texts are; 0 where no encoder reads it."""
    vectors = memory.derived.vectors()
    if vectors is None or not vectors.encoder.reads(question):
        return 0.0
    return float(vectors.encoder.encode([sentence])[0] @ vectors.encoder.encode_query(question)) - CENTRE
