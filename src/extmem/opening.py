"""Where a memory lies: the records that a path, an address or nothing stands for.

Knows: the stores of records, by name. Does not know: indexes, memories.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from extmem.errors import InvalidInput, WrongKey
from extmem.records.base import Records
from extmem.records.ram import RamRecords
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
            raise WrongKey(f"the memory {place} is encrypted: open it with its key (EXTMEM_KEY for commands).", place)
    except BaseException:
        records.close()
        raise
    return records


def open_plain(place: str | Path | None) -> Records:
    """The records as they lie there, encrypted ones not decrypted."""
    if place is None:
        return RamRecords()
    if not isinstance(place, str | Path) or not str(place) or "\0" in str(place):
        raise InvalidInput(f"{place!r} is no path: give a folder's, or a postgresql:// address.", place)
    if str(place).startswith(("postgresql://", "postgres://")):
        return _postgres(str(place))
    return SqliteRecords(Path(place))


def salvaged(place: str | Path) -> None:
    """Makes a damaged folder one that opens: gives up changes in a write-ahead log that cannot be read,
    and takes out keyword indexes that are damaged."""
    if "://" not in str(place):
        records = SqliteRecords(Path(place), drop_log=True)
        try:
            records.salvage()
        finally:
            records.close()


def sealed_records(records: Records) -> Sealed:
    """These records as the encrypted ones that they are. Raises InvalidInput where they are not."""
    if not type(records).__name__ == "Sealed":
        raise InvalidInput("this memory is not encrypted: make a new one with key=… and restore a snapshot into it.")
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
