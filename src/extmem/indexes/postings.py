"""Postings: for every term the records that hold it, in blocks of bytes, and where these blocks are kept.

Knows: terms, record ids, tables. Does not know: how a text becomes terms, how records are ranked.

A posting is a record's place in its block of BLOCK ids, how often the term stands in it, and how long the
record is: all that BM25 asks for lies in the postings of the query's own terms. A block of one term is one
row of a table beside the records, so it changes in their transaction: to forget a record is to take five
bytes out of the rows of its own terms.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from extmem.records.base import Records, short_name
from extmem.records.sqlite import SqliteRecords

if TYPE_CHECKING:
    from extmem.records.postgres import PostgresRecords

BLOCK = 8192  # ids
MOST = 65_535  # of a record's terms are counted
POSTING = np.dtype([("at", "<u2"), ("count", "u1"), ("length", "<u2")])
ASKED = 500  # terms in one statement

Blocks = dict[tuple[str, int], bytes]  # (term, block) -> postings


class Document(NamedTuple):
    """A record as the index sees it: its id, how often it holds which term, how long it is."""

    id: int
    counts: Mapping[str, int]
    length: int


class Postings(ABC):
    """The blocks of one namespace. Those that lie with the records change in their transaction."""

    @abstractmethod
    def read(self, terms: Sequence[str], block: int | None = None) -> Iterator[tuple[str, int, bytes]]:
        """(term, block, postings) of these terms, all blocks or one."""

    @abstractmethod
    def extend(self, blocks: Blocks) -> None:
        """Adds postings at the end of blocks."""

    @abstractmethod
    def replace(self, blocks: Blocks) -> None:
        """Puts postings in place of a block's; none delete it."""

    @abstractmethod
    def every(self) -> Iterator[tuple[str, int, bytes]]:
        """All of them."""

    @abstractmethod
    def has(self, beginning: str) -> bool:
        """Whether there is a term that begins with this character."""

    @abstractmethod
    def is_empty(self) -> bool: ...

    @abstractmethod
    def clear(self) -> None: ...

    def add(self, documents: Iterable[Document]) -> None:
        """Enters documents, whose ids are greater than all before them."""
        new = [one for one in documents if one.counts]
        if not new:
            return
        numbers = {term: number for number, term in enumerate(sorted({term for one in new for term in one.counts}))}
        sizes = [len(one.counts) for one in new]
        ids = np.repeat([one.id for one in new], sizes)
        postings = np.empty(len(ids), POSTING)
        postings["at"], postings["length"] = ids % BLOCK, np.repeat([one.length for one in new], sizes)
        counts = np.fromiter(chain.from_iterable(one.counts.values() for one in new), np.int64, len(ids))
        postings["count"] = np.minimum(counts, 255)
        terms = map(numbers.__getitem__, chain.from_iterable(one.counts for one in new))
        blocks = int(ids[-1]) // BLOCK + 1
        rows = np.fromiter(terms, np.int64, len(ids)) * blocks + ids // BLOCK
        order = np.argsort(rows, kind="stable")
        rows = rows[order]
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        packed, cuts, names = postings[order].tobytes(), [*(starts * POSTING.itemsize).tolist(), None], list(numbers)
        at = [(names[row // blocks], row % blocks) for row in rows[starts].tolist()]
        # Terms are numbered in their order, so neighbours in the table come one after the other.
        self.extend({one: packed[first:last] for one, (first, last) in zip(at, pairwise(cuts), strict=True)})

    def remove(self, document: Document) -> None:
        """Takes a document out."""
        left: Blocks = {}
        for term, block, held in self.read(list(document.counts), document.id // BLOCK):
            postings = np.frombuffer(held, POSTING)
            left[term, block] = postings[postings["at"] != document.id % BLOCK].tobytes()
        self.replace(left)


class RamPostings(Postings):
    """Blocks in RAM, for records that lie sealed, read-only or in RAM themselves."""

    def __init__(self) -> None:
        self._held: dict[str, dict[int, bytes]] = {}
        self._begin: Counter[str] = Counter()  # how many terms begin with a character

    def read(self, terms: Sequence[str], block: int | None = None) -> Iterator[tuple[str, int, bytes]]:
        for term in terms:
            for number, held in self._held.get(term, {}).items():
                if block is None or number == block:
                    yield term, number, held

    def extend(self, blocks: Blocks) -> None:
        for (term, block), held in blocks.items():
            if term not in self._held:
                self._held[term] = {}
                self._begin[term[0]] += 1
            self._held[term][block] = _in_order(self._held[term].get(block, b"") + held)

    def replace(self, blocks: Blocks) -> None:
        for (term, block), held in blocks.items():
            if held:
                self._held[term][block] = held
            elif self._held[term].pop(block, None) is not None and not self._held[term]:
                del self._held[term]
                self._begin[term[0]] -= 1

    def every(self) -> Iterator[tuple[str, int, bytes]]:
        return self.read(list(self._held))

    def has(self, beginning: str) -> bool:
        return self._begin[beginning] > 0

    def is_empty(self) -> bool:
        return not self._held

    def clear(self) -> None:
        self._held.clear()
        self._begin.clear()


def _in_order(held: bytes) -> bytes:
    """Postings by place: what a transaction took out and its undoing brought back comes behind others."""
    postings = np.frombuffer(held, POSTING)
    places = postings["at"].astype(np.int32)
    return held if (np.diff(places) > 0).all() else postings[np.argsort(places)].tobytes()


class SqlitePostings(Postings):
    """Blocks in a table of their own beside the records of a folder."""

    def __init__(self, records: SqliteRecords) -> None:
        self._records = records
        self.table = "words_" + short_name(records.namespace)

    def read(self, terms: Sequence[str], block: int | None = None) -> Iterator[tuple[str, int, bytes]]:
        if not self._is_there():
            return
        one = "" if block is None else f"AND block = {block:d}"
        for start in range(0, len(terms), ASKED):
            some = terms[start : start + ASKED]
            where = f"term IN ({', '.join('?' * len(some))}) {one}"
            yield from self._records.run(f"SELECT term, block, postings FROM {self.table} WHERE {where}", some)

    def extend(self, blocks: Blocks) -> None:
        self._records.run(
            f"CREATE TABLE IF NOT EXISTS {self.table} (term TEXT, block INTEGER, postings BLOB, "
            "PRIMARY KEY (term, block)) WITHOUT ROWID"
        )
        self._many(
            f"INSERT INTO {self.table} VALUES (?, ?, ?) ON CONFLICT (term, block) "
            "DO UPDATE SET postings = CAST(postings || excluded.postings AS BLOB)",
            ((*at, held) for at, held in blocks.items()),
        )

    def replace(self, blocks: Blocks) -> None:
        gone = [at for at, held in blocks.items() if not held]
        self._many(f"DELETE FROM {self.table} WHERE term = ? AND block = ?", gone)
        kept = ((held, *at) for at, held in blocks.items() if held)
        self._many(f"UPDATE {self.table} SET postings = ? WHERE term = ? AND block = ?", kept)

    def every(self) -> Iterator[tuple[str, int, bytes]]:
        if self._is_there():
            yield from self._records.run(f"SELECT term, block, postings FROM {self.table}")

    def has(self, beginning: str) -> bool:
        there = f"SELECT 1 FROM {self.table} WHERE term >= ? AND term < ? LIMIT 1"
        return self._is_there() and bool(self._records.run(there, (beginning, chr(ord(beginning) + 1))))

    def is_empty(self) -> bool:
        return not self._is_there() or not self._records.run(f"SELECT 1 FROM {self.table} LIMIT 1")

    def clear(self) -> None:
        self._records.run(f"DROP TABLE IF EXISTS {self.table}")

    def _is_there(self) -> bool:
        return bool(self._records.run("SELECT 1 FROM sqlite_master WHERE name = ?", (self.table,)))

    def _many(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        self._records.run_many(statement, rows)


def postings_of(records: Records) -> Postings | None:
    """The blocks that lie with these records; None where they can lie only in RAM."""
    if isinstance(records, SqliteRecords):
        return None if records.database.frozen else SqlitePostings(records)
    if type(records).__name__ == "PostgresRecords":
        from extmem.indexes.postings_postgres import PostgresPostings

        return PostgresPostings(cast("PostgresRecords", records))
    return None


def array(parts: Sequence[tuple[int, bytes]], start: Mapping[int, int]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Where the postings of (block, bytes) stand, counted from each block's start, and the postings."""
    postings = np.frombuffer(b"".join(held for _, held in parts), POSTING)
    sizes = [len(held) // POSTING.itemsize for _, held in parts]
    starts = np.array([start[block] for block, _ in parts], np.int64)
    return np.repeat(starts, np.array(sizes, np.int64)) + postings["at"], postings
