"""Records in RAM: dictionaries, gone with the process.

Knows: dictionaries. Does not know: files.
"""

from __future__ import annotations

import bisect
import heapq
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from extmem.errors import InvalidInput, MemoryFormatError, StorageError
from extmem.records import tables
from extmem.records.base import Mapped, Record, Records, Row, joined, relative
from extmem.records.values import JSON, NOTHING, Value, check_key, decode, encode

PATIENCE = 30  # seconds to wait for another thread's transaction
Stored = tuple[int, Any, "float | None", int, int, Row]  # kind, content, due, id, born, what tables.common gives


@dataclass
class _Space:
    """What one namespace holds."""

    rows: dict[str, Stored] = field(default_factory=dict)
    states: dict[str, dict[int, Row]] = field(default_factory=dict)
    ledger: dict[str, dict[str, str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    timed: bool = False  # whether any row ever had a moment that comes
    coming: list[tuple[float, str]] = field(default_factory=list)  # a heap of these moments, and of some that are gone

    def __bool__(self) -> bool:
        return bool(self.rows or self.ledger or self.files)


@dataclass
class _Core:
    """What all namespaces of one memory share. Only who holds the lock changes anything."""

    spaces: dict[str, _Space] = field(default_factory=dict)
    key_of: dict[int, tuple[str, str]] = field(default_factory=dict)
    last_id: int = 0
    changes: int = 0
    depth: int = 0
    writer: int | None = None  # the thread whose transaction is open
    undo: list[Callable[[], object]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    @contextmanager
    def held(self) -> Iterator[None]:
        """The lock: waits until another thread's transaction has ended, for what it does is not to be
        seen before. Raises StorageError after PATIENCE seconds."""
        if not self.lock.acquire(timeout=PATIENCE):
            raise StorageError("another thread's transaction is open for long: wait for it, or end it first.")
        try:
            yield
        finally:
            self.lock.release()

    def set(self, place: MutableMapping[Any, Any], name: object, new: object) -> None:
        """Gives `place[name]` a value, or takes it away where that is None; a transaction can undo it."""
        old = place.get(name)
        self.changes += 1  # before the change: `get` looks at it after its own look
        if new is None:
            place.pop(name, None)
        else:
            place[name] = new
        self.undo.append(lambda: place.pop(name, None) if old is None else place.__setitem__(name, old))


class RamRecords(Records):
    """See `Records`. Values are kept encoded, so that a caller's list cannot change a record."""

    def __init__(self, namespace: str = "", core: _Core | None = None) -> None:
        self.namespace, self.place = namespace, "in RAM"
        self._core = _Core() if core is None else core
        with self._core.lock:
            self._space = self._core.spaces.setdefault(namespace, _Space())

    def get(self, key: str) -> Value | None:
        if type(key) is not str:
            key = check_key(key)
        core = self._core
        changes = core.changes  # first: what a transaction has changed, and may undo, is not to be seen
        quiet = core.writer is None
        row = self._space.rows.get(key) if quiet else None
        if not quiet or core.changes != changes:
            with self.reading():
                row = self._space.rows.get(key)
        if row is None:
            check_key(key)
            return None
        kind, content, due, _, _, _ = row
        if kind >= JSON or due is not None:
            if kind == NOTHING or (due is not None and due <= time.time()):
                return None
            return decode(kind, content)
        value: Value = content
        return value

    def get_many(self, keys: Sequence[str]) -> dict[str, Value]:
        found: dict[str, Value] = {}
        with self.reading():
            row_of = self._space.rows.get
            for key in keys:
                row = row_of(key) if type(key) is str else row_of(check_key(key))
                if row is None:
                    check_key(key)
                elif row[0] < JSON and row[2] is None:
                    found[key] = row[1]
                elif (value := self.get(key)) is not None:
                    found[key] = value
        return found

    def find(self, key: str) -> Record | None:
        with self.reading():
            stored = self._space.rows.get(check_key(key))
        return None if stored is None else _record(key, stored)

    def by_ids(self, ids: Sequence[int]) -> dict[int, Record]:
        with self.reading():
            named = (self._core.key_of.get(number, (None, "")) for number in ids)
            found = (self.find(key) for namespace, key in named if namespace == self.namespace)
            return {record.id: record for record in found if record is not None}

    def add_new(self, items: Sequence[tuple[str, object]], like: Record) -> list[tuple[str, object]]:
        core, rows, given, due = self._core, self._space.rows, tables.common(like), like.due
        stored = [(check_key(key), *encode(value)) for key, value in items]
        with self.transaction():
            new, first = [row for row in stored if row[0] not in rows], core.last_id + 1
            core.last_id += len(new)
            core.changes += 1
            core.undo.append(lambda: self._take_away(row[0] for row in new))
            self._space.timed |= due is not None
            if due is not None:
                for row in new:
                    heapq.heappush(self._space.coming, (due, row[0]))
            for number, (key, kind, content) in enumerate(new, first):
                rows[key] = (kind, content, due, number, number, given)
                core.key_of[number] = (self.namespace, key)
            there = {row[0] for row in new}
            return [] if len(new) == len(items) else [item for item in items if item[0] not in there]

    def put(self, record: Record) -> Record:
        key, kind, content, *given = tables.fields(record)
        with self.transaction():
            old = self._space.rows.get(key)
            born = 0 if old is None else old[4]
            number = self._set(key, (kind, content), record.due, record.id, born, tuple(given))
        return record._replace(id=number)

    def delete(self, key: str) -> bool:
        with self.transaction():
            there = self._space.rows.get(check_key(key))
            if there is None:
                return False
            self._core.set(self._core.key_of, there[3], None)
            self._core.set(self._space.rows, key, None)
            self._core.set(self._space.states, key, None)
            return True

    def keep(self, record: Record) -> None:
        with self.transaction():
            states = {**self._space.states.get(record.key, {}), record.version: tables.fields(record)}
            self._core.set(self._space.states, record.key, states)

    def states(self, key: str) -> list[Record]:
        with self.reading():
            return [tables.record(0, row) for _, row in sorted(self._space.states.get(key, {}).items())]

    def keys(self, prefix: str = "", after: str | None = None) -> Iterator[str]:
        check_key(prefix)
        with self.reading():
            keys = sorted(k for k, row in self._space.rows.items() if k.startswith(prefix) and row[0] != NOTHING)
        return iter(keys if after is None else keys[bisect.bisect_right(keys, after) :])

    def iterate(self, prefix: str = "", after: str | None = None) -> Iterator[Record]:
        for key in self.keys(prefix, after):
            record = self.find(key)
            if record is not None and record.value is not None:
                yield record

    def waiting(self) -> list[str]:
        with self.reading():
            return [key for key, row in self._space.rows.items() if row[0] == NOTHING]

    def since(self, record_id: int, limit: int) -> list[Record]:
        newer = sorted(number for number in self.ids() if number > record_id)[:limit]
        return [record for record in map(self.by_id, newer) if record is not None]

    def ids(self) -> set[int]:
        with self.reading():
            return {row[3] for row in self._space.rows.values() if row[0] != NOTHING}

    def last_id(self) -> int:
        return self._core.last_id

    def __len__(self) -> int:
        with self.reading():
            return len(self.ids() if self._space.timed else self._space.rows)

    def due(self, now: float) -> list[str]:
        with self.reading():
            coming, rows, keys = self._space.coming, self._space.rows, dict[str, float]()
            if len(coming) > 2 * len(rows) + 64 and not self._core.depth:  # most of them are of values that are gone
                coming[:] = sorted((row[2], key) for key, row in rows.items() if row[2] is not None)
            if not coming or coming[0][0] > now:
                return []
            came = []
            while coming and coming[0][0] <= now:
                moment, key = heapq.heappop(coming)
                if key in rows and rows[key][2] == moment:
                    keys[key] = moment
                elif self._core.depth:  # may be there again when the transaction is undone
                    came.append((moment, key))
            for entry in (*came, *((moment, key) for key, moment in keys.items())):
                heapq.heappush(coming, entry)
            return list(keys)

    def overdue(self, now: float) -> list[str]:
        below = f"{self.namespace}/" if self.namespace else ""
        with self.reading():
            spaces = [name for name in self._core.spaces if name == self.namespace or name.startswith(below)]
            return sorted(name for name in spaces if RamRecords(name, self._core).due(now))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        core = self._core
        with core.held():
            core.depth += 1
            core.writer, done = threading.get_ident(), len(core.undo)
            try:
                yield
            except BaseException:
                while len(core.undo) > done:
                    core.undo.pop()()
                core.changes += 1
                raise
            finally:
                core.depth -= 1
                if core.depth == 0:
                    core.undo.clear()
                    core.writer = None

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._core.held():
            yield

    @property
    def in_transaction(self) -> bool:
        return self._core.writer == threading.get_ident()

    def generation(self) -> object:
        with self.reading():
            return self._core.changes

    def within(self, name: str) -> Records:
        return RamRecords(joined(self.namespace, name), self._core)

    def namespaces(self) -> list[str]:
        below = f"{self.namespace}/" if self.namespace else ""
        with self.reading():
            return sorted(n for n, space in self._core.spaces.items() if n and space and n.startswith(below))

    def drop(self) -> int:
        with self.transaction():
            names = [self.namespace, *self.namespaces()]
            spaces = [self._core.spaces[name] for name in names]
            erased = sum(row[0] != NOTHING for space in spaces for row in space.rows.values())
            for space in spaces:
                for row in space.rows.values():
                    self._core.set(self._core.key_of, row[3], None)
                for held in (space.rows, space.states, space.ledger, space.files):
                    for name in list(held):
                        self._core.set(held, name, None)
            return erased

    def ledger(self, kind: str) -> dict[str, dict[str, Any]]:
        with self.reading():
            return {name: json.loads(note) for name, note in self._space.ledger.get(kind, {}).items()}

    def ledger_put(self, kind: str, name: str, note: dict[str, Any]) -> None:
        with self.transaction():
            notes = {n: held for n, held in self._space.ledger.get(kind, {}).items() if n != name}
            self._core.set(self._space.ledger, kind, {**notes, name: json.dumps(note)})

    def ledger_remove(self, kind: str, name: str) -> None:
        with self.transaction():
            notes = {n: held for n, held in self._space.ledger.get(kind, {}).items() if n != name}
            self._core.set(self._space.ledger, kind, notes or None)

    def write_file(self, name: str, content: bytes) -> None:
        with self.transaction():
            self._core.set(self._space.files, name, content)

    def read_file(self, name: str) -> bytes:
        with self.reading():
            content = self._space.files.get(name)
        if content is None:
            raise MemoryFormatError(f"the file {name} of this memory is missing.", name)
        return content

    def map_file(self, name: str) -> Mapped:
        return self.read_file(name)

    def files(self, folder: str) -> list[str]:
        with self.reading():
            return [name for name in self._space.files if name.startswith(f"{folder}/")]

    def delete_file(self, name: str) -> None:
        with self.transaction():
            self._core.set(self._space.files, name, None)

    def dump(self) -> Iterator[tuple[str, Row]]:
        with self.reading():
            rows: list[tuple[str, Row]] = []
            for full in [self.namespace, *self.namespaces()]:
                space, name = self._core.spaces[full], relative(self.namespace, full)
                for key, (kind, content, _, number, born, given) in space.rows.items():
                    rows.append(("records", (number, name, born, key, kind, content, *given)))
                rows += [("states", (name, *row)) for held in space.states.values() for row in held.values()]
                for kind_, notes in space.ledger.items():
                    rows += [("ledger", (name, kind_, noted, note)) for noted, note in notes.items()]
                rows += [("files", (name, *held)) for held in space.files.items()]
        return iter(rows)

    def load(self, rows: Iterable[tuple[str, Row]]) -> None:
        with self.transaction():
            if self.namespace or any(self._core.spaces.values()):
                raise InvalidInput("this memory is not empty: give a new one.")
            for table, row in rows:
                self._take(table, row)

    def check(self) -> list[str]:
        return []

    def close(self) -> None:
        """Nothing to let go of."""

    def _take(self, table: str, row: Row) -> None:
        """One row of `load`."""
        at = 1 if table == "records" else 0
        place = RamRecords(row[at], self._core)
        if table == "records":
            number, _, born, key, kind, content, *given = row
            place._set(key, (kind, content), given[-1], number, born, tuple(given))
        elif table == "states":
            place.keep(tables.record(0, row[1:]))
        elif table == "ledger":
            place.ledger_put(row[1], row[2], json.loads(row[3]))
        else:
            place.write_file(row[1], row[2])

    def _take_away(self, keys: Iterable[str]) -> None:
        """Undoes `add_new`."""
        for key in keys:
            del self._core.key_of[self._space.rows.pop(key)[3]]

    def _set(
        self, key: str, value: tuple[int, str | bytes], due: float | None, number: int, born: int, given: Row
    ) -> int:
        """Stores a row under its id, a new one for 0; returns the id."""
        core, old = self._core, self._space.rows.get(key)
        if old is not None:
            core.set(core.key_of, old[3], None)
        core.last_id = max(core.last_id + (not number), number)
        number = number or core.last_id
        core.set(core.key_of, number, (self.namespace, key))
        core.set(self._space.rows, key, (*value, due, number, born or number, given))
        self._space.timed |= due is not None or value[0] == NOTHING
        if due is not None:
            heapq.heappush(self._space.coming, (due, key))
        return number


def _record(key: str, stored: Stored) -> Record:
    kind, content, _, number, _, given = stored
    return tables.record(number, (key, kind, content, *given))
