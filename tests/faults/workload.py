"""A random workload on a memory: every operation that writes, drawn from a seed, so that two processes
draw the same one; and all that a memory answers, as one value that can be compared.

Knows: Memory. Does not know: what goes wrong meanwhile.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from extmem import Memory
from extmem.indexes.datastore import Entries

SPACES = ("", "alice", "alice/work", "bob")
KEYS = ("a", "b", "apple", "中文", "", "a/b", "NUL\0", "😀")
WORDS = ("quick", "brown", "fox", "lazy", "苹果", "dog", "memory", "durable")
Operation = tuple[Any, ...]


def operation(seed: int, number: int) -> Operation:
    """The operation of this number."""
    draw = random.Random(f"{seed} {number}")
    kind = draw.choices(
        ("store", "timed", "forget", "many", "mixed", "search", "drop", "history", "memorize", "expect"),
        (30, 10, 15, 10, 10, 8, 2, 2, 8, 5),
    )[0]
    return kind, draw.choice(SPACES), draw.randrange(2**40)


def text(draw: random.Random) -> str:
    """Words, now and then more than a page of them."""
    return " ".join(draw.choices(WORDS, k=draw.choice((1, 3, 3, 10, 10, 900))))


def value(draw: random.Random) -> object:
    """A value of any type."""
    return draw.choice(
        (text(draw), draw.randbytes(draw.choice((0, 5, 9000))), draw.random(), {"a": [text(draw), None]})
    )


def at(memory: Memory, space: str) -> Memory:
    """The handle of a namespace."""
    for name in filter(None, space.split("/")):
        memory = memory.namespace(name)
    return memory


def apply(memory: Memory, operation: Operation) -> None:
    """Does it; what it draws, it draws from the operation's own seed."""
    kind, space, seed = operation
    draw, handle = random.Random(seed), at(memory, space)
    key = draw.choice(KEYS)
    if kind == "store":
        handle.store(key, value(draw), metadata=draw.choice((None, {"page": seed})), author=draw.choice((None, "ann")))
    elif kind == "timed":
        begins = draw.choice((None, 1e9 + draw.randrange(10**6), 9e9))
        ends = draw.choice((None, 9.5e9, 1.5e9 if begins and begins < 2e9 else None))
        handle.store(key, value(draw), ttl=draw.choice((None, 1e6)), valid_from=begins, valid_to=ends)
    elif kind == "forget":
        handle.forget(key)
    elif kind == "many":
        handle.store_many((f"{key}{number}", text(draw)) for number in range(draw.choice((2, 10, 100))))
    elif kind == "mixed":
        with memory.transaction():
            for place in draw.sample(SPACES, 2):
                at(memory, place).store(key, value(draw))
                at(memory, place).forget(draw.choice(KEYS))
            handle.store("together", seed)
    elif kind == "search":
        handle.search(text(draw))
    elif kind == "drop":
        memory.drop_namespace(draw.choice(("alice", "bob")))
    elif kind == "history":
        handle.keep_history(draw.random() < 0.7)
    elif kind == "expect":
        record = handle.record(key)
        handle.store(key, value(draw), expect=record.version if record else 0)
    else:
        memorize(handle, f"memorized {key}", draw)


def memorize(handle: Memory, key: str, draw: random.Random) -> None:
    """A record and its entries in a datastore, in one transaction."""
    vectors = np.random.default_rng(draw.randrange(2**32))
    count = draw.choice((1, 5, 200))
    with handle.transaction():
        handle.store(key, text(draw))
        record = handle.record(key)
        assert record is not None
        if not handle.datastore("model", 4).holds(record.id):
            keys = vectors.normal(size=(count, 4)).astype(np.float32)
            spans = np.stack([np.arange(count), np.arange(count) + 1], axis=1)
            handle.datastore("model", 4).append([Entries(record.id, keys, vectors.integers(0, 9, count), spans)])


def answers(memory: Memory) -> dict[str, Any]:
    """Everything that a memory answers, but for ids and for the moments of storing."""
    names = memory.namespaces()
    found: dict[str, Any] = {"namespaces": names}
    for name in ["", *names]:
        handle = at(memory, name)
        keys = list(handle.keys())
        found[name] = {
            "keys": keys,
            "len": len(handle),
            "values": [repr(handle.retrieve(key)) for key in keys],
            "none": [handle.retrieve(key) is None for key in KEYS if key not in keys],
            "many": sorted((key, repr(value)) for key, value in handle.retrieve_many(keys).items()),
            "records": [_said(record) for record in handle.scan()],
            "history": [[_said(record) for record in handle.history(key)] for key in [*KEYS, *keys]],
            "past": [repr(record and record.value) for record in (handle.record(key, as_of=1.4e9) for key in KEYS)],
            "search": [{hit.key for hit in handle.search(word, k=1000)} for word in WORDS[:3]],
            "entries": _entries(handle),
        }
    return found


def _said(record: Any) -> tuple[Any, ...]:
    timed = record.expires is not None
    return (record.key, repr(record.value), record.version, record.metadata, record.author, record.trust, timed,
            record.valid_from, record.valid_to)  # fmt: skip


def _entries(handle: Memory) -> list[tuple[Any, ...]]:
    datastore = handle.datastore("model", 4)
    count = len(datastore)
    queries = np.random.default_rng(7).normal(size=(3, 4)).astype(np.float32)
    near, distances = datastore.search(queries, 5)
    keys = {record.id: record.key for record in handle.scan()}
    cited = [keys.get(datastore.cite(entry)[0]) for entry in range(count)]
    tokens = datastore.tokens.tolist()
    return [(count, near.tolist(), distances.tolist(), cited, tokens)]


def difference(found: object, expected: object, place: str = "") -> str:
    """Where two answers part first, and how; empty if they are one."""
    if isinstance(found, dict) and isinstance(expected, dict) and found.keys() == expected.keys():
        parts = ((found[name], expected[name], f"{place}/{name}") for name in found)
    elif isinstance(found, list | tuple) and isinstance(expected, list | tuple) and len(found) == len(expected):
        parts = (
            (one, other, f"{place}[{number}]") for number, (one, other) in enumerate(zip(found, expected, strict=True))
        )
    else:
        return "" if found == expected else f"{place}: {str(found)[:200]} instead of {str(expected)[:200]}"
    return next(filter(None, (difference(*part) for part in parts)), "")
