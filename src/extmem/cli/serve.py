"""serve, grant, grants, revoke. Knows: Memory, serve. Does not know: routes.

FastAPI is loaded inside the commands, so that `extmem --help` starts at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from extmem.cli import given, output
from extmem.cli.records import JsonOption, must_be_there, opened
from extmem.cli.tasks import WriterOption

MemoryArgument = Annotated[str, typer.Argument(help="A folder, or postgresql://…")]


def serve(
    memory: MemoryArgument,
    model: Annotated[str | None, typer.Option(help="A model's folder: it writes and measures.")] = None,
    writer: WriterOption = "",
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    audit: Annotated[str | None, typer.Option(help="Where to note who did what; else MEMORY.audit.jsonl.")] = None,
    body: Annotated[int, typer.Option(min=1, help="Bytes of a body at most; an import is a stream.")] = 16 << 20,
    seconds: Annotated[float, typer.Option(min=0.1, help="Until an answer must begin.")] = 30.0,
    requests: Annotated[int, typer.Option(min=1, help="In progress at once; beyond it 503.")] = 256,
    rate: Annotated[float, typer.Option(min=0, help="Requests a second and key, beyond it 429; 0: any.")] = 0.0,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes; limits are of each.")] = 1,
    traces: Annotated[str | None, typer.Option(help="An OpenTelemetry collector, as http://127.0.0.1:4318.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a memory over HTTP. Keys are made by `extmem grant`; without one nothing is answered. Prints its address,
    logs on stderr, and ends on SIGTERM or Ctrl-C when it has finished what it began."""
    from extmem.serve import starting
    from extmem.serve.limits import Limits

    def said(address: str, page: str) -> None:
        if as_json:
            output.as_json({"address": address, "page": page})
        else:
            output.raw(address)
            output.raw(f"{page}  (the page: opens once, within ten minutes)")
        sys.stdout.flush()

    key = os.environ.get("EXTMEM_KEY") or None
    limits = Limits(body, seconds, requests, rate)
    plan = starting.Plan(must_be_there(memory), key, model, writer, Path(audit) if audit else None, traces, limits)
    starting.serve(plan, said, host, port, workers)


def grant(
    memory: MemoryArgument,
    namespace: Annotated[list[str] | None, typer.Option(help="One it opens; may be repeated; else all.")] = None,
    may: Annotated[str, typer.Option(help="read, write or admin; each includes the ones before.")] = "read",
    as_json: JsonOption = False,
) -> None:
    """Make a key for the server, and print it once. It is kept hashed: nobody can be shown it again."""
    from extmem.serve import keys

    spaces = [given.namespace(path) for path in namespace or ()] or [""]
    with opened(memory, create=True) as handle:
        number, key = keys.grant(handle, spaces, may)
    if as_json:
        output.as_json({"id": number, "key": key, "namespaces": spaces, "may": may})
    else:
        output.raw(key)


def grants(memory: MemoryArgument, as_json: JsonOption = False) -> None:
    """Print the keys there are: id, right, namespaces."""
    from extmem.serve import keys

    with opened(memory) as handle:
        found = keys.grants(handle)
    if as_json:
        said = [{"id": one.id, "may": one.may, "namespaces": one.namespaces, "made": one.made} for one in found]
        output.as_json({"keys": said})
        return
    for one in found:
        output.raw(f"{one.id}  {one.may:5}  {', '.join(space or '(all)' for space in one.namespaces)}")


def revoke(
    memory: MemoryArgument,
    key: Annotated[str, typer.Argument(metavar="ID", help="The id, as `extmem grants` prints it.")],
    as_json: JsonOption = False,
) -> None:
    """Have a key open nothing from now on. Servers see it within a second; exit status 1 if there is none."""
    from extmem.serve import keys

    with opened(memory) as handle:
        there = keys.revoke(handle, key)
    if as_json:
        output.as_json({"id": key, "revoked": there})
    if not there:
        raise typer.Exit(1)


COMMANDS = (serve, grant, grants, revoke)
