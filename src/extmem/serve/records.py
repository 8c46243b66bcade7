"""/v1: records, many of them at once, search, export and import as streams, namespaces, datastores, stats.

Knows: Memory's verbs, who may use them. Does not know: how a key becomes a namespace (`access.py`).
"""

from __future__ import annotations

import base64
import io
import json
import re
import tempfile
from collections.abc import Callable
from datetime import datetime
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from extmem.errors import ExtmemError, InvalidInput
from extmem.exchange import lines
from extmem.exchange.importing import give_up, import_from
from extmem.memory import Memory
from extmem.records.base import Record
from extmem.records.values import Value
from extmem.serve.access import Admin, Reader, Writer
from extmem.serve.answers import Refused, Streamed, beside, hit_json, not_there, record_json, reply

PIECE = 1 << 16  # bytes that a stream hands on at once
LISTED = 1_000  # keys or records in one answer
RETRIEVED = tuple(
    {"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}}
    for name, place in (("key", "path"), ("key", "query"), ("as_of", "query"), ("namespace", "query"))
)

FILE = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}

router = APIRouter(prefix="/v1")


def _named(key: str, said: Annotated[str, Query(alias="key")] = "") -> str:
    return key or said


Key = Annotated[str, Depends(_named)]  # of the path or, where that has none, ?key=: "." and ".." are no path to clients


class Body(BaseModel):
    """A body: a field that is unknown, or of another type, is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


def _finite(said: Any) -> Any:
    """Refuses what Python's reader takes for JSON and is none: NaN, Infinity, 1e999."""
    json.dumps(said, allow_nan=False)
    return said


class Said(Body):
    """A value, under "value" or, as base64, under "bytes"; and what may be said of it."""

    value: Annotated[Any, AfterValidator(_finite)] = None
    bytes: str | None = None
    metadata: Annotated[dict[str, Any] | None, AfterValidator(_finite)] = None
    author: str | None = None
    trust: float = 1.0
    ttl: float | None = None

    def content(self) -> Value:
        """The value. Raises InvalidInput where there is none, or two."""
        if (self.value is None) == (self.bytes is None):
            raise InvalidInput('give a value under "value", or as base64 under "bytes".')
        if self.bytes is None:
            return self.value  # type: ignore[no-any-return]
        try:
            return base64.b64decode(self.bytes, validate=True)
        except ValueError as error:
            raise InvalidInput('what stands under "bytes" is not base64.') from error

    def options(self) -> dict[str, Any]:
        """What was said beside the value."""
        return self.model_dump(exclude={"value", "bytes", "key"}, exclude_unset=True)


class Stored(Said):
    """A record to be stored."""

    valid_from: float | None = None
    valid_to: float | None = None
    expect: int | None = None


class Item(Said):
    """One of many; with a version it is a record as it was read, which keeps its version and times where its key is
    new."""

    key: str
    version: int | None = None
    created: float = 0.0
    updated: float = 0.0
    expires: float | None = None
    valid_from: float | None = None
    valid_to: float | None = None

    def pair(self) -> tuple[str, Value] | Record:
        """What `Memory.store_many` takes. Raises InvalidInput."""
        content = self.content()
        if self.version is None:
            return self.key, content
        known = {name: one for name in lines.SAID if (one := getattr(self, name)) is not None}
        return Record(self.key, content, **known)

    def options(self) -> dict[str, Any]:
        """What was said beside the value. Raises InvalidInput for times without a version."""
        if self.version is not None:
            return {}
        said = self.model_dump(include={"metadata", "author", "trust", "ttl"}, exclude_unset=True)
        if unknown := self.model_fields_set - {"key", "value", "bytes", "version", *said}:
            raise InvalidInput(f"{min(unknown)} is said of records, which have a version: give one, or leave it out.")
        return said


class Items(Body):
    """Records to be stored together."""

    items: list[Item]


class KeyList(Body):
    """Keys to be read or erased together."""

    keys: list[str]


class History(Body):
    """Whether values that are replaced are kept."""

    on: bool


class Search(Body):
    """What is searched for: see `Memory.search`."""

    query: str
    k: Annotated[int, Field(le=LISTED)] = 10
    where: dict[str, Any] | None = None
    by: Literal["all", "words"] = "all"
    around: Annotated[int, Field(ge=0, le=100)] = 0
    diversity: float = 0.0


@router.get("/records/{key:path}", openapi_extra={"parameters": [*map(dict, RETRIEVED)]})
async def retrieve(request: Request) -> Response:
    """The value of a key, with all that is known of it; the one that was valid `as_of` a date or a second. Reads its
    parameters itself, for it is asked more than all others: FastAPI would take half of its time for them."""
    said = request.query_params
    space = await request.app.state.access.enter(request, "read", said.get("namespace"))
    key, as_of = request.path_params["key"] or said.get("key", ""), said.get("as_of")
    moment = None if as_of is None else _moment(as_of)
    record = await space.read(partial(space.memory.record, key, as_of=moment))
    space.note("retrieve", key)
    return not_there(key) if record is None else reply(record_json(record))


@router.put("/records/{key:path}")
async def store(key: Key, said: Stored, space: Writer) -> Response:
    """Gives a key a value; 409 where `expect` is not its version."""
    version = await space.run(partial(space.memory.store, key, said.content(), **said.options()))
    space.note("store", key)
    return reply({"key": key, "version": version})


@router.delete("/records/{key:path}")
async def forget(key: Key, space: Writer) -> Response:
    """Erases a key, its history and all that is derived from it."""
    there = await space.run(space.memory.forget, key)
    space.note("forget", key)
    return reply({"key": key, "forgotten": True}) if there else not_there(key)


@router.get("/history/{key:path}")
async def history(key: Key, space: Reader) -> Response:
    """Every value of a key that was kept."""
    kept = await space.run(space.memory.history, key)
    space.note("history", key)
    return reply({"key": key, "versions": [record_json(record) for record in kept]})


@router.put("/history")
async def keep_history(said: History, space: Writer) -> Response:
    """Whether this namespace keeps the values that are replaced."""
    await space.run(space.memory.keep_history, said.on)
    space.note("keep_history")
    return reply({"on": said.on})


@router.get("/records")
async def listed(
    space: Reader,
    prefix: str = "",
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=LISTED)] = 100,
    values: bool = False,
) -> Response:
    """Keys in their order, those behind `after`; `next` is the `after` of the next page. With `values` records."""

    def page() -> list[Any]:
        if values:
            return [record_json(record) for record in islice(space.memory.scan(prefix, after), limit)]
        return list(islice(space.memory.keys(prefix, after), limit))

    found = await space.run(page)
    keys = [one["key"] for one in found] if values else found
    space.note("list", keys=keys if values else None)
    return reply({"records" if values else "keys": found, "next": keys[-1] if len(found) == limit else None})


@router.post("/store")
async def store_many(said: Items, space: Writer) -> Response:
    """Stores many records: all or none."""
    alike = [([one.pair() for one in some], options) for options, some in groupby(said.items, Item.options)]

    def stored() -> None:
        with space.memory.transaction():
            for pairs, options in alike:
                space.memory.store_many(pairs, **options)

    await space.run(stored)
    space.note("store", keys=[item.key for item in said.items])
    return reply({"stored": len(said.items)})


@router.post("/retrieve")
async def retrieve_many(said: KeyList, space: Reader) -> Response:
    """The values of those keys that have one."""
    found = await space.run(space.memory.retrieve_many, said.keys)
    space.note("retrieve", keys=said.keys)
    return reply({"records": [{"key": key, **lines.value_json(value)} for key, value in found.items()]})


@router.post("/forget")
async def forget_many(said: KeyList, space: Writer) -> Response:
    """Erases many keys: all or none; how many were there."""
    count = await space.run(space.memory.forget_many, said.keys)
    space.note("forget", keys=said.keys)
    return reply({"forgotten": count})


@router.post("/search")
async def search(said: Search, space: Reader) -> Response:
    """The records that answer a query best, each with why it was found."""
    options = said.model_dump(include={"by", "around", "diversity"})
    hits = await space.search(partial(space.memory.search, said.query, said.k, said.where, **options))
    space.note("search", keys=[hit.key for hit in hits])
    return reply({"hits": [hit_json(hit) for hit in hits]})


@router.get("/export")
async def export(space: Reader) -> Response:
    """This namespace and all below as JSON lines, of one moment."""
    space.note("export")
    return Streamed(lambda write: _exported(space.memory, write), "application/x-ndjson")


@router.post("/import", openapi_extra={"requestBody": {"required": True, "content": FILE}})
async def import_(request: Request, space: Writer, kind: str = "lines", name: str = "body") -> Response:
    """Stores what a file holds, which is the body; `kind` as in `extmem import`. `name` is the file's: the key of a
    text. What stands before a line that cannot be read has been stored, in batches."""
    if "/" in name or "\0" in name or name in ("", ".", "..") or len(name.encode()) > 200:
        raise InvalidInput(f"{name!r} is no name of a file: give one without folders, of at most 200 bytes.", name)
    with tempfile.TemporaryDirectory(prefix="extmem-") as folder, (Path(folder) / name).open("wb") as file:
        try:
            async for piece in request.stream():
                await space.run(file.write, piece)
        except ClientDisconnect as error:
            raise Refused(400, "InvalidInput", "the body broke off: nothing of it was stored.") from error
        file.flush()
        space.note("import")
        try:
            found = await anyio.to_thread.run_sync(import_from, space.memory, Path(file.name), kind, limiter=beside())
        except ExtmemError as error:
            await space.run(give_up, space.memory, Path(file.name))
            if isinstance(error, InvalidInput):
                raise InvalidInput(str(error).replace(file.name, "the body")) from error
            raise
    return reply(found._asdict())


@router.get("/key")
async def key(space: Reader) -> Response:
    """What this key opens, and the namespace that was asked for, or else its first."""
    opens = {"namespaces": list(space.grant.namespaces), "may": space.grant.may}
    return reply({"id": space.grant.id, **opens, "namespace": space.path})


@router.get("/namespaces")
async def namespaces(space: Reader) -> Response:
    """The namespaces below this one that hold anything."""
    return reply({"namespaces": await space.run(space.memory.namespaces)})


@router.delete("/namespaces/{name:path}")
async def drop(name: str, space: Admin) -> Response:
    """Erases a namespace below this one, and all within it."""
    count = await space.run(space.memory.drop_namespace, name)
    space.note("drop", name)
    return reply({"namespace": name, "forgotten": count})


@router.get("/datastores")
async def datastores(space: Reader) -> Response:
    """What language models wrote here."""
    return reply({"datastores": await space.run(lambda: [one.stats() for one in space.memory.datastores()])})


@router.get("/stats")
async def stats(space: Reader) -> Response:
    """What this namespace holds."""
    return reply(await space.run(space.memory.stats))


def _moment(said: str) -> float | datetime:
    try:
        return float(said)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(re.sub(r"[zZ]\Z", "+00:00", said))
    except ValueError as error:
        raise InvalidInput(f"as_of {said!r} is no moment: give seconds since 1970, or 2026-01-31T12:00Z.") from error


def _exported(memory: Memory, write: Callable[[bytes], None]) -> None:
    with io.BufferedWriter(_Pieces(write), PIECE) as file:
        lines.write(memory, file)


class _Pieces(io.RawIOBase):
    """A file that hands on what is written to it."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self._write(bytes(piece))
        return len(piece)
