"""The file records.db: opened for each thread, of a known format, every page under a checksum.

Knows: SQLite (by apsw, which brings a version of its own, newer than most systems'), threads, forks.
Does not know: what is in the tables.

Durable before acknowledged (WAL, synchronous=FULL); what is deleted is overwritten (secure_delete);
every page carries a checksum that is compared whenever it is read (SQLite's cksumvfs), so that a
flipped bit is an error and never a wrong answer. Other tools may read the file; one that writes to it
leaves pages without their checksum, which then count as damaged.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw
from apsw import sqlite_extra

from extmem.errors import InvalidInput, MemoryFormatError, StorageError, storage_error
from extmem.records.base import Derived
from extmem.records.checkpoint import CHECKSUMS, keeper
from extmem.records.log import holds_more
from extmem.records.schema import APPLICATION, FORMAT, create, migrate

CHECKSUM = 8  # bytes at the end of each page
SETTINGS = ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "cache_size=-32768")
LOG = 2_000  # pages: a log that has grown so far is moved into the database
PATIENCE = 30  # seconds to wait for another writer


class Session(threading.local):
    """One thread's connection, and the transaction it has open. Closed when the thread ends."""

    def __init__(self, database: Database) -> None:
        self.connection = database.open()
        self.execute = self.connection.execute
        self.serial = next(database.serials)
        self.own = self
        self.depth = 0
        self.enlisted: dict[int, Derived] = {}
        self.erased = False


class Asleep:
    """Stands for the sessions of a database that is closed or was just forked; opens it at the next use."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def __getattr__(self, name: str) -> Any:
        with self.database.lock:
            if self.database.session is self:
                self.database.session = Session(self.database)
        return getattr(self.database.session, name)


class Database:
    """The file of one memory, for all threads of this process; many processes may share it."""

    def __init__(self, folder: Path, drop_log: bool = False) -> None:
        self.folder, self.path = folder, folder / "records.db"
        self.serials = itertools.count()
        self._opened: weakref.WeakSet[apsw.Connection] = weakref.WeakSet()
        self._inherited: list[object] = []
        self._keeper: apsw.Connection | None = None
        self._keeping = threading.Lock()
        if folder.exists() and not folder.is_dir():
            raise InvalidInput(f"{folder} is a file: a memory is a folder; give another path.", folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, folder) from error
        self.frozen = not os.access(folder, os.W_OK)  # a read-only disk
        _register_checksums()
        self._prepare(drop_log)
        self.lock = threading.Lock()
        self.session: Session | Asleep = Asleep(self)
        after_fork = weakref.WeakMethod(self._after_fork)
        os.register_at_fork(after_in_child=lambda: (method := after_fork()) and method())

    def open(self) -> apsw.Connection:
        """A new connection to the file."""
        try:
            flags, how = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE, "psow=0"  # see log.py
            if self.frozen:  # SQLite shares a file by writing beside it, even to read
                flags, how = apsw.SQLITE_OPEN_READONLY, "immutable=1"
            address = f"{self.path.absolute().as_uri()}?{how}"
            connection = apsw.Connection(address, flags | apsw.SQLITE_OPEN_URI, vfs=CHECKSUMS)
            connection.set_busy_handler(_wait)
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # the keeper does it
            connection.set_wal_hook(self._logged)
            if connection.execute("PRAGMA page_count").get == 0:
                connection.reserve_bytes("main", CHECKSUM)
            for setting in SETTINGS:
                _set(connection, setting)
        except apsw.Error as error:
            raise self.error(error) from error
        self._opened.add(connection)
        return connection

    def close(self) -> None:
        """Closes every thread's connection. Raises InvalidInput inside a transaction."""
        if isinstance(self.session, Session) and self.session.depth:
            raise InvalidInput("close() inside a transaction: leave it first.")
        last = None
        with self._keeping, suppress(apsw.Error):
            last = None if self.frozen or not self._opened else self._keeper or keeper(str(self.path))
        for connection in list(self._opened):
            connection.close()
        self._opened.clear()
        with self._keeping, suppress(apsw.Error):  # a full disk, say: the log stays
            self._keeper = None
            if last is not None:
                last.close()
        self.session = Asleep(self)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Records.transaction`."""
        session: Session = self.session.own
        if session.depth:
            session.depth += 1
            try:
                yield
            finally:
                session.depth -= 1
            return
        self._begin(session)
        try:
            session.depth = 1
            yield
            for derived in list(session.enlisted.values()):
                derived.settle()
            session.execute("COMMIT")
        except BaseException as error:
            session.serial = next(self.serials)  # what was read meanwhile is void
            self._roll_back(session)
            if isinstance(error, apsw.Error):
                raise self.error(error) from error
            raise
        finally:
            session.depth = 0
            enlisted, session.enlisted = session.enlisted, {}
            for derived in enlisted.values():
                derived.sweep()
        if session.erased:
            session.erased = not self._checkpoint("TRUNCATE")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """See `Records.reading`."""
        session: Session = self.session.own
        if session.connection.in_transaction:
            yield
            return
        try:
            session.execute("BEGIN; SELECT 1 FROM records LIMIT 1").fetchall()
        except apsw.Error as error:
            self._roll_back(session)
            raise self.error(error) from error
        try:
            yield
        finally:
            if session.connection.in_transaction:  # an error may have ended it
                session.execute("COMMIT")

    def error(self, error: apsw.Error) -> MemoryFormatError | StorageError | InvalidInput:
        """What an SQLite error means to a person."""
        said, path = str(error), self.path
        code = getattr(error, "extendedresult", 0)
        if isinstance(error, apsw.CorruptError | apsw.NotADBError) or code == apsw.SQLITE_IOERR_DATA:
            cure = "run 'extmem verify --repair', or restore it from a snapshot"
            return MemoryFormatError(f"{path} is damaged or no extmem memory ({said}): {cure}.", path)
        if isinstance(error, apsw.TooBigError):
            return InvalidInput("a key or value of more than 1 GB: store it in parts.")
        cures = {
            apsw.BusyError: "another writer holds it for long: wait for it",
            apsw.FullError: "the disk is full: free some space",
            apsw.ReadOnlyError: "it may not be written: choose a folder that may",
            apsw.CantOpenError: "it cannot be opened: check that the folder may be written and 'ulimit -n'",
        }
        cure = cures.get(type(error), f"check the disk (SQLite's error {code})")
        return StorageError(f"{path}: {said}; {cure} and run it again. What was saved is intact.", path)

    def _prepare(self, drop_log: bool) -> None:
        """Makes the file, or checks that it is one of ours, whole and of this format."""
        if not self.frozen and not (self.path.exists() and self.path.stat().st_size):
            self.open().close()  # checksums are on only in a connection that finds the file with a head
        connection = self.open()
        try:
            application, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
            if application == 0 and version == 0:
                application, version = create(connection)
            if application != APPLICATION:
                raise MemoryFormatError(f"{self.path} is no extmem memory: give another folder.", self.path)
            if version > FORMAT:
                message = f"{self.path} is of format {version}, this extmem reads up to {FORMAT}: update extmem."
                raise MemoryFormatError(message, self.path)
            if not drop_log:
                self._check_log(connection)
            if version < FORMAT:
                connection.reserve_bytes("main", CHECKSUM)
                connection.execute("VACUUM")
                migrate(connection, self.folder)
            elif connection.execute("PRAGMA checksum_verification").get != "1":  # as when its first bytes are damaged
                raise MemoryFormatError(
                    f"{self.path} is damaged (no checksums): restore it from a snapshot.", self.path
                )
        except apsw.Error as error:
            raise self.error(error) from error
        finally:
            connection.close()

    def _check_log(self, connection: apsw.Connection) -> None:
        """SQLite takes a damaged write-ahead log for one that ends there, and what was committed after
        it is gone. Raises MemoryFormatError where the log goes on behind what SQLite has taken."""
        log = self.path.with_name("records.db-wal")
        if not log.exists() or log.stat().st_size <= 32:
            return
        if self.frozen:
            raise StorageError(f"{log} is to be taken in first: copy the folder to where it may be written.", log)
        connection.execute("BEGIN IMMEDIATE")
        try:
            with closing(keeper(str(self.path))) as other:
                _, taken, _ = other.execute("PRAGMA wal_checkpoint(NOOP)").get
            goes_on = holds_more(log, taken)
        finally:
            connection.execute("ROLLBACK")
        if goes_on:
            cure = "restore a snapshot, or run 'extmem verify --repair' to go on without those changes"
            raise MemoryFormatError(f"{log} is damaged, the last changes in it cannot be read: {cure}.", log)

    def _begin(self, session: Session) -> None:
        try:
            session.execute("BEGIN IMMEDIATE")
        except apsw.Error as error:
            raise self.error(error) from error

    def _roll_back(self, session: Session) -> None:
        if session.connection.in_transaction:
            with suppress(apsw.Error):  # the disk failed: SQLite has rolled back by itself
                session.execute("ROLLBACK")

    def _logged(self, connection: apsw.Connection, name: str, pages: int) -> int:
        """SQLite calls this after each commit, with the length of the log."""
        if pages >= LOG:
            self._checkpoint("PASSIVE")
        return apsw.SQLITE_OK

    def _checkpoint(self, how: str) -> bool:
        """Moves the log into the database; TRUNCATE also cuts it to nothing, for what was erased stays in
        it otherwise. False where a reader is in the way; a later one does it."""
        with self._keeping:
            try:
                if self._keeper is None:
                    self._keeper = keeper(str(self.path))
                    self._keeper.set_busy_timeout(500)
                busy, _, _ = self._keeper.execute(f"PRAGMA wal_checkpoint({how})").get
                return not busy
            except apsw.Error:
                return False

    def _after_fork(self) -> None:
        """A child of `os.fork` may not touch its parent's connections, not even to close them."""
        self._inherited += [self.session, self._keeper, *self._opened]
        self.lock, self._keeping, self._keeper = threading.Lock(), threading.Lock(), None
        self._opened = weakref.WeakSet()
        self.session = Asleep(self)


def _wait(tries: int) -> bool:
    """Waits for another writer, at most 5 ms at a time: SQLite's own waits grow to 100 ms, and one
    process that writes all the time would shut out all others."""
    time.sleep(min(tries + 1, 10) / 2000)
    return tries < PATIENCE * 200


def _set(connection: apsw.Connection, setting: str) -> None:
    """Sets a PRAGMA. SQLite does not wait for others before it changes a new file to a write-ahead log."""
    for tries in itertools.count():
        try:
            connection.execute(f"PRAGMA {setting}").fetchall()
            return
        except apsw.BusyError:
            if not _wait(tries):
                raise


def _register_checksums() -> None:
    if CHECKSUMS not in apsw.vfs_names():
        before = apsw.vfs_names()[0]
        try:
            sqlite_extra.load(apsw.Connection(""), "cksumvfs")
        except Exception as error:
            raise StorageError(f"apsw came without its extensions ({error}): pip install apsw from PyPI.") from error
        apsw.set_default_vfs(before)


def _pragma(connection: apsw.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").get)
