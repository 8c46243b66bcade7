"""export, import. Knows: Memory, exchange. Does not know: formats."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from extmem.cli import output
from extmem.cli.records import DEFAULT, JsonOption, MemoryOption, NamespaceOption, opened
from extmem.errors import InvalidInput


def export(
    file: Annotated[str, typer.Argument(help="Where to; '-' is standard output.")],
    memory: MemoryOption = DEFAULT,
    namespace: NamespaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the records, and all known of them, as JSON lines. Interrupted, the same command goes on."""
    from extmem.exchange import lines

    if file == "-" and as_json:
        raise InvalidInput("the records go to standard output, so --json cannot: name a file.", file)
    with opened(memory, namespace) as handle:
        if file == "-":
            lines.write(handle, sys.stdout.buffer)
            return
        with output.Bar("exporting", quiet=as_json) as bar:
            count = lines.export(handle, file, lambda done: bar.update(done, None, output.counted(done, "record")))
    if as_json:
        output.as_json({"file": file, "records": count})
    else:
        output.raw(output.counted(count, "record"))


def import_(
    path: Annotated[str, typer.Argument(help="A file or folder.")],
    memory: MemoryOption = DEFAULT,
    namespace: NamespaceOption = None,
    kind: Annotated[str, typer.Option(help="auto, lines, jsonl, csv, text, mcp, mem0, langgraph or chatgpt.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Store what a file holds. That may be an export, JSON lines, CSV, text, or the memory of another tool.
    Interrupted, the same command goes on."""
    from extmem.exchange.importing import import_from

    with (
        opened(memory, namespace, create=True) as handle,
        output.Bar("importing", quiet=as_json) as bar,
    ):
        found = import_from(handle, path, kind, lambda done: bar.update(done, None, output.counted(done, "record")))
    if as_json:
        output.as_json(found._asdict())
    else:
        twice = f", {output.counted(found.repeated, 'key')} came twice, the last value was kept"
        output.raw(f"{output.counted(found.records, 'record')} ({found.kind}{twice if found.repeated else ''})")


COMMANDS = (export, import_)
