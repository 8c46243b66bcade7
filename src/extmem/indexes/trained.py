"""Trained: arrays that a task learned from the records of one namespace, kept only as long as those records are.

Knows: which field of the metadata marks the records that a task learns from. Does not know: tasks, what is learned.

It is derived, and cannot be changed for one record alone: where a record is dropped that had a part in it, all of it
is, and is to be learned again. Records that came later had no part in it and may come and go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from extmem.errors import MemoryFormatError
from extmem.indexes.base import TRAINED, Index
from extmem.records.base import Record, Records

FOLDER = "datastores/trained"


class Learned(NamedTuple):
    """Arrays by name, and plain values that say what they are; `through` is the id of the last record."""

    arrays: dict[str, NDArray[Any]]
    about: dict[str, Any]
    through: int


class Trained(Index):
    """What the task of this name (letters, digits, '-') learned."""

    def __init__(self, records: Records, name: str) -> None:
        self.records, self.name, self._file = records, name, f"{FOLDER}/{name}.safetensors"

    def keep(self, field: str, learned: Learned, part: set[int]) -> bool:
        """Keeps what was learned from the records of these ids, all of whose metadata has `field`; not where one of
        them is gone already. Whether it did."""
        with self.records.transaction():
            if not part <= set(self.records.by_ids(sorted(part))):
                return False
            self.records.write_file(self._file, save({k: np.ascontiguousarray(v) for k, v in learned.arrays.items()}))
            note = {"field": field, "through": learned.through, "about": learned.about}
            self.records.ledger_put(TRAINED, self.name, note)
            return True

    def load(self) -> Learned | None:
        """What was kept, if it is still there. Raises MemoryFormatError where its file is missing or damaged."""
        with self.records.reading():
            note = self.note()
            if note is None:
                return None
            try:
                arrays = load(self.records.read_file(self._file))
            except SafetensorError as error:
                cure = "extmem verify --repair strikes it out; then train again"
                raise MemoryFormatError(f"{self._file} is damaged ({error}): {cure}.", self._file) from error
            return Learned(arrays, note["about"], note["through"])

    def note(self) -> Mapping[str, Any] | None:
        """What the ledger says of it."""
        found: Mapping[str, Any] | None = self.records.ledger(TRAINED).get(self.name)
        return found

    def discard(self, record: Record) -> None:
        note = self.note()
        if note is not None and record.id <= note["through"] and note["field"] in (record.metadata or {}):
            self.clear()

    def clear(self) -> None:
        self.records.delete_file(self._file)
        self.records.ledger_remove(TRAINED, self.name)

    def verify(self) -> list[str]:
        try:
            self.load()
        except MemoryFormatError as error:
            return [str(error)]
        return []
