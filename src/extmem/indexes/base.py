"""The contract of an index. Knows: records. Does not know: what any index is for."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from extmem.errors import MemoryFormatError
from extmem.records.base import Record, Records

EMBEDDINGS = "embeddings-"  # begins the fingerprints of datastores whose entries are passages, not tokens
VECTORS = "vectors-"  # … of those whose entries are vectors that a program gave, one a record
EMBEDDED = "embedded"  # the kind of the ledger's notes on them: {"through": the last record's id, "format"}
TRAINED = "trained"  # … on what tasks learned: {"field", "through": the last record's id, "about"}
TIMES = 9  # that a reading is begun

T = TypeVar("T")


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


def text_of(record: Record) -> str:
    """What there is to read in a record's value: itself, as JSON unless it is text; "" for bytes."""
    value = record.value
    if value is None or isinstance(value, bytes):
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def of_one_moment(records: Records, read: Callable[[], T]) -> T:
    """What `read` gives inside a reading; once more where the files of that moment are gone, as others wrote since."""
    left = TIMES
    moment: object = None
    while True:
        left -= 1
        try:
            with records.reading():
                moment = records.generation()
                return read()
        except MemoryFormatError:
            if not left or records.generation() == moment:
                raise


def is_embeddings(fingerprint: str) -> bool:
    """Whether a datastore of this fingerprint holds vectors of records, not what a language model reads."""
    return fingerprint.startswith((EMBEDDINGS, VECTORS))
