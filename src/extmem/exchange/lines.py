"""A memory as JSON lines: a header, then a record a line, with everything that is known of it.

Knows: records and JSON. Does not know: other tools' formats (`importers.py`).

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
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from extmem.errors import InvalidInput, storage_error
from extmem.memory import Memory
from extmem.records.base import Record
from extmem.records.values import valid_text

FORMAT = 1
HEADER = {"extmem": "export", "format": FORMAT}
SAID = ("version", "created", "updated", "metadata", "author", "trust", "expires", "valid_from", "valid_to")
TIMES = ("created", "updated", "expires", "valid_from", "valid_to")

States = list[Record]


def export(memory: Memory, path: str | Path, progress: Callable[[int], None] = lambda records: None) -> int:
    """Writes this namespace and all below to a file, in the order of their keys; how many records.

    Interrupted, the same call goes on behind the last whole line (in PATH.partial), if the memory would
    still write that line so; records before it are not looked at again. Raises StorageError.
    """
    path = Path(path)
    draft = path.with_name(path.name + ".partial")
    try:
        with open(draft, "a+b") as file:
            done, last = _written(file, memory)
            for line in _lines(memory, last, header=not done):
                file.write(line)
                done += 1
                progress(done - 1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise storage_error(error, path) from error
    return done - 1


def write(memory: Memory, file: IO[bytes]) -> int:
    """As `export`, to an open file; how many records."""
    return sum(1 for line in _lines(memory, None, header=True) if file.write(line)) - 1


def read(line: str | bytes, what: str) -> tuple[str, States]:
    """The namespace and the states of a line; `what` names it in an error. Raises InvalidInput."""
    try:
        fields = json.loads(line)
        key, space = fields["key"], fields.get("namespace", "")
        if not (isinstance(key, str) and isinstance(space, str)):
            raise ValueError("a key and a namespace are text")
        return valid_text(space), [_record(key, state) for state in fields.get("states", [fields])]
    except InvalidInput:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{what} is no record of an export ({error!r}): mend or delete it.", what) from error


def check_header(line: str | bytes, what: str) -> None:
    """Raises InvalidInput where a file is of another format."""
    found = json.loads(line).get("format")
    if found != FORMAT:
        raise InvalidInput(f"{what} is an export of format {found}, this extmem reads {FORMAT}: update extmem.", what)


def _lines(memory: Memory, last: tuple[str, str] | None, header: bool) -> Iterator[bytes]:
    """The lines behind the (namespace, key) written last."""
    if header:
        yield _json(HEADER)
    for space in ["", *memory.namespaces()]:
        if last is not None and space < last[0]:
            continue
        after = last[1] if last is not None and space == last[0] else None
        here = memory.at(space) if space else memory
        waiting = sorted(key for key in here.records.waiting() if after is None or key > after)
        for key in heapq.merge(here.keys(after=after), waiting):
            if line := _line(here, space, key):
                yield line


def _line(here: Memory, space: str, key: str) -> bytes | None:
    """The line of a key, if it is there."""
    states = here.history(key)
    if not states:
        return None
    row = here.records.find(key)
    newest = states[-1] if row is None or row.value is None else row
    said = {"namespace": space} if space else {}
    kept = [_said(state) for state in states] if here.records.states(key) else []
    return _json({**said, "key": key, **_said(newest), **({"states": kept} if kept else {})})


def _said(record: Record) -> dict[str, Any]:
    said = {name: value for name in SAID if (value := getattr(record, name)) is not None}
    if said["trust"] == 1:
        del said["trust"]
    if isinstance(record.value, bytes):
        return {"bytes": base64.b64encode(record.value).decode(), **said}
    return {"value": record.value, **said}


def _record(key: str, said: dict[str, Any]) -> Record:
    given = {name: said[name] for name in SAID if name in said}
    for name in TIMES:
        if name in given and not isinstance(given[name], int | float):
            raise ValueError(f"{name} is no number of seconds")
    value = base64.b64decode(said["bytes"], validate=True) if "bytes" in said else said["value"]
    return Record(valid_text(key), value, **given)._replace(due=given.get("expires"))


def _written(file: IO[bytes], memory: Memory) -> tuple[int, tuple[str, str] | None]:
    """How many whole lines of this memory a file has, which was the last record; what follows is cut off."""
    file.seek(0)
    lines, end, line = 0, 0, b""
    for found in file:
        if found.endswith(b"\n"):
            lines, end, line = lines + 1, end + len(found), found
    with suppress(InvalidInput):  # no line of ours
        space, (state, *_) = read(line, file.name)
        if line == _line(memory.at(space) if space else memory, space, state.key):
            file.truncate(end)
            return lines, (space, state.key)
    file.truncate(0)  # of another memory, or of one that has changed there
    return 0, None


def _json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"
