"""Vault: which keys a sealed memory and each of its namespaces has.

Knows: keys, and the inner records as a place to keep them, each sealed with the one above it. Does not
know: what is sealed with a namespace's keys.

    master key          with the user: a file, an environment variable, a function
    └── memory's keys   the note ("seal", "memory") in the root's ledger, which marks a memory as sealed
        └── seals       a record for each namespace in the namespace "seals": its true name, its keys

The memory's keys stand between, so that a new master key means one new note: processes that have the
memory open go on with what they hold, and none has to be told. A seal is a record and not a note of its
namespace, so that a namespace without a record or note of its own stays one that holds nothing, and
many are read at once. A namespace lies at a place: its name, each part replaced by what stands for it.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from extmem.errors import InvalidInput, MemoryFormatError, WrongKey
from extmem.records.base import Record, Records, Row, below
from extmem.records.keys import ID, KeySource, Ring, UnknownKey, blinder, master_key, new_master_key

FORMAT: Final = 1
MARK: Final = "seal", "memory"  # kind and name of the note in the root's ledger
SEALS: Final = "seals"  # the namespace of the seals
KEPT: Final = 1000  # seals held ready


def is_sealed(records: Records) -> bool:
    """Whether these records, those of a memory's root, are the inner ones of a sealed memory."""
    return MARK[1] in records.ledger(MARK[0])


class Seal:
    """The keys of one namespace."""

    def __init__(
        self, place: str, namespace: str, names: bytes, secrets: Iterable[bytes], wrapped: bytes = b""
    ) -> None:
        self.place, self.namespace, self.names, self.wrapped = place, namespace, names, wrapped
        self.ring = Ring(secrets)
        self.key, self.kind, self.note = (blinder(names, use) for use in (b"key", b"kind", b"note"))

    def bound(self, what: str, name: str) -> bytes:
        """What a sealed thing is bound to: elsewhere it cannot be opened."""
        return f"{what}\0{self.place}\0{name}".encode()

    def packed(self) -> bytes:
        """All of it, to be sealed."""
        held = {"namespace": self.namespace, "names": self.names.hex(), "keys": self.ring.secrets()}
        return json.dumps(held).encode()


class _Session(threading.local):
    """One thread's transaction: how deep, and the seals it has read in it."""

    def __init__(self) -> None:
        self.depth = 0
        self.held: dict[str, Seal] = {}


class Vault:
    """The keys of one memory, for all its handles in this process. Keys are looked up anew in every
    transaction and wherever nothing is found, or something that the keys at hand do not open."""

    def __init__(self, root: Records, source: KeySource) -> None:
        self.root, self.source, self.seals = root, source, root.within(SEALS)
        self.master = Ring([master_key(source)])
        self._session = _Session()
        self._cache: dict[str, Seal] = {}
        self._ring: Ring  # the memory's keys
        self._names: bytes  # its secret for the names of namespaces
        self.place_of: Callable[[str], str]  # what stands for a namespace, by its full name
        note = self._mark()
        if note is None:
            with root.transaction():
                note = self._mark() or self._begin()
        self._adopt(note)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """The root's transaction; seals are read anew in it, once."""
        session = self._session
        with self.root.transaction():
            session.depth += 1
            try:
                yield
            except BaseException:
                session.held.clear()  # one that was made in here is gone
                raise
            finally:
                session.depth -= 1
                if not session.depth:
                    session.held.clear()

    def at(self, place: str) -> Records:
        """The inner records of a place."""
        return below(self.root, place)

    def seal(self, place: str) -> Seal | None:
        """The seal of a place, if it has one; outside of a transaction perhaps an old one."""
        session = self._session
        if session.depth:
            held = session.held.get(place) or self.look(place)
            if held is not None:
                session.held[place] = held
            return held
        return self._cache.get(place) or self.look(place)

    def look(self, place: str) -> Seal | None:
        """The seal as it lies there; the same object as before where it has not changed."""
        if self._session.depth and place in self._session.held:
            return self._session.held[place]
        wrapped = self.seals.get(place)
        if wrapped is None:
            self._cache.pop(place, None)
            return None
        held = self._cache.get(place)
        if held is None or held.wrapped != wrapped:
            held = self._unwrapped(place, wrapped)
            if len(self._cache) >= KEPT:
                self._cache.clear()
            self._cache[place] = held
        return held

    def make(self, place: str, namespace: str) -> Seal:
        """A seal for a place that has none; call it inside `transaction`."""
        return self.save(Seal(place, namespace, new_master_key(), [new_master_key()]))

    def save(self, seal: Seal) -> Seal:
        """Keeps a seal in place of the one that is there; call it inside `transaction`."""
        seal.wrapped = self.newest().seal(seal.packed(), _bound(seal.place))
        self.seals.put(Record(seal.place, seal.wrapped))
        self._session.held[seal.place] = seal
        return seal

    def change(self, seal: Seal, secrets: Sequence[bytes]) -> Seal:
        """Gives a namespace other data keys."""
        return self.save(Seal(seal.place, seal.namespace, seal.names, secrets))

    def within(self, place: str) -> list[str]:
        """The places that have a seal: this one and those below."""
        return [p for p in self.seals.keys(place) if not place or p == place or p.startswith(f"{place}/")]

    def names(self, places: Sequence[str]) -> list[str]:
        """The true names of those of these places that have a seal."""
        return [self._held(place, wrapped)["namespace"] for place, wrapped in self.seals.get_many(places).items()]

    def forget(self, places: Iterable[str]) -> None:
        """Erases the keys of these places, and so what is sealed with them, wherever a copy of it lies;
        call it inside `transaction`."""
        for place in places:
            self.seals.delete(place)
            self._cache.pop(place, None)
            self._session.held.pop(place, None)

    def newest(self) -> Ring:
        """The memory's keys as they are now; call it inside `transaction`."""
        note = self._mark()
        if note is None or note.get("key") != self._ring.last.id.hex():
            self._adopt(note)
        return self._ring

    def mark(self, secrets: Sequence[bytes], master: Ring | None = None) -> None:
        """Gives the memory these keys, in the note that marks it as sealed; call it inside `transaction`."""
        ring = Ring(secrets)
        id = ring.last.id.hex()
        plain = json.dumps({"names": self._names.hex(), "keys": ring.secrets()}).encode()
        note = packed((master or self.present_master()).seal(plain, _bound_memory(id)))
        self.root.ledger_put(*MARK, {"format": FORMAT, "key": id, **note})
        self._ring = ring

    def present_master(self) -> Ring:
        """The master key that the memory is sealed with now. Raises WrongKey where its source gives another."""
        note = self._mark()
        if note is not None and (unpacked(note) or b"")[:ID] != self.master.last.id:
            self._adopt(note)
        return self.master

    def twin(self, root: Records) -> Vault:
        """The vault of another memory, sealed with the same master key."""
        return Vault(root, self.present_master().last.secret)

    def rotate_master(self, source: KeySource) -> None:
        """Seals the memory's keys with another master key."""
        self.alone()
        master = Ring([master_key(source)])
        with self.transaction():
            self._adopt(self._mark())
            self.mark([key.secret for key in self._ring.keys], master)
        self.master, self.source = master, source

    def alone(self) -> None:
        """Raises InvalidInput inside a transaction, which could roll back what others know already."""
        if self.root.in_transaction:
            raise InvalidInput("keys are rotated in transactions of their own: leave this one first.")

    def drop_all(self) -> int:
        """Erases everything and every namespace's keys. The memory stays a sealed one; call it inside
        `transaction`."""
        note = self._mark()
        self.forget(self.within(""))
        erased = self.root.drop()
        assert note is not None
        self.root.ledger_put(*MARK, note)
        return erased

    def load(self, records: Records, rows: Iterable[tuple[str, Row]]) -> None:
        """See `Records.load`; the rows are those of a memory sealed with the same master key."""
        with self.transaction():
            self.root.ledger_remove(*MARK)
            records.load(rows)
            note = self._mark()
            if note is None:
                raise InvalidInput("this snapshot is not encrypted: load it into a memory without a key.")
            self._adopt(note)
            self._cache.clear()

    def _mark(self) -> dict[str, Any] | None:
        return self.root.ledger(MARK[0]).get(MARK[1])

    def _begin(self) -> dict[str, Any]:
        """Marks an empty memory as sealed."""
        if next(self.root.dump(), None) is not None:
            raise InvalidInput(
                "this memory is not encrypted, and a key was given: open it without one, "
                "or export it and import that into a new memory with a key. Nothing was changed."
            )
        self._names = new_master_key()
        self.mark([new_master_key()])
        note = self._mark()
        assert note is not None
        return note

    def _adopt(self, note: dict[str, Any] | None) -> None:
        """Takes the memory's keys out of the note."""
        if note is None:
            raise MemoryFormatError("the keys of this memory are gone: what was in it is erased.")
        if note.get("format") != FORMAT:
            said = f"this memory is sealed in format {note.get('format')!r}, this extmem reads {FORMAT}"
            raise MemoryFormatError(f"{said}: use the extmem that wrote it.")
        sealed, bound = unpacked(note), _bound_memory(note.get("key"))
        try:
            held = json.loads(self._open_mark(sealed, bound))
        except UnknownKey as unknown:
            master = Ring([master_key(self.source)])  # it may have been replaced since it was read
            if master.last.id != unknown.id:
                raise WrongKey(
                    "the key is not the one this memory is encrypted with: give the right one. Nothing was changed."
                ) from None
            self.master = master
            held = json.loads(self._open_mark(sealed, bound))
        self._names = bytes.fromhex(held["names"])
        self._ring = Ring(map(bytes.fromhex, held["keys"]))
        self.place_of = blinder(self._names, b"namespace")

    def _open_mark(self, sealed: bytes | None, bound: bytes) -> bytes:
        return self.master.open(sealed, bound, "the note", "/".join(MARK))

    def _unwrapped(self, place: str, wrapped: object) -> Seal:
        held = self._held(place, wrapped)
        keys = map(bytes.fromhex, held["keys"])
        assert isinstance(wrapped, bytes)
        return Seal(place, held["namespace"], bytes.fromhex(held["names"]), keys, wrapped)

    def _held(self, place: str, wrapped: object) -> dict[str, Any]:
        """What is in a seal."""
        what = "the seal of the namespace at"
        try:
            plain = self._ring.open(wrapped, _bound(place), what, place)
        except UnknownKey:
            self._adopt(self._mark())
            plain = self._ring.open(wrapped, _bound(place), what, place)
        held: dict[str, Any] = json.loads(plain)
        return held


def unpacked(note: object) -> bytes | None:
    """What is sealed in a note or in metadata; None where nothing is."""
    try:
        return base64.b64decode(note["sealed"], validate=True)  # type: ignore[index]
    except (TypeError, KeyError, ValueError):
        return None


def packed(sealed: bytes) -> dict[str, object]:
    """The note or metadata that `unpacked` takes it out of."""
    return {"sealed": base64.b64encode(sealed).decode()}


def _bound(place: str) -> bytes:
    return f"seal\0{place}".encode()


def _bound_memory(key: object) -> bytes:
    return f"memory\0{key}".encode()
