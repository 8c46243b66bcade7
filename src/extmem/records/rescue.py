"""Rescue: the rows of a damaged folder that can still be read.

Knows: the tables of records.db, row by row. Does not know: where the rows go. A row is read by its number, so
a page that is damaged costs the rows that lie in it, and those below it in the tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from extmem.errors import InvalidInput, MemoryFormatError
from extmem.records.base import Row
from extmem.records.sqlite import DUMPED, SqliteRecords

STEP = 256  # rows asked for at once
MOST = 10**6  # rows looked for in a table of which the end cannot be read


def reopened(folder: Path) -> tuple[SqliteRecords, str]:
    """The records of a folder, without the changes in its log where that is damaged, and what was damaged then.
    Raises MemoryFormatError where they cannot be opened so either."""
    try:
        return SqliteRecords(folder), ""
    except MemoryFormatError as error:
        return SqliteRecords(folder, drop_log=True), str(error).partition(":")[0]


class Rescue:
    """Gives (table, row) as `Records.dump` does; `records` counts those, `unreadable` the places, each of rows
    that follow one another, of which it cannot be told what they held. Raises InvalidInput where there is no memory,
    MemoryFormatError where not even its first pages can be read."""

    def __init__(self, folder: Path) -> None:
        self.records = self.unreadable = 0
        if not (folder / "records.db").exists():
            raise InvalidInput(f"there is no memory at {folder}: check the path.", folder)
        self.source, _ = reopened(folder)

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        try:
            for table, columns, _ in DUMPED:
                for row in self._rows(table, columns.replace("born", "coalesce(born, id)")):
                    self.records += table == "records"
                    if table != "ledger" or row[1] != "keyword":  # derived anew
                        yield table, row
            for _, namespace, name, path in self._numbered("files", "namespace, name, path"):
                file = self.source.folder / path
                if file.exists():
                    yield "files", (namespace, name, file.read_bytes())
                else:
                    self.unreadable += 1
        finally:
            self.source.close()

    def _rows(self, table: str, columns: str) -> Iterator[Row]:
        return (tuple(row[1:]) for row in self._numbered(table, columns))

    def _numbered(self, table: str, columns: str) -> Iterator[Any]:
        """The rows with their numbers before them, in order."""
        asked, at, last = f"SELECT rowid, {columns} FROM {table} WHERE rowid", 0, self._last(table)
        unread = -1
        while at < last:
            try:
                page = self.source.run(f"{asked} > ? AND rowid <= ? ORDER BY rowid LIMIT {STEP}", (at, last))
                yield from page
                at = page[-1][0] if len(page) == STEP else last
            except MemoryFormatError:
                for number in range(at + 1, min(at + STEP, last) + 1):
                    try:
                        yield from self.source.run(f"{asked} = ?", (number,))
                    except MemoryFormatError:
                        self.unreadable += unread != number - 1
                        unread = number
                at += STEP

    def _last(self, table: str) -> int:
        try:
            return int(self.source.run(f"SELECT coalesce(max(rowid), 0) FROM {table}")[0][0])
        except MemoryFormatError:
            given = self.source.run("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,))
            return int(given[0][0]) if given else MOST
