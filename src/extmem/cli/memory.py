"""stats, namespaces, drop, verify, salvage, snapshot, restore, new-key, rotate: commands on a whole memory.

Knows: Memory, its folder. Does not know: models.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal

from extmem.cli import given, output
from extmem.cli.records import DEFAULT, JsonOption, MemoryOption, NamespaceOption, must_be_there, opened, shown
from extmem.memory import Memory
from extmem.opening import rescued, salvaged

FIGURES = (
    "records",
    "namespaces",
    "encrypted",
    "history",
    "bytes",
    "datastores",
    "embeddings",
)  # in this order, others behind
WELL = "every checksum is right, every index holds exactly its records' entries"


def stats(memory: MemoryOption = DEFAULT, namespace: NamespaceOption = None, as_json: JsonOption = False) -> None:
    """Show what the memory holds."""
    with opened(memory, namespace) as handle:
        figures = {
            "place": _place(handle),
            "encrypted": type(handle.records).__name__ == "Sealed",
            "history": bool(handle.records.ledger("settings").get("history")),
            **({"bytes": _size(Path(memory))} if Path(memory).is_dir() else {}),
            **handle.stats(),
        }
    if as_json:
        output.as_json(figures)
    else:
        output.table(figures.pop("place"), ("", ""), _rows(figures))


def namespaces(memory: MemoryOption = DEFAULT, namespace: NamespaceOption = None, as_json: JsonOption = False) -> None:
    """Print the namespaces that hold anything."""
    with opened(memory, namespace) as handle:
        names = handle.namespaces()
    if as_json:
        output.as_json({"namespaces": names})
        return
    for name in names:
        output.raw(name)


def drop(name: str, memory: MemoryOption = DEFAULT, as_json: JsonOption = False) -> None:
    """Erase the namespace NAME and all within it. Only that; exit status 1 if there was nothing."""
    with opened(memory) as handle:
        erased = handle.drop_namespace(given.namespace(name))
    if as_json:
        output.as_json({"namespace": name, "forgotten": erased})
    elif erased:
        output.raw(f"erased {output.counted(erased, 'record')} of namespace {name}")
    if not erased:
        raise typer.Exit(1)


def verify(
    memory: MemoryOption = DEFAULT,
    repair: Annotated[bool, typer.Option("--repair", help="Derive anew what is derived and damaged.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Read everything against its checksums. Compares every index with its records, in every namespace; exit
    status 1 if something is wrong. With --repair keyword indexes are derived anew, damaged segments are struck
    out of datastores (memorize their documents again), and a damaged write-ahead log is given up."""
    must_be_there(memory)
    gave_up = salvaged(memory) if repair else []
    with opened(memory) as handle:
        before = wrong = handle.verify()
        if repair:
            handle.repair()
            wrong = handle.verify()
        lines = wrong or [f"{_everywhere(handle)}: {WELL}"]
    mended = [line for line in before if line not in wrong]
    if as_json:
        output.as_json({"wrong": wrong, **({"mended": mended, "gave_up": gave_up} if repair else {})})
    else:
        output.raw("\n".join([*(f"gave up: {s}" for s in gave_up), *(f"mended: {s}" for s in mended), *lines]))
    if wrong:
        raise typer.Exit(1)


def salvage(
    to: Annotated[str, typer.Argument(help="A new folder, or postgresql://…")],
    memory: MemoryOption = DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Copy what can still be read of a damaged memory. It goes into a new one at TO; exit status 1 if there were
    places that could not be read."""
    copied, unread = rescued(must_be_there(memory), to)
    if as_json:
        output.as_json({"to": to, "records": copied, "unread": unread})
    else:
        places = output.counted(unread, "place")
        output.raw(f"copied {output.counted(copied, 'record')} to {to}; {places} could not be read")
    if unread:
        raise typer.Exit(1)


def snapshot(
    to: Annotated[str, typer.Argument(help="A new folder, or postgresql://…")],
    memory: MemoryOption = DEFAULT,
    namespace: NamespaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the memory into a new one at TO. As of one moment, while others write; with --namespace only that
    namespace and those below it, and it becomes the root of the copy."""
    with opened(memory, namespace) as handle:
        handle.snapshot(to)
    _copied(to, as_json)


def restore(
    snapshot: Annotated[str, typer.Argument(help="What `extmem snapshot` made.")],
    memory: MemoryOption = DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Copy a snapshot into an empty memory. It may be not there yet."""
    with opened(snapshot) as handle:
        handle.snapshot(memory)
    _copied(memory, as_json)


def new_key(file: str, as_json: JsonOption = False) -> None:
    """Write a new master key to FILE. Only its owner may read it. A memory made with EXTMEM_KEY=FILE is encrypted
    with it; without the file nobody can read it again."""
    from extmem.records.keys import new_master_key, write_key_file

    write_key_file(Path(file), new_master_key())
    if as_json:
        output.as_json({"file": file})
    else:
        output.raw(f"wrote {file}; keep this file: without it nobody can read the memory")


def rotate(
    memory: MemoryOption = DEFAULT,
    master: Annotated[str, typer.Option(help="The file of the new master key; without it the data's keys.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Change the keys of an encrypted memory. Others may read and write meanwhile: with --master the master key,
    which is quick, without it every namespace's own, which encrypts everything anew."""
    with opened(memory) as handle:
        if master:
            handle.rotate_master(master)
        else:
            handle.rotate_keys()
    if as_json:
        output.as_json({"rotated": "master" if master else "keys"})
    elif master:
        output.raw(f"the master key is now the one in {master}; keep this file: without it nobody can read the memory")
    else:
        output.raw("every namespace has a new key, and everything is encrypted anew")


def _copied(to: str, as_json: bool) -> None:
    """Says what lies in a copy that was just made."""
    with opened(to) as copy:
        records, to = sum(_lengths(copy).values()), _place(copy)
    if as_json:
        output.as_json({"to": to, "records": records})
    else:
        output.raw(f"copied {output.counted(records, 'record')} to {to}")


def _everywhere(handle: Memory) -> str:
    """How many records there are, in how many namespaces; the root is one."""
    lengths = _lengths(handle)
    return f"{output.counted(sum(lengths.values()), 'record')} in {output.counted(len(lengths), 'namespace')}"


def _lengths(handle: Memory) -> dict[str, int]:
    """The number of records of every namespace."""
    return {name: len(handle.at(name)) for name in ["", *handle.namespaces()]}


def _place(handle: Memory) -> str:
    """Where it lies; of a server's address without its password."""
    return handle.records.place.removesuffix(", encrypted")


def _size(folder: Path) -> int:
    """The bytes of a folder's files, but for what the open memory shares with other processes."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # another process is at work
            size += path.stat().st_size if path.is_file() and not path.name.endswith("-shm") else 0
    return size


def _rows(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures of a memory, for people."""
    rows = []
    for name in sorted(figures, key=lambda name: FIGURES.index(name) if name in FIGURES else len(FIGURES)):
        figure = figures[name]
        if name == "namespaces":
            figure = f"{len(figure):,}" + (f" ({', '.join(figure)})" if 0 < len(figure) <= 10 else "")
        elif name == "datastores":
            named = (f"{s['entries']:,} entries of model {s['fingerprint']}{_found(s)}" for s in figure)
            figure = "\n".join(named) or "none"
        elif name == "embeddings":
            figure = f"{figure['entries']:,} passages by {figure['model']}{_found(figure)}" if figure else "none"
        elif name == "bytes":
            name, figure = "on disk", decimal(figure)
        elif name == "history":
            name = "history kept"
        if isinstance(figure, bool):
            figure = "yes" if figure else "no"
        rows.append((name, f"{figure:,}" if isinstance(figure, int) else shown(figure)))
    return rows


def _found(figures: dict[str, Any]) -> str:
    """How a datastore is searched, and what that finds, where it is not searched exactly."""
    found = figures.get("recall")
    return "" if found is None else f"\n{figures['search']}; found {found:.3f} of the 32 nearest"


COMMANDS = (stats, namespaces, drop, verify, salvage, snapshot, restore, new_key, rotate)
