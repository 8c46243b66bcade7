"""Which records a filter lets through.

Knows: the fields of a record. Does not know: where records lie.

A filter is a dict, in the style of MongoDB's: every entry must hold. `{"author": "ann"}` is equality;
`{"trust": {"$gte": 0.5}}` compares ($eq $ne $gt $gte $lt $lte); `{"key": {"$in": ["a", "b"]}}` and
"$nin"; `{"metadata.topic": {"$exists": True}}`; "$and" and "$or" take lists of filters, "$not" one. A
field is key, value, version, created, updated, author, trust, expires, valid_from, valid_to, or
"metadata.name". A list equals each of its items as well as itself. Times are compared with seconds since
1970, datetimes or ISO 8601 ("2026-01-31", UTC where no zone is named). What is not there equals None and
is neither greater nor less than anything.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from extmem.errors import InvalidInput
from extmem.records.base import Record
from extmem.records.timeline import seconds

Where = Mapping[str, object]
Test = Callable[[Record], bool]
Compare = Callable[[Any, Any], bool]

DEPTH = 50  # filters within one another
FIELDS = frozenset(Record._fields) - {"metadata", "due", "id"}
TIMES = frozenset({"created", "updated", "expires", "valid_from", "valid_to"})
NUMBERS = TIMES | {"version", "trust"}
COMPARE: dict[str, Compare] = {
    "$eq": lambda one, other: _equal(one, other),
    "$ne": lambda one, other: not _equal(one, other),
    "$gt": lambda one, other: _in_order(operator.gt, one, other),
    "$gte": lambda one, other: _in_order(operator.ge, one, other),
    "$lt": lambda one, other: _in_order(operator.lt, one, other),
    "$lte": lambda one, other: _in_order(operator.le, one, other),
    "$in": lambda one, others: any(_equal(one, other) for other in others),
    "$nin": lambda one, others: not any(_equal(one, other) for other in others),
    "$exists": lambda one, there: (one is not None) == bool(there),
}


def filtered(where: Where | None, depth: int = 0) -> Test:
    """The test that a filter is. Raises InvalidInput for one that cannot be understood."""
    if where is None:
        return lambda record: True
    if depth > DEPTH:
        raise InvalidInput(f"where: filters more than {DEPTH} within one another: give a simpler one.")
    tests = [_test(name, wanted, depth + 1) for name, wanted in _filter(where).items()]
    return lambda record: all(test(record) for test in tests)


def _filter(where: object) -> Where:
    if not isinstance(where, Mapping):
        raise InvalidInput(f"where is {where!r}: give a dict such as {{'author': 'ann'}}.", where)
    return where


def _test(name: str, wanted: object, depth: int) -> Test:
    if name in ("$and", "$or"):
        if not isinstance(wanted, list | tuple):
            raise InvalidInput(f"where: {name} takes a list of filters.", wanted)
        parts, every = [filtered(_filter(part), depth) for part in wanted], all if name == "$and" else any
        return lambda record: every(part(record) for part in parts)
    if name == "$not":
        refused = filtered(_filter(wanted), depth)
        return lambda record: not refused(record)
    field, _, inner = str(name).partition(".")
    if name not in FIELDS and (field != "metadata" or not inner):
        raise InvalidInput(f"where: there is no field {name!r}: give {', '.join(sorted(FIELDS))} or metadata.…", name)
    conditions: Mapping[object, object] = {"$eq": wanted}
    if isinstance(wanted, Mapping) and any(str(sign).startswith("$") for sign in wanted):
        conditions = wanted
    compared = [(_operator(sign), _compared(name, sign, other)) for sign, other in conditions.items()]

    def test(record: Record) -> bool:
        value = (record.metadata or {}).get(inner) if inner else getattr(record, name)
        return all(compare(value, other) for compare, other in compared)

    return test


def _compared(name: str, sign: object, other: object) -> object:
    """What a field is compared with. Raises InvalidInput where no record could ever fit."""
    if sign in ("$in", "$nin"):
        if not isinstance(other, list | tuple | set | frozenset):
            raise InvalidInput(f"where: {sign} takes a list.", other)
        return [_compared(name, "$eq", one) for one in other]
    if name not in NUMBERS or sign == "$exists" or other is None:
        return other
    if name in TIMES and isinstance(other, str | datetime):
        try:
            return seconds(datetime.fromisoformat(other) if isinstance(other, str) else other)
        except ValueError as error:
            raise InvalidInput(f"where: {name} {other!r} is not a time: give one as 2026-01-31.", other) from error
    if isinstance(other, bool) or not isinstance(other, int | float):
        raise InvalidInput(f"where: {name} is a number, {other!r} is not.", other)
    return other


def _equal(one: object, other: object) -> bool:
    return one == other or (isinstance(one, list) and other in one)


def _operator(sign: object) -> Compare:
    if not isinstance(sign, str) or sign not in COMPARE:
        raise InvalidInput(f"where: there is no {sign}: give one of {', '.join(COMPARE)}.", sign)
    return COMPARE[sign]


def _in_order(compare: Compare, one: object, other: object) -> bool:
    try:
        return one is not None and compare(one, other)
    except TypeError:  # text and a number
        return False
