"""Envelopes: a record or a note as what is sealed, in one that says no more than a store must know.

Knows: the parts of a record and of a note, the keys of a namespace. Does not know: where envelopes are kept.

In the open stay: id, version, the times (created, updated, expires, valid_from, valid_to, due), the
size, and whether there is a value now. Sealed, as one piece: key, value, metadata, author, trust, and
the version and times again, so that it shows when the open ones were changed. The piece is the value of
the outer record, or lies in its metadata where the record has no value; the key of the outer record
stands for the key (`Seal.key`). What is sealed is bound to its namespace, to that key and to being a
record or a state: moved anywhere else, it cannot be opened.
"""

from __future__ import annotations

import json
import math
import struct
import time
from collections.abc import Sequence
from typing import Any, Final

from extmem.errors import MemoryFormatError
from extmem.records.base import Record
from extmem.records.values import NOTHING, Value, check_key, decode, encode, encode_json, valid_text
from extmem.records.vault import Seal, packed, unpacked

RECORD: Final = "record"  # what a piece is bound to as
STATE: Final = "state"

OPEN: Final = struct.Struct(">q6d")  # version; created, updated, expires, valid_from, valid_to, due (NaN: None)
REST: Final = struct.Struct(">dBIii")  # trust, kind; the lengths of key, metadata, author (-1: None)
HEAD: Final = struct.Struct(f">{OPEN.size - 8}xd{REST.format[1:]}")  # due, and REST
START: Final = HEAD.size  # where key, metadata, author and value follow one another


def enclose(seal: Seal, record: Record, what: str) -> Record:
    """The outer record. Raises InvalidInput for what cannot be stored."""
    key = check_key(record.key)
    kind, content = (NOTHING, "") if record.value is None else encode(record.value)
    name = seal.key(key)
    piece = seal.ring.seal(_plain(_given(record), key, kind, content), seal.bound(what, name))
    return with_piece(_outer(record)._replace(key=name, id=record.id), piece, record.value is not None)


def enclose_new(
    seal: Seal, items: Sequence[tuple[str, object]], like: Record
) -> tuple[list[tuple[str, object]], Record]:
    """The outer items and the outer `like` of `Records.add_new`."""
    given = _given(like)
    outer: list[tuple[str, object]] = []
    for key, value in items:
        name = seal.key(check_key(key))
        piece = seal.ring.seal(_plain(given, key, *encode(value)), seal.bound(RECORD, name))
        outer.append((name, piece))
    return outer, _outer(like)


def opened(seal: Seal, outer: Record, what: str) -> Record:
    """The record in an envelope. Raises MemoryFormatError where anything of it was changed."""
    plain = _opened(seal, outer, what)
    _, trust, kind, length, metadata, author = HEAD.unpack_from(plain)
    key, start = _text(plain, START, length)
    if not plain.startswith(_open_part(outer)) or (kind == NOTHING) != (outer.value is None):
        said = f"the version or a time of {key!r} was changed after it was sealed"
        raise MemoryFormatError(f"{said}: restore it from a snapshot, or store it again.", key)
    about, start = _text(plain, start, metadata)
    by, start = _text(plain, start, author)
    return outer._replace(
        key=key,
        value=None if kind == NOTHING else decode(kind, plain[start:]),
        metadata=None if metadata < 0 else json.loads(about),
        author=None if author < 0 else by,
        trust=trust,
    )


def opened_key(seal: Seal, outer: Record) -> str:
    """The key of a record in an envelope."""
    plain = _opened(seal, outer, RECORD)
    return _text(plain, START, HEAD.unpack_from(plain)[3])[0]


def opened_value(seal: Seal, name: str, piece: object, key: str) -> Value | None:
    """The value of a key that `name` stands for; None where it has none now."""
    plain = seal.ring.open(piece, seal.bound(RECORD, name), "the value of", key)
    due, _, kind, length, metadata, author = HEAD.unpack_from(plain)
    if kind == NOTHING or due <= time.time():
        return None
    return decode(kind, plain[START + length + max(metadata, 0) + max(author, 0) :])


def enclose_note(seal: Seal, kind: str, name: str, note: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """(kind, name, note) of the outer ledger."""
    stood, called = seal.kind(kind), seal.note(f"{kind}\0{name}")
    return (
        stood,
        called,
        packed(seal.ring.seal(json.dumps([kind, name, note]).encode(), _place_of(seal, stood, called))),
    )


def opened_note(seal: Seal, stood: str, called: str, note: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """(kind, name, note) in a note of the outer ledger."""
    kind, name, inner = json.loads(seal.ring.open(unpacked(note), _place_of(seal, stood, called), "the note", called))
    return kind, name, inner


def piece_of(outer: Record) -> object:
    """The sealed piece of an outer record."""
    return unpacked(outer.metadata) if outer.value is None else outer.value


def with_piece(outer: Record, piece: bytes, valued: bool) -> Record:
    """The outer record with this piece, as its value or, where it has none, in its metadata."""
    return outer._replace(value=piece) if valued else outer._replace(value=None, metadata=packed(piece))


def _place_of(seal: Seal, stood: str, called: str) -> bytes:
    return seal.bound("note", f"{stood}/{called}")


def _outer(record: Record) -> Record:
    """What is known of a record in the open, under no key."""
    return record._replace(key="", value=None, metadata=None, author=None, trust=1.0, id=0)


def _opened(seal: Seal, outer: Record, what: str) -> bytes:
    return seal.ring.open(piece_of(outer), seal.bound(what, outer.key), f"the {what} with the id", outer.id)


def _open_part(record: Record) -> bytes:
    times = (record.expires, record.valid_from, record.valid_to, record.due)
    given = (math.nan if moment is None else moment for moment in times)
    return OPEN.pack(record.version, record.created, record.updated, *given)


def _given(record: Record) -> tuple[bytes, float, bytes | None, bytes | None]:
    """What is known of a record besides key and value: in the open; trust, metadata and author."""
    metadata = None if record.metadata is None else encode_json(record.metadata).encode()
    author = None if record.author is None else valid_text(record.author).encode()
    return _open_part(record), record.trust, metadata, author


def _plain(given: tuple[bytes, float, bytes | None, bytes | None], key: str, kind: int, content: str | bytes) -> bytes:
    times, trust, metadata, author = given
    name = key.encode()
    lengths = (len(name), -1 if metadata is None else len(metadata), -1 if author is None else len(author))
    head = REST.pack(trust, kind, *lengths)
    body = content if isinstance(content, bytes) else content.encode()
    return b"".join((times, head, name, metadata or b"", author or b"", body))


def _text(plain: bytes, start: int, length: int) -> tuple[str, int]:
    """A part of the text, and where the next one starts."""
    end = start + max(length, 0)
    return plain[start:end].decode(), end
