"""A PostgreSQL server, shared by threads: pooled connections, transactions, and errors for people.

Knows: psycopg, threads, forks. Does not know: what is in the tables.

One at a time writes, as in a folder: a transaction holds an advisory lock of its memory from its
beginning, so it cannot fail half way because of another; readers never wait. Everything of a memory
lies in one schema, `extmem` or what the address names (…?extmem_schema=name).
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg import errors
from psycopg_pool import ConnectionPool, PoolTimeout

from extmem.errors import ExtmemError, InvalidInput, MemoryFormatError, StorageError
from extmem.records.base import Derived, Row

FORMAT = 2
PATIENCE = 30  # seconds to wait for another writer
REACH = 10  # seconds to wait for the server
CONNECTIONS = 16
T = TypeVar("T")
logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())  # callers get errors, not lines on stderr

TABLES = """
CREATE SCHEMA IF NOT EXISTS {schema};
SET LOCAL search_path = {schema};
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

    def __init__(self) -> None:
        self.enlisted: dict[int, Derived] = {}


class Server:
    """The memory that one address names, for all threads of this process."""

    def __init__(self, address: str) -> None:
        self.address, self.schema = _split(address)
        shown = urlsplit(self.address)
        self.name = f"{shown.hostname or 'local'}:{shown.port or 5432}{shown.path}"
        self.serials = itertools.count(1)
        self.session = _Session()
        self._lock = threading.Lock()
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
        with self.transaction():
            self.session.serial = next(self.serials)
            return self.run(statement, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Records.transaction`."""
        session = self.session
        if session.depth:
            session.depth += 1
            try:
                yield
            finally:
                session.depth -= 1
            return
        lock = f"SELECT pg_advisory_xact_lock({zlib.crc32(self.schema.encode())})"
        with self.bound("BEGIN", lock) as connection:
            session.depth = 1
            try:
                yield
                for derived in list(session.enlisted.values()):
                    derived.settle()
                with self._translated():
                    connection.execute("UPDATE extmem SET generation = generation + 1")
                    connection.execute("COMMIT")
            finally:
                session.serial = next(self.serials)  # what was read meanwhile may be void
                session.depth = 0

    @contextmanager
    def bound(self, *begin: str) -> Iterator[psycopg.Connection[Row]]:
        """This thread's statements go to one connection, in a transaction begun so; rolled back at the
        end, unless it was committed. What is enlisted is swept afterwards."""
        session, connection = self.session, self._begun(begin)
        session.connection = connection
        try:
            yield connection
        finally:
            session.connection = None
            with suppress(psycopg.Error):
                if not connection.closed and connection.info.transaction_status:
                    connection.execute("ROLLBACK")
            self.pool.putconn(connection)
            enlisted, session.enlisted = session.enlisted, {}
            for derived in enlisted.values():
                derived.sweep()

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
        """Closes the connections; they open again at the next use."""
        if self.session.depth:
            raise InvalidInput("close() inside a transaction: leave it first.")
        with self._lock:
            if self._pool is not None:
                self._pool.close()
            self._pool = None

    def _after_fork(self) -> None:
        """A child of `os.fork` may not touch its parent's connections, not even to close them."""
        self._inherited += [self._pool, self.session]
        self._pool, self.session, self._lock = None, _Session(), threading.Lock()

    def _begun(self, begin: Sequence[str]) -> psycopg.Connection[Row]:
        """A connection in which these statements have been done; a broken one is replaced once."""
        for attempt in (1, 2):
            with self._translated():
                connection = self.pool.getconn()
            try:
                for statement in begin:
                    connection.execute(statement)
                return connection
            except psycopg.Error as error:
                broken = connection.broken
                if not broken:
                    connection.execute("ROLLBACK")
                self.pool.putconn(connection)
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
        said = " ".join(str(error).split())[:200]
        if isinstance(error, errors.LockNotAvailable):
            return StorageError(f"{self.name}: another writer holds the memory for long: wait for it.", self.name)
        if isinstance(error, errors.ProgramLimitExceeded | errors.OutOfMemory):
            return InvalidInput(f"{self.name}: this is too large for PostgreSQL ({said}): store it in parts.")
        if isinstance(error, psycopg.OperationalError):
            cure = "check that it runs and that the address is right, then run it again. What was saved is intact"
            return StorageError(f"the PostgreSQL server {self.name} does not answer ({said}): {cure}.", self.name)
        return StorageError(f"{self.name}: {said}; check the server. What was saved is intact.", self.name)

    def _options(self) -> dict[str, Any]:
        settings = f"-c search_path={self.schema} -c synchronous_commit=on -c lock_timeout={PATIENCE}s"
        return {"autocommit": True, "options": settings, "connect_timeout": REACH}

    def _prepare(self) -> None:
        """Makes the tables, whoever comes first; checks that they are of this format."""
        try:
            with psycopg.connect(self.address, **self._options()) as connection:
                there = "SELECT to_regclass(%s)::text"
                if not connection.execute(there, [f"{self.schema}.extmem"]).fetchall()[0][0]:
                    with connection.transaction():
                        connection.execute("SELECT pg_advisory_xact_lock(hashtext('extmem'))")
                        if not connection.execute(there, [f"{self.schema}.extmem"]).fetchall()[0][0]:
                            connection.execute(TABLES.format(schema=self.schema, format=FORMAT))
                version = connection.execute("SELECT format FROM extmem").fetchall()[0][0]
        except psycopg.Error as error:
            raise self.error(error) from error
        if version != FORMAT:
            message = f"{self.name} holds a memory of format {version}, this extmem reads {FORMAT}: update extmem."
            raise MemoryFormatError(message, self.name)


def _rows(cursor: psycopg.Cursor[Row]) -> list[Row]:
    return cursor.fetchall() if cursor.description else []


def _split(address: str) -> tuple[str, str]:
    """The address for psycopg, and the schema it names. Raises InvalidInput."""
    try:
        parts = urlsplit(address)
        given = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        _ = parts.port
    except ValueError as error:
        message = f"a PostgreSQL address that cannot be read ({error}): give postgresql://user@host:port/database."
        raise InvalidInput(message) from error
    schema = given.pop("extmem_schema", "extmem")
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,50}", schema):
        raise InvalidInput(f"extmem_schema {schema!r}: give small letters, digits and '_'.", schema)
    return urlunsplit(parts._replace(query=urlencode(given))), schema
