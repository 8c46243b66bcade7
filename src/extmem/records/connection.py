"""A connection to records.db: how it is set up, how it waits for others, what its errors mean to a person.

Knows: SQLite (by apsw, which brings a version of its own, newer than most systems'). Does not know: threads,
transactions, tables.

Durable before acknowledged (WAL, synchronous=FULL); what is deleted is overwritten (secure_delete);
every page carries a checksum that is compared whenever it is read (SQLite's cksumvfs), so that a
flipped bit is an error and never a wrong answer. Other tools may read the file; one that writes to it
leaves pages without their checksum, which then count as damaged.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import apsw
from apsw import sqlite_extra

from extmem.errors import ExtmemError, InvalidInput, MemoryFormatError, StorageError
from extmem.records.checkpoint import CHECKSUMS

CHECKSUM = 8  # bytes at the end of each page
SETTINGS = ("journal_mode", "WAL"), ("synchronous", "FULL"), ("secure_delete", "ON"), ("cache_size", -32768)
PATIENCE = 30  # seconds to wait for another writer
CURES: dict[type[Exception], str] = {
    apsw.BusyError: "another writer holds it for long: wait for it",
    apsw.FullError: "the disk is full: free some space",
    apsw.ReadOnlyError: "it may not be written: choose a folder that may",
    apsw.CantOpenError: "it cannot be opened: check that the folder may be written and 'ulimit -n'",
    apsw.ConnectionClosedError: "the memory was closed meanwhile: open it again",
    apsw.ThreadingViolationError: "the memory is being closed: open it again",
}


def connect(
    path: Path, frozen: bool, create: bool, logged: Callable[[apsw.Connection, str, int], int]
) -> apsw.Connection:
    """A connection to a file, one that is only read where it is `frozen`, and made if it is not there
    where `create`; `logged` is called after each commit, with the length of the log in pages. Raises apsw.Error."""
    _register_checksums()
    flags, how = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0), "psow=0"  # see log.py
    if frozen:  # SQLite shares a file by writing beside it, even to read
        flags, how = apsw.SQLITE_OPEN_READONLY, "immutable=1"
    connection = apsw.Connection(f"{path.as_uri()}?{how}", flags | apsw.SQLITE_OPEN_URI, vfs=CHECKSUMS)
    connection.set_busy_handler(wait)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # the keeper does it
    connection.set_wal_hook(logged)
    if connection.execute("PRAGMA page_count").get == 0:
        connection.reserve_bytes("main", CHECKSUM)
    for setting in SETTINGS:
        # SQLite does not wait for others before it changes a new file to a write-ahead log.
        _patiently(partial(connection.pragma, *setting), apsw.BusyError)
    return connection


def close(connection: apsw.Connection) -> None:
    """Closes a connection once the thread that is at work with it has done its statement."""
    with suppress(apsw.ThreadingViolationError):  # after PATIENCE seconds it is left to that thread
        _patiently(connection.close, apsw.ThreadingViolationError)


def wait(tries: int) -> bool:
    """Waits for another writer, at most 5 ms at a time: SQLite's own waits grow to 100 ms, and one
    process that writes all the time would shut out all others. False after PATIENCE seconds."""
    time.sleep(min(tries + 1, 10) / 2000)
    return tries < PATIENCE * 200


def meaning(error: Exception, path: Path) -> ExtmemError:
    """What an error of SQLite's means to a person."""
    if isinstance(error, UnicodeEncodeError):
        return InvalidInput("half a surrogate pair is not text: give whole characters.", error.object)
    said, code = str(error), getattr(error, "extendedresult", 0)
    if isinstance(error, apsw.CorruptError | apsw.NotADBError) or code == apsw.SQLITE_IOERR_DATA:
        cure = "restore it from a snapshot, or try 'extmem verify --repair', or copy what can be read: 'extmem salvage'"
        what = f"damaged or not an extmem memory ({said})"
        if code == apsw.SQLITE_IOERR_DATA:
            what = "damaged (a page does not match its checksum)"
        return MemoryFormatError(f"{path} is {what}: {cure}.", path)
    if isinstance(error, apsw.TooBigError):
        return InvalidInput("a key or value of more than 1 GB: store it in parts.")
    cure = CURES.get(type(error), f"check the disk (SQLite's error {code})")
    return StorageError(f"{path}: {said}; {cure} and run it again. What was saved is intact.", path)


def number(connection: apsw.Connection, name: str) -> int:
    """The value of a PRAGMA."""
    return int(connection.execute(f"PRAGMA {name}").get)


def _patiently(work: Callable[[], object], busy: type[apsw.Error]) -> None:
    """Does something again and again while it is refused so, for PATIENCE seconds."""
    for tries in itertools.count():
        try:
            work()
            return
        except busy:
            if not wait(tries):
                raise


def _register_checksums() -> None:
    if CHECKSUMS not in apsw.vfs_names():
        before = apsw.vfs_names()[0]
        try:
            sqlite_extra.load(apsw.Connection(""), "cksumvfs")
        except Exception as error:
            raise StorageError(f"apsw came without its extensions ({error}): pip install apsw from PyPI.") from error
        apsw.set_default_vfs(before)
