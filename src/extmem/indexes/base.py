"""The contract of an index. Knows: records. Does not know: what any index is for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection

from extmem.records.base import Record


class Index(ABC):
    """Something derived from records; it changes inside their transaction, so both or neither do.
    One that needs `settle` and `sweep` enlists itself with the records."""

    @abstractmethod
    def add(self, record: Record) -> None:
        """Takes in a record that was just stored."""

    @abstractmethod
    def discard(self, record_ids: Collection[int]) -> None:
        """Drops everything that came from these records."""

    @abstractmethod
    def clear(self) -> None:
        """Drops everything."""

    @abstractmethod
    def settle(self) -> None:
        """Makes what was dropped unreadable; called before the transaction is committed."""

    @abstractmethod
    def sweep(self) -> None:
        """Deletes files that nothing names any more; called after the transaction has ended."""

    @abstractmethod
    def verify(self) -> list[str]:
        """What does not fit the records, a line each; empty if all is well."""
