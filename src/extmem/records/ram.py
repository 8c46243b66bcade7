"""Records in RAM: dictionaries, gone with the process.

Knows: dictionaries. Does not know: files.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from extmem.records.base import Record, Records, joined
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
            space = self._core.spaces.setdefault(self.namespace, {})
            if key in space:
                del self._core.keys_by_id[space[key][0]]
            self._core.last_id += 1
            space[key] = (self._core.last_id, kind, content)
            self._core.keys_by_id[self._core.last_id] = (self.namespace, key)
            self._core.changes += 1
            return self._core.last_id

    def find(self, key: str) -> Record | None:
        stored = self._space().get(key)
        return None if stored is None else Record(stored[0], key, decode(stored[1], stored[2]))

    def by_id(self, record_id: int) -> Record | None:
        namespace, key = self._core.keys_by_id.get(record_id, (None, ""))
        return self.find(key) if namespace == self.namespace else None

    def delete(self, key: str) -> int | None:
        with self._core.lock:
            stored = self._space().pop(key, None)
            if stored is None:
                return None
            del self._core.keys_by_id[stored[0]]
            self._core.changes += 1
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
            before = None
            if core.depth == 0:
                spaces = {name: dict(space) for name, space in core.spaces.items()}
                ledger = {place: dict(notes) for place, notes in core.ledger.items()}
                before = spaces, dict(core.keys_by_id), ledger
            core.depth += 1
            try:
                yield
            except BaseException:
                if before is not None:
                    core.spaces, core.keys_by_id, core.ledger = before
                    core.changes += 1
                raise
            finally:
                core.depth -= 1

    @property
    def in_transaction(self) -> bool:
        return self._core.depth > 0

    def within(self, name: str) -> Records:
        return RamRecords(joined(self.namespace, name), self._core)

    def namespaces(self) -> list[str]:
        below = f"{self.namespace}/" if self.namespace else ""
        return sorted(n for n, space in self._core.spaces.items() if n and space and n.startswith(below))

    def ledger(self, kind: str) -> dict[str, dict[str, Any]]:
        return dict(self._core.ledger.get((self.namespace, kind), {}))

    def ledger_put(self, kind: str, name: str, note: dict[str, Any]) -> None:
        with self._core.lock:
            notes = self._core.ledger.setdefault((self.namespace, kind), {})
            notes.pop(name, None)
            notes[name] = note
            self._core.changes += 1

    def ledger_remove(self, kind: str, name: str) -> None:
        with self._core.lock:
            self._core.ledger.get((self.namespace, kind), {}).pop(name, None)
            self._core.changes += 1

    def generation(self) -> object:
        return self._core.changes

    def close(self) -> None:
        """Nothing to let go of."""

    def _space(self) -> dict[str, Stored]:
        return self._core.spaces.get(self.namespace, {})
