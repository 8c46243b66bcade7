"""Preferences: what a user said of themself, as records that cite the turns; and which of them bear on a question.

Knows: what a text states (`text/stated.py`), records, an encoder. Does not know: dialogue, who answers.

A preference is a plain record, "preference/home" or "preference/liking/hiking". Its value is what was said last, word
for word; its metadata says in which turns (`claims`), with what was said before and holds no more. One that has no
claims, or says something else than they do, was written by a person: no rule changes it. Every claim is looked up
before it counts (`sum` is of what it says): where its turn is gone, or says something else by now, the claim is gone,
and with the last the preference.

Which of them bear on a question that names none is told by meaning alone: by what is left of it without what all
questions share and all statements share. With unit vectors q of the question, l of the question put as "What do I like
or dislike, so that you can answer: …", p of a preference, the means a of ASKED and s of SAID,

    bears(q, p) = ½ cos(q − A a, p − A s) + ½ cos(l − A a, p − A s),    A = SHARED

Those that say nearly the same (cosine from ALIKE on, both likes or both dislikes) come as one. A was found on five of
PrefEval's topics (benchmarks/task_chat.py). Shapes: N preferences, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from extmem.memory import Memory
from extmem.reading import Span
from extmem.records.base import Record
from extmem.text.encoder import Encoder
from extmem.text.stated import IS, Stated, stated
from extmem.text.terms import asked, terms

PREFIX = "preference/"  # begins their keys
KEPT = 100  # claims of one preference: the last ones
SHARED = 0.8  # A
BEARS = 0.08  # what bears less on a question is left out
ALIKE = 0.75
ASKED = (
    "Can you recommend something for me?",
    "What would you recommend?",
    "Can you suggest some options?",
    "What are some popular choices?",
    "I'm looking for suggestions.",
)
SAID = (
    "I like it.",
    "I do not like it.",
    "I prefer this.",
    "I avoid that.",
    "I have a strong aversion to this.",
    "I refuse to use it.",
    "I strongly dislike this.",
)
LIKING = "What do I like or dislike, so that you can answer: {}"
Array = NDArray[np.float32]


class Place(NamedTuple):
    """Where something was said: the key of the turn, the span of its text, and that text."""

    turn: str
    span: Span
    text: str


@dataclass(frozen=True)
class Preference:
    """`value` is what the user said, `said` where, the newest first: more than one where it was said again. `before`
    are the places that said otherwise earlier. `alike` are others that say nearly the same. Without a place it was
    written by a person. `score` is how much it bears on what was asked."""

    key: str
    value: str
    kind: str
    said: tuple[Place, ...] = ()
    before: tuple[Place, ...] = ()
    alike: tuple[Preference, ...] = ()
    score: float = 0.0
    id: int = 0

    @property
    def name(self) -> str:
        """What it is of, as "home"."""
        return self.key.removeprefix(PREFIX)

    @property
    def turns(self) -> list[str]:
        """The keys of the turns that say so, the newest first."""
        return list(dict.fromkeys(place.turn for place in self.said))

    def rests_on(self) -> list[str]:
        """The keys of all that it is from."""
        return [self.key, *(place.turn for place in (*self.said, *self.before))]

    def to_json(self) -> dict[str, Any]:
        """For machines: others that are alike by their keys."""
        found: dict[str, Any] = {"key": self.key, "value": self.value, "kind": self.kind, "turns": self.turns}
        before = [{"turn": place.turn, "value": place.text} for place in self.before]
        return found | {"before": before, "alike": [other.key for other in self.alike], "score": self.score}


class Preferences:
    """Those of one user, in the memory of that user."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self._shared: tuple[Encoder, Array, Array] | None = None

    def learn(self, turn: str, text: str) -> list[Preference]:
        """Remembers what a turn states; call it in the transaction that stores the turn. What a person wrote, or
        wrote over, stays as it is."""
        return [found for one in stated(text) if (found := self._claimed(turn, text, one)) is not None]

    def _claimed(self, turn: str, text: str, one: Stated) -> Preference | None:
        key = f"{PREFIX}{one.slot}"
        now, record = self.of(key), self.memory.record(key)
        if now is not None and not now.said:
            return None
        claim = {"turn": turn, "start": one.span.start, "end": one.span.end, "kind": one.kind, "says": one.says}
        claim["sum"] = crc32(text[one.span.start : one.span.end].encode())
        claims = [*(_claims(record) if record else ()), claim]
        return self._stored(key, claims[-KEPT:], {turn: text})

    def every(self) -> list[Preference]:
        """All of them, in the order of their keys; those that rest on nothing any more are forgotten."""
        records = list(self.memory.scan(PREFIX))
        said = self._said(records)
        return [found for record in records if (found := self._current(record, said)) is not None]

    def of(self, key: str) -> Preference | None:
        """The one of this key."""
        record = self.memory.record(key)
        return None if record is None else self._current(record, self._said([record]))

    def bearing(self, question: str, k: int) -> list[Preference]:
        """The k that bear most on a question, the most first, each with those that say the same; by its words, where
        no encoder reads it."""
        vectors = self.memory.derived.vectors()
        if vectors is None or not vectors.encoder.reads(question):
            wanted = set(asked(question))
            words = ((one, wanted.intersection(terms(f"{one.name} {one.value}"))) for one in self.every())
            found = [replace(one, score=len(there) / len(wanted)) for one, there in words if there]
            return sorted(found, key=lambda one: -one.score)[:k]
        return self.together([one for one in self.ranked(question) if one.score >= BEARS], k)

    def ranked(self, question: str) -> list[Preference]:
        """All by how much they bear on a question, the most first; none where nothing is embedded."""
        vectors = self.memory.derived.vectors()
        known = [] if vectors is None else self.every()
        if vectors is None or not known:
            return []
        vectors.catch_up()
        query_2D, said_D = self._queries(vectors.encoder, question)
        near_3N = np.concatenate([query_2D, said_D[None]]) @ vectors.beginnings(_ids(known)).T
        length_N = np.sqrt(np.maximum(1 - 2 * SHARED * near_3N[2] + SHARED**2 * float(said_D @ said_D), 1e-6))
        score_N = ((near_3N[:2] - SHARED * (query_2D @ said_D)[:, None]) / length_N).mean(0).tolist()
        scored = [replace(one, score=score) for one, score in zip(known, score_N, strict=True)]
        return sorted(scored, key=lambda one: -one.score)

    def together(self, ranked: Sequence[Preference], k: int) -> list[Preference]:
        """The first k of these, as `ranked` gives them, those that say nearly the same as one before as part of it."""
        vectors, some = self.memory.derived.vectors(), ranked[: 4 * k]
        if vectors is None or not some:
            return []
        vector_ND = vectors.beginnings(_ids(some))
        places, alike = list[int](), list[list[Preference]]()
        for place, (one, same_N) in enumerate(zip(some, vector_ND @ vector_ND.T >= ALIKE, strict=True)):
            near = [n for n, first in enumerate(places) if same_N[first] and one.kind == some[first].kind]
            if near:
                alike[near[0]].append(one)
            elif len(places) < k:
                places.append(place)
                alike.append([])
        return [replace(some[place], alike=tuple(others)) for place, others in zip(places, alike, strict=True)]

    def _queries(self, encoder: Encoder, question: str) -> tuple[Array, Array]:
        """(2, D) the question in both its forms, without what questions share; (D,) what statements share."""
        if self._shared is None or self._shared[0] is not encoder:
            self._shared = encoder, encoder.encode_queries(ASKED).mean(0), encoder.encode(SAID).mean(0)
        _, asked_D, said_D = self._shared
        found = encoder.encode_queries([question, LIKING.format(question)]) - SHARED * asked_D
        return found / np.linalg.norm(found, axis=1, keepdims=True), said_D

    def _said(self, records: Iterable[Record]) -> dict[str, Any]:
        """The turns that these cite, which are there."""
        cited = {str(claim["turn"]) for record in records for claim in _claims(record)}
        return dict(self.memory.retrieve_many(cited))

    def _current(self, record: Record, said: Mapping[str, Any]) -> Preference | None:
        """What a record says by the turns that are there, which is what it says from then on."""
        claims = _claims(record)
        alive = [claim for claim in claims if _stands(claim, said)]
        if alive == claims:
            written = not claims or _text(claims[-1], said) != record.value
            return _written(record) if written else _preference(record.key, claims, said, record.id)
        with self.memory.transaction():
            now = self.memory.record(record.key)
            if now is None or now.id != record.id:
                return None if now is None else self._current(now, self._said([now]))
            if alive:
                return self._stored(record.key, alive, said)
            self.memory.forget(record.key)
            return None

    def _stored(self, key: str, claims: list[dict[str, Any]], said: Mapping[str, Any]) -> Preference:
        """Has a record say what its newest claim says."""
        said = {**self.memory.retrieve_many({str(claim["turn"]) for claim in claims} - said.keys()), **said}
        self.memory.store(key, _text(claims[-1], said), metadata={"kind": claims[-1]["kind"], "claims": claims})
        record = self.memory.record(key)
        return _preference(key, claims, said, 0 if record is None else record.id)


def _claims(record: Record) -> list[dict[str, Any]]:
    found = (record.metadata or {}).get("claims")
    return found if isinstance(found, list) else []


def _text(claim: Mapping[str, Any], said: Mapping[str, Any]) -> str:
    return str(said.get(claim["turn"], ""))[claim["start"] : claim["end"]]


def _stands(claim: Mapping[str, Any], said: Mapping[str, Any]) -> bool:
    """Whether its turn still says so."""
    return bool(claim["sum"] == crc32(_text(claim, said).encode()))


def _written(record: Record) -> Preference:
    """What a person wrote, or wrote over."""
    kinds = [one.kind for one in stated(str(record.value))]
    return Preference(record.key, str(record.value), kinds[0] if kinds else IS, id=record.id)


def _preference(key: str, claims: Sequence[dict[str, Any]], said: Mapping[str, Any], number: int) -> Preference:
    last, same, others = claims[-1], list[Place](), list[Place]()
    for claim in reversed(claims):
        place = Place(str(claim["turn"]), Span(claim["start"], claim["end"]), _text(claim, said))
        (same if _same(claim, last) else others).append(place)
    return Preference(key, same[0].text, last["kind"], tuple(same), tuple(others), id=number)


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two claims of one slot agree."""
    if one["kind"] != IS or other["kind"] != IS:
        return bool(one["kind"] == other["kind"])
    return str(one["says"]).casefold() == str(other["says"]).casefold()


def _ids(some: Sequence[Preference]) -> NDArray[np.int64]:
    return np.array([one.id for one in some], np.int64)
