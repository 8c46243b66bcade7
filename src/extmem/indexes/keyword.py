"""KeywordIndex: words -> record ids, ranked by BM25 (SQLite's FTS5).

Knows: the words of keys and values. Does not know: vectors, models.

Every namespace has a table of its own, so that how rare a word is in one says nothing about another.
Records in a folder keep it in their own database and transaction; for records in RAM it is made from
them when they have changed. Chinese is indexed by the character.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Collection

from extmem.indexes.base import Index
from extmem.records.base import Record, Records, short_name
from extmem.records.sqlite import SqliteRecords

_HAN = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")
_WORD = re.compile(r"\w+")


class KeywordIndex(Index):
    """BM25 over the records of one namespace."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self._table = "words_" + short_name(records.namespace)
        self._own = None if isinstance(records, SqliteRecords) else sqlite3.connect(":memory:", check_same_thread=False)
        self._seen: object = None
        self._lock = threading.Lock()  # threads share the index of records in RAM

    def add(self, record: Record) -> None:
        if self._own is None:
            self._insert(self._connection(), record)

    def discard(self, record_ids: Collection[int]) -> None:
        if self._own is None:
            connection = self._connection()
            for record_id in record_ids:
                connection.execute(f"DELETE FROM {self._table} WHERE rowid = ?", (record_id,))

    def clear(self) -> None:
        if self._own is None:
            self._connection().execute(f"DELETE FROM {self._table}")

    def settle(self) -> None:
        """Takes words out of the file for good: FTS5 only marks what is deleted until it merges its
        parts, which costs as much as the index is long (0.2 s for 100,000 records)."""
        if self._own is None:
            self._connection().execute(f"INSERT INTO {self._table}({self._table}) VALUES ('optimize')")

    def sweep(self) -> None:
        """Nothing: the index is in the records' own file."""

    def verify(self) -> list[str]:
        held = {row[0] for row in self._fresh().execute(f"SELECT rowid FROM {self._table}")}
        there = {record.id for record in self.records.records()}
        return [f"keyword index: record {n} is not indexed" for n in sorted(there - held)] + [
            f"keyword index: words of record {n}, which is gone" for n in sorted(held - there)
        ]

    def search(self, query: str, k: int) -> list[tuple[int, float]]:
        """(record id, score), the best first, at most k; every word of the query counts, none must be
        there. The score is BM25's, higher is better; equal scores stand in order of storing."""
        words = dict.fromkeys(_WORD.findall(_spaced(query)))
        if not words:
            return []
        wanted = " OR ".join(f'"{word}"' for word in words)
        with self._lock:
            rows = (
                self._fresh()
                .execute(
                    f"SELECT rowid, -bm25({self._table}) AS score FROM {self._table} WHERE {self._table} MATCH ? "
                    "ORDER BY score DESC, rowid LIMIT ?",
                    (wanted, k),
                )
                .fetchall()
            )
        return [(int(number), float(score)) for number, score in rows]

    def _fresh(self) -> sqlite3.Connection:
        """The connection, with an index that fits the records."""
        connection = self._connection()
        seen = self.records.generation()
        if self._own is not None and seen != self._seen:
            connection.execute(f"DELETE FROM {self._table}")
            for record in self.records.records():
                self._insert(connection, record)
            self._seen = seen
        return connection

    def _connection(self) -> sqlite3.Connection:
        connection = self._own
        if connection is None:
            assert isinstance(self.records, SqliteRecords)
            connection = self.records.connection
        connection.execute(
            f"CREATE VIRTUAL TABLE IF NOT EXISTS {self._table} USING "
            "fts5(words, tokenize='porter unicode61 remove_diacritics 2')"
        )
        return connection

    def _insert(self, connection: sqlite3.Connection, record: Record) -> None:
        value = record.value
        if not isinstance(value, bytes):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            words = _spaced(f"{record.key}\n{text}")
        else:
            words = _spaced(record.key)
        connection.execute(f"INSERT INTO {self._table} (rowid, words) VALUES (?, ?)", (record.id, words))


def _spaced(text: str) -> str:
    """The text with every Chinese character a word of its own."""
    return _HAN.sub(r" \1 ", text)
