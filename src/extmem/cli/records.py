"""store, retrieve, forget, list, history, keep-history, duplicates. Knows: Memory. Does not know: models."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from extmem.cli import given, output
from extmem.errors import InvalidInput
from extmem.memory import Memory
from extmem.opening import is_server

MemoryOption = Annotated[
    str,
    typer.Option("--memory", envvar="EXTMEM_MEMORY", help="A folder, or postgresql://…", show_default=True),
]
NamespaceOption = Annotated[
    str | None,
    typer.Option("--namespace", help="The namespace, as alice or team/alice; without it the root."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
WhereOption = Annotated[str, typer.Option("--where", help='A filter, such as {"trust": {"$gte": 0.5}}.')]
DEFAULT = "./extmem.mem"
DATE = "a date, as 2026-01-31 or 2026-01-31T12:00+02:00; without a zone it is UTC."


@contextmanager
def opened(
    place: str, namespace: str | None = None, *, create: bool = False, optional: bool = False
) -> Iterator[Memory]:
    """The memory at `place`, or a namespace of it, closed at the end. Where there is none it is made (`create`),
    or an empty one in RAM stands for it (`optional`, at the default place only), or InvalidInput is raised.
    An encrypted one is opened with what EXTMEM_KEY names."""
    within = "" if namespace is None else given.namespace(namespace)
    key = os.environ.get("EXTMEM_KEY") or None
    if optional and place == DEFAULT and not is_there(place):
        handle = Memory()
    elif create:
        handle = Memory(place, key=key)
    else:
        handle = Memory(must_be_there(place), key=key)
    with handle:
        yield handle.at(within)


def is_there(place: str) -> bool:
    """Whether a memory lies there; a server is asked when it is opened."""
    files = [Path(place) / name for name in ("records.db", "records.db-wal")] if place else []
    return is_server(place) or any(file.is_file() for file in files)


def must_be_there(place: str) -> str:
    """The place. Raises InvalidInput where there is no memory."""
    if not is_there(place):
        named = place or "''"
        raise InvalidInput(f"there is no memory at {named}: check the path, or store something first.", place)
    return place


def store(
    key: str,
    value: Annotated[str, typer.Argument(help="The text; '-' reads it from standard input.")],
    memory: MemoryOption = DEFAULT,
    namespace: NamespaceOption = None,
    metadata: Annotated[str, typer.Option(help="A JSON object kept beside the value.")] = "",
    author: Annotated[str, typer.Option(help="Author of the value.")] = "",
    trust: Annotated[float, typer.Option(help="Trust in the value, 0 to 1.")] = 1.0,
    ttl: Annotated[str, typer.Option(help="When the key is forgotten: 90 (seconds), 90s, 10m, 2h, 7d.")] = "",
    valid_from: Annotated[str, typer.Option(help=f"From when it holds: {DATE}")] = "",
    valid_to: Annotated[str, typer.Option(help=f"Until when it holds: {DATE}")] = "",
    expect: Annotated[int | None, typer.Option(help="Only if the key is of this version; 0: not there.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Store the text VALUE under KEY, in place of an older value. Where VALUE is '-' the text is read from
    standard input: UTF-8, as it comes, without the last line break. Exit status 1 if --expect is not met."""
    said = given.json_object("--metadata", metadata)
    since, until, seconds = given.moment(valid_from), given.moment(valid_to), given.span(ttl)
    text = given.text(value)
    with opened(memory, namespace, create=True) as handle:
        version = handle.store(
            key, text, metadata=said, author=author or None, trust=trust, ttl=seconds,
            valid_from=since, valid_to=until, expect=expect,
        )  # fmt: skip
    if as_json:
        output.as_json({"key": key, "stored": True, "version": version})


def retrieve(
    key: str,
    memory: MemoryOption = DEFAULT,
    namespace: NamespaceOption = None,
    as_of: Annotated[str, typer.Option(help=f"The value that held then: {DATE}")] = "",
    as_json: JsonOption = False,
) -> None:
    """Print the value of KEY. Nothing, and exit status 1, if it is not there."""
    with opened(memory, namespace) as handle:
        record = handle.record(key, as_of=given.moment(as_of))
    if as_json:
        output.as_json({"key": key, "value": None, **(_said(record) if record else {})})
    elif record is not None:
        output.raw(shown(record.value))
    if record is None:
        raise typer.Exit(1)


def forget(
    keys: Annotated[list[str], typer.Argument(metavar="KEY...")],
    memory: MemoryOption = DEFAULT,
    namespace: NamespaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase keys, their history and all that is derived. Exit status 1 if none of them was there."""
    with opened(memory, namespace) as handle:
        count = handle.forget_many(keys)
    if as_json:
        one = len(keys) == 1
        output.as_json({"key": keys[0], "forgotten": count == 1} if one else {"keys": keys, "forgotten": count})
    if not count:
        raise typer.Exit(1)


def list_(
    memory: MemoryOption = DEFAULT,
    prefix: Annotated[str, typer.Option(help="Only keys that begin so.")] = "",
    where: WhereOption = "",
    namespace: NamespaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the keys, in order."""
    wanted = given.json_object("--where", where)
    with opened(memory, namespace) as handle:
        keys = handle.keys(prefix) if wanted is None else (record.key for record in handle.scan(prefix, where=wanted))
        if as_json:
            output.as_json({"keys": list(keys)})
            return
        for key in keys:
            output.raw(key)


def history(
    key: str,
    memory: MemoryOption = DEFAULT,
    namespace: NamespaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print every value of KEY that was kept. With its version, when it was stored and by whom, and from when until
    when it is valid where that was said; exit status 1 if none was kept."""
    with opened(memory, namespace) as handle:
        kept = handle.history(key)
    if as_json:
        output.as_json({"key": key, "versions": [_said(record) for record in kept]})
    else:
        for r in kept:
            ends = (("from", r.valid_from), ("until", r.valid_to))
            valid = "".join(f"{word} {_date(end)}  " for word, end in ends if end is not None)
            output.raw(f"{r.version:4d}  {_date(r.updated)}  {r.author or '-'}  {valid}{line(r.value)}")
    if not kept:
        raise typer.Exit(1)


def keep_history(
    off: Annotated[bool, typer.Option("--off", help="Keep no more; what was kept stays.")] = False,
    memory: MemoryOption = DEFAULT,
    namespace: NamespaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep the values that are replaced from now on. In this namespace only; forgetting a key erases them."""
    with opened(memory, namespace) as handle:
        handle.keep_history(not off)
    if as_json:
        output.as_json({"history": not off})


def duplicates(
    memory: MemoryOption = DEFAULT,
    threshold: Annotated[float, typer.Option(help="The part of three-word runs that two texts share.")] = 0.6,
    namespace: NamespaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print pairs of keys whose texts are nearly the same. Nothing is changed; exit status 1 if there is none."""
    with opened(memory, namespace) as handle:
        pairs = handle.duplicates(threshold)
    if as_json:
        output.as_json({"pairs": [pair._asdict() for pair in pairs]})
    else:
        for pair in pairs:
            output.raw(f"{pair.similarity:6.3f}  {pair.key}  {pair.other}")
    if not pairs:
        raise typer.Exit(1)


def shown(value: Any) -> str:
    """A value as text for people."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    return json.dumps(value, ensure_ascii=False)


def line(value: Any) -> str:
    """The beginning of a value, on one line."""
    return " ".join(shown(value).split())[:80]


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


COMMANDS = (store, retrieve, forget, list_, history, keep_history, duplicates)
