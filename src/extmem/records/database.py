"""The file records.db for all threads of a process: opened for each, transactions, closing, forks.

Knows: connections, threads, the write-ahead log. Does not know: what is in the tables.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw

from extmem.durable import size, unlink
from extmem.errors import ExtmemError, InvalidInput, MemoryFormatError, StorageError, storage_error
from extmem.records.base import Row
from extmem.records.checkpoint import keeper
from extmem.records.connection import CHECKSUM, close, connect, meaning, wait
from extmem.records.log import HEAD, holds_more
from extmem.records.schema import APPLICATION, FORMAT, create, marks, migrate

LOG = 2_000  # pages: a log that has grown so far is moved into the database
TRANSACTION = "BEGIN IMMEDIATE", "COMMIT", "ROLLBACK"
SAVEPOINT = "SAVEPOINT inner", "RELEASE inner", "ROLLBACK TO inner; RELEASE inner"  # of equal names the last counts


class Session(threading.local):
    """One thread's connection, and the transaction it has open. Closed when the thread ends."""

    def __init__(self, database: Database) -> None:
        self.connection = database.open()
        self.execute = self.connection.execute
        self.serial = next(database.serials)
        self.own = self
        self.depth = 0
        self.reads = False  # whether it is inside a reading,
        self.moment: object = None  # and that one's generation, once it was asked for
        self.process = os.getpid()
        self.erasing = False  # whether its transaction erases something
        self.touched: set[str] = set()  # paths of files that its transaction wrote or gave up


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
        self.serials = itertools.count()
        self.writing: set[int] = set()  # threads that have a transaction open
        self.readers: set[int] = set()  # and those that read as of one moment
        self.erased = False  # whether the log may hold what was forgotten
        self.identity: tuple[int, ...] | None = None
        self._opened: weakref.WeakSet[apsw.Connection] = weakref.WeakSet()
        self._inherited: list[object] = []
        self._closing = False
        self._keeper: apsw.Connection | None = None
        self._keeping = threading.Lock()
        try:
            if folder.exists() and not folder.is_dir():
                raise InvalidInput(f"{folder} is a file: a memory is a folder; give another path.", folder)
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, folder) from error
        self.folder = folder.resolve()  # SQLite opens no file behind a link, and a program may change its folder
        self.path = self.folder / "records.db"
        self.frozen = not os.access(folder, os.W_OK)  # a read-only disk
        self.lock, self._gate = threading.Lock(), threading.RLock()
        self._prepare(drop_log)
        self.identity = self._identity()
        self._frozen_at = self._stat()
        if not self.frozen and self._log().exists():
            self.erased = not self._checkpoint("TRUNCATE", wait=0)  # one that was killed may have left it so
        self.session: Session | Asleep = Asleep(self)
        after_fork = weakref.WeakMethod(self._after_fork)
        os.register_at_fork(after_in_child=lambda: (method := after_fork()) and method())

    def open(self) -> apsw.Connection:
        """A new connection to the file."""
        if self.identity not in (None, self._identity()):
            raise self._moved()
        try:
            connection = connect(self.path, self.frozen, self.identity is None, self._logged)
        except apsw.Error as error:
            raise self.error(error) from error
        self._opened.add(connection)
        return connection

    def close(self) -> None:
        """Closes every thread's connection, once what they are reading is read. Raises InvalidInput while one
        has a transaction open."""
        try:
            for tries in itertools.count():
                with self._gate:
                    if self.writing or threading.get_ident() in self.readers:
                        raise InvalidInput("close() inside a transaction: leave it first.")
                    if not self.readers:
                        opened, self._opened, self.session = list(self._opened), weakref.WeakSet(), Asleep(self)
                        break
                    self._closing = True  # nobody begins to read
                if not wait(tries):
                    raise StorageError(f"{self.path}: a thread reads it for long: wait for it, then close.")
        finally:
            self._closing = False
        last = None
        with self._keeping, suppress(apsw.Error):
            last = None if self.frozen or not opened else self._keeper or keeper(str(self.path))
        for connection in opened:
            close(connection)
        with self._keeping, suppress(apsw.Error):  # a full disk, say: the log stays
            self._keeper = None
            if last is not None:
                last.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Records.transaction`."""
        thread = threading.get_ident()
        if thread in self.readers:
            raise InvalidInput("a change inside a reading, such as an export or a verification: do it after it.")
        if thread in self.writing:
            with self._changing(self.session.own, *SAVEPOINT):
                yield
        else:
            with self._inside(self.writing) as session, self._changing(session, *TRANSACTION):
                yield

    @contextmanager
    def _inside(self, threads: set[int]) -> Iterator[Session]:
        """This thread's session, which nobody closes meanwhile."""
        while self._closing:
            time.sleep(0.001)
        with self._gate:
            session: Session = self.session.own
            threads.add(threading.get_ident())
        try:
            yield session
        finally:
            threads.discard(threading.get_ident())
            self._tidy(session)

    @contextmanager
    def _changing(self, session: Session, begin: str, end: str, undo: str) -> Iterator[None]:
        self.check_alive(session)
        try:
            session.execute(begin)
        except apsw.Error as error:
            raise self.error(error) from error
        session.depth += 1
        try:
            yield
            self.check_alive(session)
            session.execute(end)
        except BaseException as error:
            session.serial = next(self.serials)  # what was read meanwhile is void
            self._roll_back(session, undo)
            if isinstance(error, apsw.Error):
                raise self.error(error) from error
            raise
        finally:
            session.depth -= 1

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows of a statement: a cursor left open would hold this thread's reads at an old state
        and block its writes. Raises MemoryFormatError, StorageError, InvalidInput."""
        session = self.session.own
        if session.depth:
            self.check_alive(session)
        if self.frozen:
            self.check_frozen()
        try:
            rows: list[Row] = session.execute(statement, values).fetchall()
            return rows
        except (apsw.Error, UnicodeEncodeError) as error:
            raise self.error(error) from error

    def _tidy(self, session: Session) -> None:
        """After a transaction: deletes its files that no row names, and what it erased from the log."""
        if session.process != os.getpid():
            return
        touched, session.touched = session.touched, set()
        if touched:
            with suppress(ExtmemError):  # a sweep does it
                unlink(self.folder, touched - {path for (path,) in self.run("SELECT path FROM files")})
        if session.erasing:
            session.erasing, self.erased = False, not self._checkpoint("TRUNCATE")

    def check_frozen(self) -> None:
        """Raises where a file that is read as one nobody writes has been written to, by who may."""
        if self._stat() != self._frozen_at:
            raise StorageError(f"{self.path} was changed while it was read without leave to write: open it again.")

    def check_alive(self, session: Session) -> None:
        """Raises where the transaction that a thread believes it has open is not there any more."""
        if session.process != os.getpid():
            raise InvalidInput("a transaction does not cross os.fork: the parent goes on with it, begin one here.")
        if session.depth and not session.connection.in_transaction:
            raise StorageError(f"{self.path}: the transaction failed before and was undone: run all of it again.")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """See `Records.reading`."""
        if threading.get_ident() in self.writing | self.readers:
            yield
            return
        with self._inside(self.readers) as session:
            try:
                session.execute("BEGIN; SELECT 1 FROM records LIMIT 1").fetchall()
            except apsw.Error as error:
                self._roll_back(session, "ROLLBACK")
                raise self.error(error) from error
            session.reads = True
            try:
                yield
            finally:
                session.reads, session.moment = False, None
                with suppress(apsw.Error):  # one may have ended it
                    session.execute("COMMIT")

    def error(self, error: Exception) -> ExtmemError:
        """What an error of SQLite's means to a person."""
        return meaning(error, self.path)

    def _prepare(self, drop_log: bool) -> None:
        """Makes the file, or checks that it is one of ours, whole and of this format."""
        log = self._log()
        logged = size(log) > 0  # asked first: others may be making the file
        if not size(self.path):
            if logged:  # SQLite would delete it
                cure = "put it back, or move the log away and restore a snapshot"
                raise MemoryFormatError(f"{self.path} is missing or empty, its log is there: {cure}.", self.path)
            if not self.frozen:
                self.open().close()  # checksums are on only in a connection that finds the file with a head
        connection = self.open()
        try:
            if not drop_log:
                self._check_log(connection, log)
            application, version = marks(connection)
            if application == 0 and version == 0:
                application, version = create(connection)
                self._checkpoint("TRUNCATE")
            if application != APPLICATION:
                raise MemoryFormatError(f"{self.path} is not an extmem memory: give another folder.", self.path)
            if version > FORMAT:
                message = f"{self.path} is of format {version}, this extmem reads up to {FORMAT}: update extmem."
                raise MemoryFormatError(message, self.path)
            if version < FORMAT:
                connection.reserve_bytes("main", CHECKSUM)
                connection.execute("VACUUM")
                migrate(connection, self.folder)
            if connection.execute("PRAGMA checksum_verification").get != "1":
                connection.close()  # as long as a head with checksums is in the log only, after a migration
                self._checkpoint("TRUNCATE")
                connection = self.open()
                if connection.execute("PRAGMA checksum_verification").get != "1":  # its first bytes are damaged
                    said = f"{self.path} is damaged (no checksums): restore it from a snapshot."
                    raise MemoryFormatError(said, self.path)
        except apsw.Error as error:
            raise self.error(error) from error
        finally:
            connection.close()

    def _check_log(self, connection: apsw.Connection, log: Path) -> None:
        """SQLite takes a damaged write-ahead log for one that ends there, and what was committed after
        it is gone. Raises MemoryFormatError where the log goes on behind what SQLite has taken."""
        if size(log) <= HEAD:
            return
        if self.frozen:
            raise StorageError(f"{log} is to be taken in first: copy the folder to where it may be written.", log)
        if not self._goes_on(log):
            return
        connection.execute("BEGIN IMMEDIATE")  # another may have been writing it
        try:
            goes_on = self._goes_on(log)
        finally:
            connection.execute("ROLLBACK")
        if goes_on:
            cure = "restore a snapshot, or run 'extmem verify --repair' to go on without those changes"
            raise MemoryFormatError(f"{log} is damaged, the last changes in it cannot be read: {cure}.", log)

    def _goes_on(self, log: Path) -> bool:
        with closing(keeper(str(self.path))) as other:
            _, taken, _ = other.execute("PRAGMA wal_checkpoint(NOOP)").get
        try:
            return holds_more(log, taken)
        except FileNotFoundError:  # all of it was taken in, by who closed it last
            return False

    def _roll_back(self, session: Session, undo: str) -> None:
        if session.process == os.getpid() and session.connection.in_transaction:
            with suppress(apsw.Error):  # the disk failed: SQLite has rolled back by itself
                session.execute(undo)

    def _logged(self, connection: apsw.Connection, name: str, pages: int) -> int:
        """SQLite calls this after each commit, with the length of the log."""
        if self.identity not in (None, self._identity()):
            raise self._moved()
        if self.erased:  # a reader was in the way
            self.erased = not self._checkpoint("TRUNCATE", wait=0)
        elif pages >= LOG:
            self._checkpoint("PASSIVE")
        return apsw.SQLITE_OK

    def _log(self) -> Path:
        return self.path.with_name("records.db-wal")

    def _stat(self) -> tuple[int, int, int, int] | None:
        """Which file of the disk it is (two numbers), its size, and when it was written; None if it is gone."""
        try:
            there = os.stat(self.path)
        except OSError:
            return None
        return there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns

    def _identity(self) -> tuple[int, ...] | None:
        """Which file of the disk it is."""
        there = self._stat()
        return there and there[:2]

    def _moved(self) -> StorageError:
        said = "was moved, removed or replaced while it was open: open it where it is now"
        return StorageError(f"{self.path} {said}. What was just stored is lost where it was removed.", self.path)

    def _checkpoint(self, how: str, wait: int = 500) -> bool:
        """Moves the log into the database; TRUNCATE also cuts it to nothing, for what was erased stays in
        it otherwise. False where a reader is in the way for `wait` milliseconds; a later one does it."""
        with self._keeping:
            try:
                if self._keeper is None:
                    self._keeper = keeper(str(self.path))
                self._keeper.set_busy_timeout(wait)
                busy, _, _ = self._keeper.execute(f"PRAGMA wal_checkpoint({how})").get
                return not busy
            except apsw.Error:
                return False

    def _after_fork(self) -> None:
        """A child of `os.fork` may not touch its parent's connections, not even to close them."""
        self._inherited += [self.session, self._keeper, *self._opened]
        self.lock, self._keeping, self._keeper = threading.Lock(), threading.Lock(), None
        self._gate, self.writing, self.readers = threading.RLock(), set(), set()
        self._opened = weakref.WeakSet()
        self.session = Asleep(self)
