"""A PostgreSQL server, shared by threads: pooled connections, transactions, and errors for people.

Knows: psycopg, threads, forks. Does not know: what is in the tables.

One at a time writes, as in a folder: a transaction holds an advisory lock of its memory from its
beginning, so it cannot fail half way because of another; readers never wait. Threads of one process
queue for it without a connection. Everything of a memory lies in one schema, `extmem` or what the
address names (…?extmem_schema=name).
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import shlex
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolTimeout

from extmem.errors import ExtmemError, InvalidInput, MemoryFormatError, StorageError
from extmem.records.base import Row

FORMAT = 2
PATIENCE = 30  # seconds to wait for another writer
REACH = 10  # seconds to wait for the server
CONNECTIONS = 16
_REFUSED = re.compile(
    r'(database|role) ".*" does not exist|authentication failed|no password supplied|pg_hba\.conf'
    r"|not permitted to log in|permission denied for database",
    re.DOTALL,
)
T = TypeVar("T")
logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())  # callers get errors, not lines on stderr

TABLES = """
CREATE SCHEMA IF NOT EXISTS "{schema}";
SET LOCAL search_path = "{schema}";
CREATE SEQUENCE ids;
CREATE TABLE records (
    id BIGINT PRIMARY KEY, namespace BYTEA NOT NULL, born BIGINT, key BYTEA NOT NULL, kind SMALLINT NOT NULL,
    value BYTEA NOT NULL, version BIGINT NOT NULL, created FLOAT8 NOT NULL, updated FLOAT8 NOT NULL,
    metadata TEXT, author BYTEA, trust FLOAT8 NOT NULL, expires FLOAT8, valid_from FLOAT8, valid_to FLOAT8, due FLOAT8
);
CREATE UNIQUE INDEX records_key ON records (namespace, sha256(key));
CREATE INDEX records_order ON records (namespace, substring(key, 1, 512));
CREATE INDEX records_due ON records (namespace, due) WHERE due IS NOT NULL;
CREATE TABLE states (
    namespace BYTEA NOT NULL, key BYTEA NOT NULL, kind SMALLINT NOT NULL, value BYTEA NOT NULL,
    version BIGINT NOT NULL, created FLOAT8 NOT NULL, updated FLOAT8 NOT NULL, metadata TEXT, author BYTEA,
    trust FLOAT8 NOT NULL, expires FLOAT8, valid_from FLOAT8, valid_to FLOAT8, due FLOAT8
);
CREATE UNIQUE INDEX states_key ON states (namespace, sha256(key), version);
CREATE TABLE ledger (
    place BIGSERIAL PRIMARY KEY, namespace BYTEA NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, note TEXT NOT NULL,
    UNIQUE (namespace, kind, name)
);
CREATE TABLE files (
    namespace BYTEA NOT NULL, name TEXT NOT NULL, content BYTEA NOT NULL, PRIMARY KEY (namespace, name)
);
CREATE TABLE extmem (format INT NOT NULL, generation BIGINT NOT NULL);
INSERT INTO extmem VALUES ({format}, 0);
"""


class _Session(threading.local):
    """What a thread has open: the connection of its transaction or reading."""

    connection: psycopg.Connection[Row] | None = None
    depth = 0
    serial = 0


class _Address(NamedTuple):
    """An address, read."""

    url: str  # as psycopg takes it
    schema: str
    name: str  # for people: nothing of the user
    database: str  # as a shell takes it
    secrets: tuple[str, ...]  # what no message may show


class Server:
    """The memory that one address names, for all threads of this process."""

    def __init__(self, address: str) -> None:
        self.address, self.schema, self.name, self._database, self._secrets = _read(address)
        self.serials = itertools.count(1)
        self.session = _Session()
        self._lock = threading.Lock()
        self._writing = threading.Lock()  # held by the thread whose transaction is open
        self._pool: ConnectionPool[psycopg.Connection[Row]] | None = None
        self._inherited: list[object] = []
        self._prepare()
        after_fork = weakref.WeakMethod(self._after_fork)
        os.register_at_fork(after_in_child=lambda: (method := after_fork()) and method())

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows of a statement; outside of a transaction it must only read."""
        return self._do(lambda connection: _rows(connection.execute(statement, values)))

    def write(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows of a statement that writes, in the open transaction or one of its own."""
        with nullcontext() if self.session.depth else self.transaction():
            self.session.serial = next(self.serials)
            return self.run(statement, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Records.transaction`."""
        session, process, writing = self.session, os.getpid(), self._writing
        if session.depth:
            with self._inner(session, process):
                yield
            return
        if not writing.acquire(timeout=PATIENCE):
            raise self._busy()
        try:
            lock = f"SELECT pg_advisory_xact_lock({zlib.crc32(self.schema.encode())})"
            with self.bound("BEGIN", lock) as connection:
                session.depth = 1
                try:
                    yield
                    _same(process)
                    self._commit(connection)
                finally:
                    session.serial = next(self.serials)  # what was read meanwhile may be void
                    session.depth = 0
        finally:
            writing.release()

    @contextmanager
    def _inner(self, session: _Session, process: int) -> Iterator[None]:
        """A transaction within one: what it did is undone where an error leaves it."""
        connection = session.connection
        assert connection is not None
        with self._translated():
            connection.execute("SAVEPOINT s")
        session.depth += 1
        try:
            yield
            _same(process)
            with self._translated():
                connection.execute("RELEASE s")
        except BaseException:
            if os.getpid() == process:
                session.serial = next(self.serials)
                with suppress(psycopg.Error):  # it broke off: the outer one cannot be committed either
                    connection.execute("ROLLBACK TO s", prepare=False)
                    connection.execute("RELEASE s")
            raise
        finally:
            session.depth -= 1

    def _commit(self, connection: psycopg.Connection[Row]) -> None:
        with self._translated():
            connection.execute("UPDATE extmem SET generation = generation + 1")
            if connection.info.transaction_status != TransactionStatus.INTRANS:
                cure = "nothing of it is stored: begin it anew"
                raise StorageError(f"{self.name}: this transaction was ended by somebody else; {cure}.", self.name)
            connection.execute("COMMIT")

    @contextmanager
    def bound(self, *begin: str) -> Iterator[psycopg.Connection[Row]]:
        """This thread's statements go to one connection, in a transaction begun so; rolled back at the
        end, unless it was committed. A child of `os.fork` that leaves it does nothing."""
        session, pool, process = self.session, self.pool, os.getpid()
        connection, before = self._begun(pool, begin), session.connection
        session.connection = connection
        try:
            yield connection
        finally:
            if os.getpid() == process:
                session.connection = before
                with suppress(psycopg.Error):
                    if not connection.closed and connection.info.transaction_status:
                        connection.execute("ROLLBACK")
                pool.putconn(connection)

    @property
    def pool(self) -> ConnectionPool[psycopg.Connection[Row]]:
        """The connections of this process."""
        with self._lock:
            if self._pool is None:
                self._pool = ConnectionPool(
                    self.address, kwargs=self._options(), min_size=0, max_size=CONNECTIONS, timeout=REACH,
                    reconnect_timeout=REACH, open=True, num_workers=2,
                )  # fmt: skip
            return self._pool

    def close(self) -> None:
        """Closes the connections; they open again at the next use. Raises InvalidInput while a thread is
        in a transaction."""
        if self._writing.locked():
            raise InvalidInput("close() inside a transaction: leave it first.")
        with self._lock:
            if self._pool is not None:
                self._pool.close()
            self._pool = None

    def _after_fork(self) -> None:
        """A child of `os.fork` may not touch its parent's connections, not even to close them."""
        self._inherited += [self._pool, self.session]
        self._pool, self.session = None, _Session()
        self._lock, self._writing = threading.Lock(), threading.Lock()

    def _begun(self, pool: ConnectionPool[psycopg.Connection[Row]], begin: Sequence[str]) -> psycopg.Connection[Row]:
        """A connection in which these statements have been done; a broken one is replaced once."""
        for attempt in (1, 2):
            with self._translated():
                connection = pool.getconn()
            try:
                for statement in begin:
                    connection.execute(statement)
                return connection
            except psycopg.Error as error:
                broken = connection.broken
                with suppress(psycopg.Error):
                    if not broken:
                        connection.execute("ROLLBACK")
                pool.putconn(connection)
                if attempt == 2 or not broken:
                    raise self.error(error) from error
        raise AssertionError

    def _do(self, work: Callable[[psycopg.Connection[Row]], T]) -> T:
        session = self.session
        if session.connection is not None:
            with self._translated():
                return work(session.connection)
        for attempt in (1, 2):
            try:
                with self.pool.connection() as connection:
                    return work(connection)
            except psycopg.OperationalError as error:  # a connection that broke: reading may be tried again
                if attempt == 2 or isinstance(error, PoolTimeout):
                    raise self.error(error) from error
            except psycopg.Error as error:
                raise self.error(error) from error
        raise AssertionError

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise self.error(error) from error

    def error(self, error: psycopg.Error) -> ExtmemError:
        """What an error of the server means to a person."""
        said = str(error)
        refused = isinstance(error, psycopg.OperationalError) and _REFUSED.search(said)
        for secret in self._secrets:
            said = said.replace(secret, "***")
        said = " ".join(said.split())[:200]
        if isinstance(error, errors.LockNotAvailable):
            return self._busy()
        if isinstance(error, errors.ProgramLimitExceeded | errors.OutOfMemory):
            return InvalidInput(f"{self.name}: this is too large for PostgreSQL ({said}): store it in parts.")
        if isinstance(error, errors.InFailedSqlTransaction):
            cure = "leave it, then begin it anew"
            return StorageError(f"{self.name}: an error before has ended this transaction: {cure}.", self.name)
        if refused:
            cure = f"create the database (createdb {self._database}), or check the user and password"
            return StorageError(f"the PostgreSQL server {self.name} refused ({said}): {cure}.", self.name)
        if isinstance(error, psycopg.OperationalError):
            cure = "check that it runs and that the address is right, then run it again. What was saved is intact"
            return StorageError(f"the PostgreSQL server {self.name} does not answer ({said}): {cure}.", self.name)
        return StorageError(f"{self.name}: {said}; check the server. What was saved is intact.", self.name)

    def _busy(self) -> StorageError:
        return StorageError(f"{self.name}: another writer holds the memory for long: wait for it.", self.name)

    def _options(self) -> dict[str, Any]:
        settings = f'-c search_path="{self.schema}" -c synchronous_commit=on -c lock_timeout={PATIENCE}s'
        return {"autocommit": True, "options": settings, "connect_timeout": REACH}

    def _prepare(self) -> None:
        """Makes the tables, whoever comes first; checks that they are of this format."""
        try:
            with psycopg.connect(self.address, **self._options()) as connection:
                there = "SELECT to_regclass(%s)::text"
                if not connection.execute(there, [f'"{self.schema}".extmem']).fetchall()[0][0]:
                    with connection.transaction():
                        connection.execute("SELECT pg_advisory_xact_lock(hashtext('extmem'))")
                        if not connection.execute(there, [f'"{self.schema}".extmem']).fetchall()[0][0]:
                            connection.execute(TABLES.format(schema=self.schema, format=FORMAT))
                version = connection.execute("SELECT format FROM extmem").fetchall()[0][0]
        except psycopg.Error as error:
            raise self.error(error) from error
        if version != FORMAT:
            message = f"{self.name} holds a memory of format {version}, this extmem reads {FORMAT}: update extmem."
            raise MemoryFormatError(message, self.name)


def _rows(cursor: psycopg.Cursor[Row]) -> list[Row]:
    return cursor.fetchall() if cursor.description else []


def _same(process: int) -> None:
    """Raises InvalidInput in a child of `os.fork` of that process."""
    if os.getpid() != process:
        cure = "begin one in the child; the parent's goes on in the parent"
        raise InvalidInput(f"a transaction does not cross os.fork: {cure}.")


def _read(address: str) -> _Address:
    """What an address says, read as PostgreSQL's own library does. Raises InvalidInput, with nothing of
    the address in it: any part may be one of a password."""
    cure = "give postgresql://user:password@host:port/database, with special characters of the password percent-encoded"
    unreadable = InvalidInput(f"the PostgreSQL address cannot be read: {cure}.")
    scheme, _, rest = address.partition("://")
    stop = re.search("[@/]", rest)
    user, at, places = rest.partition("@") if stop and stop[0] == "@" else ("", "", rest)
    places, _, query = places.partition("?")
    if "@" in places:  # of the password
        raise unreadable
    given = query.split("&") if query else []
    options = [option for option in given if not option.startswith("extmem_schema=")]
    url = f"{scheme}://{user}{at}{places}" + ("?" + "&".join(options) if options else "")
    try:
        parts = {name: str(part) for name, part in conninfo_to_dict(url).items()}
    except (psycopg.Error, ValueError):
        raise unreadable from None
    host, port = parts.get("host") or parts.get("hostaddr") or "local", parts.get("port") or "5432"
    if not re.fullmatch(r"[0-9,]+", port):
        raise unreadable
    schema = ["extmem", *(unquote(option.partition("=")[2]) for option in given if option not in options)][-1]
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,50}", schema):
        raise InvalidInput(f"extmem_schema {schema!r}: give small letters, digits and '_'.", schema)
    database = parts.get("dbname") or ""
    name = " ".join(f"{host}:{port}{database and '/' + database}".split())
    database = shlex.quote(" ".join((database or parts.get("user") or "NAME").split()))
    secrets = {parts.get("password"), parts.get("sslpassword"), user.partition(":")[2]}
    return _Address(url, schema, name, database, tuple(sorted(filter(None, secrets), key=len)[::-1]))
