"""What a memory is, said with dicts and lists and no thought of speed: {namespace: {key: its values}}.

Knows: what each operation means. Does not know: extmem's code, but for its names of errors.
"""

from __future__ import annotations

import copy
import re
from typing import Any, NamedTuple


class Value(NamedTuple):
    """One value that a key was given."""

    value: Any
    version: int
    created: float
    updated: float
    metadata: dict[str, object] | None
    author: str | None
    trust: float
    expires: float | None
    valid_from: float | None
    valid_to: float | None

    @property
    def begins(self) -> float:
        return self.updated if self.valid_from is None else self.valid_from


class Slot(NamedTuple):
    """A key: all its values, the newest last, and whether they are kept side by side."""

    values: list[Value]
    kept: bool


class Conflict(Exception):
    """The version expected was another."""


class Model:
    """All namespaces; `now` is the time. Every method names the namespace first."""

    def __init__(self) -> None:
        self.spaces: dict[str, dict[str, Slot]] = {}
        self.historic: set[str] = set()
        self.entries: dict[str, dict[tuple[str, int], int]] = {}  # namespace: (key, version): entries
        self.now = 0.0

    def copy(self) -> Model:
        """As it is at this moment."""
        return copy.deepcopy(self)

    # The map

    def slot(self, space: str, key: str) -> Slot | None:
        """What is kept of a key: values expire one by one, and the key with its newest one."""
        slot = self.spaces.get(space, {}).get(key)
        left = [v for v in slot.values if v.expires is None or v.expires > self.now] if slot else []
        return Slot(left, slot.kept) if slot and left and left[-1] is slot.values[-1] else None

    def at(self, space: str, key: str, moment: float | None = None) -> Value | None:
        """The value valid at a moment: the one that began last, unless it has ended."""
        slot, moment = self.slot(space, key), self.now if moment is None else moment
        begun = [value for value in slot.values if value.begins <= moment] if slot else []
        if not begun:
            return None
        last = sorted(begun, key=lambda value: (value.begins, value.version))[-1]
        return None if last.valid_to is not None and last.valid_to <= moment else last

    def store(self, space: str, key: str, new: Value, expect: int | None = None) -> int:
        """Gives a key a value; the version it gets."""
        here, slot = self.at(space, key), self.slot(space, key)
        if expect is not None and expect != (here.version if here else 0):
            raise Conflict
        said = [(v.value, type(v.value), *v[4:]) for v in (here, new) if v]
        if here and expect is None and slot and slot.values[-1] is here and said[0] == said[1]:
            return here.version
        values = slot.values if slot else []
        if values:
            new = new._replace(version=values[-1].version + 1, created=values[0].created)
        timed = any(v.valid_from is not None or v.valid_to is not None for v in (new, here) if v)
        kept = bool(slot and slot.kept) or timed or bool(here and space in self.historic)
        before = self.at(space, key)
        self.spaces.setdefault(space, {})[key] = Slot([*values, new] if kept else [new], kept)
        if self.at(space, key) != before:
            self.unlink(space, key)
        return new.version

    def forget(self, space: str, key: str) -> bool:
        """Everything of a key, gone; whether there was anything."""
        there = self.slot(space, key) is not None
        self.spaces.get(space, {}).pop(key, None)
        self.unlink(space, key)
        return there

    def unlink(self, space: str, key: str) -> None:
        """Drops the entries of a key's values."""
        there = self.entries.get(space, {})
        self.entries[space] = {name: count for name, count in there.items() if name[0] != key}

    # Many of them

    def records(self, space: str) -> dict[str, Value]:
        """What is valid now, by key."""
        found = {key: self.at(space, key) for key in sorted(self.spaces.get(space, {}))}
        return {key: value for key, value in found.items() if value}

    def holding(self, space: str) -> bool:
        """Whether the namespace has anything in it."""
        return any(self.slot(space, key) for key in self.spaces.get(space, {})) or space in self.historic

    def below(self, space: str) -> list[str]:
        """The namespaces within one that have something in them."""
        inner = sorted(name for name in {*self.spaces, *self.historic} if name and self.holding(name))
        return [
            name[len(space) + 1 :] if space else name for name in inner if not space or name.startswith(f"{space}/")
        ]

    def drop(self, space: str) -> int:
        """A namespace and all within it, gone; how many records that were."""
        gone = [name for name in {*self.spaces, *self.historic} if name == space or name.startswith(f"{space}/")]
        count = sum(len(self.records(name)) for name in gone)
        for name in gone:
            self.spaces.pop(name, None)
            self.entries.pop(name, None)
            self.historic.discard(name)
        return count

    def search(self, space: str, word: str) -> set[str]:
        """The keys of the records with a word in their key or their text."""
        found = self.records(space).items()
        return {key for key, value in found if word in _words(key) | _words(value.value)}

    def memorized(self, space: str) -> int:
        """The entries of values that are still valid."""
        there = self.entries.get(space, {}).items()
        valid = {(key, value.version) for key, value in self.records(space).items()}
        return sum(count for name, count in there if name in valid)


def _words(text: object) -> set[str]:
    if isinstance(text, list):
        return set().union(*map(_words, text))
    return set(re.findall(r"[a-z]+", text)) if isinstance(text, str) else set()
