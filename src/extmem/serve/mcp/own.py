"""Our own five tools: store, retrieve, search, forget, list.

Knows: Memory. Does not know: how a client reaches it.
"""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from extmem.errors import InvalidInput
from extmem.memory import Memory
from extmem.serve.mcp.offered import ERASES, READS, REPLACES, Offered

Key = Annotated[str, Field(description="The name that the text is kept under.")]
Where = Annotated[
    dict[str, Any] | None,
    Field(description='Only records that fit: {"metadata.topic": "food"}, {"updated": {"$gte": "2026-01-31"}}.'),
]


class Stored(TypedDict):
    key: str
    version: int


class Retrieved(TypedDict):
    key: str
    found: bool
    value: Any
    version: int
    metadata: dict[str, Any] | None


class Found(TypedDict):
    key: str
    value: Any
    score: float
    words: list[str]


class Hits(TypedDict):
    hits: list[Found]


class Forgotten(TypedDict):
    key: str
    forgotten: bool


class Keys(TypedDict):
    keys: list[str]
    more: bool


class Own:
    """The verbs of `Memory`, under their names."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    def tools(self) -> list[Offered]:
        return [
            Offered(self.store, "Remember", REPLACES),
            Offered(self.retrieve, "Read what is kept under a key", READS),
            Offered(self.search, "Search the memory", READS),
            Offered(self.forget, "Forget", ERASES),
            Offered(self.list_, "List the keys", READS),
        ]

    def store(
        self,
        key: Key,
        value: Annotated[str, Field(description="The text to remember; it replaces what the key held.")],
        metadata: Annotated[dict[str, Any] | None, Field(description="Any JSON object, kept beside the text.")] = None,
        ttl: Annotated[float | None, Field(description="Seconds after which the key is forgotten by itself.")] = None,
        expect: Annotated[
            int | None, Field(description="Store only if the key's version is this one; 0: only if it is not there.")
        ] = None,
    ) -> Stored:
        """Remember a text under a key. It is on disk when this returns."""
        return {"key": key, "version": self.memory.store(key, value, metadata=metadata, ttl=ttl, expect=expect)}

    def retrieve(self, key: Key) -> Retrieved:
        """Read the value of a key, word for word; found is false where there is none."""
        record = self.memory.record(key)
        if record is None:
            return {"key": key, "found": False, "value": None, "version": 0, "metadata": None}
        value, version = plain(record.value), record.version
        return {"key": key, "found": True, "value": value, "version": version, "metadata": record.metadata}

    def search(
        self,
        query: Annotated[str, Field(description="A question, or words of what is sought.")],
        k: Annotated[int, Field(description="How many at most.")] = 10,
        where: Where = None,
    ) -> Hits:
        """Find what the memory holds about something: the best first, each with its key, its value, its score and
        the words that matched."""
        hits = self.memory.search(query, k, where)
        return {"hits": [{"key": h.key, "value": plain(h.value), "score": h.score, "words": [*h.words]} for h in hits]}

    def forget(self, key: Key) -> Forgotten:
        """Erase a key, its history and all that was derived from it, for good; forgotten is false where it was not
        there."""
        return {"key": key, "forgotten": self.memory.forget(key)}

    def list_(
        self,
        prefix: Annotated[str, Field(description="Only keys that begin so.")] = "",
        after: Annotated[str, Field(description="Only keys behind this one: the last key of the page before.")] = "",
        limit: Annotated[int, Field(description="How many at most, 1 to 10,000.")] = 100,
    ) -> Keys:
        """List the keys in order; more is true where others follow."""
        if not 1 <= limit <= 10_000:
            raise InvalidInput(f"limit is {limit}: give a number from 1 to 10,000.", limit)
        keys = [*islice(self.memory.keys(prefix, after or None), limit + 1)]
        return {"keys": keys[:limit], "more": len(keys) > limit}


def plain(value: Any) -> Any:
    """A value as JSON: bytes as {"bytes": hex}."""
    return {"bytes": value.hex()} if isinstance(value, bytes) else value
