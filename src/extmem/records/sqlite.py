"""Records in a folder: SQLite, the most tested store there is.

Knows: the tables of records.db. Does not know: how the file is opened and shared (`database.py`), how files
lie beside it (`files.py`); indexes: what they keep in tables of their own lives in the same transactions by `run`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from pathlib import Path
from typing import Any

import apsw

from extmem.errors import ExtmemError, InvalidInput, MemoryFormatError, storage_error
from extmem.records import tables
from extmem.records.base import Mapped, Record, Records, Row, joined, relative
from extmem.records.database import Database
from extmem.records.files import Files
from extmem.records.schema import excise
from extmem.records.values import JSON, NOTHING, Value, check_key, decode, encode

_FIELDS = ", ".join(tables.FIELDS)
_MARKS = ", ".join("?" * len(tables.FIELDS))
_GET = "SELECT kind, value, due FROM records WHERE namespace = ? AND key = ?"
_GET_MANY = "SELECT key, kind, value, due FROM records WHERE namespace = ? AND key IN ({})"
_ADD = f"INSERT INTO records (namespace, {_FIELDS}) VALUES (?, {_MARKS}) ON CONFLICT (namespace, key) DO NOTHING"
_PUT = f"""INSERT OR REPLACE INTO records (id, namespace, born, {_FIELDS}) VALUES
    (?1, ?2, (SELECT coalesce(born, id) FROM records WHERE namespace = ?2 AND key = ?3),
    {", ".join(f"?{n + 3}" for n in range(len(tables.FIELDS)))})"""
_PAGE = f"""SELECT id, {{}} FROM records WHERE namespace = ? AND key {{}} ? AND kind < {NOTHING}
    AND coalesce(born, id) <= ? ORDER BY key LIMIT ?"""
DUMPED = (  # table, columns, order
    ("records", f"id, namespace, born, {_FIELDS}", "ORDER BY id"),
    ("states", f"namespace, {_FIELDS}", "ORDER BY namespace, key, version"),
    (
        "ledger",
        "namespace, kind, name, note",
        "AND kind <> 'keyword' ORDER BY place",
    ),  # their table is not dumped
)
_BELOW = "(namespace = ?1 OR namespace >= ?2 AND namespace < ?3)"  # '/' is followed by '0'
BATCH = 500  # keys asked for in one statement
PAGE_BYTES = 8 << 20  # what a page of records should not exceed


class SqliteRecords(Records):
    """See `Records`; the file is `folder`/records.db. With `drop_log` changes that stand in a damaged
    write-ahead log are given up."""

    def __init__(
        self, folder: Path, namespace: str = "", database: Database | None = None, drop_log: bool = False
    ) -> None:
        self.database = Database(folder, drop_log) if database is None else database
        self.folder, self.namespace, self.place = self.database.folder, namespace, str(folder)
        self._files = Files(self.database)
        if database is None and not self.database.frozen:
            with suppress(ExtmemError):  # somebody is writing, say: the next opening does it
                self._files.sweep()

    @property
    def connection(self) -> apsw.Connection:
        """This thread's connection, in autocommit mode outside of `transaction`."""
        session = self.database.session.own
        if session.depth:
            self.database.check_alive(session)
        connection: apsw.Connection = session.connection
        return connection

    def get(self, key: str) -> Value | None:
        if type(key) is not str:
            key = check_key(key)
        if self.database.frozen:
            self.database.check_frozen()
        try:
            row = self.database.session.execute(_GET, (self.namespace, key)).fetchone()
        except (apsw.Error, UnicodeEncodeError) as error:
            raise self.database.error(error) from error
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
        with self.reading() if len(keys) > BATCH else nullcontext():
            for start in range(0, len(keys), BATCH):
                batch = keys[start : start + BATCH]
                rows = self.run(_GET_MANY.format(",".join("?" * len(batch))), (self.namespace, *batch))
                for key, kind, value, due in rows:
                    if kind < JSON and due is None:
                        found[key] = value
                    elif (valid := _valid(kind, value, due)) is not None:
                        found[key] = valid
        return found

    def find(self, key: str) -> Record | None:
        return self._one("namespace = ? AND key = ?", (self.namespace, check_key(key)))

    def by_ids(self, ids: Sequence[int]) -> dict[int, Record]:
        found: dict[int, Record] = {}
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            # The plus keeps SQLite from reading the whole namespace by its index, as it would for some 20 ids.
            where = f"id IN ({','.join('?' * len(some))}) AND +namespace = ?"
            for number, *row in self.run(f"SELECT id, {_FIELDS} FROM records WHERE {where}", (*some, self.namespace)):
                found[number] = tables.record(number, row)
        return found

    def add_new(self, items: Sequence[tuple[str, object]], like: Record) -> list[tuple[str, object]]:
        given, space = tables.common(like), self.namespace
        plain = [key if type(key) is str and key.isascii() else check_key(key) for key, _ in items]
        rows = [(space, key, *encode(value), *given) for key, (_, value) in zip(plain, items, strict=True)]
        alone = len(rows) == 1 and not self.database.readers  # inside a reading it would wait for its end
        with nullcontext() if alone or self.in_transaction else self.transaction():
            connection = self.connection
            last = self.last_id() if len(rows) > 1 else 0
            before = connection.total_changes()
            try:
                connection.executemany(_ADD, rows)
            except apsw.Error as error:
                raise self.database.error(error) from error
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
            self.database.session.own.erasing = True
            return True

    def keep(self, record: Record) -> None:
        if record.value is None:  # in place of one that has expired
            self.database.session.own.erasing = True
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

    def last_id(self) -> int:
        rows = self.run("SELECT seq FROM sqlite_sequence WHERE name = 'records'")
        return int(rows[0][0]) if rows else 0

    def __len__(self) -> int:
        everything = "SELECT count(*) FROM records WHERE namespace = ?1"
        return int(self.run(f"SELECT ({everything}) - ({everything} AND kind = {NOTHING})", (self.namespace,))[0][0])

    def due(self, now: float) -> list[str]:
        where = (self.namespace, now)
        return [key for (key,) in self.run("SELECT key FROM records WHERE namespace = ? AND due <= ?", where)]

    def overdue(self, now: float) -> list[str]:
        come = "EXISTS (SELECT 1 FROM records INDEXED BY records_due WHERE namespace = space AND due <= ?3)"
        below = self.run(_spaces("records INDEXED BY records_due WHERE due IS NOT NULL", come), (*self._range(), now))
        return [self.namespace] * bool(self.due(now)) + [name for (name,) in below]

    def transaction(self) -> AbstractContextManager[None]:
        return self.database.transaction()

    def reading(self) -> AbstractContextManager[None]:
        return self.database.reading()

    @property
    def in_transaction(self) -> bool:
        return bool(self.database.session.depth)

    def generation(self) -> object:
        session = self.database.session.own
        if session.moment is not None:
            return session.moment
        now = session.serial, self.run("PRAGMA data_version")[0][0], session.connection.total_changes()
        if session.reads:  # nothing changes until it ends
            session.moment = now
        return now

    def within(self, name: str) -> Records:
        return SqliteRecords(self.folder, joined(self.namespace, name), self.database)

    def namespaces(self) -> list[str]:
        return sorted({name for table in ("records", "ledger") for (name,) in self.run(_spaces(table), self._range())})

    def drop(self) -> int:
        with self.transaction():
            where, values = (_BELOW, self._below()) if self.namespace else ("1", ())
            erased = self.run(f"SELECT count(*) FROM records WHERE kind < {NOTHING} AND {where}", values)[0][0]
            for table in ("records", "states", "ledger"):
                self.run(f"DELETE FROM {table} WHERE {where}", values)
            self._files.give_up(self.run(f"DELETE FROM files WHERE {where} RETURNING path", values))
            self.database.session.own.erasing = True
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
        with self.transaction():
            self._files.write(self.namespace, name, content)

    def read_file(self, name: str) -> bytes:
        return self._files.read(self.namespace, name)

    def map_file(self, name: str) -> Mapped:
        return self._files.map(self.namespace, name)

    def files(self, folder: str) -> list[str]:
        return self._files.names(self.namespace, folder)

    def delete_file(self, name: str) -> None:
        with self.transaction():
            self._files.delete(self.namespace, name)

    def dump(self) -> Iterator[tuple[str, Row]]:
        reader, where = self.database.open(), f"WHERE {_BELOW}" if self.namespace else "WHERE 1"
        values = self._below() if self.namespace else ()
        with ExitStack() as opened:
            opened.callback(reader.close)
            try:
                # Nobody writes between the moment that is read and the files' opening.
                with nullcontext() if self.database.frozen else self.transaction():
                    reader.execute("BEGIN; SELECT 1 FROM records LIMIT 1").fetchall()
                    rows = reader.execute(f"SELECT namespace, name, path FROM files {where}", values).fetchall()
                    files = [opened.enter_context(open(self.folder / str(row[2]), "rb")) for row in rows]
                for (full, name, _), file in zip(rows, files, strict=True):
                    yield "files", (relative(self.namespace, str(full)), name, file.read())
                for table, columns, order in DUMPED:
                    at, asked = columns.split(", ").index("namespace"), columns.replace("born", "coalesce(born, id)")
                    for row in reader.execute(f"SELECT {asked} FROM {table} {where} {order}", values):
                        yield table, (*row[:at], relative(self.namespace, row[at]), *row[at + 1 :])
            except apsw.Error as error:
                raise self.database.error(error) from error
            except FileNotFoundError as error:
                cure = "run 'extmem verify --repair' first"
                raise MemoryFormatError(f"{error.filename} is missing: {cure}.", error.filename) from error
            except OSError as error:
                raise storage_error(error, error.filename or self.folder) from error

    def load(self, rows: Iterable[tuple[str, Row]]) -> None:
        columns = {table: named for table, named, _ in DUMPED}
        with self.transaction():
            if self.namespace or any(self.run(f"SELECT 1 FROM {table} LIMIT 1") for table in ("records", "ledger")):
                raise InvalidInput(f"the memory {self.folder} is not empty: give a new one.", self.folder)
            for table, row in rows:
                if table == "files":
                    self._files.write(*row)
                else:
                    self.run(f"INSERT INTO {table} ({columns[table]}) VALUES ({', '.join('?' * len(row))})", row)

    def check(self) -> list[str]:
        try:
            said = [line for (line,) in self.run("PRAGMA integrity_check")]
        except MemoryFormatError as error:
            return [str(error)]
        return [] if said == ["ok"] else [f"{self.database.path}: {line}" for line in said]

    def excise(self) -> list[str]:
        """Takes out what is derived and cannot be read; its names."""
        try:
            return excise(self.connection)
        except apsw.Error as error:
            raise self.database.error(error) from error

    def close(self) -> None:
        self.database.close()

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows of a statement: `Database.run`."""
        return self.database.run(statement, values)

    def run_many(self, statement: str, rows: Iterable[Row]) -> None:
        """A statement once for each of these rows, inside a transaction."""
        try:
            self.connection.executemany(statement, rows)
        except apsw.Error as error:
            raise self.database.error(error) from error

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

    def _range(self) -> Row:
        """Where the names of the namespaces below begin and end; a blob is greater than any text."""
        return (f"{self.namespace}/", f"{self.namespace}0") if self.namespace else ("\0", b"")


def _valid(kind: int, value: Any, due: float | None) -> Value | None:
    """The value, if it is one and its moment has not come."""
    if kind == NOTHING or (due is not None and due <= time.time()):
        return None
    return decode(kind, value)


def _spaces(rows: str, like: str = "1") -> str:
    """The statement that lists the namespaces of those rows, from ?1 to before ?2, by leaping from one to the next."""
    first = f"SELECT min(namespace) FROM {rows} {'AND' if ' WHERE ' in rows else 'WHERE'} namespace"
    return f"""WITH RECURSIVE spaces (space) AS ({first} >= ?1 UNION ALL
        SELECT ({first} > space) FROM spaces WHERE space < ?2) SELECT space FROM spaces WHERE space < ?2 AND {like}"""
