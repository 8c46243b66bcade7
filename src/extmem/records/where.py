"""Which records a filter lets through.

Knows: the fields of a record. Does not know: where records lie.

A filter is a dict, in the style of MongoDB's: every entry must hold. `{"author": "ann"}` is equality;
`{"trust": {"$gte": 0.5}}` compares ($eq $ne $gt $gte $lt $lte); `{"key": {"$in": ["a", "b"]}}` and
"$nin"; `{"metadata.topic": {"$exists": True}}`; "$and" and "$or" take lists of filters, "$not" one. A
field is key, value, version, created, updated, author, trust, expires, valid_from, valid_to, or
"metadata.name". What is not there equals None and is neither greater nor less than anything.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from extmem.errors import InvalidInput
from extmem.records.base import Record

Where = Mapping[str, object]
Test = Callable[[Record], bool]
Compare = Callable[[Any, Any], bool]

FIELDS = frozenset(Record._fields) - {"metadata", "due", "id"}
COMPARE: dict[str, Compare] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$gt": lambda one, other: _in_order(operator.gt, one, other),
    "$gte": lambda one, other: _in_order(operator.ge, one, other),
    "$lt": lambda one, other: _in_order(operator.lt, one, other),
    "$lte": lambda one, other: _in_order(operator.le, one, other),
    "$in": lambda one, others: one in others,
    "$nin": lambda one, others: one not in others,
    "$exists": lambda one, there: (one is not None) == bool(there),
}


def filtered(where: Where | None) -> Test:
    """The test that a filter is. Raises InvalidInput for one that cannot be understood."""
    if where is None:
        return lambda record: True
    tests = [_test(name, wanted) for name, wanted in _filter(where).items()]
    return lambda record: all(test(record) for test in tests)


def _filter(where: object) -> Where:
    if not isinstance(where, Mapping):
        raise InvalidInput(f"where is {where!r}: give a dict such as {{'author': 'ann'}}.", where)
    return where


def _test(name: str, wanted: object) -> Test:
    if name in ("$and", "$or"):
        if not isinstance(wanted, list | tuple):
            raise InvalidInput(f"where: {name} takes a list of filters.", wanted)
        parts, every = [filtered(part) for part in wanted], all if name == "$and" else any
        return lambda record: every(part(record) for part in parts)
    if name == "$not":
        refused = filtered(_filter(wanted))
        return lambda record: not refused(record)
    field, _, inner = str(name).partition(".")
    if name not in FIELDS and (field != "metadata" or not inner):
        raise InvalidInput(f"where: there is no field {name!r}: give {', '.join(sorted(FIELDS))} or metadata.…", name)
    conditions = wanted if isinstance(wanted, Mapping) and any(k.startswith("$") for k in wanted) else {"$eq": wanted}
    compared = [(_operator(sign), other, sign) for sign, other in conditions.items()]
    for _, other, sign in compared:
        if sign in ("$in", "$nin") and not isinstance(other, list | tuple | set | frozenset):
            raise InvalidInput(f"where: {sign} takes a list.", other)

    def test(record: Record) -> bool:
        value = (record.metadata or {}).get(inner) if inner else getattr(record, name)
        return all(compare(value, other) for compare, other, _ in compared)

    return test


def _operator(sign: str) -> Compare:
    if sign not in COMPARE:
        raise InvalidInput(f"where: there is no {sign}: give one of {', '.join(COMPARE)}.", sign)
    return COMPARE[sign]


def _in_order(compare: Compare, one: object, other: object) -> bool:
    try:
        return one is not None and compare(one, other)
    except TypeError:  # text and a number
        return False
