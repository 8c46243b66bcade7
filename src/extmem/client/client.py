"""Client: the verbs of `Memory`, asked of `extmem serve`.

Knows: the server's routes, and records as its answers give them. Does not know: HTTP (`wire.py`), the server.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from extmem.client.wire import NotThere, Wire
from extmem.errors import InvalidInput, StorageError, storage_error
from extmem.exchange.formats import detect
from extmem.exchange.importing import Imported
from extmem.exchange.lines import SAID, known_of, value_json, value_of
from extmem.reading import Hit, Span
from extmem.records.base import Record, joined
from extmem.records.timeline import Moment, seconds
from extmem.records.values import Value, check_key, check_keys, encode, encode_json
from extmem.records.where import Where, filtered

if TYPE_CHECKING:
    from typing_extensions import Self

PIECE = 1 << 16  # bytes that are written at once
PAGE = 500  # records that an iteration fetches at once
WITHOUT = {
    "transaction": "store_many and forget_many are all or none, store(expect=…) compares and sets",
    "datastore": "models read a memory where it lies; stats() says what they wrote",
    "datastores": "models read a memory where it lies; stats() says what they wrote",
    **dict.fromkeys(
        ("embed", "duplicates", "verify", "repair", "snapshot", "rotate_master", "rotate_keys"),
        "that is done where the memory lies: Memory(place), or the command",
    ),
}


class Client:
    """A memory behind `extmem serve`: the names, parameters, answers and errors of `Memory`.

    client = Client("http://127.0.0.1:8000", "em_…")
    client.store("apple", "A fruit")

    It begins in the first namespace of its key, or in `namespace`, named from the memory's root. Threads share it.
    Records have no `id` and no `due`, which are the server's own. `timeout` is seconds, for every piece of an answer.
    Raises what Memory raises; WrongKey for a key that is none, or may not do this; StorageError where the server
    does not answer, or is busy; InvalidInput for a namespace that is not the key's.
    """

    def __init__(
        self, address: str, key: str, *, namespace: str | None = None, author: str | None = None, timeout: float = 60.0
    ) -> None:
        wire = Wire(address, key, timeout)
        said = wire.ask("GET", "/v1/key", {"namespace": namespace})
        if not isinstance(said.get("namespace"), str):
            raise wire.error("answers, but is no extmem server: check the address")
        self._bind(wire, said["namespace"], author)

    def _bind(self, wire: Wire, path: str, author: str | None) -> None:
        self._wire, self._path, self.author = wire, path, author

    # The map

    def store(
        self,
        key: str,
        value: object,
        *,
        metadata: dict[str, object] | None = None,
        author: str | None = None,
        trust: float = 1.0,
        ttl: float | None = None,
        valid_from: Moment | None = None,
        valid_to: Moment | None = None,
        expect: int | None = None,
    ) -> int:
        """See `Memory.store`."""
        times = {"valid_from": valid_from, "valid_to": valid_to}
        said: dict[str, object] = {name: seconds(moment) for name, moment in times.items() if moment is not None}
        if expect is not None:
            said["expect"] = expect
        said |= _value(value) | self._said(metadata, author, trust, ttl)
        version: int = self._ask("PUT", f"records/{_quoted(key)}", said)["version"]
        return version

    def store_many(
        self,
        items: Iterable[tuple[str, object] | Record],
        *,
        metadata: dict[str, object] | None = None,
        author: str | None = None,
        trust: float = 1.0,
        ttl: float | None = None,
    ) -> None:
        """See `Memory.store_many`. All goes in one body, which the server limits."""
        if isinstance(items, dict | str | bytes) or not isinstance(items, Iterable):
            raise InvalidInput("store_many takes pairs (key, value): give d.items() of a dict.", items)
        said = self._said(metadata, author, trust, ttl)
        self._ask("POST", "store", {"items": [_item(item, said) for item in items]})

    def retrieve(self, key: str, *, as_of: Moment | None = None) -> Value | None:
        """See `Memory.retrieve`."""
        record = self.record(key, as_of=as_of)
        return None if record is None else record.value

    def retrieve_many(self, keys: Iterable[str]) -> dict[str, Value]:
        """See `Memory.retrieve_many`."""
        wanted = check_keys(keys)
        parts = (wanted[start : start + PAGE] for start in range(0, len(wanted), PAGE))
        found = (self._ask("POST", "retrieve", {"keys": part})["records"] for part in parts)
        return {one["key"]: value_of(one) for some in found for one in some}

    def record(self, key: str, *, as_of: Moment | None = None) -> Record | None:
        """See `Memory.record`."""
        moment = None if as_of is None else repr(seconds(as_of))
        try:
            return _record(self._ask("GET", f"records/{_quoted(key)}", as_of=moment))
        except NotThere:
            return None

    def history(self, key: str) -> list[Record]:
        """See `Memory.history`."""
        return [_record(one) for one in self._ask("GET", f"history/{_quoted(key)}")["versions"]]

    def keep_history(self, on: bool = True) -> None:
        """See `Memory.keep_history`."""
        self._ask("PUT", "history", {"on": bool(on)})

    def forget(self, key: str) -> bool:
        """See `Memory.forget`."""
        return bool(self.forget_many([key]))

    def forget_many(self, keys: Iterable[str]) -> int:
        """See `Memory.forget_many`."""
        count: int = self._ask("POST", "forget", {"keys": check_keys(keys)})["forgotten"]
        return count

    # Many of them

    def keys(self, prefix: str = "", after: str | None = None) -> Iterator[str]:
        """See `Memory.keys`."""
        return self._pages("keys", prefix, after if after is None else check_key(after))

    def items(self, prefix: str = "", after: str | None = None) -> Iterator[tuple[str, Value]]:
        """See `Memory.items`."""
        return ((record.key, record.value) for record in self.scan(prefix, after))

    def scan(self, prefix: str = "", after: str | None = None, where: Where | None = None) -> Iterator[Record]:
        """See `Memory.scan`. All records come over the wire: `where` is looked at here."""
        after = after if after is None else check_key(after)
        return filter(filtered(where), map(_record, self._pages("records", prefix, after)))

    def __len__(self) -> int:
        count: int = self.stats()["records"]
        return count

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def __contains__(self, key: str) -> bool:
        return self.retrieve(key) is not None

    def __repr__(self) -> str:
        return f"<Client {self._wire.address}{f', namespace {self._path!r}' if self._path else ''}>"

    def search(
        self,
        query: str,
        k: int = 10,
        where: Where | None = None,
        *,
        by: Literal["all", "words"] = "all",
        around: int = 0,
        diversity: float = 0.0,
    ) -> list[Hit]:
        """See `Memory.search`; the server limits k and `around`."""
        filtered(where)  # raises where it cannot be understood
        said = {"query": query, "k": k, "by": by, "around": around, "diversity": diversity}
        if where is not None:
            said["where"] = _filter(where)
        return [_hit(one) for one in self._ask("POST", "search", said)["hits"]]

    # Namespaces

    def namespace(self, name: str) -> Client:
        """See `Memory.namespace`."""
        handle = object.__new__(Client)
        handle._bind(self._wire, joined(self._path, name), self.author)
        return handle

    def at(self, path: str) -> Client:
        """See `Memory.at`."""
        if not isinstance(path, str):
            raise InvalidInput(f"namespace {path!r} is not text: give names as team/alice.", path)
        here = self
        for name in path.split("/") if path else ():
            here = here.namespace(name)
        return here

    def namespaces(self) -> list[str]:
        """See `Memory.namespaces`."""
        names: list[str] = self._ask("GET", "namespaces")["namespaces"]
        return names

    def drop_namespace(self, name: str) -> int:
        """See `Memory.drop_namespace`."""
        count: int = self._ask("DELETE", f"namespaces/{_quoted(name)}")["forgotten"]
        return count

    # All of it

    def stats(self) -> dict[str, Any]:
        """See `Memory.stats`."""
        said: dict[str, Any] = self._ask("GET", "stats")
        return said

    def export(self, path: str | Path) -> int:
        """Writes this namespace and all below as JSON lines, of one moment, to a file that only its owner may read;
        how many records. It is there when all of it has come. Raises StorageError."""
        draft = Path(f"{path}.partial")
        with _on_disk(path):
            with open(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "w+b") as file:
                with self._wire.opened("GET", "/v1/export", self._query()) as answer:
                    while piece := answer.read(PIECE):
                        with _on_disk(path):  # here, where what fails is else the server
                            file.write(piece)
                file.flush()
                os.fsync(file.fileno())
                file.seek(0)
                count = sum(1 for _ in file) - 1  # the first line is the header
            os.replace(draft, path)
        return count

    def import_(self, path: str | Path, kind: str = "auto") -> Imported:
        """Stores what a file holds, as `extmem import` does. What stands before a line that cannot be read has been
        stored, in batches. Raises InvalidInput, StorageError."""
        path = Path(path)
        if not path.is_file():
            raise InvalidInput(f"{path} is no file: check the path.", path)
        kind = detect(path) if kind == "auto" else kind
        with (
            _on_disk(path),
            path.open("rb") as file,
            self._wire.opened("POST", "/v1/import", self._query(kind=kind, name=path.name), file) as answer,
        ):
            return Imported(**self._wire.parsed(answer.read()))

    def close(self) -> None:
        """Lets go of connections; the next call opens one again."""
        self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        if name in WITHOUT:
            raise AttributeError(f"a Client has no {name}: {WITHOUT[name]}.")
        raise AttributeError(f"'Client' object has no attribute {name!r}")

    # Within

    def _ask(self, method: str, route: str, said: object = None, **query: object) -> Any:
        return self._wire.ask(method, f"/v1/{route}", self._query(**query), said)

    def _query(self, **query: object) -> dict[str, object]:
        return {"namespace": self._path, **query}

    def _pages(self, what: Literal["keys", "records"], prefix: str, after: str | None) -> Iterator[Any]:
        options = {"prefix": prefix, "limit": PAGE, **({"values": "true"} if what == "records" else {})}
        more = True
        while more:
            said = self._ask("GET", "records", after=after, **options)
            yield from said[what]
            after = said["next"]
            more = after is not None

    def _said(
        self, metadata: dict[str, object] | None, author: str | None, trust: float, ttl: float | None
    ) -> dict[str, object]:
        """What is said of a value, of that which was given."""
        if metadata is not None:
            encode_json(metadata)  # raises where it would not come back as it went in
        author = self.author if author is None else author
        said = {"metadata": metadata, "author": author, "ttl": ttl, "trust": None if trust == 1 else trust}
        return {name: one for name, one in said.items() if one is not None}


@contextmanager
def _on_disk(path: str | Path) -> Iterator[None]:
    """Has an error of the operating system say that it is the disk's, and of which file."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise storage_error(error, path) from error


def _quoted(key: str) -> str:
    return quote(check_key(key), safe="")


def _value(value: object) -> dict[str, Any]:
    """A value as JSON. Raises InvalidInput for what would not come back as it went in."""
    encode(value)
    return value_json(value)


def _item(item: object, said: dict[str, object]) -> dict[str, object]:
    if isinstance(item, Record):
        return {"key": check_key(item.key), **_value(item.value), **known_of(item)}
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise InvalidInput(f"{item!r} is not a pair: give (key, value).", item)
    return {"key": check_key(item[0]), **_value(item[1]), **said}


def _record(said: dict[str, Any]) -> Record:
    return Record(said["key"], value_of(said), **{name: said[name] for name in SAID if name in said})


def _hit(said: dict[str, Any]) -> Hit:
    before, after = (tuple((one["key"], value_of(one)) for one in said[side]) for side in ("before", "after"))
    span = None if said["span"] is None else Span(*said["span"])
    words = tuple(said["words"])
    return Hit(said["key"], value_of(said), said["score"], said["source"], said["parts"], words, span, before, after)


def _filter(where: object) -> Any:
    """A filter as JSON: moments as text, sets as lists. Raises InvalidInput for values that are bytes."""
    if isinstance(where, dict):
        return {str(name): _filter(one) for name, one in where.items()}
    if isinstance(where, list | tuple | set | frozenset):
        return [_filter(one) for one in where]
    if isinstance(where, datetime):
        return where.isoformat()
    encode_json(where)
    return where
