"""What a layer's `memory=` may be, and how it is read and written.

Knows: the methods of a Memory and of its datastore. Does not know: their classes, Keras.

A Memory keeps the layer's vectors in a datastore of its own, named after their width: two layers of one width that are
not to read each other's vectors take a namespace each. Anything else that finds near vectors is only read.
Shapes: B batch, T time, N vectors, K nearest entries, H width.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from extmem.errors import InvalidInput
from extmem.reading import Nearest, Reading

Floats = NDArray[np.float32]


@runtime_checkable
class Keeper(Protocol):
    """What a layer asks of a Memory."""

    def store(self, key: str, value: object) -> int: ...
    def forget(self, key: str) -> bool: ...
    def record(self, key: str) -> Any: ...
    def transaction(self) -> AbstractContextManager[None]: ...
    def datastore(self, fingerprint: str, dim: int) -> Any: ...


class Entries(NamedTuple):
    """The vectors (N, H) of one record, as a datastore takes them."""

    record_id: int
    keys: Floats
    tokens: NDArray[np.int64]
    spans: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RecordReading(Reading):
    """A Reading that says whose entries were read: `keys` (N, K) are the records' keys, None where there was no
    entry, or where what was read knows no records."""

    keys: tuple[tuple[str | None, ...], ...]


def datastore_of(memory: object, dim: int | None) -> Nearest | None:
    """What of `memory` is read, None while the width is not known. Raises InvalidInput where it cannot be."""
    if isinstance(memory, Keeper):
        found: Nearest | None = None if dim is None else memory.datastore(_name(dim), dim)
        return found
    if not isinstance(memory, Nearest):
        raise InvalidInput(f"memory is {memory!r}: give a Memory, or anything with nearest(queries, k).", memory)
    width = getattr(memory, "dim", dim)
    if None not in (width, dim) and width != dim:
        raise InvalidInput(
            f"the memory holds vectors of {width} numbers, this layer reads {dim}: give another.", memory
        )
    return memory


def keeper_of(memory: object) -> Keeper:
    """The Memory that a layer was given. Raises InvalidInput where it was given none."""
    if not isinstance(memory, Keeper):
        raise InvalidInput("this layer has no Memory to write to: set layer.memory = Memory(…).", memory)
    return memory


def read(memory: object, hidden_BTH: Floats, k: int) -> tuple[NDArray[np.bool_], Floats]:
    """Which of K entries there are (B, T, K), and their vectors (B, T, K, H); none where there is no memory."""
    shape = (*hidden_BTH.shape[:2], k)
    there = np.zeros(shape, np.bool_)
    vectors = np.zeros((*shape, hidden_BTH.shape[2]), np.float32)
    datastore = None if memory is None else datastore_of(memory, hidden_BTH.shape[2])
    if datastore is not None and hidden_BTH.size:
        found = datastore.nearest(hidden_BTH.reshape(-1, hidden_BTH.shape[2]), k)
        if found.vectors.shape[2] != hidden_BTH.shape[2]:
            raise InvalidInput(
                f"the memory gave vectors of {found.vectors.shape[2]} numbers, this layer reads {hidden_BTH.shape[2]}."
            )
        count = found.entries.shape[1]
        there[..., :count] = (found.entries >= 0).reshape(*shape[:2], count)
        vectors[..., :count, :] = found.vectors.reshape(*shape[:2], count, hidden_BTH.shape[2])
    return there, vectors


def store(memory: Keeper, key: str, value: object, vectors_NH: Floats) -> int:
    """Gives `key` this value and these vectors, in one transaction; the record's version. Vectors that the key had
    before are dropped."""
    dim = vectors_NH.shape[1]
    datastore = memory.datastore(_name(dim), dim)
    count, length = len(vectors_NH), len(value) if isinstance(value, str) else 0
    with memory.transaction():
        version = memory.store(key, value)
        record = memory.record(key)
        if datastore.holds(record.id):
            datastore.discard(record)
        spans = np.tile(np.array([0, length]), (count, 1))
        datastore.append([Entries(record.id, vectors_NH, np.arange(count), spans)])
    return version


def retrieve(memory: object, queries_NH: Floats, k: int) -> RecordReading:
    """The K entries nearest to each query, and the records they came from. Raises InvalidInput."""
    datastore: Any = datastore_of(memory, queries_NH.shape[1])
    moment = datastore.view() if hasattr(datastore, "view") else datastore
    found = moment.nearest(queries_NH, k)
    if moment is datastore:
        keys: list[list[str | None]] = [[None] * found.entries.shape[1]] * len(queries_NH)
    else:
        ids = np.full(found.entries.shape, -1, np.int64)
        ids[found.entries >= 0] = moment.records(found.entries[found.entries >= 0])
        named = {number: record.key for number, record in datastore.records.by_ids(np.unique(ids).tolist()).items()}
        keys = [[named.get(number) for number in row] for row in ids.tolist()]
    return RecordReading(found.entries, found.distances, found.vectors, tuple(map(tuple, keys)))


def _name(dim: int) -> str:
    """Of the datastore for vectors of this width: as one of vectors, no language model takes it for its own."""
    return f"vectors-keras-{dim}"
