"""stats, namespaces, drop, verify, snapshot, restore, new-key, rotate: commands on a whole memory.

Knows: Memory. Does not know: models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from extmem.cli import output
from extmem.cli.records import DEFAULT, JsonOption, MemoryOption, NamespaceOption, must_be_there, opened, shown
from extmem.opening import salvaged


def stats(memory: MemoryOption = DEFAULT, namespace: NamespaceOption = "", as_json: JsonOption = False) -> None:
    """What the memory holds."""
    must_be_there(memory)
    figures = opened(memory, namespace).stats()
    if as_json:
        output.as_json(figures)
        return
    for name, figure in figures.items():
        output.raw(f"{name}: {shown(figure)}")


def namespaces(memory: MemoryOption = DEFAULT, namespace: NamespaceOption = "", as_json: JsonOption = False) -> None:
    """Print the namespaces that hold anything."""
    names = opened(memory, namespace).namespaces()
    if as_json:
        output.as_json({"namespaces": names})
        return
    for name in names:
        output.raw(name)


def drop(name: str, memory: MemoryOption = DEFAULT, as_json: JsonOption = False) -> None:
    """Erase the namespace NAME, all within it, and only it; exit status 1 if there was nothing."""
    erased = opened(memory).drop_namespace(name)
    if as_json:
        output.as_json({"namespace": name, "forgotten": erased})
    if not erased:
        raise typer.Exit(1)


def verify(
    memory: MemoryOption = DEFAULT,
    repair: Annotated[bool, typer.Option("--repair", help="Derive anew what is derived and damaged.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Read everything against its checksums and compare every index with its records, in every namespace;
    exit status 1 if something is wrong. With --repair keyword indexes are derived anew, damaged segments are
    struck out of datastores (memorize their documents again), and a damaged write-ahead log is given up."""
    must_be_there(memory)
    if repair:
        salvaged(memory)
        opened(memory).repair()
    wrong = opened(memory).verify()
    if as_json:
        output.as_json({"wrong": wrong})
    else:
        output.raw("\n".join(wrong) or "every checksum is right, every index holds exactly its records' entries")
    if wrong:
        raise typer.Exit(1)


def snapshot(
    to: Annotated[str, typer.Argument(help="A new folder, or postgresql://…")],
    memory: MemoryOption = DEFAULT,
    namespace: NamespaceOption = "",
) -> None:
    """Copy all of the memory, as of one moment and while others write, into a new one at TO."""
    must_be_there(memory)
    opened(memory, namespace).snapshot(to)


def restore(
    snapshot: Annotated[str, typer.Argument(help="What `extmem snapshot` made.")], memory: MemoryOption = DEFAULT
) -> None:
    """Copy a snapshot into the memory, which must be empty or not there yet."""
    must_be_there(snapshot)
    opened(snapshot).snapshot(memory)


def new_key(file: str) -> None:
    """Write a new master key to FILE, for its owner only. A memory made with EXTMEM_KEY=FILE is encrypted
    with it; without the file nobody can read it again."""
    from extmem.records.keys import new_master_key, write_key_file

    write_key_file(Path(file), new_master_key())


def rotate(
    memory: MemoryOption = DEFAULT,
    master: Annotated[str, typer.Option(help="The file of the new master key; without it the data's keys.")] = "",
) -> None:
    """Change the keys of an encrypted memory while others read and write: with --master the master key, which is
    quick, without it every namespace's own, which encrypts everything anew."""
    must_be_there(memory)
    handle = opened(memory)
    if master:
        handle.rotate_master(master)
    else:
        handle.rotate_keys()


COMMANDS = (stats, namespaces, drop, verify, snapshot, restore, new_key, rotate)
