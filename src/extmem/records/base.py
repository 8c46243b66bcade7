"""The contract of records: one namespace's map from key to value, and the ledger of what is derived.

Knows: what every store of records must do. Does not know: how any of them does it.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from extmem.errors import InvalidInput
from extmem.records.values import Value


@dataclass(frozen=True, slots=True)
class Record:
    """A key's value as it was stored once; storing another value gives another id."""

    id: int
    key: str
    value: Value


class Derived(Protocol):
    """Something derived from records that changes with them, in their transaction."""

    def settle(self) -> None:
        """Called inside the outermost transaction, before it is committed."""

    def sweep(self) -> None:
        """Called after it has ended, whether it was committed or rolled back."""


class Records(ABC):
    """The records of one namespace. A handle cannot name another namespace's records.

    Ids grow over the life of the memory and are never used again. All methods may be called from any
    thread. The ledger names the files derived from the records; it changes in their transaction.
    """

    namespace: str
    folder: Path | None

    @abstractmethod
    def put(self, key: str, value: object) -> int:
        """Stores, and returns the new id. Raises InvalidInput for a key or value that cannot be."""

    @abstractmethod
    def find(self, key: str) -> Record | None:
        """The record of a key, if it is there."""

    @abstractmethod
    def by_id(self, record_id: int) -> Record | None:
        """The record with an id, if it is still there and in this namespace."""

    @abstractmethod
    def delete(self, key: str) -> int | None:
        """Erases; returns the id it had, or None if it was not there."""

    @abstractmethod
    def keys(self, prefix: str = "") -> Iterator[str]:
        """The keys in the order of their code points."""

    @abstractmethod
    def records(self) -> Iterator[Record]:
        """All records, in the order they were stored."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """All of what is done inside, or nothing; an inner one joins the outer."""

    @property
    @abstractmethod
    def in_transaction(self) -> bool:
        """Whether this thread is inside `transaction`."""

    @abstractmethod
    def enlist(self, derived: Derived) -> None:
        """Has `derived` settled and swept, once each, when the open transaction ends."""

    @abstractmethod
    def within(self, name: str) -> Records:
        """The records of a namespace below this one. Raises InvalidInput for an unusable name."""

    @abstractmethod
    def namespaces(self) -> list[str]:
        """The namespaces below this one that hold records."""

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
    def generation(self) -> object:
        """A value that differs after any change by anyone."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of files."""

    def get(self, key: str) -> Value | None:
        """The value of a key, or None."""
        record = self.find(key)
        return None if record is None else record.value


def short_name(namespace: str) -> str:
    """16 hex digits that stand for a namespace in the names of tables and folders."""
    return hashlib.sha256(namespace.encode()).hexdigest()[:16]


def joined(parent: str, name: str) -> str:
    """The full name of a namespace below another. Raises InvalidInput for an unusable name."""
    if not isinstance(name, str) or not name or "/" in name:
        raise InvalidInput(f"namespace {name!r}: give a name that is not empty and has no '/'.", name)
    return f"{parent}/{name}" if parent else name
