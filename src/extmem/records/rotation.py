"""Rotation: everything that is sealed, sealed again with new data keys, while others read and write.

Knows: what is sealed and where it lies; the vault. Does not know: what is in it.

Every namespace is given a new key beside the old one, and whoever writes from then on uses the new one.
What is still sealed with the old one is found in one pass over everything (`dump`: it alone shows also
records without a value, and which kinds of notes and files there are), and sealed again in transactions
of a few hundred. Then the old keys are dropped. Broken off anywhere, it goes on when it is run again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, TypeAlias

from extmem.records import tables
from extmem.records.base import Record, Records, Row
from extmem.records.envelope import RECORD, STATE, piece_of, with_piece
from extmem.records.keys import ID, new_master_key
from extmem.records.vault import Seal, Vault, packed, unpacked

AT_ONCE: Final = 300  # records in one transaction

Progress: TypeAlias = "Callable[[int, int], object]"  # (done, total)


@dataclass
class _Stale:
    """What of one namespace is sealed with keys that are to go."""

    keys: frozenset[bytes]  # their ids
    records: list[Any] = field(default_factory=list)  # ids
    states: dict[str, None] = field(default_factory=dict)  # keys
    kinds: dict[str, None] = field(default_factory=dict)  # of notes
    files: list[Any] = field(default_factory=list)  # names

    def parts(self) -> Iterator[tuple[Callable[[Seal, Records, _Stale, Any], None], Sequence[Any]]]:
        """How each sort is sealed again, and a transaction's worth of it."""
        yield from ((_record, part) for part in _parts(self.records, AT_ONCE))
        yield from ((_states, part) for part in _parts(self.states, AT_ONCE))
        yield from ((_notes, part) for part in _parts(self.kinds, 1))
        yield from ((_file, part) for part in _parts(self.files, 1))

    def __len__(self) -> int:
        return len(self.records) + len(self.states) + len(self.kinds) + len(self.files)


def rotate(vault: Vault, place: str, progress: Progress | None = None) -> None:
    """Gives the namespace at a place and all below it new data keys; at the root, the memory's own as
    well, those that the master key seals. Raises InvalidInput inside a transaction."""
    vault.alone()
    old_memory_keys = _renew_memory(vault) if not place else frozenset()
    stale = _renew(vault, vault.within(place))
    _find(vault.root.dump(), stale)
    done, total = 0, sum(map(len, stale.values()))
    for at, held in stale.items():
        inner = vault.at(at)
        for seal_again, part in held.parts():
            with vault.transaction():
                seal = vault.seal(at)
                if seal is not None:
                    for each in part:
                        seal_again(seal, inner, held, each)
            done += len(part)
            if progress is not None:
                progress(done, total)
    for part in _parts(stale, AT_ONCE):
        with vault.transaction():
            for at in part:
                seal = vault.seal(at)
                if seal is not None:
                    vault.change(seal, _without(seal, stale[at].keys))
    if old_memory_keys:
        with vault.transaction():
            kept = [key.secret for key in vault.newest().keys if key.id not in old_memory_keys]
            vault.mark(kept)


def _renew_memory(vault: Vault) -> frozenset[bytes]:
    """Gives the memory a new key of its own; the ids of the older ones."""
    with vault.transaction():
        ring = vault.newest()
        if len(ring.keys) == 1:
            vault.mark([ring.last.secret, new_master_key()])
        return frozenset(key.id for key in vault.newest().keys[:-1])


def _renew(vault: Vault, places: Iterable[str]) -> dict[str, _Stale]:
    """Gives each namespace a new key, if it has not one from a rotation that was broken off."""
    stale = {}
    for part in _parts(places, AT_ONCE):
        with vault.transaction():
            for place in part:
                seal = vault.seal(place)
                if seal is not None and len(seal.ring.keys) == 1:
                    seal = vault.change(seal, [seal.ring.last.secret, new_master_key()])
                if seal is not None:
                    stale[place] = _Stale(frozenset(key.id for key in seal.ring.keys[:-1]))
    return stale


def _without(seal: Seal, ids: frozenset[bytes]) -> list[bytes]:
    return [key.secret for key in seal.ring.keys if key.id not in ids]


def _find(rows: Iterable[tuple[str, Row]], stale: dict[str, _Stale]) -> None:
    """Enters everything that is sealed with a key that is to go."""
    for table, row in rows:
        held = stale.get(row[1] if table == "records" else row[0])
        if held is None:
            continue
        if table == "records":
            if _is_stale(piece_of(tables.record(row[0], row[3:])), held):
                held.records.append(row[0])
        elif table == "states":
            if _is_stale(piece_of(tables.record(0, row[1:])), held):
                held.states[row[1]] = None
        elif table == "ledger":
            if _is_stale(unpacked(json.loads(row[3])), held):
                held.kinds[row[1]] = None
        elif _is_stale(row[2], held):
            held.files.append(row[1])


def _is_stale(piece: object, held: _Stale) -> bool:
    return isinstance(piece, bytes) and piece[:ID] in held.keys


def _again(seal: Seal, held: _Stale, piece: object, what: str, name: str) -> bytes | None:
    """The piece, sealed with the new key; None where it is already."""
    if not isinstance(piece, bytes) or not _is_stale(piece, held):
        return None
    bound = seal.bound(what, name)
    return seal.ring.seal(seal.ring.open(piece, bound, f"the {what}", name), bound)


def _record(seal: Seal, inner: Records, held: _Stale, number: int) -> None:
    outer = inner.by_id(number)
    again = None if outer is None else _outer_again(seal, held, outer, RECORD)
    if again is not None:
        inner.put(again)


def _states(seal: Seal, inner: Records, held: _Stale, key: str) -> None:
    for outer in inner.states(key):
        again = _outer_again(seal, held, outer, STATE)
        if again is not None:
            inner.keep(again)


def _outer_again(seal: Seal, held: _Stale, outer: Record, what: str) -> Record | None:
    piece = _again(seal, held, piece_of(outer), what, outer.key)
    return None if piece is None else with_piece(outer, piece, outer.value is not None)


def _notes(seal: Seal, inner: Records, held: _Stale, kind: str) -> None:
    for name, note in inner.ledger(kind).items():  # all of them, so that their order stays
        piece = _again(seal, held, unpacked(note), "note", f"{kind}/{name}")
        inner.ledger_put(kind, name, note if piece is None else packed(piece))


def _file(seal: Seal, inner: Records, held: _Stale, name: str) -> None:
    if name in inner.files(name.rpartition("/")[0]):
        piece = _again(seal, held, inner.read_file(name), "file", name)
        if piece is not None:
            inner.write_file(name, piece)


def _parts(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    walk = iter(list(items))
    while part := list(islice(walk, size)):
        yield part
