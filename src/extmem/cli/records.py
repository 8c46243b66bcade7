"""store, retrieve, forget, list, search, history, duplicates. Knows: Memory. Does not know: models."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from extmem.cli import output
from extmem.errors import InvalidInput
from extmem.memory import Memory

MemoryOption = Annotated[
    str,
    typer.Option("--memory", envvar="EXTMEM_MEMORY", help="A folder, or postgresql://…", show_default=True),
]
NamespaceOption = Annotated[str, typer.Option("--namespace", help="Whose records; names joined by '/'.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
WhereOption = Annotated[str, typer.Option("--where", help='A filter, such as {"trust": {"$gte": 0.5}}.')]
DEFAULT = "./extmem.mem"


def opened(place: str, namespace: str = "", *, create: bool = False) -> Memory:
    """The memory at `place`, or the part of it that belongs to a namespace; an empty one in RAM where there
    is none, so that reading makes no folder. An encrypted one is opened with what EXTMEM_KEY names."""
    there = create or "://" in place or Path(place).exists()
    memory = Memory(place, key=os.environ.get("EXTMEM_KEY") or None) if there else Memory()
    for name in filter(None, namespace.split("/")):
        memory = memory.namespace(name)
    return memory


def store(
    key: str,
    value: str,
    memory: MemoryOption = DEFAULT,
    namespace: NamespaceOption = "",
    metadata: Annotated[str, typer.Option(help="A JSON object kept beside the value.")] = "",
    author: Annotated[str, typer.Option(help="Who says so.")] = "",
    trust: Annotated[float, typer.Option(help="How far that is to be trusted, 0 to 1.")] = 1.0,
    ttl: Annotated[float | None, typer.Option(help="Seconds until the key is forgotten.")] = None,
    valid_from: Annotated[str, typer.Option(help="From when it holds: a date, as 2026-01-31 or ISO 8601.")] = "",
    valid_to: Annotated[str, typer.Option(help="Until when it holds.")] = "",
    expect: Annotated[int | None, typer.Option(help="Only if the key is of this version; 0: not there.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Store VALUE (text) under KEY; a value that was there is replaced."""
    version = opened(memory, namespace, create=True).store(
        key, value, metadata=_object("--metadata", metadata), author=author or None, trust=trust, ttl=ttl,
        valid_from=_moment(valid_from), valid_to=_moment(valid_to), expect=expect,
    )  # fmt: skip
    if as_json:
        output.as_json({"key": key, "stored": True, "version": version})


def retrieve(
    key: str,
    memory: MemoryOption = DEFAULT,
    namespace: NamespaceOption = "",
    as_of: Annotated[str, typer.Option(help="The value that held at this moment.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Print the value of KEY; nothing, and exit status 1, if it is not there."""
    record = opened(memory, namespace).record(key, as_of=_moment(as_of))
    if as_json:
        output.as_json({"key": key, "value": None, **(_said(record) if record else {})})
    elif record is not None:
        output.raw(shown(record.value))
    if record is None:
        raise typer.Exit(1)


def forget(
    key: str, memory: MemoryOption = DEFAULT, namespace: NamespaceOption = "", as_json: JsonOption = False
) -> None:
    """Erase KEY, its history and everything derived from it; exit status 1 if it was not there."""
    there = opened(memory, namespace).forget(key)
    if as_json:
        output.as_json({"key": key, "forgotten": there})
    if not there:
        raise typer.Exit(1)


def list_(
    memory: MemoryOption = DEFAULT,
    prefix: Annotated[str, typer.Option(help="Only keys that begin so.")] = "",
    where: WhereOption = "",
    namespace: NamespaceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Print the keys, in order."""
    handle, wanted = opened(memory, namespace), _object("--where", where)
    keys = handle.keys(prefix) if wanted is None else (record.key for record in handle.scan(prefix, where=wanted))
    if as_json:
        output.as_json({"keys": list(keys)})
        return
    for key in keys:
        output.raw(key)


def search(
    query: str,
    memory: MemoryOption = DEFAULT,
    k: Annotated[int, typer.Option(help="How many.")] = 10,
    where: WhereOption = "",
    namespace: NamespaceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Find records by words, the best first; exit status 1 if there is none."""
    hits = opened(memory, namespace).search(query, k, _object("--where", where))
    if as_json:
        output.as_json({"hits": [{"key": h.key, "value": h.value, "score": h.score, "source": h.source} for h in hits]})
    else:
        for hit in hits:
            output.raw(f"{hit.score:7.3f}  {hit.key}  {' '.join(shown(hit.value).split())[:80]}")
    if not hits:
        raise typer.Exit(1)


def history(
    key: str,
    memory: MemoryOption = DEFAULT,
    namespace: NamespaceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Print every value of KEY that was kept, when it was stored and by whom; exit status 1 if none was."""
    kept = opened(memory, namespace).history(key)
    if as_json:
        output.as_json({"key": key, "versions": [_said(record) for record in kept]})
    else:
        for r in kept:
            output.raw(
                f"{r.version:4d}  {_date(r.updated)}  {r.author or '-'}  {' '.join(shown(r.value).split())[:80]}"
            )
    if not kept:
        raise typer.Exit(1)


def keep_history(
    off: Annotated[bool, typer.Option("--off", help="Keep no more; what was kept stays.")] = False,
    memory: MemoryOption = DEFAULT,
    namespace: NamespaceOption = "",
) -> None:
    """Keep the values that are replaced from now on, in this namespace; forgetting a key erases them."""
    opened(memory, namespace, create=True).keep_history(not off)


def duplicates(
    memory: MemoryOption = DEFAULT,
    threshold: Annotated[float, typer.Option(help="The part of three-word runs that two texts share.")] = 0.6,
    namespace: NamespaceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Print pairs of keys whose texts are nearly the same; nothing is changed. Exit status 1 if there is none."""
    pairs = opened(memory, namespace).duplicates(threshold)
    if as_json:
        output.as_json({"pairs": [pair._asdict() for pair in pairs]})
    else:
        for pair in pairs:
            output.raw(f"{pair.similarity:6.3f}  {pair.key}  {pair.other}")
    if not pairs:
        raise typer.Exit(1)


def must_be_there(place: str) -> None:
    """Raises InvalidInput where there is no memory."""
    if "://" not in place and not Path(place).exists():
        raise InvalidInput(f"there is no memory at {place}: check the path, or store something first.", place)


def shown(value: Any) -> str:
    """A value as text for people."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    return json.dumps(value, ensure_ascii=False)


def _said(record: Any) -> dict[str, Any]:
    """A record for machines: what is None or internal is left out."""
    said = {name: said for name, said in record._asdict().items() if name not in ("id", "due") and said is not None}
    times = ("created", "updated", "expires", "valid_from", "valid_to")
    return {name: _date(value) if name in times else value for name, value in said.items()}


def _date(moment: float) -> str:
    try:
        return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="seconds")
    except (OverflowError, ValueError):
        return str(moment)


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no date: give one as 2026-01-31 or 2026-01-31T12:00+00:00.", text) from error


def _object(option: str, text: str) -> dict[str, object] | None:
    try:
        found = json.loads(text) if text else None
    except ValueError as error:
        raise InvalidInput(f'{option} {text!r} is no JSON: give an object such as {{"a": 1}}.', text) from error
    if found is not None and not isinstance(found, dict):
        raise InvalidInput(f'{option} {text!r} is no JSON object: give one such as {{"a": 1}}.', text)
    return found


COMMANDS = (store, retrieve, forget, list_, search, history, keep_history, duplicates)
