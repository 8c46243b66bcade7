"""Postings in PostgreSQL, beside the records and in their transactions.

Knows: the table `words`. Does not know: how a text becomes terms, how records are ranked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from extmem.indexes.postings import Blocks, Postings
from extmem.records.postgres import PostgresRecords

_TABLE = """CREATE TABLE IF NOT EXISTS words (
    namespace BYTEA NOT NULL, term TEXT NOT NULL, block BIGINT NOT NULL, postings BYTEA NOT NULL,
    PRIMARY KEY (namespace, term, block))"""
_GIVEN = "unnest(%s::text[], %s::int8[], %s::bytea[]) AS given (term, block, postings)"
_AT = "words.namespace = %s AND words.term = given.term AND words.block = given.block"


class PostgresPostings(Postings):
    """See `Postings`; the blocks of all namespaces lie in one table."""

    def __init__(self, records: PostgresRecords) -> None:
        self._server, self._space = records.server, records.namespace.encode()

    def read(self, terms: Sequence[str], block: int | None = None) -> Iterator[tuple[str, int, bytes]]:
        one, values = ("", ()) if block is None else ("AND block = %s", (block,))
        where = f"namespace = %s AND term = ANY(%s) {one} ORDER BY term, block"
        return self._rows(where, (self._space, list(terms), *values))

    def extend(self, blocks: Blocks) -> None:
        self._server.write(_TABLE)
        self._server.write(
            f"INSERT INTO words SELECT %s, term, block, postings FROM {_GIVEN} "
            "ON CONFLICT (namespace, term, block) DO UPDATE SET postings = words.postings || excluded.postings",
            (self._space, *_columns(blocks)),
        )

    def replace(self, blocks: Blocks) -> None:
        gone, kept = ({at: held for at, held in blocks.items() if bool(held) is there} for there in (False, True))
        if gone:
            self._server.write(f"DELETE FROM words USING {_GIVEN} WHERE {_AT}", (*_columns(gone), self._space))
        if kept:
            update = f"UPDATE words SET postings = given.postings FROM {_GIVEN} WHERE {_AT}"
            self._server.write(update, (*_columns(kept), self._space))

    def every(self) -> Iterator[tuple[str, int, bytes]]:
        return self._rows("namespace = %s", (self._space,))

    def has(self, beginning: str) -> bool:
        there = "SELECT 1 FROM words WHERE namespace = %s AND starts_with(term, %s) LIMIT 1"
        return self._is_there() and bool(self._server.run(there, (self._space, beginning)))

    def is_empty(self) -> bool:
        return not self._is_there() or not self._server.run(
            "SELECT 1 FROM words WHERE namespace = %s LIMIT 1", [self._space]
        )

    def clear(self) -> None:
        if self._is_there():
            self._server.write("DELETE FROM words WHERE namespace = %s", [self._space])

    def _rows(self, where: str, values: Sequence[object]) -> Iterator[tuple[str, int, bytes]]:
        if self._is_there():
            for term, block, held in self._server.run(f"SELECT term, block, postings FROM words WHERE {where}", values):
                yield term, block, bytes(held)

    def _is_there(self) -> bool:
        return self._server.run("SELECT to_regclass('words') IS NOT NULL")[0][0] is True


def _columns(blocks: Blocks) -> tuple[list[str], list[int], list[bytes]]:
    return [term for term, _ in blocks], [block for _, block in blocks], list(blocks.values())
