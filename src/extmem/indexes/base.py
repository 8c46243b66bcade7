"""The contract of an index. Knows: records. Does not know: what any index is for."""

from __future__ import annotations

from abc import ABC, abstractmethod

from extmem.records.base import Record


class Index(ABC):
    """Something derived from records; it changes inside their transaction, so both or neither do.
    One that needs `settle` and `sweep` enlists itself with the records."""

    @abstractmethod
    def discard(self, record: Record) -> None:
        """Drops everything that came from a record; call it before the record itself is deleted."""

    @abstractmethod
    def clear(self) -> None:
        """Drops everything."""

    @abstractmethod
    def settle(self) -> None:
        """Called before the transaction is committed."""

    @abstractmethod
    def sweep(self) -> None:
        """Deletes files that nothing names any more; called after the transaction has ended."""

    @abstractmethod
    def verify(self) -> list[str]:
        """What does not fit the records, a line each; empty if all is well."""
