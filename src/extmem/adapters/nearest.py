"""What lies nearest to a vector that a library hands over, among the records that a filter lets through.

Knows: ids in the order of their nearness. Does not know: where vectors lie, any library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from extmem.errors import InvalidInput
from extmem.indexes.base import of_one_moment
from extmem.memory import Memory
from extmem.records.base import Record
from extmem.records.where import Where, filtered


def fitting(memory: Memory, nearest: Callable[[int], list[int]], k: int, where: Where | None) -> list[Record]:
    """The first k records that `where` lets through; `nearest(n)` gives the first n ids, the nearest first."""
    if type(k) is not int or k < 1:
        raise InvalidInput(f"k is {k!r}: give a whole number, at least 1.", k)
    memory.timeline.settle()
    passes, wanted = filtered(where), k

    def read() -> tuple[list[int], list[Record]]:
        ids = nearest(wanted)
        there = memory.records.by_ids(ids)
        found = [record for number in ids if (record := there.get(number)) is not None and passes(record)]
        return ids, [record for record in found if memory.timeline.fresh(record) is record]

    while True:
        ids, found = of_one_moment(memory.records, read)
        if len(found) >= k or len(ids) < wanted:
            return found[:k]
        wanted *= 4


def unit(vector: Sequence[float]) -> NDArray[np.float32]:
    """(D,): of length 1, or zeros. Raises InvalidInput for what is no vector."""
    try:
        given = np.array(vector, np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"a vector that is none ({error}): give a list of numbers.", vector) from error
    if given.ndim != 1 or not np.isfinite(given).all():
        raise InvalidInput("a vector is a list of finite numbers: check the model that made it.", vector)
    found: NDArray[np.float32] = given / max(float(np.linalg.norm(given)), 1e-9)
    return found
