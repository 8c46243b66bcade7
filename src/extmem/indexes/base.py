"""The contract of an index. Knows: records. Does not know: what any index is for."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod

from extmem.records.base import Record

EMBEDDINGS = "embeddings-"  # begins the fingerprints of datastores whose entries are passages, not tokens
VECTORS = "vectors-"  # … of those whose entries are vectors that a program gave, one a record
EMBEDDED = "embedded"  # the kind of the ledger's notes on them: {"through": the last record's id, "format"}
TRAINED = "trained"  # … on what tasks learned: {"field", "through": the last record's id, "about"}


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


def is_embeddings(fingerprint: str) -> bool:
    """Whether a datastore of this fingerprint holds vectors of records, not what a language model reads."""
    return fingerprint.startswith((EMBEDDINGS, VECTORS))
