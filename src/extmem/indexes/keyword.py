"""KeywordIndex: words -> record ids, ranked by BM25 (SQLite's FTS5).

Knows: the words of keys and values. Does not know: vectors, models.

Every namespace has a table of its own, so that how rare a word is in one says nothing about another.
Storing does not wait for it: a search first takes in what was stored since the last one. Records in a
folder keep it in their own database (without their text: contentless) and forget in one transaction;
what is forgotten is taken out of it at once (FTS5's secure-delete). For records that lie elsewhere, or
sealed, it is held in RAM. Chinese is indexed by the character.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import cast

import apsw

from extmem.indexes.base import Index
from extmem.records.base import Record, Records, Row, short_name
from extmem.records.sqlite import SqliteRecords

FORMAT = 1  # of the words: an index of another one is derived anew
BATCH = 1_000  # records taken in by one transaction
WORDS = 1_000  # of a query that count
FAR = 50_000  # ids of other namespaces that may be looked through again
_HAN = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")
_WORD = re.compile(r"\w+")


class KeywordIndex(Index):
    """BM25 over the records of one namespace."""

    def __init__(self, records: Records) -> None:
        self.records = records
        writable = isinstance(records, SqliteRecords) and not records.database.frozen
        self._file = cast(SqliteRecords, records) if writable else None
        self._table = "words_" + short_name(records.namespace)
        self._begin()

    def _begin(self) -> None:
        """Knows nothing yet of what is there."""
        self._ram = None if self._file is not None else apsw.Connection(":memory:")
        self._seen: object = None
        self._open: set[int] = set()  # ids taken into RAM inside a transaction, which may be given again
        self._looked = (0, 0)  # when that much was taken in, there was nothing more up to this id
        self._lock = threading.RLock()  # threads share the index in RAM
        self._process = os.getpid()

    def search(self, query: str, k: int) -> list[tuple[Record, float]]:
        """(record, score), the best first, at most k; each of the query's first WORDS different words counts,
        none must be there. The score is BM25's, higher is better; equal scores stand in order of storing."""
        words = list(dict.fromkeys(_WORD.findall(_spaced(query))))[:WORDS]
        wanted = " OR ".join(f'"{word}"' for word in words)
        if self._file is None and self._process != os.getpid():  # forked, perhaps from beside a search
            self._begin()
        while words:
            if self._file is not None:
                self._catch_up()
            with self.records.reading(), self._lock if self._file is None else nullcontext():
                if self._file is None:
                    self._compare()
                elif self._new(1):
                    continue  # stored since
                return self._found(wanted, k)
        return []

    def discard(self, record: Record) -> None:
        """Takes a record's words out; in RAM that waits for the next search."""
        if self._file is not None and record.value is not None and record.id <= self._through():
            delete = f"INSERT INTO {self._table} ({self._table}, rowid, words) VALUES ('delete', ?, ?)"
            self._run(delete, (record.id, _words(record)))
            if not self._run(f"SELECT rowid FROM {self._table} LIMIT 1"):
                self.clear()  # a namespace that is empty again leaves nothing

    def clear(self) -> None:
        with self._lock:
            self._run(f"DROP TABLE IF EXISTS {self._table}")
            self.records.ledger_remove("keyword", self._table)
            self._seen, self._looked = None, (0, 0)

    def verify(self) -> list[str]:
        """Compares the words of every record that was taken in with the words that are held."""
        with self._lock:
            if self._file is None:
                self._compare()
            if not self._is_there():
                return []
            held = _sums(self._run, self._table)
            through = max(held, default=0) if self._file is None else self._through()
        fresh = KeywordIndex.__new__(KeywordIndex)
        fresh.records, fresh._file, fresh._ram, fresh._table = self.records, None, apsw.Connection(":memory:"), "fresh"
        fresh._insert(record for record in self.records.iterate() if record.id <= through)
        there = _sums(fresh._run, "fresh")
        return [
            *(f"keyword index: record {n} is not indexed" for n in sorted(there.keys() - held.keys())),
            *(f"keyword index: words of record {n}, which is gone" for n in sorted(held.keys() - there.keys())),
            *(f"keyword index: other words of record {n}" for n in sorted(held) if there.get(n, held[n]) != held[n]),
        ]

    def _found(self, wanted: str, k: int) -> list[tuple[Record, float]]:
        if not self._is_there():
            return []
        rows = self._run(
            f"SELECT rowid, -bm25({self._table}) AS score FROM {self._table} WHERE {self._table} MATCH ? "
            "ORDER BY score DESC, rowid LIMIT ?",
            (wanted, k),
        )
        found = ((self.records.by_id(int(number)), float(score)) for number, score in rows)
        return [(record, score) for record, score in found if record is not None]

    def _catch_up(self) -> None:
        """Takes in what was stored in the file since the last time."""
        while (seen := self.records.generation()) != self._seen:
            if self._is_old() or self._new(1) or self._is_far():
                self._take_in()
            else:
                self._seen = seen

    def _take_in(self) -> None:
        """Takes in a batch of the file's new records."""
        with self.records.transaction():
            if self._is_old():
                self.clear()
            assert self._file is not None
            new, last = self._new(BATCH), self._file.last_id()
            if new:
                self._insert(new)
            if new or self._is_far():
                through = new[-1].id if len(new) == BATCH else last
                self.records.ledger_put("keyword", self._table, {"through": through, "format": FORMAT})
                self._looked = (0, 0)

    def _new(self, limit: int) -> list[Record]:
        assert self._file is not None
        last, through = self._file.last_id(), self._through()
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
        there = self.records.ids()
        held = {number for (number,) in self._run(f"SELECT rowid FROM {self._table}")} if self._is_there() else set()
        for number in (held - there) | (held & self._open):
            self._run(f"DELETE FROM {self._table} WHERE rowid = ?", (number,))
        held -= self._open
        new = sorted(there - held)
        if len(new) > BATCH:
            self._insert(record for record in self.records.iterate() if record.id not in held)
        else:
            self._insert(record for record in map(self.records.by_id, new) if record is not None)
        self._seen, self._open = seen, set(new) if self.records.in_transaction else set()

    def _insert(self, records: Iterable[Record]) -> None:
        kind = "" if self._file is not None else "contentless_delete=1, "
        self._run(
            f"CREATE VIRTUAL TABLE IF NOT EXISTS {self._table} USING "
            f"fts5(words, content='', {kind}tokenize='porter unicode61 remove_diacritics 2')"
        )
        if self._file is not None:
            self._run(f"INSERT INTO {self._table} ({self._table}, rank) VALUES ('secure-delete', 1)")
        for record in records:
            self._run(f"INSERT INTO {self._table} (rowid, words) VALUES (?, ?)", (record.id, _words(record)))

    def _through(self) -> int:
        """The id of the last record that was taken in from the file."""
        note = self.records.ledger("keyword").get(self._table)
        return 0 if note is None else int(note["through"])

    def _is_old(self) -> bool:
        """Whether another version of extmem chose the words."""
        note = self.records.ledger("keyword").get(self._table)
        return note is not None and note["format"] != FORMAT

    def _is_there(self) -> bool:
        return bool(self._run("SELECT 1 FROM sqlite_master WHERE name = ?", (self._table,)))

    def _run(self, statement: str, values: Row = ()) -> list[Row]:
        if self._file is not None:
            return self._file.run(statement, values)
        assert self._ram is not None
        rows: list[Row] = self._ram.execute(statement, values).fetchall()
        return rows


def _sums(run: Callable[..., list[Row]], table: str) -> dict[int, int]:
    """For every record held, a sum over its words and their places."""
    run(f"CREATE VIRTUAL TABLE IF NOT EXISTS temp.seen_{table} USING fts5vocab(main, {table}, instance)")
    sums = {int(number): 0 for (number,) in run(f"SELECT rowid FROM {table}")}
    for number, place, word in run(f"SELECT doc, offset, term FROM temp.seen_{table}"):
        sums[number] = sums.get(number, 0) + hash((place, word))
    run(f"DROP TABLE temp.seen_{table}")
    return sums


def _words(record: Record) -> str:
    """What is indexed of a record: its key and, but for bytes, its value."""
    value = record.value
    if isinstance(value, bytes):
        return _spaced(record.key)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _spaced(f"{record.key}\n{text}")


def _spaced(text: str) -> str:
    """The text with every Chinese character a word of its own."""
    return _HAN.sub(r" \1 ", text)
