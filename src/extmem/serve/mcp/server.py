"""The server: one family of tools on one memory, over stdio or streamable HTTP.

Knows: the official `mcp` package. Does not know: what any tool does.
"""

from __future__ import annotations

import re
import socket
from importlib.metadata import version
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, InputRequiredResult
from pydantic import ValidationError

from extmem.errors import ExtmemError, InvalidInput, MemoryFormatError, StorageError, WrongKey
from extmem.memory import Memory
from extmem.serve.mcp.anthropic import Files
from extmem.serve.mcp.mem0 import Mem0
from extmem.serve.mcp.offered import Family
from extmem.serve.mcp.own import Own
from extmem.serve.mcp.reference import Reference
from extmem.serve.running import bound

HOST = "127.0.0.1"
FAMILIES: dict[str, type[Family]] = {"extmem": Own, "reference": Reference, "mem0": Mem0, "anthropic": Files}
INSTRUCTIONS = "A memory that stays between conversations. Search it before you answer; store what is worth keeping."


class MemoryServer(MCPServer[Any]):
    """The tools of one family; those that write are left out where `read_only`. A client never leaves `memory`,
    which may be a namespace. Raises InvalidInput for a family that there is not."""

    def __init__(self, memory: Memory, family: str = "extmem", read_only: bool = False) -> None:
        if family not in FAMILIES:
            raise InvalidInput(f"there are no tools {family!r}: give one of {', '.join(FAMILIES)}.", family)
        super().__init__(
            "extmem", title="extmem", instructions=INSTRUCTIONS, version=version("extmem"), log_level="WARNING",
            subscriptions=False,
        )  # fmt: skip
        self.memory = memory
        self.arguments: dict[str, set[str]] = {}
        for tool in FAMILIES[family](memory).tools():
            if tool.name not in self.arguments and (tool.hints.read_only_hint or not read_only):
                structured = None if tool.structured else False
                self.add_tool(
                    tool.function, tool.name, tool.title, annotations=tool.hints, structured_output=structured,
                    description=" ".join((tool.function.__doc__ or "").split()),
                )  # fmt: skip
                self.arguments[tool.name] = {*self._tool_input_schema(tool.name)["properties"]}  # type: ignore[index]

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """As the base class, which runs the tool in a thread; whatever is refused is told in one line that names
        no path. Raises ToolError."""
        if unknown := sorted({*arguments} - self.arguments.get(name, {*arguments})):
            raise ToolError(
                f"{name} takes no {unknown[0]!r}: give {', '.join(sorted(self.arguments[name])) or 'none'}."
            )
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            cause = error.__cause__
            if isinstance(cause, ValidationError):
                raise ToolError(_refusal(cause)) from cause
            if isinstance(cause, ExtmemError):
                raise ToolError(self._told(cause)) from cause
            raise

    def _told(self, error: ExtmemError) -> str:
        """The error's line; those that may name where the memory lies do not."""
        if not isinstance(error, StorageError | MemoryFormatError | WrongKey):
            return str(error)
        return re.sub(rf"(?<!\S){re.escape(self.memory.records.place)}(?=[\s/:]|$)", "the memory", str(error))


def listening(port: int) -> socket.socket:
    """A socket on the loopback address; port 0 is any that is free. Raises InvalidInput where it is taken."""
    try:
        return bound(socket.AF_INET, (HOST, port))
    except (OSError, OverflowError) as error:
        raise InvalidInput(f"port {port} cannot be had ({error}): give another, or 0 for any.", port) from error


def serve_http(server: MemoryServer, on: socket.socket) -> None:
    """Serves /mcp on a socket until it is interrupted."""
    import uvicorn

    app = server.streamable_http_app(host=HOST)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5)).run(sockets=[on])


def _refusal(error: ValidationError) -> str:
    """The first thing that is wrong with the arguments, in one line, without the values."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {' '.join(first['msg'].split())}."
