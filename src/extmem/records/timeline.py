"""What a key holds over time: values that begin, end, supersede one another and expire.

Knows: records and moments. Does not know: where records are kept; what is derived from them, but that it
is to be dropped with a value.

A value begins at `valid_from`, or when it was stored. At any moment that value is valid which began
last before it (of two that began together, the one stored later), unless it has ended by then: a newer
value supersedes the older one, and the older one does not come back when the newer one ends. So the
answer depends on what was stored and not on the order of storing. The record of a key is the value that
is valid now; where one has a validity, or history is kept, all of them are kept as the key's states.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

from extmem.errors import InvalidInput, VersionConflict
from extmem.records.base import Record, Records
from extmem.records.values import encode

Moment = float | datetime


class Timeline:
    """Writes and reads the records of one namespace in the course of time; `discard` drops what is
    derived from a record."""

    def __init__(self, records: Records, discard: Callable[[Record], None]) -> None:
        self.records, self.discard = records, discard

    def at(self, key: str, moment: float | None = None) -> Record | None:
        """What is valid of a key now, or at a moment; writes nothing."""
        row, now = self.records.find(key), time.time()
        if row is None or (moment is None and row.value is None and row.due is None):
            return None
        if moment is None and (row.due is None or row.due > now):
            return None if row.value is None else row
        states = self.records.states(key) or [row]
        return None if _expired(states, now) else valid_at(states, now if moment is None else moment)

    def states(self, key: str) -> list[Record]:
        """Every value of a key that is kept, by version."""
        row = self.records.find(key)
        states = [] if row is None else self.records.states(key) or [row]
        return [] if states and _expired(states, time.time()) else states

    def write(self, new: Record, expect: int | None) -> int:
        """Gives a key a new value, inside a transaction; returns its version. Raises VersionConflict."""
        row, now = self._current(new.key), time.time()
        here = row if row is not None and row.value is not None else None
        if expect is not None and expect != (here.version if here else 0):
            raise VersionConflict(new.key, expect, here.version if here else 0)
        states = self.records.states(new.key) if row else []
        if here is not None and expect is None and not states and _same(here, new):
            return here.version
        if row is not None:
            last = states[-1] if states else row
            moment = max(new.updated, last.updated)  # the clock may have gone back
            new = new._replace(version=last.version + 1, created=row.created, updated=moment)
        timed = any(r.valid_from is not None or r.valid_to is not None for r in (new, here or new))
        if not states and here is not None and (timed or self.records.ledger("settings").get("history")):
            self.records.keep(here)
            states = [here]
        if states or timed:
            self.records.keep(new)
            self._place(row, [*states, new], max(now, new.updated))
        else:
            if row is not None:
                self._drop(row)
            self.records.put(new._replace(due=new.expires, id=0))
        return new.version

    def restore(self, states: Sequence[Record]) -> None:
        """Gives a key, inside a transaction, all the values it had elsewhere, by version; a key that is
        there gets them as new values."""
        if len(states) == 1 or self._current(states[0].key) is not None:
            for state in states:
                self.write(state, None)
        elif not _expired(states, time.time()):
            for state in states:
                self.records.keep(state)
            self._place(None, states, time.time())

    def erase(self, key: str) -> bool:
        """Erases a key, inside a transaction; False if nothing was known of it."""
        row = self._current(key)
        if row is None:
            return False
        self._drop(row)
        return self.records.delete(key)

    def settle(self) -> bool:
        """Does what has come due: forgets what has expired, has values begin and end; False if nothing had."""
        if not self.records.due(time.time()):
            return False
        with self.records.transaction():
            for key in self.records.due(time.time()):
                self._current(key)
        return True

    def _current(self, key: str) -> Record | None:
        """What lies under a key, once what has come due there is done."""
        row, now = self.records.find(key), time.time()
        if row is None or row.due is None or row.due > now:
            return row
        states = self.records.states(key) or [row]
        if _expired(states, now):
            self._drop(row)
            self.records.delete(key)
            return None
        self._place(row, states, now)
        return self.records.find(key)

    def _place(self, row: Record | None, states: Sequence[Record], now: float) -> None:
        """Makes the record of a key the one of its states that is valid now."""
        best, due = valid_at(states, now), next_change(states, now)
        if row is not None and row.value is not None and best is not None and best.version == row.version:
            self.records.put(row._replace(due=due))
            return
        if row is not None:
            self._drop(row)
        nothing = states[-1]._replace(value=None, metadata=None)
        self.records.put((best or nothing)._replace(due=due, id=0))

    def _drop(self, row: Record) -> None:
        if row.value is not None:
            self.discard(row)


def _expired(states: Sequence[Record], now: float) -> bool:
    expires = states[-1].expires
    return expires is not None and expires <= now


def _same(one: Record, other: Record) -> bool:
    """Whether storing `other` over `one` would change nothing but times."""
    said = ("metadata", "author", "trust", "expires", "valid_from", "valid_to")
    return encode(one.value) == encode(other.value) and all(getattr(one, n) == getattr(other, n) for n in said)


def said(
    metadata: dict[str, object] | None,
    author: str | None,
    trust: float,
    ttl: float | None,
    valid_from: Moment | None = None,
    valid_to: Moment | None = None,
) -> Record:
    """A record with all that is said of a value but its key and itself. Raises InvalidInput."""
    now = time.time()
    if metadata is not None and type(metadata) is not dict:
        raise InvalidInput(f"metadata is {metadata!r}: give a dict.", metadata)
    if author is not None and not isinstance(author, str):
        raise InvalidInput(f"author is {author!r}: give a name.", author)
    if not isinstance(trust, int | float) or not 0 <= trust <= 1:
        raise InvalidInput(f"trust is {trust!r}: give a number from 0 to 1.", trust)
    if ttl is not None and (not isinstance(ttl, int | float) or not 0 < ttl < float("inf")):
        raise InvalidInput(f"ttl is {ttl!r}: give seconds, more than 0.", ttl)
    starts, ends = (None if moment is None else seconds(moment) for moment in (valid_from, valid_to))
    if ends is not None and ends <= (now if starts is None else starts):
        raise InvalidInput("valid_to is not after valid_from: give a later moment.", valid_to)
    due = None if ttl is None else now + ttl
    return Record("", None, 1, now, now, metadata, author, trust, due, starts, ends, due)


def seconds(moment: Moment) -> float:
    """A moment in seconds since 1970, UTC. Raises InvalidInput for what is none."""
    if isinstance(moment, datetime):
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    if not isinstance(moment, int | float) or moment != moment:
        raise InvalidInput(f"{moment!r} is no moment: give a datetime or seconds since 1970.", moment)
    return float(moment)


def begins(record: Record) -> float:
    """The moment from which a value is valid."""
    return record.updated if record.valid_from is None else record.valid_from


def valid_at(states: Sequence[Record], moment: float) -> Record | None:
    """The one of a key's values that is valid at a moment."""
    begun = [state for state in states if begins(state) <= moment]
    if not begun:
        return None
    last = max(begun, key=lambda state: (begins(state), state.version))
    return None if last.valid_to is not None and last.valid_to <= moment else last


def next_change(states: Sequence[Record], moment: float) -> float | None:
    """The first moment after this one at which the key's answer changes: a value begins or ends, or the
    key expires."""
    ends = (state.valid_to for state in states)
    expires = states[-1].expires
    changes = (*map(begins, states), *ends, expires)
    return min((change for change in changes if change is not None and change > moment), default=None)
