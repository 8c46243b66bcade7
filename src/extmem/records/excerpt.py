"""Excerpts: what a namespace of a sealed memory and those below it hold, as a sealed memory of its own.

Knows: what is sealed and how. Does not know: where the excerpt is taken to.

What is sealed is bound to its place and its place's key, and an excerpt has other places: so it is
opened and sealed anew, row by row. The excerpt has its own keys and the same master key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from extmem.records import tables
from extmem.records.base import Records, Row, joined, relative
from extmem.records.envelope import RECORD, STATE, enclose, enclose_note, opened, opened_note
from extmem.records.keys import UnknownKey
from extmem.records.ram import RamRecords
from extmem.records.vault import Seal, Vault


def excerpt(vault: Vault, inner: Records, namespace: str) -> Iterator[tuple[str, Row]]:
    """The rows of the excerpt (`Records.dump`) of the namespace whose inner records these are. What has
    lost its key is left out."""
    before = {place: vault.look(place) for place in vault.within(inner.namespace)}
    keys = RamRecords()  # the excerpt's, and nothing else of it
    target = vault.twin(keys)
    seals: dict[str, tuple[Seal, Seal] | None] = {}
    last = 0
    for table, row in inner.dump():
        at = row[1] if table == "records" else row[0]
        place = "/".join(filter(None, (inner.namespace, at)))
        if place not in seals:
            seals[place] = _pair(before.get(place) or vault.look(place), target, namespace)
        pair = seals[place]
        if pair is None:
            continue
        try:
            yield table, _again(table, row, *pair)
        except UnknownKey:  # rotated since
            pair = seals[place] = _pair(vault.look(place), target, namespace)
            if pair is not None:
                yield table, _again(table, row, *pair)
        last = max(last, row[0]) if table == "records" else last
    for table, row in keys.dump():
        if table == "records":
            last += 1
            yield table, (last, row[1], last, *row[3:])
        else:
            yield table, row


def _pair(old: Seal | None, target: Vault, namespace: str) -> tuple[Seal, Seal] | None:
    """A namespace's seal and the one it has in the excerpt."""
    if old is None:
        return None
    name, place, full = relative(namespace, old.namespace), "", ""
    for part in filter(None, name.split("/")):
        full = joined(full, part)
        place = joined(place, target.place_of(full))
    with target.transaction():
        return old, target.seal(place) or target.make(place, full)


def _again(table: str, row: Row, old: Seal, new: Seal) -> Row:
    """The row as it stands in the excerpt."""
    if table == "records":
        outer = enclose(new, opened(old, tables.record(row[0], row[3:]), RECORD), RECORD)
        return row[0], new.place, row[2], *tables.fields(outer)
    if table == "states":
        return new.place, *tables.fields(enclose(new, opened(old, tables.record(0, row[1:]), STATE), STATE))
    if table == "ledger":
        kind, name, note = enclose_note(new, *opened_note(old, row[1], row[2], json.loads(row[3])))
        return new.place, kind, name, json.dumps(note)
    name, content = row[1], row[2]
    plain = old.ring.open(content, old.bound("file", name), "the file", name)
    return new.place, name, new.ring.seal(plain, new.bound("file", name))
