"""mcp. Knows: the server of the Model Context Protocol. Does not know: its tools."""

from __future__ import annotations

import signal
from typing import Annotated, Literal

import typer

from extmem.cli import output
from extmem.cli.records import JsonOption, NamespaceOption, opened


def mcp(
    memory: Annotated[str, typer.Argument(help="A folder, made where there is none, or postgresql://…")],
    tools: Annotated[
        Literal["extmem", "reference", "mem0", "anthropic"],
        typer.Option(help="Whose tools: extmem, reference, mem0 or anthropic."),
    ] = "extmem",
    namespace: NamespaceOption = None,
    http: Annotated[int | None, typer.Option(help="Over HTTP, on this port of this machine; 0: any free one.")] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Leave out the tools that write.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Serve a memory to MCP clients, over stdio or HTTP. With --tools it takes the place of the reference memory
    server, of mem0's or of Anthropic's memory tool; with --namespace no client leaves that one. Until standard input
    ends, or Ctrl-C."""
    from extmem.serve.mcp.server import MemoryServer, listening, serve_http

    with opened(memory, namespace, create=not read_only) as handle:
        server = MemoryServer(handle, tools, read_only)
        if http is None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a thread that reads standard input hears nothing of Ctrl-C
            server.run("stdio")
            return
        with listening(http) as socket:
            address = f"http://127.0.0.1:{socket.getsockname()[1]}/mcp"
            if as_json:
                output.as_json({"address": address})
            else:
                output.note(f"serving {memory} at {address}")
            output.piece("")
            serve_http(server, socket)


COMMANDS = (mcp,)
