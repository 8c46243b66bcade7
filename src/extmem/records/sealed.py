"""Sealed records: any records, encrypted before they reach the store that keeps them.

Knows: the inner records, whatever they are; the vault of keys. Does not know: ciphers, stores.

AES-256-GCM with a key for each namespace, which a master key seals (`vault.py`, `keys.py`). What the
inner records get to see, and whoever reads the disk or the server:

    as it is     ids, versions, times, sizes; which record has no value now; the names of files;
                 how many records, notes and namespaces there are, and which lies in which
    stood for    keys, names of namespaces, kinds and names of notes: by 40 hex digits each (HMAC-SHA256);
                 the same name has the same digits within its namespace and others in any other
    encrypted    values, keys, metadata, authors, trust, names of namespaces, notes, files

What was changed, cut, moved to another key, version or namespace, is told as MemoryFormatError and is
never a wrong answer. Who can write to the store can still erase, and can put back an older state, of one
record or of all.

To `drop` a namespace erases its keys: copies of what it held, in snapshots taken later or by the disk,
cannot be read any more. A snapshot taken earlier holds the namespace's keys as well, sealed: for that
one the master key has to be replaced (`rotate_master`) and the old one destroyed.

`keys` and `iterate` hold all keys of the namespace in RAM, though no values: the store has them in
another order. A file is encrypted in one piece, of 2 GB at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from extmem.errors import MemoryFormatError
from extmem.records.base import Mapped, Record, Records, Row, joined
from extmem.records.envelope import (
    RECORD,
    STATE,
    enclose,
    enclose_new,
    enclose_note,
    opened,
    opened_key,
    opened_note,
    opened_value,
)
from extmem.records.excerpt import excerpt
from extmem.records.keys import KeySource, UnknownKey
from extmem.records.rotation import Progress, rotate
from extmem.records.values import Value, check_key
from extmem.records.vault import SEALS, Seal, Vault

T = TypeVar("T")


class Sealed(Records):
    """See `Records`. `inner` are the root's records of a memory: a new one, or a sealed one; `key` is a
    source of its master key (`keys.master_key`). Raises WrongKey for another key, InvalidInput for a
    memory that is not sealed; nothing is changed then."""

    def __init__(self, inner: Records, key: KeySource, namespace: str = "", vault: Vault | None = None) -> None:
        self.namespace, self._inner, self.place = namespace, inner, f"{inner.place}, encrypted"
        self._vault = Vault(inner, key) if vault is None else vault
        self._place = inner.namespace

    # Keys

    def rotate_master(self, key: KeySource) -> None:
        """Makes `key` the master key of the whole memory, at once, however large it is. Processes that
        have the memory open go on; to open it takes the new key. Raises WrongKey, InvalidInput."""
        self._vault.rotate_master(key)

    def rotate_keys(self, progress: Progress | None = None) -> None:
        """Seals everything here and below with new data keys, in short transactions, while others read
        and write; the old keys are erased at the end. Broken off, it goes on when it is called again."""
        rotate(self._vault, self._place, progress)

    # The map

    def get(self, key: str) -> Value | None:
        key = check_key(key)

        def ask(seal: Seal) -> Value | None:
            name = seal.key(key)
            piece = self._inner.get(name)
            return None if piece is None else opened_value(seal, name, piece, key)

        return self._asked(ask, None)

    def get_many(self, keys: Sequence[str]) -> dict[str, Value]:
        keys = [check_key(key) for key in keys]

        def ask(seal: Seal) -> dict[str, Value]:
            names = {seal.key(key): key for key in keys}
            pieces = self._inner.get_many(list(names))
            found = ((names[name], opened_value(seal, name, piece, names[name])) for name, piece in pieces.items())
            return {key: value for key, value in found if value is not None}

        return self._asked(ask, dict[str, Value]())

    def find(self, key: str) -> Record | None:
        key = check_key(key)
        return self._asked(lambda seal: self._opened(seal, self._inner.find(seal.key(key))), None)

    def by_ids(self, ids: Sequence[int]) -> dict[int, Record]:
        def ask(seal: Seal) -> dict[int, Record]:
            return {number: opened(seal, outer, RECORD) for number, outer in self._inner.by_ids(ids).items()}

        return self._asked(ask, dict[int, Record]())

    def add_new(self, items: Sequence[tuple[str, object]], like: Record) -> list[tuple[str, object]]:
        with self.transaction():
            outer, outer_like = enclose_new(self._own(), items, like)
            left = self._inner.add_new(outer, outer_like)
            if not left:
                return []
            there = {name for name, _ in left}
            return [item for item, (name, _) in zip(items, outer, strict=True) if name in there]

    def put(self, record: Record) -> Record:
        with self.transaction():
            return record._replace(id=self._inner.put(enclose(self._own(), record, RECORD)).id)

    def delete(self, key: str) -> bool:
        key = check_key(key)
        with self.transaction():
            seal = self._held()
            return seal is not None and self._inner.delete(seal.key(key))

    def keep(self, record: Record) -> None:
        with self.transaction():
            self._inner.keep(enclose(self._own(), record, STATE))

    def states(self, key: str) -> list[Record]:
        key = check_key(key)

        def ask(seal: Seal) -> list[Record]:
            return [opened(seal, outer, STATE) for outer in self._inner.states(seal.key(key))]

        return self._asked(ask, list[Record]())

    # Many of them

    def keys(self, prefix: str = "", after: str | None = None) -> Iterator[str]:
        check_key(prefix)

        def ask(seal: Seal) -> list[str]:
            every = (opened_key(seal, outer) for outer in self._inner.iterate())
            return sorted(key for key in every if key.startswith(prefix) and (after is None or key > after))

        return iter(self._asked(ask, list[str]()))

    def iterate(self, prefix: str = "", after: str | None = None) -> Iterator[Record]:
        found = map(self.find, self.keys(prefix, after))
        return (record for record in found if record is not None and record.value is not None)

    def waiting(self) -> list[str]:
        def ask(seal: Seal) -> list[str]:
            found = map(self._inner.find, self._inner.waiting())
            return [opened_key(seal, outer) for outer in found if outer is not None]

        return self._asked(ask, list[str]())

    def since(self, record_id: int, limit: int) -> list[Record]:
        def ask(seal: Seal) -> list[Record]:
            return [opened(seal, outer, RECORD) for outer in self._inner.since(record_id, limit)]

        return self._asked(ask, list[Record]())

    def ids(self) -> set[int]:
        return self._inner.ids()

    def last_id(self) -> int:
        return self._inner.last_id()

    def __len__(self) -> int:
        return len(self._inner)

    def due(self, now: float) -> list[str]:
        def ask(seal: Seal) -> list[str]:
            found = map(self._inner.find, self._inner.due(now))
            return [opened_key(seal, outer) for outer in found if outer is not None]

        return self._asked(ask, list[str]())

    def overdue(self, now: float) -> list[str]:
        return sorted(self._vault.names(self._inner.overdue(now)))

    # Transactions

    def transaction(self) -> AbstractContextManager[None]:
        return self._vault.transaction()

    def reading(self) -> AbstractContextManager[None]:
        return self._inner.reading()

    @property
    def in_transaction(self) -> bool:
        return self._inner.in_transaction

    def generation(self) -> object:
        return self._inner.generation()

    # Namespaces

    def within(self, name: str) -> Records:
        full = joined(self.namespace, name)
        return Sealed(self._inner.within(self._vault.place_of(full)), self._vault.source, full, self._vault)

    def namespaces(self) -> list[str]:
        return sorted(self._vault.names(self._inner.namespaces()))

    def drop(self) -> int:
        with self.transaction():
            if not self._place:
                return self._vault.drop_all()
            self._vault.forget(self._vault.within(self._place))
            return self._inner.drop()

    # What is kept for indexes

    def ledger(self, kind: str) -> dict[str, dict[str, Any]]:
        def ask(seal: Seal) -> dict[str, dict[str, Any]]:
            stood = seal.kind(kind)
            notes = (opened_note(seal, stood, called, note) for called, note in self._inner.ledger(stood).items())
            return {name: note for _, name, note in notes}

        return self._asked(ask, dict[str, dict[str, Any]]())

    def ledger_put(self, kind: str, name: str, note: dict[str, Any]) -> None:
        with self.transaction():
            self._inner.ledger_put(*enclose_note(self._own(), kind, name, note))

    def ledger_remove(self, kind: str, name: str) -> None:
        with self.transaction():
            seal = self._held()
            if seal is not None:
                self._inner.ledger_remove(seal.kind(kind), seal.note(f"{kind}\0{name}"))

    def write_file(self, name: str, content: bytes) -> None:
        with self.transaction():
            seal = self._own()
            self._inner.write_file(name, seal.ring.seal(content, seal.bound("file", name)))

    def read_file(self, name: str) -> bytes:
        def ask(seal: Seal) -> bytes | None:
            return seal.ring.open(self._inner.read_file(name), seal.bound("file", name), "the file", name)

        content = self._asked(ask, None)
        if content is None:
            self._inner.read_file(name)
            raise self._gone()
        return content

    def map_file(self, name: str) -> Mapped:
        return self.read_file(name)

    def files(self, folder: str) -> list[str]:
        return self._inner.files(folder)

    def delete_file(self, name: str) -> None:
        self._inner.delete_file(name)

    # The whole memory

    def dump(self) -> Iterator[tuple[str, Row]]:
        """Sealed: the root as the inner records hold it; another namespace sealed anew, as a memory of
        its own. Either is opened with the master key of this moment."""
        return excerpt(self._vault, self._inner, self.namespace) if self._place else self._inner.dump()

    def load(self, rows: Iterable[tuple[str, Row]]) -> None:
        """Takes in what `dump` gave, sealed with this memory's master key; handles of
        namespaces that were made before show nothing of it. Raises also WrongKey."""
        self._vault.load(self._inner, rows)

    def check(self) -> list[str]:
        """What is wrong with the inner store; and places of which the key is gone, though not the rest."""
        places = [self._place, *self._inner.namespaces()] if len(self._inner) else self._inner.namespaces()
        known = {SEALS, *self._vault.within(self._place)}
        gone = (f"the key of the namespace at {place!r} is gone: what was in it is erased; drop it or what is above it"
                for place in places if place not in known)  # fmt: skip
        return [*self._inner.check(), *gone]

    def close(self) -> None:
        self._inner.close()

    def _asked(self, ask: Callable[[Seal], T], nothing: T) -> T:
        """What is found with the keys at hand. Where that is nothing, or sealed with another key, and
        these are no longer this namespace's keys, it is asked for again with the new ones."""
        seal = self._vault.seal(self._place)
        while seal is not None:
            unknown = None
            try:
                found = ask(seal)
                if found != nothing:
                    return found
            except UnknownKey as error:
                unknown = error
            seal, before = self._vault.look(self._place), seal
            if seal is before:
                if unknown is not None:
                    raise unknown
                return nothing
        return nothing if self._seal() is None else self._asked(ask, nothing)

    def _opened(self, seal: Seal, outer: Record | None) -> Record | None:
        return None if outer is None else opened(seal, outer, RECORD)

    def _seal(self) -> Seal | None:
        """This namespace's keys; none where it holds nothing. Raises MemoryFormatError where it does."""
        with self._inner.reading():
            seal = self._vault.look(self._place)
            if seal is None and len(self._inner):
                raise self._gone()
            return seal

    def _own(self) -> Seal:
        """This namespace's keys to write with, made where it has none; inside `transaction`."""
        return self._held() or self._vault.make(self._place, self.namespace)

    def _held(self) -> Seal | None:
        """`_seal`, looked up once in a transaction."""
        return self._vault.seal(self._place) or self._seal()

    def _gone(self) -> MemoryFormatError:
        cure = "drop the namespace to use its name anew"
        said = f"the key of namespace {self.namespace!r} is gone: what was in it is erased"
        return MemoryFormatError(f"{said}; {cure}.", self.namespace)
