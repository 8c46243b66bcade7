"""KeywordIndex: words -> records, ranked by BM25 (Robertson and Zaragoza 2009, equation 3.15).

Knows: the terms of records, their postings. Does not know: vectors, models, tables.

    score(q, r) = Σ_{t in q} ln(1 + (N − n_t + ½) / (n_t + ½)) · f (K1 + 1) / (f + K1 (1 − B + B |r| / avg))

with f the times that r holds t, n_t the records that hold it, N all of them, |r| the length of r without stop
words. A Chinese character or pair is weaker evidence than a word: a question has many, and a long record holds most of
them by chance. So for these, with ρ the rarity ln(…), ρ₁ that of what one record holds, g the times that q has t,

    score(q, r) = Σ_{t in q} ρ² / ρ₁ · log₂(1 + g) · f (K + 1) / (f + K) · √(avg / |r|),    K = 1.5

(docs/search.md: LegalQA, CMRC and XQuAD measured). Every namespace counts for itself, so that how rare a word is in
one says nothing about another. Storing does not wait for the index: a search first takes in what was stored since the
last one. In a folder and in PostgreSQL it lies with the records and forgets in their transaction; for records that are
sealed, read-only or in RAM it is held in RAM and compared with them at each search.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extmem.indexes.base import Index, text_of
from extmem.indexes.postings import BLOCK, MOST, Document, Postings, RamPostings, array, postings_of
from extmem.records.base import Record, Records, short_name
from extmem.text.terms import LONGEST, asked, forget_words, is_cjk, plain, telling, terms

FORMAT = 3  # of terms and postings: an index of another one is derived anew
BATCH = 2 * BLOCK  # records taken in by one transaction: the more, the fewer pages are written again
WORDS = 1_000  # of a query that count
FAR = 50_000  # ids of other namespaces that may be looked through again
K1, B = 0.1, 0.1  # which words a record holds tells more than how often (docs/search.md)
K_CJK = 1.5
TOGETHER = ("session", "conversation", "thread", "document")  # metadata that says which records stand in one row


@dataclass(frozen=True)
class Matches:
    """What holds the terms of a query. Shapes: T terms, P places, N records that are asked about.

    Records stand at places: `blocks` (ascending) numbers the blocks of ids that hold a term at all, and a record's
    place is its id counted from the first of them. `held` has for every term the places (n_t,) int64, ascending,
    and the scores (n_t,) float32 of the records that hold it; `rarity` (T,) is ln(1 + (N − n_t + ½) / (n_t + ½)), and
    `most` (T,) the highest score that a term gives, or a Chinese one gives a record of average length.
    """

    terms: list[str]
    records: int  # how many there are
    rarity: NDArray[np.float32]
    most: NDArray[np.float32]
    held: list[tuple[NDArray[np.int64], NDArray[np.float32]]]
    blocks: NDArray[np.int64]
    scores: NDArray[np.float32]  # (P,), 0 where a record holds none

    def best(self, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The ids and scores of the k best, best first; equal ones in order of storing."""
        some = min((one for one, _ in self.held if len(one) >= k), key=len, default=None)
        least = 0.0 if some is None else float(np.partition(self.scores[some], -k)[-k])  # the k best are no worse
        places = np.flatnonzero(self.scores >= least if least > 0 else self.scores > 0)
        if len(places) > k:
            scores = self.scores[places]
            places = places[scores >= np.partition(scores, -k)[-k]]
        places = places[np.lexsort((places, -self.scores[places]))][:k]
        return self.blocks[places // BLOCK] * BLOCK + places % BLOCK, self.scores[places]

    def of(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """(T, N): what each term gives each of these records; 0 where they do not hold it."""
        given = np.zeros((len(self.terms), len(ids)), np.float32)
        at = np.searchsorted(self.blocks, ids // BLOCK)
        known = at < len(self.blocks)
        known[known] = self.blocks[at[known]] == ids[known] // BLOCK
        wanted = np.where(known, at * BLOCK + ids % BLOCK, -1)
        for row, (places, scores) in zip(given, self.held, strict=True):
            if not len(places):
                continue
            found = np.minimum(np.searchsorted(places, wanted), len(places) - 1)
            there = places[found] == wanted
            row[there] = scores[found[there]]
        return given


class KeywordIndex(Index):
    """BM25 over the records of one namespace."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self._name = "words_" + short_name(records.namespace)
        self._begin()

    def _begin(self) -> None:
        """Knows nothing yet of what is there."""
        kept = postings_of(self.records)
        self._kept, self._postings = kept is not None, kept or RamPostings()
        self._documents: dict[int, Document] = {}  # those in RAM
        self._seen: object = None
        self._open: set[int] = set()  # ids taken into RAM inside a transaction, which may be given again
        self._looked = (0, 0)  # when that much was taken in, there was nothing more up to this id
        self._lock = threading.RLock()  # threads share the index in RAM
        self._process = os.getpid()

    def catch_up(self) -> None:
        """Takes in what was stored since the last time, where the index lies with the records."""
        if not self._kept:
            return
        while (seen := self.records.generation()) != self._seen:
            if self._is_old() or self._new(1) or self._is_far():
                self._take_in()
            else:
                self._seen = seen

    def is_behind(self) -> bool:
        """Whether there is more to take in; ask it inside a reading."""
        return self._kept and bool(self._new(1))

    def search(self, query: str) -> Matches:
        """Every record that holds a term of the query, and what each gives it; inside a reading, after `catch_up`.
        Stop words of the query count only where it has no others, and WORDS different terms at most."""
        with self._compared():
            return self._matches(asked(query)[:WORDS], Counter(terms(query)))

    def labelled(self, labels: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """For each label (`group_label`, `speaker_label`) that any record bears the ids of those that do, in order of
        storing; inside a reading."""
        parts: defaultdict[str, list[tuple[int, bytes]]] = defaultdict(list)
        with self._compared():
            for label, block, held in self._postings.read(labels):
                parts[label].append((block, held))
        start = {block: block * BLOCK for some in parts.values() for block, _ in some}
        return {label: array(sorted(some), start)[0] for label, some in parts.items()}

    def has_groups(self) -> bool:
        """Whether any record bears a group's label; inside a reading."""
        with self._compared():
            return self._postings.has("=")

    def discard(self, record: Record) -> None:
        """Takes a record's words out; in RAM that waits for the next search."""
        if not self._kept or record.value is None:
            return
        if self._is_old():
            self.clear()
        elif record.id <= self._note()["through"]:
            self._remove(_document(record))
            forget_words()
            if self._postings.is_empty():
                self.clear()  # a namespace that is empty again leaves nothing

    def clear(self) -> None:
        with self._lock:
            self._postings.clear()
            self.records.ledger_remove("keyword", self._name)
            self._documents, self._seen, self._looked = {}, None, (0, 0)

    def verify(self) -> list[str]:
        """Compares the postings of every record that was taken in with the postings that are held."""
        with self._lock:
            if not self._kept:
                self._compare()
            if self._is_old():
                return []
            held = _by_record(self._postings)
            through = self._note()["through"] if self._kept else max(self._documents, default=0)
        documents = [_document(record) for record in self.records.iterate() if record.id <= through]
        fresh = RamPostings()
        fresh.add(sorted(documents, key=lambda document: document.id))
        there, size = _by_record(fresh), (len(documents), sum(document.length for document in documents))
        return [
            *([f"keyword index: counts {self._size()} records and words, there are {size}"] * (self._size() != size)),
            *(f"keyword index: record {n} is not indexed" for n in sorted(there.keys() - held.keys())),
            *(f"keyword index: words of record {n}, which is gone" for n in sorted(held.keys() - there.keys())),
            *(f"keyword index: other words of record {n}" for n in sorted(held) if there.get(n, held[n]) != held[n]),
        ]

    def _matches(self, wanted: list[str], times: Counter[str]) -> Matches:
        blocks: defaultdict[str, list[tuple[int, bytes]]] = defaultdict(list)
        for term, block, held in self._postings.read(wanted):
            blocks[term].append((block, held))
        count, length = self._size()
        numbers = sorted({block for parts in blocks.values() for block, _ in parts})
        start = {block: place * BLOCK for place, block in enumerate(numbers)}
        scores = np.zeros(len(numbers) * BLOCK, np.float32)
        rarity, most = [], []
        given: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
        for term in wanted:
            places, postings = array(sorted(blocks.get(term, [])), start)
            rarity.append(_rarity(len(places), count))
            if is_cjk(term):
                most.append(rarity[-1] ** 2 / _rarity(1, count) * math.log2(1 + times[term]))
                part = _rooted(postings, length / max(count, 1)) * np.float32(most[-1])
            else:
                most.append(rarity[-1] * (K1 + 1))
                part = _saturated(postings, length / max(count, 1)) * np.float32(most[-1])
            scores[places] += part
            given.append((places, part))
        ranks = np.array(rarity, np.float32), np.array(most, np.float32)
        return Matches(wanted, count, *ranks, given, np.array(numbers, np.int64), scores)

    def _size(self) -> tuple[int, int]:
        """How many records there are, and how long they are together."""
        if self._kept:
            note = self._note()
            return note["records"], note["length"]
        return len(self._documents), sum(document.length for document in self._documents.values())

    @contextmanager
    def _compared(self) -> Iterator[None]:
        """The index in RAM is of one thread, and holds what the records are now."""
        if self._kept:
            yield
            return
        if self._process != os.getpid():  # forked, perhaps from beside a search
            self._begin()
        with self._lock:
            self._compare()
            yield

    def _take_in(self) -> None:
        """Takes in a batch of the new records."""
        with self.records.transaction():
            if self._is_old():
                self.clear()
            new, last = self._new(BATCH), self.records.last_id()
            if new or self._is_far():
                documents = list(map(_document, new))
                self._postings.add(documents)
                self._enter(documents, new[-1].id if len(new) == BATCH else last)
                self._looked = (0, 0)

    def _new(self, limit: int) -> list[Record]:
        last, through = self.records.last_id(), self._note()["through"]
        before, looked = self._looked
        if through < before:  # another handle cleared it
            looked = 0
        new = self.records.since(max(through, looked), limit)
        if not new and not self.records.in_transaction:
            self._looked = (through, last)
        return new

    def _is_far(self) -> bool:
        """Whether others stored so much since that looking through it again would take long."""
        through, last = self._looked
        return through > 0 and last - through > FAR

    def _compare(self) -> None:
        """Makes the index in RAM hold exactly the records that are there now."""
        seen = self.records.generation()
        if seen == self._seen:
            return
        there, held = self.records.ids(), self._documents.keys()
        for number in (held - there) | (held & self._open):
            self._postings.remove(self._documents.pop(number))
            forget_words()
        new = sorted(there - self._documents.keys())
        if len(new) > BATCH:
            missing = (record for record in self.records.iterate() if record.id not in self._documents)
            fresh = sorted(map(_document, missing), key=lambda document: document.id)
        else:
            fresh = [_document(record) for _, record in sorted(self.records.by_ids(new).items())]
        self._postings.add(fresh)
        self._documents |= {document.id: document for document in fresh}
        self._seen, self._open = seen, set(new) if self.records.in_transaction else set()

    def _remove(self, document: Document) -> None:
        self._postings.remove(document)
        note = self._note()
        note |= {"records": note["records"] - 1, "length": note["length"] - document.length}
        self.records.ledger_put("keyword", self._name, note)

    def _enter(self, documents: Iterable[Document], through: int) -> None:
        """Notes what was taken in."""
        note = self._note()
        for document in documents:
            note |= {"records": note["records"] + 1, "length": note["length"] + document.length}
        self.records.ledger_put("keyword", self._name, {**note, "through": through, "format": FORMAT})

    def _note(self) -> dict[str, Any]:
        """What was taken in: through which id, how many records, how long together."""
        note = self.records.ledger("keyword").get(self._name)
        fits = note is not None and note["format"] == FORMAT
        return note if note is not None and fits else {"through": 0, "records": 0, "length": 0}

    def _is_old(self) -> bool:
        """Whether another version of extmem chose the terms."""
        note = self.records.ledger("keyword").get(self._name)
        return note is not None and note["format"] != FORMAT


def _rarity(held: int, count: int) -> float:
    """Of what so many of `count` records hold."""
    return math.log1p((count - held + 0.5) / (held + 0.5))


def _saturated(postings: NDArray[np.void], average: float) -> NDArray[np.float32]:
    """f / (f + K1 (1 − B + B |r| / avg))."""
    times = postings["count"].astype(np.float32)
    long = postings["length"].astype(np.float32) * np.float32(K1 * B / max(average, 1e-9))
    return np.divide(times, times + long + np.float32(K1 * (1 - B)), dtype=np.float32)


def _rooted(postings: NDArray[np.void], average: float) -> NDArray[np.float32]:
    """f (K + 1) / (f + K) · √(avg / |r|)."""
    times = postings["count"].astype(np.float32)
    short = np.sqrt(np.float32(average) / np.maximum(postings["length"], 1).astype(np.float32))
    found: NDArray[np.float32] = times * np.float32(K_CJK + 1) / (times + np.float32(K_CJK)) * short
    return found


def _by_record(postings: Postings) -> dict[int, int]:
    """For every record held, a sum over its postings."""
    sums: dict[int, int] = {}
    for term, block, held in postings.every():
        _, entries = array([(block, held)], {block: 0})
        for at, count, length in entries.tolist():
            number = block * BLOCK + at
            sums[number] = sums.get(number, 0) + hash((term, count, length))
    return sums


def _document(record: Record) -> Document:
    """What is indexed of a record: its key, its value but for bytes, who says it, and what it stands together with."""
    found = terms(f"{record.key}\n{text_of(record)}")
    counts, metadata = Counter(found), record.metadata or {}
    speaker = metadata.get("speaker")
    for word in plain(speaker) if isinstance(speaker, str) else ():
        counts[speaker_label(word)] = 1
    if (label := group_label(record)) is not None:
        counts[label] = 1
    return Document(record.id, counts, min(telling(found), MOST))


def speaker_label(word: str) -> str:
    """What records bear whose speaker has this word in the name (`terms.plain`). No text has such a term."""
    return f"@{word}"[:LONGEST]


def group_label(record: Record) -> str | None:
    """What records bear that stand in one row, such as the turns of a session; None for one alone. No text has such
    a term."""
    metadata = record.metadata or {}
    for name in TOGETHER:
        if (value := metadata.get(name)) is not None:
            said = f'"{value}"' if isinstance(value, str) else json.dumps(value, sort_keys=True)
            label = f"={name}={said}"
            return label if len(label) <= LONGEST and "\0" not in label else f"={name}={short_name(label)}"
    return None


def is_grouped(record: Record) -> bool:
    """Whether a record stands in a row with others."""
    metadata = record.metadata
    return metadata is not None and any(metadata.get(name) is not None for name in TOGETHER)
