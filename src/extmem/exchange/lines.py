"""A memory as JSON lines: a header, then a record a line, with everything that is known of it.

Knows: records and JSON. Does not know: other tools' formats (`formats.py`).

    {"extmem": "export", "format": 1}
    {"namespace": "alice", "key": "job", "value": "cook", "version": 2, "created": 1.7e9, …, "states": [{…}, …]}

Bytes stand under "bytes" as base64. What is None, and trust 1, is left out. "states" are all values of a key
that were kept, by version. NaN and infinities are written as Python's json does.
"""

from __future__ import annotations

import base64
import heapq
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from extmem.errors import InvalidInput, StorageError, storage_error
from extmem.memory import Memory
from extmem.records.base import Record, Records, below, relative
from extmem.records.timeline import checked, unexpired, valid_at
from extmem.records.values import valid_text

FORMAT = 1
HEADER = {"extmem": "export", "format": FORMAT}
SAID = ("version", "created", "updated", "metadata", "author", "trust", "expires", "valid_from", "valid_to")

States = list[Record]


def export(memory: Memory, path: str | Path, progress: Callable[[int], None] = lambda records: None) -> int:
    """Writes this namespace and all below, as of one moment, to a file that only its owner may read, in the
    order of their keys; how many records. What has expired is left out.

    Interrupted, the same call goes on behind the last whole line (in PATH.partial), if the memory would
    still write that line so; records before it are not looked at again. Raises InvalidInput, StorageError.
    """
    path = Path(path)
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder: give the path of a file.", path)
    draft = path.with_name(path.name + ".partial")
    try:
        with open(draft, "a+b", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            os.fchmod(file.fileno(), 0o600)  # it may have been there
            with _moment(memory) as now:
                done, last = _written(file, memory.records, now)
                for line in _lines(memory.records, now, last):
                    file.write(line)
                    done += 1
                    progress(done - 1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise error if isinstance(error, StorageError) else storage_error(error, path) from error
    return done - 1


def write(memory: Memory, file: IO[bytes]) -> int:
    """As `export`, to an open file; how many records."""
    with _moment(memory) as now:
        return sum(1 for line in _lines(memory.records, now) if file.write(line)) - 1


def read(line: str | bytes, what: str) -> tuple[str, States]:
    """The namespace and the states of a line; `what` names it in an error. Raises InvalidInput."""
    try:
        fields = json.loads(line)
        if not isinstance(fields, dict):
            raise ValueError("it is not an object")
        key, space = fields["key"], fields.get("namespace", "")
        if not (isinstance(key, str) and isinstance(space, str)):
            raise ValueError("a key and a namespace are text")
        said = fields.get("states", [fields])
        if not said or not isinstance(said, list):
            raise ValueError("states is a list of at least one value")
        states = [record_of(key, state) for state in said]
        if any(one.version >= other.version for one, other in pairwise(states)):
            raise ValueError("the versions of states ascend")
        return valid_text(space), states
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        cause = f"it has no {error}" if isinstance(error, KeyError) else str(error)[:200].rstrip(".")
        raise InvalidInput(f"{what} is not a record of an export ({cause}): mend or delete it.", what) from error


def value_json(value: object) -> dict[str, Any]:
    """A value under "value", or bytes under "bytes"."""
    return {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes) else {"value": value}


def known_of(record: Record) -> dict[str, Any]:
    """What is known of a record beside its value, by the names of SAID."""
    return {name: value for name in SAID if (value := getattr(record, name)) is not None}


def value_of(said: dict[str, Any]) -> Any:
    """What `value_json` made this of. Raises KeyError, ValueError."""
    return base64.b64decode(said["bytes"], validate=True) if "bytes" in said else said["value"]


def record_of(key: str, said: object) -> Record:
    """A record of which this is said, as in a line. Raises ValueError, KeyError."""
    if not isinstance(said, dict):
        raise ValueError("a state is an object")
    given = {name: said[name] for name in SAID if name in said}
    if None in given.values():
        raise ValueError("what is not known is left out, not null")
    return checked(Record(valid_text(key), value_of(said), **given))


def check_header(line: str | bytes, what: str) -> None:
    """Raises InvalidInput where a file is not an export, or of another format."""
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or "extmem" not in header:
        raise InvalidInput(f"{what} is not an export, which begins with {json.dumps(HEADER)}: check the path.", what)
    found = header.get("format")
    if found != FORMAT:
        raise InvalidInput(f"{what} is an export of format {found}, this extmem reads {FORMAT}: update extmem.", what)


@contextmanager
def _moment(memory: Memory) -> Iterator[float]:
    """What is read inside is of one moment, which is given; what had come due by then is done."""
    with suppress(StorageError):  # a read-only disk
        memory.namespaces()
    with memory.records.reading():
        yield time.time()


def _lines(top: Records, now: float, last: tuple[str, str] | None = None) -> Iterator[bytes]:
    """The lines behind the (namespace, key) written last, or all; inside `_moment`, and writes nothing."""
    if last is None:
        yield _json(HEADER)
    for space in ["", *(relative(top.namespace, name) for name in top.namespaces())]:
        if last is not None and space < last[0]:
            continue
        after = last[1] if last is not None and space == last[0] else None
        here = below(top, space)
        waiting = sorted(key for key in here.waiting() if after is None or key > after)
        for key in heapq.merge(here.keys(after=after), waiting):
            if line := _line(here, space, key, now):
                yield line


def _line(here: Records, space: str, key: str, now: float) -> bytes | None:
    """The line of a key, if it is there and has not expired."""
    row = here.find(key)
    if row is None:
        return None
    kept = here.states(key)
    left = unexpired(kept or [row], now)
    if not left:
        return None
    newest, kept = valid_at(left, now) or left[-1], left if kept else []
    said = {"namespace": space} if space else {}
    return _json({**said, "key": key, **_said(newest), **({"states": list(map(_said, kept))} if kept else {})})


def _said(record: Record) -> dict[str, Any]:
    said = known_of(record)
    if said["trust"] == 1:
        del said["trust"]
    return {**value_json(record.value), **said}


def _written(file: IO[bytes], top: Records, now: float) -> tuple[int, tuple[str, str] | None]:
    """How many whole lines of this memory a file has, which was the last record; what follows is cut off."""
    file.seek(0)
    lines, end, line = 0, 0, b""
    for found in file:
        if found.endswith(b"\n"):
            lines, end, line = lines + 1, end + len(found), found
    with suppress(InvalidInput):  # no line of ours
        space, (state, *_) = read(line, file.name)
        if line == _line(below(top, space), space, state.key, now):
            file.truncate(end)
            return lines, (space, state.key)
    file.truncate(0)  # of another memory, or of one that has changed there
    return 0, None


def _json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"
