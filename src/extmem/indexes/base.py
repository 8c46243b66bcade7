"""The contract of an index. Knows: records. Does not know: what any index is for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection

from extmem.records.base import Record


class Index(ABC):
    """Something derived from records; it changes inside their transaction, so both or neither do."""

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
    def verify(self) -> list[str]:
        """What does not fit the records, a line each; empty if all is well."""
