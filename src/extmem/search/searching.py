"""Searching: the records that answer a question best, by every index there is, and why each was found.

Knows: the indexes of one namespace, how their parts are weighed. Does not know: memories, how hits are shown.

Candidates are the POOL best by words and the POOL nearest in meaning; with one of a group (a session, a document)
come the others of its group, in order of storing, for what stands beside them counts for them. Only then are the
best of them read, and what their own text and time say is added. All of it is of one moment.
Shapes: N candidates, Q = 2 queries (the question, and it without its rare words), T terms.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extmem.errors import InvalidInput, ModelError, StorageError
from extmem.indexes.base import of_one_moment, text_of
from extmem.indexes.keyword import KeywordIndex, Matches, group_label, is_grouped, speaker_label
from extmem.reading import Hit, Span
from extmem.records.base import Record, Records
from extmem.search.dates import Named, agreement, day_of, named
from extmem.search.ranking import WINDOW, Array, Weights, asking, cover, grouped, length
from extmem.text.terms import STOP_WORDS, asked, content, matching, plain, terms

if TYPE_CHECKING:
    from extmem.indexes.vectors import VectorIndex
    from extmem.indexes.view import View

POOL = 200  # candidates by words, and as many by meaning
FIRST = 64  # candidates of which the groups are looked at
LARGE = 1_000  # members of a group of which only those near a candidate are looked at
READ = 32  # candidates are read at once
LEAST = 1e-6  # of a part of a score that counts: the others are what rounding left
RARE = 0.02  # a word in a smaller part of the records is rare
Ids = NDArray[np.int64]
WEIGHTS = Weights()


class Question(NamedTuple):
    """A query, read: it without the speakers it names, the ids of what those said, its terms, the date it names, and
    whether any record there is of a group."""

    bare: str
    spoken: Ids
    terms: list[str]
    date: Named
    grouped: bool


@dataclass
class Found:
    """A candidate that was read: the parts of its score, and their sum."""

    record: Record
    parts: dict[str, float]
    score: float


class Likeness:
    """How alike in meaning queries (Q, D) and records are; what was asked before is not looked up again."""

    def __init__(self, vectors: VectorIndex, queries: Array) -> None:
        self.vectors, self.queries = vectors, queries
        self._ids, self._found = np.empty(0, np.int64), np.empty((len(queries), 0), np.float32)

    def of(self, ids: Ids) -> Array:
        """(Q, N): of these records."""
        new = np.setdiff1d(ids, self._ids)
        if len(new):
            at = np.searchsorted(self._ids, new)
            self._found = np.insert(self._found, at, self.vectors.similarity(new, self.queries), axis=1)
            self._ids = np.insert(self._ids, at, new)
        return self._found[:, np.searchsorted(self._ids, ids)]


class Search:
    """Finds in the records of one namespace; by words alone where `vectors` is None."""

    def __init__(self, records: Records, keyword: KeywordIndex, vectors: VectorIndex | None) -> None:
        self.records, self.keyword, self.vectors = records, keyword, vectors
        self._seen: dict[int, Record] = {}  # what was read in this reading
        self._view: View | None = None  # held, so that all of it asks the same one

    def hits(
        self, query: str, k: int, fits: Callable[[Record], bool], around: int = 0, diversity: float = 0.0
    ) -> list[Hit]:
        """The k best records that `fits`, the best first, each with so many neighbours of its group on either side;
        chosen to differ from one another as far as `diversity` (0 to 1) says. Raises InvalidInput."""
        _check(query, k, around, diversity)
        while True:
            self.keyword.catch_up()
            if self.vectors is not None:
                try:
                    self.vectors.catch_up()
                except (ModelError, StorageError) as error:  # a server that is down, a disk that may not be written
                    warnings.warn(f"searching by what is embedded already: {error}", stacklevel=4)
            found = of_one_moment(self.records, lambda: self._hits(query, k, fits, around, diversity))
            if found is not None:
                return found

    def _hits(
        self, query: str, k: int, fits: Callable[[Record], bool], around: int, diversity: float
    ) -> list[Hit] | None:
        """None where something was stored since the indexes caught up."""
        if self.keyword.is_behind():
            return None
        self._seen, self._view = {}, None if self.vectors is None else self.vectors.datastore.view()
        question, pool, wanted = self._read(query), max(POOL, 4 * k), k if not diversity else 4 * k
        matches = self.keyword.search(question.bare)
        alike = self._embedded(question, matches)
        while True:
            seeds, every = self._seeds(question, matches, alike, pool)
            found = self._ranked(question, self._scored(question, matches, alike, seeds), fits, wanted)
            if len(found) >= wanted or every:
                break
            pool *= 8
        if diversity:
            found = self._diverse(found, k, diversity)
        spans = dict[int, Span]()
        if alike is not None:
            spans = alike.vectors.passages([one.record.id for one in found[:k]], alike.queries[0])
        return [self._hit(question, one, spans.get(one.record.id), fits, around) for one in found[:k]]

    def _read(self, query: str) -> Question:
        labels = {speaker_label(word): word for word in plain(query) if word not in STOP_WORDS}
        said = self.keyword.labelled(list(labels))
        speakers, bare = [labels[label] for label in labels if label in said], query
        for word in speakers:
            bare = re.sub(rf"\b{re.escape(word)}(?:['\u2019]s)?(?!\w)", "", bare, flags=re.IGNORECASE)
        bare = bare if terms(bare) else query
        by = np.unique(np.concatenate([np.empty(0, np.int64), *said.values()]))
        return Question(bare, by, asked(bare), named(query), self.keyword.has_groups())

    def _embedded(self, question: Question, matches: Matches) -> Likeness | None:
        """Likeness to the question, and to it without its rare words: what is asked, not about whom."""
        if self.vectors is None or not question.terms or not self.vectors.encoder.reads(question.bare):
            return None
        few = RARE * matches.records
        common = {term for term, (at, _) in zip(matches.terms, matches.held, strict=True) if len(at) >= few}
        pieces = re.findall(r"[\w'\u2019-]+|[^\w\s]", question.bare)
        kept = " ".join(piece for piece in pieces if common.issuperset(content(terms(piece))))
        texts = list(dict.fromkeys([question.bare, kept or question.bare]))
        try:
            return Likeness(self.vectors, self.vectors.encoder.encode_queries(texts)[[0, -1]])
        except ModelError as error:
            warnings.warn(f"searching by words alone: {error}", stacklevel=6)
            return None

    def _seeds(self, question: Question, matches: Matches, alike: Likeness | None, pool: int) -> tuple[Ids, bool]:
        """The ids of the candidates that words and meaning find, the best first, and where words find few the last
        that who is named has said; whether those are all there are."""
        by_words, _ = matches.best(pool)
        if len(by_words) < pool:
            spoken = question.spoken[len(by_words) - pool :]
            by_words = np.concatenate([by_words, np.setdiff1d(spoken, by_words)])
        if alike is None:
            return by_words, len(by_words) < pool
        by_meaning = alike.vectors.nearest(alike.queries[0], pool)
        both = np.unique(np.concatenate([by_words, by_meaning]))
        score = matches.of(both).sum(0) / max(float(matches.most.sum()), 1e-9)
        score += alike.of(both)[0]
        return both[np.argsort(-score, kind="stable")], len(by_words) < pool and len(by_meaning) < pool

    def _rows(self, question: Question, seeds: Ids) -> tuple[Ids, Ids, NDArray[np.bool_]]:
        """(N,) ids, group numbers, and whether each is of a group: the seeds, and who stands beside them."""
        first = seeds[:FIRST].tolist() if question.grouped else []
        there = self._by_ids(first)
        labels = {number: label for number in first if number in there and (label := group_label(there[number]))}
        rows: list[Ids] = []
        for label, members in self.keyword.labelled(list(dict.fromkeys(labels.values()))).items():
            if len(members) > LARGE:
                near = np.searchsorted(members, [number for number, one in labels.items() if one == label])
                rows += _stretches(members, near)
            else:
                rows.append(members)
        beside = np.concatenate([np.empty(0, np.int64), *rows])
        alone = np.setdiff1d(seeds, beside)
        sizes = np.concatenate([np.array([len(row) for row in rows], np.int64), np.ones(len(alone), np.int64)])
        group = np.repeat(np.arange(len(sizes)), sizes)
        return np.concatenate([beside, alone]), group, group < len(rows)

    def _scored(self, question: Question, matches: Matches, alike: Likeness | None, seeds: Ids) -> dict[str, Array]:
        """ "ids" (N,) and the parts of each one's score, (N,) each."""
        ids, group, in_group = self._rows(question, seeds)
        given, most = matches.of(ids), matches.most
        covered = cover(given, most, group)
        own = WEIGHTS.cover * given.sum(0) / max(float(most.sum()), 1e-9)
        parts = {"words": own, "meaning": np.zeros_like(own), "context": np.maximum(WEIGHTS.cover * covered - own, 0)}
        if alike is not None:
            whole, residual = alike.of(ids)
            parts["meaning"] = WEIGHTS.meaning * whole + (WEIGHTS.residual + WEIGHTS.joint * covered) * residual
            parts["context"] += WEIGHTS.group * in_group * grouped(whole, group)
        parts["speaker"] = WEIGHTS.named * np.isin(ids, question.spoken).astype(np.float32)
        kept = np.ones(len(ids), bool) if alike is not None else (covered > 0) | (parts["speaker"] > 0)
        return {"ids": ids[kept], **{name: part[kept] for name, part in parts.items()}}

    def _ranked(
        self, question: Question, scored: dict[str, Array], fits: Callable[[Record], bool], k: int
    ) -> list[Found]:
        """Those that fit, read and ranked, the best first: at least k, if there are, and no other is better than the
        first k. They are read in the order of what is known already, until what their own text and time may add
        makes no difference any more."""
        ids = scored.pop("ids")
        known: Array = np.sum(list(scored.values()), axis=0)
        order, found = np.lexsort((ids, -known)), list[Found]()
        added = WEIGHTS.length if question.grouped else 0.0
        added += WEIGHTS.time if question.date != Named() else 0.0
        for some in np.split(order, range(READ if added else k, len(order), READ)):
            if not len(some) or (len(found) >= k and found[k - 1].score > known[some[0]] + added):
                break
            there = self._by_ids(ids[some].tolist())
            for place in some.tolist():
                record = there.get(int(ids[place]))
                if record is not None and fits(record):
                    parts = {name: float(part[place]) for name, part in scored.items()}
                    found.append(_found(record, parts, question))
            found.sort(key=lambda one: (-one.score, one.record.id))
        return found

    def _by_ids(self, ids: list[int]) -> dict[int, Record]:
        """`Records.by_ids`, each read once."""
        self._seen |= self.records.by_ids([number for number in ids if number not in self._seen])
        return self._seen

    def _diverse(self, found: list[Found], k: int, diversity: float) -> list[Found]:
        """Chosen one after the other for their score less the likeness to one chosen before (maximal marginal
        relevance, Carbonell and Goldstein 1998)."""
        said = [set(terms(text_of(one.record))) for one in found]
        top = max((abs(one.score) for one in found), default=1.0) or 1.0
        alike, left, chosen = [0.0] * len(found), list(range(len(found))), list[Found]()
        while left and len(chosen) < k:
            best = max(left, key=lambda n: ((1 - diversity) * found[n].score / top - diversity * alike[n], -n))
            left.remove(best)
            chosen.append(found[best])
            for n in left:
                alike[n] = max(alike[n], len(said[n] & said[best]) / max(len(said[n] | said[best]), 1))
        return chosen

    def _hit(
        self, question: Question, one: Found, span: Span | None, fits: Callable[[Record], bool], around: int
    ) -> Hit:
        record, text = one.record, text_of(one.record)
        words = tuple(matching(f"{record.key}\n{text}", set(question.terms)))
        source = "+".join(name for name, part in (("words", words), ("meaning", span)) if part) or "context"
        before, after = self._beside(record, fits, around) if around else ([], [])
        return Hit(record.key, record.value, one.score, source, one.parts, words, span, tuple(before), tuple(after))

    def _beside(
        self, record: Record, fits: Callable[[Record], bool], around: int
    ) -> tuple[list[tuple[str, object]], list[tuple[str, object]]]:
        """Keys and values of those that fit and stand before a record in its group, and behind it, in their order."""
        if (label := group_label(record)) is None:
            return [], []
        members = self.keyword.labelled([label])[label]
        at = int(np.searchsorted(members, record.id))
        before = self._first(members[:at][::-1], fits, around)
        return before[::-1], self._first(members[at + 1 :], fits, around)

    def _first(self, ids: Ids, fits: Callable[[Record], bool], count: int) -> list[tuple[str, object]]:
        """Keys and values of the first of these that fit."""
        found: list[tuple[str, object]] = []
        for start in range(0, len(ids), READ):
            there = self._by_ids(ids[start : start + READ].tolist())
            inside = (there[number] for number in ids[start : start + READ].tolist() if number in there)
            found += [(one.key, one.value) for one in inside if fits(one)]
            if len(found) >= count:
                break
        return found[:count]


def _found(record: Record, parts: dict[str, float], question: Question) -> Found:
    """A candidate with what its own text and time add."""
    text = text_of(record)
    if is_grouped(record):  # of those that stand beside it, which says most
        parts["form"] = WEIGHTS.length * length(text) + WEIGHTS.asking * asking(text)
    if question.date != Named() and (day := day_of((record.metadata or {}).get("time", record.created))):
        parts["time"] = WEIGHTS.time * agreement(question.date, day)
    parts = {name: part for name, part in parts.items() if abs(part) > LEAST}
    return Found(record, parts, sum(parts.values()))


def _check(query: str, k: int, around: int, diversity: float) -> None:
    if not isinstance(query, str):
        raise InvalidInput(f"query {query!r} is not text: give a str.", query)
    for name, number, least in (("k", k, 1), ("around", around, 0)):
        if type(number) is not int or not least <= number < 2**31:
            raise InvalidInput(f"{name} is {number!r}: give a whole number, at least {least}.", number)
    if isinstance(diversity, bool) or not isinstance(diversity, int | float) or not 0 <= diversity <= 1:
        raise InvalidInput(f"diversity is {diversity!r}: give a number from 0 to 1.", diversity)


def _stretches(members: Ids, near: Ids) -> list[Ids]:
    """The members at most WINDOW places from those at `near`, a part for every unbroken row of them."""
    places = np.unique(np.clip(near[:, None] + np.arange(-WINDOW, WINDOW + 1), 0, len(members) - 1))
    return [members[row] for row in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)]
