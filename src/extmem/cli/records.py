"""store, retrieve, forget, list, search, stats, verify. Knows: Memory. Does not know: models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from extmem.cli import output
from extmem.errors import InvalidInput
from extmem.memory import Memory

MemoryOption = Annotated[
    str, typer.Option("--memory", envvar="EXTMEM_MEMORY", help="The memory's folder.", show_default=True)
]
NamespaceOption = Annotated[str, typer.Option("--namespace", help="Whose records; names joined by '/'.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DEFAULT = "./extmem.mem"


def opened(path: str, namespace: str = "", *, create: bool = False) -> Memory:
    """The memory at `path`, or the part of it that belongs to a namespace; an empty one in RAM where there
    is none, so that reading makes no folder."""
    memory = Memory(path if create or Path(path).exists() or "://" in path else None)
    for name in filter(None, namespace.split("/")):
        memory = memory.namespace(name)
    return memory


def store(
    key: str, value: str, memory: MemoryOption = DEFAULT, namespace: NamespaceOption = "", as_json: JsonOption = False
) -> None:
    """Store VALUE (text) under KEY; a value that was there is replaced."""
    opened(memory, namespace, create=True).store(key, value)
    if as_json:
        output.as_json({"key": key, "stored": True})


def retrieve(
    key: str, memory: MemoryOption = DEFAULT, namespace: NamespaceOption = "", as_json: JsonOption = False
) -> None:
    """Print the value of KEY; nothing, and exit status 1, if it is not there."""
    value = opened(memory, namespace).retrieve(key)
    if as_json:
        output.as_json({"key": key, "value": value})
    elif value is not None:
        output.raw(_shown(value))
    if value is None:
        raise typer.Exit(1)


def forget(
    key: str, memory: MemoryOption = DEFAULT, namespace: NamespaceOption = "", as_json: JsonOption = False
) -> None:
    """Erase KEY and everything derived from it; exit status 1 if it was not there."""
    there = opened(memory, namespace).forget(key)
    if as_json:
        output.as_json({"key": key, "forgotten": there})
    if not there:
        raise typer.Exit(1)


def list_(
    memory: MemoryOption = DEFAULT,
    prefix: Annotated[str, typer.Option(help="Only keys that begin so.")] = "",
    namespace: NamespaceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Print the keys, in order."""
    keys = opened(memory, namespace).keys(prefix)
    if as_json:
        output.as_json({"keys": list(keys)})
        return
    for key in keys:
        output.raw(key)


list_.__name__ = "list"


def search(
    query: str,
    memory: MemoryOption = DEFAULT,
    k: Annotated[int, typer.Option(help="How many.")] = 10,
    namespace: NamespaceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Find records by words, the best first; exit status 1 if there is none."""
    hits = opened(memory, namespace).search(query, k)
    if as_json:
        output.as_json({"hits": [{"key": h.key, "value": h.value, "score": h.score, "source": h.source} for h in hits]})
    else:
        for hit in hits:
            output.raw(f"{hit.score:7.3f}  {hit.key}  {' '.join(_shown(hit.value).split())[:80]}")
    if not hits:
        raise typer.Exit(1)


def stats(memory: MemoryOption = DEFAULT, as_json: JsonOption = False) -> None:
    """What the memory holds."""
    _must_be_there(memory)
    figures = opened(memory).stats()
    if as_json:
        output.as_json(figures)
        return
    for name, figure in figures.items():
        output.raw(f"{name}: {_shown(figure)}")


def verify(memory: MemoryOption = DEFAULT, as_json: JsonOption = False) -> None:
    """Check that everything derived fits its records, in every namespace; exit status 1 if not."""
    _must_be_there(memory)
    wrong = opened(memory).verify()
    if as_json:
        output.as_json({"wrong": wrong})
    else:
        output.raw("\n".join(wrong) or "every index holds exactly its records' entries")
    if wrong:
        raise typer.Exit(1)


def rebuild(memory: MemoryOption = DEFAULT, namespace: NamespaceOption = "") -> None:
    """Derive the keyword index anew; strike damaged segments out of datastores, to be memorized again."""
    _must_be_there(memory)
    opened(memory, namespace).repair()


def _must_be_there(path: str) -> None:
    if not Path(path).exists():
        raise InvalidInput(f"there is no memory at {path}: check the path, or store something first.", path)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    return json.dumps(value, ensure_ascii=False)


COMMANDS = (store, retrieve, forget, list_, search, stats, verify, rebuild)
