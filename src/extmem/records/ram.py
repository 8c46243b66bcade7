"""Records in RAM: dictionaries, gone with the process.

Knows: dictionaries. Does not know: files.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from extmem.records.base import Derived, Record, Records, joined
from extmem.records.values import check_key, decode, encode

Stored = tuple[int, str, bytes]
Ledger = dict[tuple[str, str], dict[str, dict[str, Any]]]


@dataclass
class _Core:
    """What all namespaces of one memory share."""

    spaces: dict[str, dict[str, Stored]] = field(default_factory=dict)
    keys_by_id: dict[int, tuple[str, str]] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=dict)
    last_id: int = 0
    changes: int = 0
    depth: int = 0
    undo: list[Callable[[], object]] = field(default_factory=list)
    enlisted: dict[int, Derived] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


class RamRecords(Records):
    """See `Records`. Values are kept encoded, so that a caller's list cannot change a record."""

    def __init__(self, namespace: str = "", core: _Core | None = None) -> None:
        self.namespace, self.folder = namespace, None
        self._core = _Core() if core is None else core

    def put(self, key: str, value: object) -> int:
        check_key(key)
        kind, content = encode(value)
        with self._core.lock:
            self._core.last_id += 1
            self._set(key, (self._core.last_id, kind, content))
            return self._core.last_id

    def find(self, key: str) -> Record | None:
        stored = self._space().get(key)
        return None if stored is None else Record(stored[0], key, decode(stored[1], stored[2]))

    def by_id(self, record_id: int) -> Record | None:
        namespace, key = self._core.keys_by_id.get(record_id, (None, ""))
        return self.find(key) if namespace == self.namespace else None

    def delete(self, key: str) -> int | None:
        with self._core.lock:
            stored = self._space().get(key)
            if stored is None:
                return None
            self._set(key, None)
            return stored[0]

    def keys(self, prefix: str = "") -> Iterator[str]:
        with self._core.lock:
            return iter(sorted(key for key in self._space() if key.startswith(prefix)))

    def records(self) -> Iterator[Record]:
        with self._core.lock:
            stored = sorted(self._space().items(), key=lambda item: item[1][0])
        return (Record(number, key, decode(kind, content)) for key, (number, kind, content) in stored)

    def __len__(self) -> int:
        return len(self._space())

    @contextmanager
    def transaction(self) -> Iterator[None]:
        core = self._core
        with core.lock:
            core.depth += 1
            enlisted: list[Derived] = []
            try:
                yield
                for derived in core.enlisted.values() if core.depth == 1 else ():
                    derived.settle()
            except BaseException:
                if core.depth == 1:
                    changes, core.undo = core.undo, []
                    for undo in reversed(changes):
                        undo()
                raise
            finally:
                core.depth -= 1
                if core.depth == 0:
                    enlisted = list(core.enlisted.values())
                    core.undo.clear()
                    core.enlisted.clear()
                for derived in enlisted:
                    derived.sweep()

    @property
    def in_transaction(self) -> bool:
        return self._core.depth > 0

    def enlist(self, derived: Derived) -> None:
        self._core.enlisted[id(derived)] = derived

    def within(self, name: str) -> Records:
        return RamRecords(joined(self.namespace, name), self._core)

    def namespaces(self) -> list[str]:
        below = f"{self.namespace}/" if self.namespace else ""
        return sorted(n for n, space in self._core.spaces.items() if n and space and n.startswith(below))

    def ledger(self, kind: str) -> dict[str, dict[str, Any]]:
        return dict(self._core.ledger.get((self.namespace, kind), {}))

    def ledger_put(self, kind: str, name: str, note: dict[str, Any]) -> None:
        with self._core.lock:
            notes = self._notes(kind)
            notes.pop(name, None)
            notes[name] = note

    def ledger_remove(self, kind: str, name: str) -> None:
        with self._core.lock:
            self._notes(kind).pop(name, None)

    def generation(self) -> object:
        return self._core.changes

    def close(self) -> None:
        """Nothing to let go of."""

    def _space(self) -> dict[str, Stored]:
        return self._core.spaces.get(self.namespace, {})

    def _set(self, key: str, stored: Stored | None) -> None:
        """Gives a key what is stored of it, or takes it away; an open transaction can undo it."""
        core, space = self._core, self._core.spaces.setdefault(self.namespace, {})
        old = space.get(key)
        if stored is None:
            space.pop(key, None)
        else:
            space[key] = stored
            core.keys_by_id[stored[0]] = (self.namespace, key)
        if old is not None:
            del core.keys_by_id[old[0]]
        core.changes += 1
        if core.depth:
            core.undo.append(lambda: self._set(key, old))

    def _notes(self, kind: str) -> dict[str, dict[str, Any]]:
        """The notes of one kind, to be changed; an open transaction can undo it."""
        core, place = self._core, (self.namespace, kind)
        before = dict(core.ledger.get(place, {}))
        core.changes += 1
        if core.depth:
            core.undo.append(lambda: core.ledger.__setitem__(place, before))
        return core.ledger.setdefault(place, {})
