"""Records as rows: the columns that every store keeps, and the way between a row and a Record.

Knows: the columns. Does not know: where rows lie. `dump` and `load` hand over these tables:

    records   id, namespace, born, then FIELDS      born: the id of the key's first value
    states    namespace, then FIELDS                the values of a key whose past or future is kept
    ledger    namespace, kind, name, note (JSON)    in the order of entering
    files     namespace, name, content
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from extmem.records.base import Record, Row
from extmem.records.values import NOTHING, check_key, decode, encode, encode_json, valid_text

FIELDS = (
    "key", "kind", "value", "version", "created", "updated", "metadata", "author", "trust", "expires",
    "valid_from", "valid_to", "due",
)  # fmt: skip


def fields(record: Record) -> Row:
    """The FIELDS of a record. Raises InvalidInput for what cannot be stored."""
    kind, content = (NOTHING, "") if record.value is None else encode(record.value)
    return check_key(record.key), kind, content, *common(record)


def common(record: Record) -> Row:
    """The FIELDS behind key, kind and value."""
    metadata = None if record.metadata is None else encode_json(record.metadata)
    author = None if record.author is None else valid_text(record.author)
    return (
        record.version, record.created, record.updated, metadata, author, record.trust, record.expires,
        record.valid_from, record.valid_to, record.due,
    )  # fmt: skip


def record(number: int, row: Sequence[Any]) -> Record:
    """The record with an id and these FIELDS."""
    key, kind, content, version, created, updated, metadata, author, trust, expires, begins, ends, due = row
    return Record(
        key, None if kind == NOTHING else decode(kind, content), version, created, updated,
        None if metadata is None else json.loads(metadata), author, trust, expires, begins, ends, due, number,
    )  # fmt: skip
