"""export, import. Knows: Memory, exchange. Does not know: formats."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from extmem.cli import output
from extmem.cli.records import DEFAULT, JsonOption, MemoryOption, NamespaceOption, must_be_there, opened


def export(
    file: Annotated[str, typer.Argument(help="Where to; '-' is standard output.")],
    memory: MemoryOption = DEFAULT,
    namespace: NamespaceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write the records, with all that is known of them, as JSON lines. Interrupted, the same command goes on."""
    from extmem.exchange import lines

    must_be_there(memory)
    handle = opened(memory, namespace)
    if file == "-":
        lines.write(handle, sys.stdout.buffer)
        return
    with output.Bar("exporting", quiet=as_json) as bar:
        count = lines.export(handle, file, lambda done: bar.update(done, None, f"{done:,} records"))
    if as_json:
        output.as_json({"file": file, "records": count})
    else:
        output.raw(f"{count} records")


def import_(
    path: Annotated[str, typer.Argument(help="A file or folder.")],
    memory: MemoryOption = DEFAULT,
    namespace: NamespaceOption = "",
    kind: Annotated[str, typer.Option(help="auto, lines, jsonl, csv, text, mcp, mem0, langgraph or chatgpt.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Store what a file holds: an export, JSON lines, CSV, text, or the memory of another tool. Interrupted, the
    same command goes on."""
    from extmem.exchange.importing import import_from

    handle = opened(memory, namespace, create=True)
    with output.Bar("importing", quiet=as_json) as bar:
        found = import_from(handle, path, kind, lambda done: bar.update(done, None, f"{done:,} records"))
    if as_json:
        output.as_json(found._asdict())
    else:
        twice = f", {found.repeated} keys came twice" if found.repeated else ""
        output.raw(f"{found.records} records ({found.kind}{twice})")


COMMANDS = (export, import_)
