"""Moving the write-ahead log into the database, and leaving out of every page what was deleted from it.

Knows: the format of SQLite's B-tree pages ("Database File Format", section 1.6), its VFS (by apsw). Does
not know: tables, transactions.

`secure_delete` overwrites a row where it lies. But when rows move to another page, as a tree grows or
shrinks, SQLite leaves pieces of them in the space that no row uses any more, and deleting the row
overwrites only the row. So this space is overwritten here, on each page's way into the database: the
pieces are never in that file, and in the log only until it is emptied.
"""

from __future__ import annotations

import struct

import apsw

NAME, CHECKSUMS = "extmem-checkpoint", "cksmvfs"
PAGE = 4096
HEADS = {2: 12, 5: 12, 10: 8, 13: 8}  # bytes of a B-tree page's head, by its first byte
MOST = (1 << 36) - (1 << 33)  # bytes of a database below which no other page begins with such a byte
_KEPT: list[apsw.VFS] = []  # a VFS lives as long as it is held


class _Database(apsw.VFSFile):
    """The file that the log is moved into."""

    def xWrite(self, data: bytes, offset: int) -> None:
        if offset < MOST:
            data = without_leftovers(data, 100 if offset == 0 else 0)
        super().xWrite(data, offset)


class _Files(apsw.VFS):
    """The system's files; the database has the checksums that cksumvfs writes."""

    def __init__(self) -> None:
        super().__init__(NAME, "")

    def xOpen(self, name: apsw.URIFilename | str | None, flags: list[int]) -> apsw.VFSFile:
        if flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
            return _Database(CHECKSUMS, name, flags)
        return apsw.VFSFile("", name, flags)


def keeper(path: str) -> apsw.Connection:
    """A connection to a database that is for checkpoints and nothing else."""
    if NAME not in apsw.vfs_names():
        _KEPT.append(_Files())
    connection = apsw.Connection(path, apsw.SQLITE_OPEN_READWRITE, vfs=NAME)
    connection.execute("PRAGMA synchronous=FULL; PRAGMA user_version").fetchall()  # without reading it has no log yet
    return connection


def without_leftovers(page: bytes, start: int = 0) -> bytes:
    """A page with zeros where no row lies; `start` is where its head begins. What is no page of a B-tree
    is returned as it is."""
    head = HEADS.get(page[start])
    if head is None or len(page) != PAGE:
        return page
    cells, content = struct.unpack_from(">HH", page, start + 3)
    first = start + head + 2 * cells
    if not first < content <= PAGE or not page[first:content].strip(b"\0"):
        return page
    return page[:first] + bytes(content - first) + page[content:]
