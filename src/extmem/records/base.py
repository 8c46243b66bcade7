"""The contract of records: one namespace's map from key to value, and what is kept beside it for
whatever is derived from it: a ledger of notes, and files.

Knows: what every store of records must do. Does not know: how any of them does it; which of a key's
values is valid when (`timeline.py`).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import reduce
from mmap import mmap
from typing import Any, NamedTuple

from extmem.errors import InvalidInput
from extmem.records.values import Value, valid_text

Row = tuple[Any, ...]
Mapped = bytes | mmap


class Record(NamedTuple):
    """A key's value, and what is known of it. Moments are seconds since 1970, UTC.

    `version` counts the values a key was given, from 1. `author` wrote it and `trust` (0 to 1) is how
    far that is to be trusted. It is valid from `valid_from` (None: from when it was stored) until
    `valid_to`; at `expires` it is forgotten. `due` is the first moment at which it is no longer the
    answer. `id` is never used again: storing another value gives another id. `value` is None where no
    value of the key is valid now.
    """

    key: str
    value: Any
    version: int = 1
    created: float = 0.0
    updated: float = 0.0
    metadata: dict[str, object] | None = None
    author: str | None = None
    trust: float = 1.0
    expires: float | None = None
    valid_from: float | None = None
    valid_to: float | None = None
    due: float | None = None
    id: int = 0


class Records(ABC):
    """The records of one namespace. A handle cannot name another namespace's records.

    Ids grow over the life of the memory and are never used again. All methods may be called from any
    thread; another thread or process sees what a transaction did when it has been committed, and then
    all of it. Methods that write raise StorageError where the disk or the server refuses.
    """

    namespace: str
    place: str  # where the memory lies, for people

    # The map

    @abstractmethod
    def get(self, key: str) -> Value | None:
        """The value of a key; None if there is none, or if its moment has come (`Record.due`).
        Raises InvalidInput for a key that is no text."""

    @abstractmethod
    def get_many(self, keys: Sequence[str]) -> dict[str, Value]:
        """As `get`, for many; those without a value are left out."""

    @abstractmethod
    def find(self, key: str) -> Record | None:
        """The record of a key as it lies there, its moment come or not."""

    def by_id(self, record_id: int) -> Record | None:
        """The record with an id, if it is still there and in this namespace."""
        return self.by_ids([record_id]).get(record_id)

    @abstractmethod
    def by_ids(self, ids: Sequence[int]) -> dict[int, Record]:
        """The records with these ids, of those that are still there and in this namespace."""

    @abstractmethod
    def add_new(self, items: Sequence[tuple[str, object]], like: Record) -> list[tuple[str, object]]:
        """Stores those items (key, value) whose key is not there, with everything but key and value
        `like` that; returns the others, untouched. No key may come twice. All or none are stored where
        one raises InvalidInput."""

    @abstractmethod
    def put(self, record: Record) -> Record:
        """Gives the key this record, in place of what is there; returns it with its id, a new one where
        it was 0. Raises InvalidInput for a key, value or metadata that cannot be stored."""

    @abstractmethod
    def delete(self, key: str) -> bool:
        """Erases the record and all states of a key; False if there was nothing."""

    @abstractmethod
    def keep(self, record: Record) -> None:
        """Adds a state to the key's states, in place of the one of that version."""

    @abstractmethod
    def states(self, key: str) -> list[Record]:
        """All values of a key that were kept, by version; none for a key whose past is not kept."""

    # Many of them; records without a value are left out

    @abstractmethod
    def keys(self, prefix: str = "", after: str | None = None) -> Iterator[str]:
        """The keys in the order of their code points, those behind `after`. Never more than a page in
        memory; every key that is there throughout comes once, none that was new while iterating."""

    @abstractmethod
    def iterate(self, prefix: str = "", after: str | None = None) -> Iterator[Record]:
        """The records, as `keys`."""

    @abstractmethod
    def waiting(self) -> list[str]:
        """The keys of which no value is valid now, in no order."""

    @abstractmethod
    def since(self, record_id: int, limit: int) -> list[Record]:
        """The first `limit` records with a greater id, by id."""

    @abstractmethod
    def ids(self) -> set[int]:
        """The ids of all records."""

    @abstractmethod
    def last_id(self) -> int:
        """An id at least as great as any in any namespace; none that is committed later is smaller."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def due(self, now: float) -> list[str]:
        """The keys of records whose moment has come."""

    @abstractmethod
    def overdue(self, now: float) -> list[str]:
        """The full names of the namespaces, this one and those below, that have such records."""

    # Transactions

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """All of what is done inside, or nothing; so is an inner one, within the outer. One at a time writes."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[None]:
        """What is read inside is of one moment, whoever writes meanwhile."""

    @property
    @abstractmethod
    def in_transaction(self) -> bool:
        """Whether this thread is inside `transaction`."""

    @abstractmethod
    def generation(self) -> object:
        """A value that differs after any change by anyone."""

    # Namespaces

    @abstractmethod
    def within(self, name: str) -> Records:
        """The records of a namespace below this one. Raises InvalidInput for an unusable name."""

    @abstractmethod
    def namespaces(self) -> list[str]:
        """The full names of the namespaces below this one that hold anything, sorted."""

    @abstractmethod
    def drop(self) -> int:
        """Erases this namespace and all below it: records, states, ledgers and files; returns how many
        records those were."""

    # What is kept for indexes

    @abstractmethod
    def ledger(self, kind: str) -> dict[str, dict[str, Any]]:
        """The notes of one kind by name, in the order they were entered."""

    @abstractmethod
    def ledger_put(self, kind: str, name: str, note: dict[str, Any]) -> None:
        """Enters a note at the end; one of that name is replaced."""

    @abstractmethod
    def ledger_remove(self, kind: str, name: str) -> None:
        """Strikes a note out, if it is there."""

    @abstractmethod
    def write_file(self, name: str, content: bytes) -> None:
        """Keeps a file, durably: it is there when the transaction has been committed, and only then. `name`
        is "datastores/…": letters, digits, '_', '.', '-' and '/'."""

    @abstractmethod
    def read_file(self, name: str) -> bytes:
        """Raises MemoryFormatError where it is missing."""

    @abstractmethod
    def map_file(self, name: str) -> Mapped:
        """As `read_file`, without reading it where it lies on this machine's disk: what of it is looked at is
        read then. It stays whole for whoever holds it, though the file be deleted meanwhile."""

    @abstractmethod
    def files(self, folder: str) -> list[str]:
        """The names of the files of this namespace in a folder, each with the folder's."""

    @abstractmethod
    def delete_file(self, name: str) -> None:
        """Deletes a file, if it is there, when the transaction has been committed."""

    # All of it

    @abstractmethod
    def dump(self) -> Iterator[tuple[str, Row]]:
        """(table, row) of everything here and below, of one moment and without what is derived anew by
        itself: `tables.py`. Namespaces are named as seen from here."""

    @abstractmethod
    def load(self, rows: Iterable[tuple[str, Row]]) -> None:
        """Takes in what `dump` gave, in one transaction. Raises InvalidInput but for the root of an empty
        memory."""

    @abstractmethod
    def check(self) -> list[str]:
        """What is wrong with the store itself, a line each; empty if all is well."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of files and connections."""


def short_name(namespace: str) -> str:
    """32 hex digits that stand for a namespace in the names of tables and folders."""
    return hashlib.sha256(namespace.encode()).hexdigest()[:32]


def below(records: Records, path: str) -> Records:
    """The records of the namespace within namespaces that "outer/inner" names; "" is this one."""
    return reduce(lambda here, name: here.within(name), path.split("/") if path else (), records)


def joined(parent: str, name: str) -> str:
    """The full name of a namespace below another. Raises InvalidInput for an unusable name, or for more than
    20 of them within one another: sealed ones have longer names underneath."""
    if not isinstance(name, str) or not name or "/" in name:
        raise InvalidInput(f"namespace {name!r}: give a name that is not empty and has no '/'.", name)
    full = f"{parent}/{name}" if parent else name
    if len(valid_text(full).encode()) > 1000 or full.count("/") >= 20:
        said = f"a namespace's name of {len(full)} characters, {full.count('/') + 1} within one another"
        raise InvalidInput(f"{said}: give at most 1000 bytes and 20.", name)
    return full


def relative(parent: str, full: str) -> str:
    """The name of a namespace as seen from one above it, or from itself: ''."""
    return full[len(parent) :].lstrip("/") if parent else full
