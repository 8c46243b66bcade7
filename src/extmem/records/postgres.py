"""Records in PostgreSQL, shared by many machines.

Knows: the tables. Does not know: connections, transactions, errors (`server.py`).

Text lies there as the bytes of its UTF-8, which sort as its characters do and may hold NUL. Keys are
looked up by their SHA-256 and walked in the order of their beginnings, for an index takes no long keys.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from psycopg import sql

from extmem.errors import InvalidInput, MemoryFormatError
from extmem.records import tables
from extmem.records.base import Mapped, Record, Records, Row, joined, relative
from extmem.records.server import Server
from extmem.records.values import BYTES, NOTHING, Value, check_key, decode, encode

_FIELDS = ", ".join(tables.FIELDS)
_MARKS = ", ".join(["%s"] * len(tables.FIELDS))
_AT = "namespace = %s AND sha256(key) = %s"
_BELOW = "(namespace = %s OR namespace >= %s AND namespace < %s)"
_PUT = f"""INSERT INTO records (id, namespace, {_FIELDS}) VALUES (coalesce(%s, nextval('ids')), %s, {_MARKS})
    ON CONFLICT (namespace, sha256(key)) DO UPDATE SET id = excluded.id,
    born = coalesce(records.born, records.id), {", ".join(f"{name} = excluded.{name}" for name in tables.FIELDS)}
    RETURNING id"""
_PAGE = f"""SELECT id, {{}} FROM records WHERE namespace = %s AND substring(key, 1, 512) >= substring(%s, 1, 512)
    AND key {{}} %s AND kind < {NOTHING} AND coalesce(born, id) <= %s ORDER BY substring(key, 1, 512), key LIMIT %s"""
_DUMPED = (
    ("records", f"namespace, id, coalesce(born, id), {_FIELDS}", "id"),
    ("states", f"namespace, {_FIELDS}", "namespace, key, version"),
    ("ledger", "namespace, kind, name, note", "place"),  # but for the keyword index, which is derived anew
    ("files", "namespace, name, content", "namespace, name"),
)
PAGE_BYTES = 8 << 20


class PostgresRecords(Records):
    """See `Records`; everything lies in one schema of the database that the address names."""

    def __init__(self, address: str, namespace: str = "", server: Server | None = None) -> None:
        self.address, self.namespace = address, namespace
        self.server = Server(address) if server is None else server
        self._space, self.place = namespace.encode(), f"postgresql://{self.server.name}"

    def get(self, key: str) -> Value | None:
        rows = self.server.run(f"SELECT kind, value, due FROM records WHERE {_AT}", self._at(key))
        return _valid(*rows[0]) if rows else None

    def get_many(self, keys: Sequence[str]) -> dict[str, Value]:
        hashes = [self._at(key)[1] for key in keys]
        statement = "SELECT key, kind, value, due FROM records WHERE namespace = %s AND sha256(key) = ANY(%s)"
        rows = self.server.run(statement, (self._space, hashes))
        found = ((key.decode(), _valid(kind, value, due)) for key, kind, value, due in rows)
        return {key: value for key, value in found if value is not None}

    def find(self, key: str) -> Record | None:
        return self._one(_AT, self._at(key))

    def by_ids(self, ids: Sequence[int]) -> dict[int, Record]:
        where = "id = ANY(%s) AND namespace = %s"
        rows = self.server.run(f"SELECT id, {_FIELDS} FROM records WHERE {where}", (list(ids), self._space))
        return {row[0]: _record(row[0], row[1:]) for row in rows}

    def add_new(self, items: Sequence[tuple[str, object]], like: Record) -> list[tuple[str, object]]:
        stored = [(_bytes(check_key(key)), *encode(value)) for key, value in items]
        if not stored:
            return []
        keys, kinds, values = (list(column) for column in zip(*stored, strict=True))
        given = _fields(like._replace(value=""))[3:]
        marks = ", ".join(f"%s::{kind}" for kind in ("int8", "float8", "float8", "text", "bytea", *["float8"] * 5))
        statement = f"""INSERT INTO records (id, namespace, {_FIELDS})
            SELECT nextval('ids'), %s, k, t, v, {marks} FROM unnest(%s::bytea[], %s::int2[], %s::bytea[]) AS u (k, t, v)
            ON CONFLICT DO NOTHING RETURNING key"""
        row = (self._space, *given, keys, kinds, [_bytes(value) for value in values])
        added = {key for (key,) in self.server.write(statement, row)}
        return [item for item, key in zip(items, keys, strict=True) if key not in added]

    def put(self, record: Record) -> Record:
        row = (record.id or None, self._space, *_fields(record))
        return record._replace(id=self.server.write(_PUT, row)[0][0])

    def delete(self, key: str) -> bool:
        with nullcontext() if self.in_transaction else self.transaction():
            there = self.server.write(f"DELETE FROM records WHERE {_AT} RETURNING id", self._at(key))
            self.server.write(f"DELETE FROM states WHERE {_AT}", self._at(key))
            return bool(there)

    def keep(self, record: Record) -> None:
        changed = ", ".join(f"{name} = excluded.{name}" for name in tables.FIELDS)
        self.server.write(
            f"INSERT INTO states (namespace, {_FIELDS}) VALUES (%s, {_MARKS}) "
            f"ON CONFLICT (namespace, sha256(key), version) DO UPDATE SET {changed}",
            (self._space, *_fields(record)),
        )

    def states(self, key: str) -> list[Record]:
        rows = self.server.run(f"SELECT {_FIELDS} FROM states WHERE {_AT} ORDER BY version", self._at(key))
        return [_record(0, row) for row in rows]

    def keys(self, prefix: str = "", after: str | None = None) -> Iterator[str]:
        return (row[1].decode() for row in self._pages("key", prefix, after))

    def iterate(self, prefix: str = "", after: str | None = None) -> Iterator[Record]:
        return (_record(row[0], row[1:]) for row in self._pages(_FIELDS, prefix, after))

    def waiting(self) -> list[str]:
        rows = self.server.run(f"SELECT key FROM records WHERE namespace = %s AND kind = {NOTHING}", [self._space])
        return [key.decode() for (key,) in rows]

    def since(self, record_id: int, limit: int) -> list[Record]:
        where = f"id > %s AND namespace = %s AND kind < {NOTHING} ORDER BY id LIMIT %s"
        rows = self.server.run(f"SELECT id, {_FIELDS} FROM records WHERE {where}", (record_id, self._space, limit))
        return [_record(row[0], row[1:]) for row in rows]

    def ids(self) -> set[int]:
        where = f"namespace = %s AND kind < {NOTHING}"
        return {number for (number,) in self.server.run(f"SELECT id FROM records WHERE {where}", [self._space])}

    def last_id(self) -> int:
        return int(self.server.run("SELECT coalesce(max(id), 0) FROM records")[0][0])  # of what is committed

    def __len__(self) -> int:
        where = f"namespace = %s AND kind < {NOTHING}"
        return int(self.server.run(f"SELECT count(*) FROM records WHERE {where}", [self._space])[0][0])

    def due(self, now: float) -> list[str]:
        rows = self.server.run("SELECT key FROM records WHERE namespace = %s AND due <= %s", (self._space, now))
        return [key.decode() for (key,) in rows]

    def overdue(self, now: float) -> list[str]:
        where, values = (_BELOW, self._below()) if self.namespace else ("true", ())
        statement = f"SELECT DISTINCT namespace FROM records WHERE due <= %s AND {where}"
        return sorted(name.decode() for (name,) in self.server.run(statement, (now, *values)))

    def transaction(self) -> AbstractContextManager[None]:
        return self.server.transaction()

    @contextmanager
    def reading(self) -> Iterator[None]:
        joins = self.server.session.connection is not None
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        with nullcontext() if joins else self.server.bound(begin, "SELECT generation FROM extmem"):
            yield

    @property
    def in_transaction(self) -> bool:
        return bool(self.server.session.depth)

    def generation(self) -> object:
        return self.server.run("SELECT generation FROM extmem")[0][0], self.server.session.serial

    def within(self, name: str) -> Records:
        return PostgresRecords(self.address, joined(self.namespace, name), self.server)

    def namespaces(self) -> list[str]:
        where, values = ("namespace <> %s", (b"",)) if not self.namespace else (_BELOW, self._below())
        tables_ = (f"SELECT namespace FROM {table} WHERE {where}" for table in ("records", "ledger"))
        names = sorted(row[0].decode() for row in self.server.run(" UNION ".join(tables_), values * 2))
        return [name for name in names if name != self.namespace]

    def drop(self) -> int:
        where, values = (_BELOW, self._below()) if self.namespace else ("true", ())
        with self.transaction():
            gone = self.server.write(f"DELETE FROM records WHERE {where} RETURNING kind", values)
            for table in ("states", "ledger", "files"):
                self.server.write(f"DELETE FROM {table} WHERE {where}", values)
            return sum(kind != NOTHING for (kind,) in gone)

    def ledger(self, kind: str) -> dict[str, dict[str, Any]]:
        statement = "SELECT name, note FROM ledger WHERE namespace = %s AND kind = %s ORDER BY place"
        return {name: json.loads(note) for name, note in self.server.run(statement, (self._space, kind))}

    def ledger_put(self, kind: str, name: str, note: dict[str, Any]) -> None:
        self.server.write(
            "INSERT INTO ledger (namespace, kind, name, note) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT (namespace, kind, name) DO UPDATE SET note = excluded.note, place = excluded.place",
            (self._space, kind, name, json.dumps(note)),
        )

    def ledger_remove(self, kind: str, name: str) -> None:
        statement = "DELETE FROM ledger WHERE namespace = %s AND kind = %s AND name = %s"
        self.server.write(statement, (self._space, kind, name))

    def write_file(self, name: str, content: bytes) -> None:
        statement = "INSERT INTO files VALUES (%s, %s, %s) ON CONFLICT (namespace, name) DO UPDATE SET content = %s"
        self.server.write(statement, (self._space, name, content, content))

    def read_file(self, name: str) -> bytes:
        rows = self.server.run("SELECT content FROM files WHERE namespace = %s AND name = %s", (self._space, name))
        if not rows:
            raise MemoryFormatError(f"the file {name} of this memory is missing.", name)
        return bytes(rows[0][0])

    def map_file(self, name: str) -> Mapped:
        return self.read_file(name)

    def files(self, folder: str) -> list[str]:
        where = "namespace = %s AND starts_with(name, %s) ORDER BY name"
        return [
            name for (name,) in self.server.run(f"SELECT name FROM files WHERE {where}", (self._space, f"{folder}/"))
        ]

    def delete_file(self, name: str) -> None:
        self.server.write("DELETE FROM files WHERE namespace = %s AND name = %s", (self._space, name))

    def dump(self) -> Iterator[tuple[str, Row]]:
        where, values = (_BELOW, self._below()) if self.namespace else ("true", ())
        with self.server.pool.connection() as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            for table, columns, order in _DUMPED:
                kept = f"{where} AND kind <> 'keyword'" if table == "ledger" else where
                with connection.cursor(name="dump") as cursor:
                    cursor.itersize = 500
                    cursor.execute(sql.SQL(f"SELECT {columns} FROM {table} WHERE {kept} ORDER BY {order}"), values)
                    for space, *row in cursor:
                        name = relative(self.namespace, space.decode())
                        if table == "records":
                            yield table, (row[0], name, row[1], *_text(row[2:]))
                        else:
                            yield table, (name, *(_text(row) if table == "states" else row))

    def load(self, rows: Iterable[tuple[str, Row]]) -> None:
        columns = {
            "records": f"id, namespace, born, {_FIELDS}", "states": f"namespace, {_FIELDS}",
            "ledger": "namespace, kind, name, note", "files": "namespace, name, content",
        }  # fmt: skip
        with self.transaction():
            if self.namespace or self.namespaces() or len(self) or self.server.run("SELECT 1 FROM ledger LIMIT 1"):
                raise InvalidInput(f"the memory {self.server.name} is not empty: give a new one.", self.server.name)
            for table, row in rows:
                at = 1 if table == "records" else 0
                head, tail = (row[:3], row[3:]) if table == "records" else (row[:1], row[1:])
                if table in ("records", "states"):
                    tail = _binary(tail)
                values = (*head[:at], head[at].encode(), *head[at + 1 :], *tail)
                marks = ", ".join(["%s"] * len(values))
                self.server.run(f"INSERT INTO {table} ({columns[table]}) VALUES ({marks})", values)
            self.server.write(
                "SELECT setval('ids', greatest((SELECT max(id) FROM records), (SELECT last_value FROM ids)))"
            )

    def check(self) -> list[str]:
        return []

    def close(self) -> None:
        self.server.close()

    def _at(self, key: str) -> tuple[bytes, bytes]:
        return self._space, hashlib.sha256(_bytes(check_key(key))).digest()

    def _below(self) -> tuple[bytes, bytes, bytes]:
        return self._space, self._space + b"/", self._space + b"0"

    def _one(self, where: str, values: Sequence[Any]) -> Record | None:
        rows = self.server.run(f"SELECT id, {_FIELDS} FROM records WHERE {where}", values)
        return _record(rows[0][0], rows[0][1:]) if rows else None

    def _pages(self, columns: str, prefix: str, after: str | None) -> Iterator[Row]:
        """Rows in key order, a page at a time, of keys that were there when it began."""
        begin = _bytes(check_key(prefix))
        relation, start = (">=", begin) if after is None or after < prefix else (">", _bytes(check_key(after)))
        last, limit = self.last_id(), 64
        while True:
            values = (self._space, start, start, last, limit)
            page = self.server.run(_PAGE.format(columns, relation), values)
            for row in page:
                if not row[1].startswith(begin):
                    return
                yield row
            if len(page) < limit:
                return
            relation, start = ">", page[-1][1]
            size = sum(len(row[3]) for row in page) if len(page[0]) > 3 else 0
            limit = max(1, min(1024, 2 * limit, limit * PAGE_BYTES // max(size, 1)))


def _bytes(text: str | bytes | None) -> Any:
    return text.encode() if isinstance(text, str) else text


def _binary(row: Sequence[Any]) -> Row:
    """FIELDS as they lie there."""
    key, kind, value, version, created, updated, metadata, author, *rest = row
    return _bytes(key), kind, _bytes(value), version, created, updated, metadata, _bytes(author), *rest


def _text(row: Sequence[Any]) -> Row:
    """FIELDS as `tables` has them."""
    key, kind, value, version, created, updated, metadata, author, *rest = row
    value = value if kind == BYTES else value.decode()
    return key.decode(), kind, value, version, created, updated, metadata, author and author.decode(), *rest


def _fields(record: Record) -> Row:
    return _binary(tables.fields(record))


def _record(number: int, row: Sequence[Any]) -> Record:
    return tables.record(number, _text(row))


def _valid(kind: int, value: bytes, due: float | None) -> Value | None:
    if kind == NOTHING or (due is not None and due <= time.time()):
        return None
    return decode(kind, value)
