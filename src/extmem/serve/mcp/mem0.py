"""mem0's seven tools for memories (mem0ai/mem0-mcp), without its service and without a model that rewrites them.

Knows: its arguments, filters and answers, and the records that `extmem import --kind mem0` makes. Does not know:
how they are found. A memory is a record under its id, in the namespace of its user (or agent, or run).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Annotated, Any
from urllib.parse import unquote
from uuid import uuid4

from mcp.types import CallToolResult
from pydantic import Field

from extmem.errors import InvalidInput
from extmem.exchange.formats import name_of
from extmem.memory import Memory
from extmem.records.base import Record
from extmem.records.where import filtered
from extmem.serve.mcp.offered import ADDS, ERASES, READS, REPLACES, Offered, answered

USER = "mem0-mcp"  # the one its server speaks of where none is named
OWNERS = ("user_id", "agent_id", "run_id")
FIELDS = {"id": "key", "memory": "value", "created_at": "created", "updated_at": "updated"}

Owner = Annotated[str | None, Field(description="Whose memory it is.")]
Scope = Annotated[str | None, Field(description="Narrows it further.")]
Id = Annotated[str, Field(description="The id of the memory.")]
Filters = Annotated[
    dict[str, Any] | None,
    Field(description='Such as {"AND": [{"user_id": "ann"}, {"created_at": {"gte": "2026-01-31"}}]}; AND, OR, NOT.'),
]
Graph = Annotated[bool | None, Field(description="Taken and ignored: there is no graph here.")]


class Mem0:
    """Memories of users, each user's in a namespace."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    def tools(self) -> list[Offered]:
        return [
            Offered(self.add_memory, "Add Memory", ADDS),
            Offered(self.search_memories, "Search Memories", READS),
            Offered(self.get_memories, "Get Memories", READS),
            Offered(self.get_memory, "Get Memory", READS),
            Offered(self.update_memory, "Update Memory", REPLACES),
            Offered(self.delete_memory, "Delete Memory", ERASES),
            Offered(self.delete_all_memories, "Delete All Memories", ERASES),
        ]

    def add_memory(
        self,
        text: Annotated[str, Field(description="What to remember, kept word for word.")],
        messages: Annotated[
            list[dict[str, str]] | None, Field(description="Messages {role, content} to keep instead, one memory each.")
        ] = None,
        user_id: Owner = None,
        agent_id: Owner = None,
        app_id: Scope = None,
        run_id: Owner = None,
        metadata: Annotated[dict[str, Any] | None, Field(description="Any JSON, kept beside it.")] = None,
        enable_graph: Graph = None,
    ) -> CallToolResult:
        """Store a new preference, fact, or conversation snippet."""
        scope = {"agent_id": agent_id, "app_id": app_id, "run_id": run_id}
        said = {**(metadata or {}), **{name: value for name, value in scope.items() if value}}
        handle = self._of(user_id or agent_id or run_id or USER)
        given: list[dict[str, str]] = messages or [{"content": text}]
        added = []
        with self.memory.transaction():
            for message in given:
                if not (content := message.get("content")):
                    raise InvalidInput("there is nothing to remember: give text, or messages with a content.")
                key, role = str(uuid4()), message.get("role")
                handle.store(key, content, metadata={**said, **({"role": role} if role else {})} or None)
                added.append({"id": key, "memory": content, "event": "ADD"})
        return _told({"results": added})

    def search_memories(
        self,
        query: Annotated[str, Field(description="A question, or words of what is sought.")],
        filters: Filters = None,
        limit: Annotated[int | None, Field(description="How many at most; 10 if not said.")] = None,
        enable_graph: Graph = None,
    ) -> CallToolResult:
        """Search the memories, the best first. Without a user_id (or agent_id, run_id) in the filters those of the
        default user."""
        k = 10 if limit is None else limit
        found = []
        for owner, handle, where in self._chosen(filters):
            for hit in handle.search(query, k, where):
                if (record := handle.record(hit.key)) is not None:
                    found.append({**_shown(owner, record), "score": hit.score, "words": [*hit.words]})
        return _told({"results": sorted(found, key=lambda one: -float(one["score"]))[:k]})

    def get_memories(
        self,
        filters: Filters = None,
        page: Annotated[int | None, Field(description="From 1.")] = None,
        page_size: Annotated[int | None, Field(description="Memories a page; 10 if not said.")] = None,
        enable_graph: Graph = None,
    ) -> CallToolResult:
        """Page through the memories that filters let through, the newest first."""
        page, size = page or 1, page_size or 10
        if page < 1 or size < 1:
            raise InvalidInput(f"page {page} of {size}: give numbers from 1.")
        found = [(one, owner) for owner, handle, where in self._chosen(filters) for one in handle.scan(where=where)]
        found.sort(key=lambda pair: -pair[0].created)
        shown = [_shown(owner, record) for record, owner in found[(page - 1) * size : page * size]]
        return _told({"count": len(found), "results": shown})

    def get_memory(self, memory_id: Id) -> CallToolResult:
        """Fetch a single memory by its id."""
        owner, _, record = self._find(memory_id)
        return _told(_shown(owner, record))

    def update_memory(
        self, memory_id: Id, text: Annotated[str, Field(description="What it says from now on.")]
    ) -> CallToolResult:
        """Overwrite an existing memory's text."""
        with self.memory.transaction():
            owner, handle, record = self._find(memory_id)
            handle.store(memory_id, text, metadata=record.metadata)
            return _told(_shown(owner, self._find(memory_id)[2]))

    def delete_memory(self, memory_id: Id) -> CallToolResult:
        """Delete one memory by its id, for good."""
        with self.memory.transaction():
            self._find(memory_id)[1].forget(memory_id)
        return _told({"message": "Memory deleted successfully!"})

    def delete_all_memories(
        self, user_id: Owner = None, agent_id: Owner = None, app_id: Scope = None, run_id: Owner = None
    ) -> CallToolResult:
        """Delete every memory of a user (or agent, or run), for good; without one those of the default user."""
        handle = self._of(user_id or agent_id or run_id or USER)
        scope = {"agent_id": agent_id, "app_id": app_id, "run_id": run_id}
        where = {f"metadata.{name}": value for name, value in scope.items() if value}
        with self.memory.transaction():
            handle.forget_many([record.key for record in handle.scan(where=where)])
        return _told({"message": "Memories deleted successfully!"})

    # As records

    def _of(self, owner: str) -> Memory:
        return self.memory.namespace(name_of(owner))

    def _owners(self) -> Iterator[str]:
        return (unquote(name) for name in self.memory.namespaces() if "/" not in name)

    def _find(self, key: str) -> tuple[str, Memory, Record]:
        """The memory of that id, whoever's it is."""
        for owner in self._owners():
            if (record := self._of(owner).record(key)) is not None:
                return owner, self._of(owner), record
        raise InvalidInput(f"there is no memory {key!r}: search for it, then give its id.", key)

    def _chosen(self, filters: dict[str, Any] | None) -> Iterator[tuple[str, Memory, dict[str, Any]]]:
        """Each owner whose memories the filters may let through, and what is to be asked of them."""
        if not _names_owner(filters or {}):
            filters = {"AND": [{"user_id": USER}, filters or {}]}
        for owner in self._owners():
            if (where := _where(filters or {}, owner)) is not None:
                yield owner, self._of(owner), where


def _names_owner(filters: Any) -> bool:
    if isinstance(filters, dict):
        return any(name in OWNERS or _names_owner(inner) for name, inner in filters.items())
    return isinstance(filters, list) and any(map(_names_owner, filters))


def _where(filters: Any, owner: str) -> dict[str, Any] | None:
    """mem0's filters as ours, for the memories of one owner; None where they let none of those through."""
    if not isinstance(filters, dict):
        raise InvalidInput(f'filters {filters!r}: give an object such as {{"user_id": "ann"}}.', filters)
    parts = [_part(name, wanted, owner) for name, wanted in filters.items()]
    return None if None in parts else {"$and": parts}


def _part(name: str, wanted: Any, owner: str) -> dict[str, Any] | None:
    if name in ("AND", "OR", "NOT"):
        parts = [_where(one, owner) for one in (wanted if isinstance(wanted, list) else [wanted])]
        left = [part for part in parts if part is not None]
        if name == "NOT":
            return {"$not": {"$or": left}}
        if name == "AND":
            return {"$and": left} if len(left) == len(parts) else None
        return {"$or": left} if left else None
    if name == "metadata" and isinstance(wanted, dict):
        return {f"metadata.{inner}": _compared(value) for inner, value in wanted.items()}
    if name == "user_id":
        return {} if filtered({"key": _compared(wanted)})(Record(owner, "")) else None
    return {FIELDS.get(name, f"metadata.{name}"): _compared(wanted)}


def _compared(wanted: Any) -> Any:
    if wanted == "*":
        return {"$exists": True}
    return {f"${sign}": value for sign, value in wanted.items()} if isinstance(wanted, dict) else wanted


def _shown(owner: str, record: Record) -> dict[str, Any]:
    """A memory as mem0 tells it."""
    metadata = dict(record.metadata or {})
    scope: dict[str, Any] = {name: metadata.pop(name) for name in ("agent_id", "app_id", "run_id") if name in metadata}
    if owner not in scope.values():
        scope["user_id"] = owner
    times = {"created_at": _date(record.created), "updated_at": _date(record.updated)}
    return {"id": record.key, "memory": record.value, **scope, "metadata": metadata or None, **times}


def _date(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).isoformat()


def _told(said: dict[str, Any]) -> CallToolResult:
    return answered(said, said)
