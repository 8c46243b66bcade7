"""KeywordIndex: words -> records, ranked by BM25 (Robertson and Zaragoza 2009, equation 3.15).

Knows: the terms of records, their postings. Does not know: vectors, models, tables.

    score(q, r) = Σ_{t in q} ln(1 + (N − n_t + ½) / (n_t + ½)) · f (K1 + 1) / (f + K1 (1 − B + B |r| / avg))

with f the times that r holds t, n_t the records that hold it, N all of them, |r| the length of r without stop
words. Every namespace counts for itself, so that how rare a word is in one says nothing about another.
Storing does not wait for the index: a search first takes in what was stored since the last one. In a folder
and in PostgreSQL it lies with the records and forgets in their transaction; for records that are sealed, read-
only or in RAM it is held in RAM and compared with them at each search.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extmem.indexes.base import Index
from extmem.indexes.postings import BLOCK, MOST, Document, Postings, RamPostings, array, postings_of
from extmem.records.base import Record, Records, short_name
from extmem.text.terms import asked, telling, terms

FORMAT = 2  # of terms and postings: an index of another one is derived anew
BATCH = 4_096  # records taken in by one transaction
WORDS = 1_000  # of a query that count
FAR = 50_000  # ids of other namespaces that may be looked through again
K1, B = 1.2, 0.75


class Scores(NamedTuple):
    """The records that hold a term of a query: `ids` (N,) int64, ascending, and `scores` (N,) float32, above 0;
    `records` is how many records there are at all."""

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    records: int


NONE = Scores(np.empty(0, np.int64), np.empty(0, np.float32), 0)


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

    def search(self, query: str) -> Scores:
        """The score of every record that holds a term of the query. Its stop words count only where it has no
        others, and WORDS different ones at most."""
        wanted = asked(query)[:WORDS]
        if not self._kept and self._process != os.getpid():  # forked, perhaps from beside a search
            self._begin()
        while wanted:
            if self._kept:
                self._catch_up()
            with self.records.reading(), nullcontext() if self._kept else self._lock:
                if not self._kept:
                    self._compare()
                elif self._new(1):
                    continue  # stored since
                return self._scores(wanted)
        return NONE

    def discard(self, record: Record) -> None:
        """Takes a record's words out; in RAM that waits for the next search."""
        if not self._kept or record.value is None:
            return
        if self._is_old():
            self.clear()
        elif record.id <= self._note()["through"]:
            self._remove(_document(record))
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

    def _scores(self, wanted: list[str]) -> Scores:
        blocks: defaultdict[str, list[tuple[int, bytes]]] = defaultdict(list)
        for term, block, held in self._postings.read(wanted):
            blocks[term].append((block, held))
        count, length = self._size()
        numbers = sorted({block for parts in blocks.values() for block, _ in parts})
        start = {block: place * BLOCK for place, block in enumerate(numbers)}
        scores = np.zeros(len(numbers) * BLOCK, np.float32)
        for term in wanted:
            if term in blocks:
                places, postings = array(blocks[term], start)
                found = len(postings)
                weight = math.log1p((count - found + 0.5) / (found + 0.5)) * (K1 + 1)
                times = postings["count"].astype(np.float32)
                long = postings["length"].astype(np.float32) * np.float32(K1 * B * count / max(length, 1))
                scores[places] += np.float32(weight) * times / (times + long + np.float32(K1 * (1 - B)))
        places = np.flatnonzero(scores)
        ids = np.array(numbers, np.int64)[places // BLOCK] * BLOCK + places % BLOCK
        return Scores(ids, scores[places], count)

    def _size(self) -> tuple[int, int]:
        """How many records there are, and how long they are together."""
        if self._kept:
            note = self._note()
            return note["records"], note["length"]
        return len(self._documents), sum(document.length for document in self._documents.values())

    def _catch_up(self) -> None:
        """Takes in what was stored since the last time, where the index lies with the records."""
        while (seen := self.records.generation()) != self._seen:
            if self._is_old() or self._new(1) or self._is_far():
                self._take_in()
            else:
                self._seen = seen

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
        new = sorted(there - self._documents.keys())
        if len(new) > BATCH:
            missing = (record for record in self.records.iterate() if record.id not in self._documents)
            fresh = sorted(map(_document, missing), key=lambda document: document.id)
        else:
            fresh = [_document(record) for record in map(self.records.by_id, new) if record is not None]
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
    """What is indexed of a record: its key and, but for bytes, its value."""
    found, value = terms(record.key), record.value
    if not isinstance(value, bytes):
        found += terms(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return Document(record.id, Counter(found), min(telling(found), MOST))
