"""The contract of an index. Knows: records. Does not know: what any index is for."""

from __future__ import annotations

from abc import ABC, abstractmethod

from extmem.records.base import Record


class Index(ABC):
    """Something derived from records; it changes inside their transaction, so both or neither do."""

    @abstractmethod
    def discard(self, record: Record) -> None:
        """Drops everything that came from a record; call it before the record itself is deleted."""

    @abstractmethod
    def clear(self) -> None:
        """Drops everything."""

    @abstractmethod
    def verify(self) -> list[str]:
        """What does not fit the records, a line each; empty if all is well."""
