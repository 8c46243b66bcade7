"""What a family of tools is: functions of a memory, and what a client may know of each before it calls.

Knows: the protocol's hints and results, Memory. Does not know: any one tool.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from mcp.types import CallToolResult, TextContent, ToolAnnotations

from extmem.memory import Memory

READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
REPLACES = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=False)
ERASES = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)


class Offered(NamedTuple):
    """A tool: its name is the function's, its description the docstring, its schema the signature."""

    function: Callable[..., Any]
    title: str
    hints: ToolAnnotations
    structured: bool = True

    @property
    def name(self) -> str:
        return self.function.__name__.rstrip("_")


class Family(Protocol):
    """The tools of one server that a memory stands in for. Of two of one name the first that may be offered is."""

    def __init__(self, memory: Memory) -> None: ...

    def tools(self) -> list[Offered]: ...


def answered(said: object, structured: Mapping[str, Any] | None = None) -> CallToolResult:
    """A result whose text is not simply its structure: text as it is, anything else as indented JSON."""
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False, indent=2)
    content = [TextContent(type="text", text=text)]
    return CallToolResult(content=[*content], structured_content=None if structured is None else {**structured})
