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

import heapq
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone

from extmem.errors import InvalidInput, StorageError, VersionConflict
from extmem.records.base import Record, Records
from extmem.records.values import check_key, encode, encode_json

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
        return valid_at(unexpired(self.records.states(key) or [row], now), now if moment is None else moment)

    def states(self, key: str) -> list[Record]:
        """Every value of a key that is kept, by version."""
        row = self.records.find(key)
        return [] if row is None else unexpired(self.records.states(key) or [row], time.time())

    def write(self, new: Record, expect: int | None) -> int:
        """Gives a key a new value, inside a transaction; returns its version. Raises VersionConflict."""
        row, now = self._current(new.key), time.time()
        here = row if row is not None and row.value is not None else None
        if expect is not None and expect != (here.version if here else 0):
            raise VersionConflict(new.key, expect, here.version if here else 0)
        states = unexpired(self.records.states(new.key), now) if row else []
        newest = here is not None and (not states or states[-1].version == here.version)
        if here is not None and expect is None and newest and _same(here, new):
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
        there gets them as new values, unless it had these last."""
        here = self.states(states[0].key)[-len(states) :]
        if len(here) == len(states) and all(map(_same, here, states)):
            return
        if len(states) == 1 or self._current(states[0].key) is not None:
            for state in states:
                self.write(state, None)
        elif left := unexpired(states, time.time()):
            for state in left:
                self.records.keep(state)
            self._place(None, left, time.time())

    def erase(self, key: str) -> bool:
        """Erases a key, inside a transaction; False if nothing was known of it."""
        row = self._current(key)
        if row is None:
            return False
        self._drop(row)
        return self.records.delete(key)

    def settle(self) -> bool:
        """Does what has come due: forgets what has expired, has values begin and end; False where it cannot
        be written, as on a read-only disk."""
        try:
            if self.records.due(time.time()):
                with self.records.transaction():
                    for key in self.records.due(time.time()):
                        self._current(key)
            return True
        except (StorageError, InvalidInput):  # InvalidInput: inside a reading
            return False

    def walk(self, prefix: str = "", after: str | None = None) -> Iterator[Record]:
        """What is valid now, in the order of the keys, each as of the moment it is given."""
        after, late = None if after is None else check_key(after), list[Record]()
        if not self.settle():
            keys = (k for k in self.records.due(time.time()) if k.startswith(prefix) and (after is None or k > after))
            waiting = set(self.records.waiting())
            late = [found for key in sorted(keys) if key in waiting and (found := self.at(key))]
        rows = filter(None, map(self.fresh, self.records.iterate(prefix, after)))
        return heapq.merge(rows, late, key=lambda record: record.key)

    def fresh(self, row: Record) -> Record | None:
        """The row itself, or what is valid now where its moment has come."""
        return row if row.due is None or row.due > time.time() else self.at(row.key)

    def _current(self, key: str) -> Record | None:
        """What lies under a key, once what has come due there is done."""
        row, now = self.records.find(key), time.time()
        if row is None or row.due is None or row.due > now:
            return row
        states = self.records.states(key) or [row]
        left = unexpired(states, now)
        if not left:
            self._drop(row)
            self.records.delete(key)
            return None
        for state in states:
            if state.value is not None and state not in left:
                self.records.keep(state._replace(value=None, metadata=None, author=None))
        self._place(row, left, now)
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


def unexpired(states: Sequence[Record], now: float) -> list[Record]:
    """Those of a key's states that are still to be known; none once the last one has expired."""
    left = [s for s in states if s.value is not None and (s.expires is None or s.expires > now)]
    return left if left and left[-1].version == states[-1].version else []


def _same(one: Record, other: Record) -> bool:
    """Whether storing `other` over `one` would change nothing but times."""
    said = ("author", "trust", "expires", "valid_from", "valid_to")
    return (
        encode(one.value) == encode(other.value)
        and (one.metadata == other.metadata and encode_json(one.metadata) == encode_json(other.metadata))
        and all(getattr(one, name) == getattr(other, name) for name in said)
    )


def checked(record: Record) -> Record:
    """A record that was made elsewhere. Raises InvalidInput where it says of itself what no record can."""

    def refuse(what: str, cure: str) -> InvalidInput:
        return InvalidInput(f"the record {record.key!r}: {what} is {getattr(record, what)!r}: give {cure}.", record.key)

    if record.value is None:
        raise refuse("value", "a value, or leave the record out")
    if type(record.version) is not int or not 1 <= record.version < 2**62:
        raise refuse("version", "a whole number from 1")
    for name in ("created", "updated", "expires", "valid_from", "valid_to"):
        moment = getattr(record, name)
        if moment is None and name not in ("created", "updated"):
            continue
        if isinstance(moment, bool) or not isinstance(moment, int | float) or not abs(moment) < 1e300:
            raise refuse(name, "seconds since 1970")
    if isinstance(record.trust, bool):
        raise refuse("trust", "a number from 0 to 1")
    if wrong := _misdescribed(record.metadata, record.author, record.trust):
        raise refuse(*wrong)
    now = time.time()
    return record._replace(updated=min(record.updated, now), created=min(record.created, now), due=record.expires)


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
    if wrong := _misdescribed(metadata, author, trust):
        given = {"metadata": metadata, "author": author, "trust": trust}[wrong[0]]
        raise InvalidInput(f"{wrong[0]} is {given!r}: give {wrong[1]}.", given)
    if ttl is not None and (not isinstance(ttl, int | float) or not 0 < ttl < 1e300):
        raise InvalidInput(f"ttl is {ttl!r}: give seconds, more than 0.", ttl)
    starts, ends = (None if moment is None else seconds(moment) for moment in (valid_from, valid_to))
    if ends is not None and ends <= (now if starts is None else starts):
        raise InvalidInput("valid_to is not after valid_from: give a later moment.", valid_to)
    due = None if ttl is None else now + ttl
    return Record("", None, 1, now, now, metadata, author, trust, due, starts, ends, due)


def _misdescribed(metadata: object, author: object, trust: object) -> tuple[str, str] | None:
    """The first of these that no record can have, and what to give for it."""
    if metadata is not None and type(metadata) is not dict:
        return "metadata", "a dict"
    if author is not None and not isinstance(author, str):
        return "author", "a name"
    if not isinstance(trust, int | float) or not 0 <= trust <= 1:
        return "trust", "a number from 0 to 1"
    return None


def seconds(moment: Moment) -> float:
    """A moment in seconds since 1970, UTC. Raises InvalidInput for what is none."""
    if isinstance(moment, datetime):
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    if not isinstance(moment, int | float) or moment != moment:
        raise InvalidInput(f"{moment!r} is not a moment: give a datetime or seconds since 1970.", moment)
    if not abs(moment) < 1e300:
        raise InvalidInput("no moment lies so far away: leave it out where there is no beginning or end.", moment)
    return float(moment)


def begins(record: Record) -> float:
    """The moment from which a value is valid."""
    return record.updated if record.valid_from is None else record.valid_from


def valid_at(states: Sequence[Record], moment: float) -> Record | None:
    """The one of a key's values that is valid at a moment."""
    begun = [state for state in states if state.value is not None and begins(state) <= moment]
    if not begun:
        return None
    last = max(begun, key=lambda state: (begins(state), state.version))
    return None if last.valid_to is not None and last.valid_to <= moment else last


def next_change(states: Sequence[Record], moment: float) -> float | None:
    """The first moment after this one at which the key's answer changes: a value begins, ends or expires."""
    there = (state for state in states if state.value is not None)
    changes = [change for state in there for change in (begins(state), state.valid_to, state.expires)]
    return min((change for change in changes if change is not None and change > moment), default=None)
