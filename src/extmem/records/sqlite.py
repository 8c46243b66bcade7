"""Records in a folder: SQLite, the most tested store there is.

Knows: one database file, records.db, that many threads and processes may share. Does not know:
indexes; the keyword index asks for `connection` to live in the same transactions.

Durable before acknowledged (WAL, synchronous=FULL); what is deleted is overwritten (secure_delete).
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from extmem.errors import InvalidInput, MemoryFormatError, StorageError, storage_error
from extmem.records.base import Derived, Record, Records, joined
from extmem.records.values import check_key, decode, encode

FORMAT = 1
APPLICATION = 0x6578746D  # "extm", in the header of the file

SCHEMA = """
CREATE TABLE records (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL, key TEXT NOT NULL, kind TEXT NOT NULL, value BLOB NOT NULL,
    UNIQUE (namespace, key)
);
CREATE TABLE ledger (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, note TEXT NOT NULL,
    UNIQUE (namespace, kind, name)
);
"""


class _Core:
    """The file, and each thread's connection to it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "records.db"
        self.local = threading.local()
        self.opened: list[sqlite3.Connection] = []
        self.lock = threading.Lock()
        self.serials = itertools.count()
        if folder.exists() and not folder.is_dir():
            raise InvalidInput(f"{folder} is a file: a memory is a folder; give another path.", folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, folder) from error
        self.connection()

    def connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self.local, "connection", None)
        if connection is None:
            connection = self._open()
            self.local.connection, self.local.depth = connection, 0
            self.local.enlisted, self.local.erased = {}, False
            self.local.serial = next(self.serials)
            with self.lock:
                self.opened.append(connection)
        return connection

    def _open(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
            connection.executescript(
                "PRAGMA busy_timeout=30000; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;PRAGMA secure_delete=ON;"
            )
            self._check_format(connection)
        except sqlite3.DatabaseError as error:
            raise self.error(error) from error
        return connection

    def _check_format(self, connection: sqlite3.Connection) -> None:
        def pragma(name: str) -> int:
            return int(connection.execute(f"PRAGMA {name}").fetchone()[0])

        if pragma("application_id") == 0 and pragma("user_version") == 0:
            connection.execute("BEGIN IMMEDIATE")
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            if not tables:
                for statement in SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id={APPLICATION}")
                connection.execute(f"PRAGMA user_version={FORMAT}")
            connection.execute("COMMIT")
        if pragma("application_id") != APPLICATION:
            raise MemoryFormatError(f"{self.path} is no extmem memory: give another folder.", self.path)
        if pragma("user_version") != FORMAT:
            raise MemoryFormatError(
                f"{self.path} is of format {pragma('user_version')}, this extmem reads {FORMAT}: "
                "use the extmem that wrote it.",
                self.path,
            )

    @contextmanager
    def nested(self) -> Iterator[None]:
        """Counts how deep this thread's transactions are in one another."""
        self.local.depth += 1
        try:
            yield
        finally:
            self.local.depth -= 1

    def overwrite_log(self, connection: sqlite3.Connection) -> None:
        """Moves the write-ahead log into the database and empties it: what was erased stays in it
        otherwise. Where a reader is in the way, the next erasure or the closing does it."""
        try:
            connection.executescript(
                "PRAGMA busy_timeout=500; PRAGMA wal_checkpoint(TRUNCATE); PRAGMA busy_timeout=30000"
            )
        except sqlite3.OperationalError:
            connection.execute("PRAGMA busy_timeout=30000")

    def error(self, error: sqlite3.Error) -> MemoryFormatError | StorageError:
        """What an SQLite error means to a person."""
        said = str(error)
        if "malformed" in said or "not a database" in said:
            return MemoryFormatError(
                f"{self.path} is damaged or no extmem memory ({said}): restore it or give another folder.",
                self.path,
            )
        cure = "wait for the other writer" if "locked" in said else "free or make writable the disk"
        return StorageError(f"{self.path}: {said}; {cure} and run it again. What was saved is intact.", self.path)


class SqliteRecords(Records):
    """See `Records`; the file is `folder`/records.db."""

    folder: Path

    def __init__(self, folder: Path, namespace: str = "", core: _Core | None = None) -> None:
        self.folder, self.namespace = folder, namespace
        self._core = _Core(folder) if core is None else core

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection, in autocommit mode outside of `transaction`."""
        return self._core.connection()

    def put(self, key: str, value: object) -> int:
        check_key(key)
        kind, content = encode(value)
        row = (self.namespace, key, kind, content)
        cursor = self._run("INSERT OR REPLACE INTO records (namespace, key, kind, value) VALUES (?, ?, ?, ?)", row)
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def find(self, key: str) -> Record | None:
        where = (self.namespace, key)
        row = self._run("SELECT id, kind, value FROM records WHERE namespace = ? AND key = ?", where).fetchone()
        return None if row is None else Record(row[0], key, decode(row[1], row[2]))

    def by_id(self, record_id: int) -> Record | None:
        where = (record_id, self.namespace)
        row = self._run("SELECT id, key, kind, value FROM records WHERE id = ? AND namespace = ?", where).fetchone()
        return None if row is None else Record(row[0], row[1], decode(row[2], row[3]))

    def delete(self, key: str) -> int | None:
        with self.transaction():
            record = self.find(key)
            if record is None:
                return None
            self._run("DELETE FROM records WHERE id = ?", (record.id,))
            self._core.local.erased = True
            return record.id

    def keys(self, prefix: str = "") -> Iterator[str]:
        rows = self._run(
            "SELECT key FROM records WHERE namespace = ? AND key >= ? ORDER BY key", (self.namespace, prefix)
        ).fetchall()  # a cursor left open would hold this thread's reads at an old state and block its writes
        return itertools.takewhile(lambda key: key.startswith(prefix), (key for (key,) in rows))

    def records(self) -> Iterator[Record]:
        statement = "SELECT id, key, kind, value FROM records WHERE namespace = ? ORDER BY id"
        rows = self._run(statement, (self.namespace,)).fetchall()  # as in keys
        return (Record(number, key, decode(kind, value)) for number, key, kind, value in rows)

    def __len__(self) -> int:
        return int(self._run("SELECT count(*) FROM records WHERE namespace = ?", (self.namespace,)).fetchone()[0])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        local = self._core.local
        connection = self.connection
        if local.depth:
            with self._core.nested():
                yield
            return
        self._run("BEGIN IMMEDIATE")
        try:
            with self._core.nested():
                yield
                for derived in local.enlisted.values():
                    derived.settle()
            self._run("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            local.serial = next(self._core.serials)  # what was read meanwhile is void
            raise
        finally:
            enlisted, local.enlisted = local.enlisted, {}
            for derived in enlisted.values():
                derived.sweep()
        if local.erased:
            local.erased = False
            self._core.overwrite_log(connection)

    @property
    def in_transaction(self) -> bool:
        return self.connection.in_transaction

    def enlist(self, derived: Derived) -> None:
        connection = self.connection
        assert connection.in_transaction, "enlist belongs inside a transaction"
        self._core.local.enlisted[id(derived)] = derived

    def within(self, name: str) -> Records:
        return SqliteRecords(self.folder, joined(self.namespace, name), self._core)

    def namespaces(self) -> list[str]:
        below = f"{self.namespace}/" if self.namespace else ""
        rows = self._run("SELECT DISTINCT namespace FROM records WHERE namespace <> '' ORDER BY namespace")
        return [name for (name,) in rows if name.startswith(below)]

    def ledger(self, kind: str) -> dict[str, dict[str, Any]]:
        where = (self.namespace, kind)
        rows = self._run("SELECT name, note FROM ledger WHERE namespace = ? AND kind = ? ORDER BY place", where)
        return {name: json.loads(note) for name, note in rows}

    def ledger_put(self, kind: str, name: str, note: dict[str, Any]) -> None:
        row = (self.namespace, kind, name, json.dumps(note))
        self._run("INSERT OR REPLACE INTO ledger (namespace, kind, name, note) VALUES (?, ?, ?, ?)", row)

    def ledger_remove(self, kind: str, name: str) -> None:
        where = (self.namespace, kind, name)
        self._run("DELETE FROM ledger WHERE namespace = ? AND kind = ? AND name = ?", where)

    def generation(self) -> object:
        version = self._run("PRAGMA data_version").fetchone()[0]
        return self._core.local.serial, version, self.connection.total_changes

    def close(self) -> None:
        with self._core.lock:
            for connection in self._core.opened:
                connection.close()
            self._core.opened.clear()
            self._core.local = threading.local()

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        try:
            return self.connection.execute(statement, values)
        except sqlite3.DatabaseError as error:
            raise self._core.error(error) from error
