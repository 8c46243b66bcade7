"""Records in a folder: SQLite, the most tested store there is.

Knows: the tables of records.db, and the files beside it. Does not know: how the file is opened and
shared (`database.py`); indexes: the keyword index asks for `connection` to live in the same transactions.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from extmem.durable import write_durably
from extmem.errors import InvalidInput, MemoryFormatError, storage_error
from extmem.records import tables
from extmem.records.base import Derived, Record, Records, Row, joined, relative, short_name
from extmem.records.database import Database
from extmem.records.schema import excise
from extmem.records.values import JSON, NOTHING, Value, check_key, decode, encode

_FIELDS = ", ".join(tables.FIELDS)
_MARKS = ", ".join("?" * len(tables.FIELDS))
_GET = "SELECT kind, value, due FROM records WHERE namespace = ? AND key = ?"
_GET_MANY = "SELECT key, kind, value, due FROM records WHERE namespace = ? AND key IN ({})"
_ADD = f"INSERT OR IGNORE INTO records (namespace, {_FIELDS}) VALUES (?, {_MARKS})"
_PUT = f"""INSERT OR REPLACE INTO records (id, namespace, born, {_FIELDS}) VALUES
    (?1, ?2, (SELECT coalesce(born, id) FROM records WHERE namespace = ?2 AND key = ?3),
    {", ".join(f"?{n + 3}" for n in range(len(tables.FIELDS)))})"""
_PAGE = f"""SELECT id, {{}} FROM records WHERE namespace = ? AND key {{}} ? AND kind < {NOTHING}
    AND coalesce(born, id) <= ? ORDER BY key LIMIT ?"""
_DUMPED = (  # table, columns, order
    ("records", f"id, namespace, born, {_FIELDS}", "ORDER BY id"),
    ("states", f"namespace, {_FIELDS}", "ORDER BY namespace, key, version"),
    (
        "ledger",
        "namespace, kind, name, note",
        "AND kind NOT IN ('keyword', 'dropped') ORDER BY place",
    ),  # their table, files are not dumped
)
_BELOW = "(namespace = ?1 OR namespace >= ?2 AND namespace < ?3)"  # '/' is followed by '0'
BATCH = 500  # keys asked for in one statement
PAGE_BYTES = 8 << 20  # what a page of records should not exceed


@dataclass(frozen=True)
class _Dropped:
    """Files of a namespace that was dropped: the ledger names them until they are deleted, by whoever comes
    first, the one that dropped it or the next to open the memory."""

    root: SqliteRecords

    def settle(self) -> None:
        """Nothing: a rolled back transaction keeps its files."""

    def sweep(self) -> None:
        for name, note in self.root.ledger("dropped").items():
            for file in note["files"]:
                (self.root.folder / file).unlink(missing_ok=True)
            self.root.ledger_remove("dropped", name)


class SqliteRecords(Records):
    """See `Records`; the file is `folder`/records.db. With `drop_log` changes that stand in a damaged
    write-ahead log are given up."""

    def __init__(
        self, folder: Path, namespace: str = "", database: Database | None = None, drop_log: bool = False
    ) -> None:
        self.folder, self.namespace = folder, namespace
        self.database = Database(folder, drop_log) if database is None else database
        if database is None and not self.database.frozen:
            _Dropped(self).sweep()

    @property
    def connection(self) -> apsw.Connection:
        """This thread's connection, in autocommit mode outside of `transaction`."""
        connection: apsw.Connection = self.database.session.connection
        return connection

    def get(self, key: str) -> Value | None:
        if type(key) is not str:
            key = check_key(key)
        try:
            row = self.database.session.execute(_GET, (self.namespace, key)).fetchone()
        except (apsw.Error, UnicodeEncodeError) as error:
            raise self._error(error, key) from error
        if row is None:
            return None
        kind, value, due = row
        if kind < JSON and due is None:
            of_text: Value = value
            return of_text
        return _valid(kind, value, due)

    def get_many(self, keys: Sequence[str]) -> dict[str, Value]:
        found: dict[str, Value] = {}
        keys = [key if type(key) is str else check_key(key) for key in keys]
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            for key, kind, value, due in self.run(
                _GET_MANY.format(",".join("?" * len(batch))), (self.namespace, *batch)
            ):
                if kind < JSON and due is None:
                    found[key] = value
                elif (valid := _valid(kind, value, due)) is not None:
                    found[key] = valid
        return found

    def find(self, key: str) -> Record | None:
        return self._one("namespace = ? AND key = ?", (self.namespace, check_key(key)))

    def by_id(self, record_id: int) -> Record | None:
        return self._one("id = ? AND namespace = ?", (record_id, self.namespace))

    def add_new(self, items: Sequence[tuple[str, object]], like: Record) -> list[tuple[str, object]]:
        given, space = tables.common(like), self.namespace
        plain = [key if type(key) is str and key.isascii() else check_key(key) for key, _ in items]
        rows = [(space, key, *encode(value), *given) for key, (_, value) in zip(plain, items, strict=True)]
        with self.transaction() if len(rows) > 1 else nullcontext():
            connection = self.connection
            last = self.last_id() if len(rows) > 1 else 0
            before = connection.total_changes()
            try:
                connection.executemany(_ADD, rows)
            except apsw.Error as error:
                raise self._error(error) from error
            if connection.total_changes() - before == len(rows):
                return []
            return [item for item in items if len(rows) == 1 or self._is_older(item[0], last)]

    def put(self, record: Record) -> Record:
        self.run(_PUT, (record.id or None, self.namespace, *tables.fields(record)))
        return record if record.id else record._replace(id=self.connection.last_insert_rowid())

    def delete(self, key: str) -> bool:
        where = (self.namespace, check_key(key))
        with self.transaction():
            self.run("DELETE FROM records WHERE namespace = ? AND key = ?", where)
            if not self.connection.changes():
                return False
            self.run("DELETE FROM states WHERE namespace = ? AND key = ?", where)
            self.database.session.own.erased = True
            return True

    def keep(self, record: Record) -> None:
        row = (self.namespace, *tables.fields(record))
        self.run(f"INSERT OR REPLACE INTO states (namespace, {_FIELDS}) VALUES (?, {_MARKS})", row)

    def states(self, key: str) -> list[Record]:
        where = (self.namespace, check_key(key))
        rows = self.run(f"SELECT {_FIELDS} FROM states WHERE namespace = ? AND key = ? ORDER BY version", where)
        return [tables.record(0, row) for row in rows]

    def keys(self, prefix: str = "", after: str | None = None) -> Iterator[str]:
        return (key for _, key in self._pages("key", prefix, after))

    def iterate(self, prefix: str = "", after: str | None = None) -> Iterator[Record]:
        return (tables.record(number, row) for number, *row in self._pages(_FIELDS, prefix, after))

    def waiting(self) -> list[str]:
        rows = self.run(f"SELECT key FROM records WHERE namespace = ? AND kind = {NOTHING}", (self.namespace,))
        return [key for (key,) in rows]

    def since(self, record_id: int, limit: int) -> list[Record]:
        # The + keeps SQLite from walking through the namespace's keys instead of the newest ids.
        where = f"id > ? AND +namespace = ? AND kind < {NOTHING} ORDER BY id LIMIT ?"
        rows = self.run(f"SELECT id, {_FIELDS} FROM records WHERE {where}", (record_id, self.namespace, limit))
        return [tables.record(number, row) for number, *row in rows]

    def ids(self) -> set[int]:
        statement = f"SELECT id FROM records WHERE namespace = ? AND kind < {NOTHING}"
        return {number for (number,) in self.run(statement, (self.namespace,))}

    def __len__(self) -> int:
        everything = "SELECT count(*) FROM records WHERE namespace = ?1"
        return int(self.run(f"SELECT ({everything}) - ({everything} AND kind = {NOTHING})", (self.namespace,))[0][0])

    def due(self, now: float) -> list[str]:
        where = (self.namespace, now)
        return [key for (key,) in self.run("SELECT key FROM records WHERE namespace = ? AND due <= ?", where)]

    def transaction(self) -> AbstractContextManager[None]:
        return self.database.transaction()

    def reading(self) -> AbstractContextManager[None]:
        return self.database.reading()

    @property
    def in_transaction(self) -> bool:
        return bool(self.database.session.depth)

    def enlist(self, derived: Derived) -> None:
        assert self.in_transaction, "enlist belongs inside a transaction"
        self.database.session.enlisted[id(derived)] = derived

    def generation(self) -> object:
        session = self.database.session.own
        return session.serial, self.run("PRAGMA data_version")[0][0], session.connection.total_changes()

    def within(self, name: str) -> Records:
        return SqliteRecords(self.folder, joined(self.namespace, name), self.database)

    def namespaces(self) -> list[str]:
        where = "WHERE namespace <> ?1" + (f" AND {_BELOW}" if self.namespace else "")
        return [name for (name,) in self.run(_spaces(where), self._below() if self.namespace else ("",))]

    def drop(self) -> int:
        with self.transaction():
            paths = [path for full in [self.namespace, *self.namespaces()] for _, path in self._files(full)]
            files = [path.relative_to(self.folder).as_posix() for path in paths]
            where, values = (_BELOW, self._below()) if self.namespace else ("1", ())
            erased = self.run(f"SELECT count(*) FROM records WHERE kind < {NOTHING} AND {where}", values)[0][0]
            for table in ("records", "states", "ledger"):
                self.run(f"DELETE FROM {table} WHERE {where}", values)
            self.database.session.own.erased = True
            if files:
                root = SqliteRecords(self.folder, "", self.database)
                root.ledger_put("dropped", uuid.uuid4().hex, {"files": files})
                self.enlist(_Dropped(root))
            return int(erased)

    def ledger(self, kind: str) -> dict[str, dict[str, Any]]:
        where = (self.namespace, kind)
        rows = self.run("SELECT name, note FROM ledger WHERE namespace = ? AND kind = ? ORDER BY place", where)
        return {name: json.loads(note) for name, note in rows}

    def ledger_put(self, kind: str, name: str, note: dict[str, Any]) -> None:
        row = (self.namespace, kind, name, json.dumps(note))
        self.run("INSERT OR REPLACE INTO ledger (namespace, kind, name, note) VALUES (?, ?, ?, ?)", row)

    def ledger_remove(self, kind: str, name: str) -> None:
        where = (self.namespace, kind, name)
        self.run("DELETE FROM ledger WHERE namespace = ? AND kind = ? AND name = ?", where)

    def write_file(self, name: str, content: bytes) -> None:
        write_durably(self._path(name), content)

    def read_file(self, name: str) -> bytes:
        path = self._path(name)
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise MemoryFormatError(f"{path} is missing.", path) from error
        except OSError as error:
            raise storage_error(error, path) from error

    def files(self, folder: str) -> list[str]:
        return sorted(f"{folder}/{path.name}" for path in self._path(folder).glob("*") if path.is_file())

    def delete_file(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def dump(self) -> Iterator[tuple[str, Row]]:
        reader, where = self.database.open(), f"WHERE {_BELOW}" if self.namespace else "WHERE 1"
        values = self._below() if self.namespace else ()
        with ExitStack() as opened:
            opened.callback(reader.close)
            try:
                # Nobody writes between the moment that is read and the files' opening.
                with nullcontext() if self.database.frozen else self.transaction():
                    reader.execute("BEGIN; SELECT 1 FROM records LIMIT 1").fetchall()
                    files = [
                        (full, name, opened.enter_context(open(path, "rb")))
                        for full in [self.namespace, *self.namespaces()]
                        for name, path in self._files(full)
                    ]
                for full, name, file in files:
                    yield "files", (relative(self.namespace, full), name, file.read())
                for table, columns, order in _DUMPED:
                    at, asked = columns.split(", ").index("namespace"), columns.replace("born", "coalesce(born, id)")
                    for row in reader.execute(f"SELECT {asked} FROM {table} {where} {order}", values):
                        yield table, (*row[:at], relative(self.namespace, row[at]), *row[at + 1 :])
            except apsw.Error as error:
                raise self._error(error) from error

    def load(self, rows: Iterable[tuple[str, Row]]) -> None:
        columns = {table: named for table, named, _ in _DUMPED}
        with self.transaction():
            if self.namespace or self.run(_spaces("") + " LIMIT 1"):
                raise InvalidInput(f"the memory {self.folder} is not empty: give a new one.", self.folder)
            for table, row in rows:
                if table == "files":
                    SqliteRecords(self.folder, row[0], self.database).write_file(row[1], row[2])
                else:
                    self.run(f"INSERT INTO {table} ({columns[table]}) VALUES ({', '.join('?' * len(row))})", row)

    def check(self) -> list[str]:
        try:
            said = [line for (line,) in self.run("PRAGMA integrity_check")]
        except MemoryFormatError as error:
            return [str(error)]
        return [] if said == ["ok"] else [f"{self.database.path}: {line}" for line in said]

    def salvage(self) -> None:
        """Takes out what is derived and cannot be read."""
        try:
            excise(self.connection)
        except apsw.Error as error:
            raise self._error(error) from error

    def close(self) -> None:
        self.database.close()

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows of a statement: a cursor left open would hold this thread's reads at an old state
        and block its writes. Raises MemoryFormatError, StorageError, InvalidInput."""
        try:
            rows: list[Row] = self.connection.execute(statement, values).fetchall()
            return rows
        except (apsw.Error, UnicodeEncodeError) as error:
            raise self._error(error) from error

    def last_id(self) -> int:
        """The greatest id that was ever given."""
        rows = self.run("SELECT seq FROM sqlite_sequence WHERE name = 'records'")
        return int(rows[0][0]) if rows else 0

    def _error(self, error: Exception, subject: object = None) -> Exception:
        if isinstance(error, apsw.Error):
            return self.database.error(error)
        return InvalidInput("half a surrogate pair is no text: give whole characters.", subject)

    def _one(self, where: str, values: Row) -> Record | None:
        rows = self.run(f"SELECT id, {_FIELDS} FROM records WHERE {where}", values)
        return tables.record(rows[0][0], rows[0][1:]) if rows else None

    def _pages(self, columns: str, prefix: str, after: str | None) -> Iterator[Row]:
        """Rows in key order, a page at a time, of keys that were there when it began."""
        check_key(prefix)
        relation, start = (">=", prefix) if after is None or after < prefix else (">", check_key(after))
        last, limit = self.last_id(), 64
        while True:
            where = (self.namespace, start, last, limit)
            page = self.run(_PAGE.format(columns, relation), where)
            for row in page:
                if not row[1].startswith(prefix):
                    return
                yield row
            if len(page) < limit:
                return
            relation, start = ">", page[-1][1]
            size = sum(len(row[3]) for row in page) if len(page[0]) > 3 else 0
            limit = max(1, min(1024, 2 * limit, limit * PAGE_BYTES // max(size, 1)))

    def _is_older(self, key: str, last: int) -> bool:
        return bool(self.run("SELECT 1 FROM records WHERE namespace = ? AND key = ? AND id <= ?",
                             (self.namespace, key, last)))  # fmt: skip

    def _below(self) -> Row:
        return self.namespace, f"{self.namespace}/", f"{self.namespace}0"

    def _path(self, name: str) -> Path:
        assert re.fullmatch(r"datastores(/\w[\w.-]*)+", name, re.ASCII), name
        top = self.folder / "namespaces" / short_name(self.namespace) if self.namespace else self.folder
        return top / name

    def _files(self, namespace: str) -> Iterator[tuple[str, Path]]:
        """(name, path) of every file that indexes keep for a namespace."""
        top = self.folder / "namespaces" / short_name(namespace) if namespace else self.folder
        for path in sorted((top / "datastores").rglob("*")):
            if path.is_file():
                yield path.relative_to(top).as_posix(), path


def _valid(kind: int, value: Any, due: float | None) -> Value | None:
    """The value, if it is one and its moment has not come."""
    if kind == NOTHING or (due is not None and due <= time.time()):
        return None
    return decode(kind, value)


def _spaces(where: str) -> str:
    """The statement that lists the namespaces that hold anything."""
    return f"SELECT namespace FROM records {where} UNION SELECT namespace FROM ledger {where} ORDER BY 1"
