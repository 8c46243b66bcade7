"""Import: what a reader gives is stored in batches, each with a note of how far it came.

Knows: memories, readers by name. Does not know: formats.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from extmem.errors import ExtmemError, InvalidInput
from extmem.exchange.formats import READERS, Found, detect
from extmem.exchange.lines import States
from extmem.memory import Memory

MALFORMED = (AttributeError, TypeError, KeyError, IndexError, ValueError, OverflowError, RecursionError)
RECORDS, SIZE = 2_000, 4 << 20  # of one batch: records, and characters of their values


class Imported(NamedTuple):
    """What an import stored: records read, keys that came more than once in one batch (the last value
    counts), what kind of file it was; and how much of it was skipped, not being text."""

    records: int
    repeated: int
    kind: str
    skipped: int = 0


def import_from(
    memory: Memory, path: str | Path, kind: str = "auto", progress: Callable[[int], None] = lambda records: None
) -> Imported:
    """Stores what a file or folder holds, in bounded memory; `kind` is one of READERS or "auto".

    A batch is one transaction. Interrupted, or stopped by a line that cannot be read, the same call goes
    on behind the last batch, as long as the file is no other. Raises InvalidInput, StorageError.
    """
    path = Path(path)
    if kind != "auto" and kind not in READERS:
        raise InvalidInput(f"there is no kind {kind!r}: give auto or one of {', '.join(READERS)}.", kind)
    _check(path)
    kind = detect(path) if kind == "auto" else kind
    note = _name(path)
    done = int(memory.records.ledger("import").get(note, {"records": 0})["records"])
    found, repeated = _found(path, kind), 0
    skipped = sum(not states for _, states in islice(found, done))
    for batch in _batches(found):
        records = [item for item in batch if item[1]]
        done, skipped = done + len(batch), skipped + len(batch) - len(records)
        repeated += len(records) - len({(space, states[0].key) for space, states in records})
        with memory.transaction():
            _store(memory, records)
            memory.records.ledger_put("import", note, {"records": done})
        progress(done - skipped)
    memory.records.ledger_remove("import", note)
    return Imported(done - skipped, repeated, kind, skipped)


def give_up(memory: Memory, path: Path) -> None:
    """Forgets how far an import had come, of a file that will not be there again."""
    memory.records.ledger_remove("import", _name(path))


def _check(path: Path) -> None:
    """Raises InvalidInput where there is nothing that can be read again, as an import that goes on does."""
    if str(path) == "-" and not path.exists():
        cure = "write it to a file first (… > FILE) and import that"
        raise InvalidInput(f"standard input cannot be read twice, as an import may have to: {cure}.", path)
    if not path.exists():
        raise InvalidInput(f"{path} does not exist: check the path.", path)
    if not path.is_file() and not path.is_dir():
        raise InvalidInput(f"{path} cannot be read twice: write what it gives to a file and import that.", path)


def _found(path: Path, kind: str) -> Found:
    """What a reader finds. Raises InvalidInput, with file and record, for whatever it stumbles over."""
    number = 0
    try:
        for item in READERS[kind](path):
            yield item
            number += 1
    except MALFORMED as error:
        if isinstance(error, ExtmemError) and str(path) in str(error):
            raise
        said = " ".join(str(error).split())[:200].rstrip(".")
        cause = said if isinstance(error, ValueError) else f"{type(error).__name__}: {said}"
        where = f"{path}, record {number + 1}"
        raise InvalidInput(
            f"{where} is not of the kind {kind} ({cause}): mend it, or give its --kind.", path
        ) from error


def _store(memory: Memory, batch: list[tuple[str, States]]) -> None:
    now = time.time()
    spaces: dict[str, list[States]] = {}
    for space, states in batch:
        spaces.setdefault(space, []).append(
            [s if s.updated else s._replace(created=s.created or now, updated=now) for s in states]
        )
    for space, every in spaces.items():
        here = memory.at(space)
        for states in _added(here, every):
            here.timeline.restore(states)


def _added(memory: Memory, every: list[States]) -> list[States]:
    """Stores at once the records that are new and differ in nothing but key and value, as most do in a
    file that says nothing else; returns the others, in their order."""
    like = every[0][0]
    keys = [states[0].key for states in every]
    alike = len(set(keys)) == len(keys) and all(
        len(states) == 1 and states[0][2:] == like[2:] and states[0].valid_from is None and states[0].valid_to is None
        for states in every
    )
    if not alike:
        return every
    left = {key for key, _ in memory.records.add_new([(s.key, s.value) for (s,) in every], like)}
    return [states for states in every if states[0].key in left]


def _batches(found: Found) -> Iterator[list[tuple[str, States]]]:
    batch: list[tuple[str, States]] = []
    size = 0
    for item in found:
        batch.append(item)
        value = item[1][0].value if item[1] else None
        size += len(value) if isinstance(value, str | bytes) else 100
        if len(batch) >= RECORDS or size >= SIZE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _name(path: Path) -> str:
    """What stands for a file as it is now."""
    there = path.stat()
    return hashlib.sha256(f"{path.resolve()}\0{there.st_size}\0{there.st_mtime_ns}".encode()).hexdigest()[:32]
