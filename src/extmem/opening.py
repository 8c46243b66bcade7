"""Where a memory lies: the records that a path, an address or nothing stands for.

Knows: the stores of records, by name. Does not know: indexes, memories.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from extmem.errors import InvalidInput, WrongKey
from extmem.records.base import Records
from extmem.records.ram import RamRecords
from extmem.records.rescue import Rescue, reopened
from extmem.records.sqlite import SqliteRecords

if TYPE_CHECKING:
    from extmem.records.sealed import Sealed

MasterKey: TypeAlias = "bytes | str | Path | Callable[[], bytes | str]"


def open_records(place: str | Path | None, key: MasterKey | None) -> Records:
    """RAM for None, PostgreSQL for "postgresql://…", a folder for any other path; encrypted with `key`.
    Raises InvalidInput, WrongKey, MemoryFormatError, StorageError."""
    records = open_plain(place)
    try:
        if key is not None:
            return _sealed(records, key)
        if records.ledger("seal"):
            where = records.place  # not the address, which may hold a password
            raise WrongKey(f"the memory {where} is encrypted: open it with its key (EXTMEM_KEY for commands).", where)
    except BaseException:
        records.close()
        raise
    return records


def open_plain(place: str | Path | None) -> Records:
    """The records as they lie there, encrypted ones not decrypted."""
    if place is None:
        return RamRecords()
    named = isinstance(place, str | Path) and str(place) and "\0" not in str(place)
    if not named or str(place).encode("utf-8", "replace").decode() != str(place):
        raise InvalidInput(f"{place!r} is not a path: give a folder's, or a postgresql:// address.", place)
    if is_server(place):
        return _postgres(str(place))
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(place)):
        scheme = str(place).partition(":")[0]
        raise InvalidInput(f"there are no memories at {scheme}: addresses: give a folder, or a text postgresql://….")
    return SqliteRecords(Path(place))


def is_server(place: str | Path) -> bool:
    """Whether that is the address of a server and not a folder."""
    return isinstance(place, str) and place.startswith(("postgresql://", "postgres://"))


def salvaged(place: str | Path) -> list[str]:
    """Makes a damaged folder one that opens: gives up changes in a write-ahead log that cannot be read,
    and takes out keyword indexes that are damaged; a line for each."""
    if is_server(place):
        return []
    records, damaged = reopened(Path(place))
    try:
        return [damaged] * bool(damaged) + [f"keyword index {name}" for name in records.excise()]
    finally:
        records.close()


def rescued(place: str | Path, to: str | Path) -> tuple[int, int]:
    """Copies what can still be read of a damaged folder into a new memory; how many records, and of how many
    places it cannot be told what they held. Raises InvalidInput where there is no memory, or one at `to`."""
    rows = Rescue(Path(place))
    target = open_plain(to)
    try:
        target.load(rows)
        return rows.records, rows.unreadable
    finally:
        target.close()


def sealed_records(records: Records) -> Sealed:
    """These records as the encrypted ones that they are. Raises InvalidInput where they are not."""
    if type(records).__name__ != "Sealed":
        cure = "export it, and import that into a new one that is made with a key"
        raise InvalidInput(f"the memory {records.place} is not encrypted: {cure}.")
    return cast("Sealed", records)


def _postgres(address: str) -> Records:
    try:
        from extmem.records.postgres import PostgresRecords
    except ModuleNotFoundError as error:
        raise ImportError(f"PostgreSQL needs {error.name}: pip install 'extmem[postgres]'") from error
    return PostgresRecords(address)


def _sealed(records: Records, key: MasterKey) -> Records:
    try:
        from extmem.records.sealed import Sealed
    except ModuleNotFoundError as error:
        raise ImportError(f"encryption needs {error.name}: pip install 'extmem[sealed]'") from error
    return Sealed(records, key)
