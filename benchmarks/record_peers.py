"""The stores that benchmarks/records.py compares: each opened, written and read as its own manual has it.

Knows: how every store is called. Does not know: what is compared with what, tables.

A store is a process of its own (`python record_peers.py NAME FOLDER SECONDS`) that answers lines on its
standard input with records per second. All take text and give text; those that keep bytes encode and
decode it, as their users must. Keys are 16 hexadecimal digits, scattered; values have 100 characters.
mem0 needs no model here: its two storage classes are called as its `Memory` calls them, with a vector
of 8 numbers handed in, where a real embedding has hundreds.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

Pair = tuple[str, str]
NEVER, SCATTER, MASK = 1 << 62, 0x9E3779B97F4A7C15, (1 << 64) - 1
SETTINGS = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=ON; PRAGMA cache_size=-32768"
WORDS = ("apple", "river", "stone", "copper", "window", "garden", "letter", "winter", "engine", "silver", "bridge")


class Store(NamedTuple):
    """One open store, as the calls that are measured."""

    get: Callable[[str], Any]
    put: Callable[[str, str], Any]
    put_many: Callable[[list[Pair]], Any]
    get_many: Callable[[list[str]], Any] | None
    close: Callable[[], Any]
    delete: Callable[[str], Any]
    value: Callable[[Any], Any] = lambda got: got  # the text in what `get` returned


def extmem(folder: Path | None) -> Store:
    from extmem import Memory

    memory = Memory(folder)
    return Store(memory.retrieve, memory.store, memory.store_many, memory.retrieve_many, memory.close, memory.forget)


def same_table(folder: Path) -> Store:
    """Python's sqlite3 on the table that extmem has, with the same settings, statement by statement."""
    from extmem.records.schema import TABLES

    connection = _sqlite(folder, TABLES)
    execute, now = connection.execute, time.time
    add = "INSERT OR IGNORE INTO records (namespace, key, kind, value, created, updated) VALUES ('', ?, 0, ?, ?, ?)"
    get = "SELECT kind, value, due FROM records WHERE namespace = '' AND key = ?"
    many = "SELECT key, kind, value, due FROM records WHERE namespace = '' AND key IN ({})"

    def put(key: str, value: str) -> None:
        moment = now()
        execute(add, (key, value, moment, moment))

    def put_many(pairs: list[Pair]) -> None:
        moment = now()
        _in_one(connection, add, ((key, value, moment, moment) for key, value in pairs))

    return Store(
        lambda key: execute(get, (key,)).fetchone(),
        put,
        put_many,
        lambda keys: {row[0]: row[2] for row in execute(many.format(",".join("?" * len(keys))), keys)},
        connection.close,
        lambda key: execute("DELETE FROM records WHERE namespace = '' AND key = ?", (key,)),
        lambda row: row[1],
    )


def small_table(folder: Path) -> Store:
    """The least table that SQLite can hold a map in."""
    connection = _sqlite(folder, "CREATE TABLE records (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
    execute, add = connection.execute, "INSERT OR REPLACE INTO records VALUES (?, ?)"
    get, many = "SELECT value FROM records WHERE key = ?", "SELECT key, value FROM records WHERE key IN ({})"
    return Store(
        lambda key: execute(get, (key,)).fetchone()[0],
        lambda key, value: execute(add, (key, value)),
        lambda pairs: _in_one(connection, add, pairs),
        lambda keys: dict(execute(many.format(",".join("?" * len(keys))), keys).fetchall()),
        connection.close,
        lambda key: execute("DELETE FROM records WHERE key = ?", (key,)),
    )


def _sqlite(folder: Path, tables: str) -> Any:
    import sqlite3

    connection = sqlite3.connect(folder / "records.db", isolation_level=None)
    connection.executescript(SETTINGS)
    connection.executescript(tables)
    return connection


def _in_one(connection: Any, statement: str, rows: Iterable[Any]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(statement, rows)
    connection.execute("COMMIT")


def bare_dict(folder: Path) -> Store:
    held: dict[str, str] = {}

    def get_many(keys: list[str]) -> dict[str, str]:
        return {key: held[key] for key in keys if key in held}

    return Store(held.get, held.__setitem__, held.update, get_many, held.clear, held.pop)


def lmdb(folder: Path) -> Store:
    import lmdb

    opened = lmdb.open(str(folder), map_size=1 << 36)

    def get(key: str) -> str:
        with opened.begin() as reading:
            return reading.get(key.encode()).decode()

    def get_many(keys: list[str]) -> dict[str, str]:
        with opened.begin() as reading:
            return {key: reading.get(key.encode()).decode() for key in keys}

    def put(key: str, value: str) -> None:
        with opened.begin(write=True) as writing:
            writing.put(key.encode(), value.encode())

    def put_many(pairs: list[Pair]) -> None:
        with opened.begin(write=True) as writing:
            for key, value in pairs:
                writing.put(key.encode(), value.encode())

    def delete(key: str) -> None:
        with opened.begin(write=True) as writing:
            writing.delete(key.encode())

    return Store(get, put, put_many, get_many, opened.close, delete)


def diskcache(folder: Path, **settings: int) -> Store:
    from diskcache import Cache

    cache = Cache(str(folder), **settings)

    def put_many(pairs: list[Pair]) -> None:
        with cache.transact():
            for key, value in pairs:
                cache.set(key, value)

    return Store(cache.get, cache.set, put_many, None, cache.close, cache.delete)


def shelf(folder: Path) -> Store:
    import shelve

    opened = shelve.open(str(folder / "shelf"))  # noqa: SIM115

    def put(key: str, value: str) -> None:
        opened[key] = value
        opened.sync()

    def put_many(pairs: list[Pair]) -> None:
        opened.update(pairs)
        opened.sync()

    def delete(key: str) -> None:
        del opened[key]
        opened.sync()

    return Store(opened.__getitem__, put, put_many, None, opened.close, delete)


def langchain_ram(folder: Path) -> Store:
    from langchain_core.stores import InMemoryStore

    store = InMemoryStore()
    return Store(
        lambda key: store.mget([key])[0],
        lambda key, value: store.mset([(key, value)]),
        store.mset,
        store.mget,
        lambda: None,
        lambda key: store.mdelete([key]),
    )


def langchain_files(folder: Path) -> Store:
    from langchain_classic.storage import LocalFileStore

    return _of_bytes(LocalFileStore(folder), 1000)


def langchain_sql(folder: Path) -> Store:
    from langchain_community.storage import SQLStore

    store = SQLStore(namespace="", db_url=f"sqlite:///{folder}/records.db")
    store.create_schema()
    return _of_bytes(store, 1000, store.engine.dispose)


def _of_bytes(store: Any, most: int, close: Callable[[], Any] = lambda: None) -> Store:
    """A LangChain ByteStore; `mset` gets at most so many at once."""

    def put_many(pairs: list[Pair]) -> None:
        for start in range(0, len(pairs), most):
            store.mset([(key, value.encode()) for key, value in pairs[start : start + most]])

    return Store(
        lambda key: store.mget([key])[0].decode(),
        lambda key, value: store.mset([(key, value.encode())]),
        put_many,
        lambda keys: [value.decode() for value in store.mget(keys)],
        close,
        lambda key: store.mdelete([key]),
    )


def langgraph(folder: Path) -> Store:
    from langgraph.store.base import GetOp, PutOp
    from langgraph.store.sqlite import SqliteStore

    opened = ExitStack()
    store = opened.enter_context(SqliteStore.from_conn_string(str(folder / "records.db")))
    store.setup()
    space = ("memories",)

    def put_many(pairs: list[Pair]) -> None:
        for start in range(0, len(pairs), 1000):
            store.batch([PutOp(space, key, {"text": value}) for key, value in pairs[start : start + 1000]])

    return Store(
        lambda key: store.get(space, key),
        lambda key, value: store.put(space, key, {"text": value}),
        put_many,
        lambda keys: store.batch([GetOp(space, key) for key in keys]),
        opened.close,
        lambda key: store.delete(space, key),
        lambda item: item.value["text"],
    )


def mem0_qdrant(folder: Path) -> Store:
    from mem0.vector_stores.qdrant import Qdrant

    vectors = Qdrant("memories", 8, path=str(folder / "qdrant"), on_disk=True)
    return _mem0(folder, vectors, vectors.client.close)


def mem0_faiss(folder: Path) -> Store:
    from mem0.vector_stores.faiss import FAISS

    return _mem0(folder, FAISS("memories", path=str(folder / "faiss"), embedding_model_dims=8), lambda: None)


def _mem0(folder: Path, vectors: Any, close: Callable[[], Any]) -> Store:
    """As mem0.Memory creates and deletes: in the vector store, then in the history. Ids are UUIDs there."""
    from mem0.memory.storage import SQLiteManager

    history, vector = SQLiteManager(str(folder / "history.db")), [0.1] * 8

    def put_many(pairs: list[Pair]) -> None:
        ids, payloads = [_uuid(key) for key, _ in pairs], [{"data": value} for _, value in pairs]
        vectors.insert(vectors=[vector] * len(ids), payloads=payloads, ids=ids)
        rows = zip(ids, pairs, strict=True)
        history.batch_add_history([{"memory_id": i, "new_memory": value, "event": "ADD"} for i, (_, value) in rows])

    def put(key: str, value: str) -> None:
        vectors.insert(vectors=[vector], payloads=[{"data": value}], ids=[_uuid(key)])
        history.add_history(_uuid(key), None, value, "ADD")

    def delete(key: str) -> None:
        before = vectors.get(_uuid(key)).payload["data"]
        vectors.delete(_uuid(key))
        history.add_history(_uuid(key), before, None, "DELETE", is_deleted=1)

    def shut() -> None:
        close()
        history.close()

    def text(found: Any) -> str:
        return str(found.payload["data"])

    return Store(lambda key: vectors.get(_uuid(key)), put, put_many, None, shut, delete, text)


def _uuid(key: str) -> str:
    return f"{key[:8]}-{key[8:12]}-{key[12:]}-{key[:4]}-{key[4:]}"


class Peer(NamedTuple):
    """A store by name: the package it comes in ('' for this environment's own), and what it promises."""

    open: Callable[[Path], Store]
    package: str
    durable: str
    most: int = NEVER  # records it is given, where more would take minutes


SHELF = "no (no fsync)" if sys.version_info < (3, 13) else "dbm's"
PEERS = {
    "extmem": Peer(extmem, "", "yes"),
    "sqlite3, the same table": Peer(same_table, "", "yes"),
    "sqlite3, key and value only": Peer(small_table, "", "yes"),
    "LMDB": Peer(lmdb, "lmdb", "yes"),
    "diskcache, synchronous=FULL": Peer(lambda folder: diskcache(folder, sqlite_synchronous=2), "diskcache", "yes"),
    "diskcache as it comes": Peer(diskcache, "diskcache", "no (NORMAL)"),
    "shelve, sync() each": Peer(shelf, "", SHELF, 10_000),
    "LangChain SQLStore": Peer(langchain_sql, "langchain-community", "yes", 20_000),
    "LangChain LocalFileStore": Peer(langchain_files, "langchain-classic", "no (no fsync)", 20_000),
    "LangGraph SqliteStore": Peer(langgraph, "langgraph-checkpoint-sqlite", "yes", 20_000),
    "mem0, Qdrant + history": Peer(mem0_qdrant, "mem0ai", "yes", 2_000),
    "mem0, FAISS + history": Peer(mem0_faiss, "mem0ai faiss-cpu", "no (no fsync)", 2_000),
    "extmem in RAM": Peer(lambda folder: extmem(None), "", "RAM"),
    "dict": Peer(bare_dict, "", "RAM"),
    "LangChain InMemoryStore": Peer(langchain_ram, "langchain-core", "RAM"),
}


def key_of(number: int) -> str:
    """The key of a record: neighbours in number lie far apart in order."""
    return f"{number * SCATTER & MASK:016x}"


def record(number: int) -> Pair:
    """A record: its key, and 100 characters."""
    key = key_of(number)
    return key, f"{WORDS[number % 11]} {WORDS[number // 11 % 11]} {key * 6}"[:100]


class Worker:
    """A store at work: every answer is a number, mostly records a second."""

    def __init__(self, peer: Peer, folder: Path, limit: float) -> None:
        self.peer, self.folder, self.limit, self.draw = peer, folder, limit, random.Random(0)
        self.store: Store | None = None

    def fresh(self) -> float:
        """Opens an empty store in place of the one there."""
        if self.store is not None:
            self.store.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.store = self.peer.open(self.folder)
        return float(self.peer.most)

    def bulk(self, first: int, last: int) -> float:
        """Stores these records in one call; the clock does not run while they are made."""
        assert self.store is not None
        pairs = [record(number) for number in range(first, last)]
        began = time.perf_counter()
        self.store.put_many(pairs)
        return len(pairs) / (time.perf_counter() - began)

    def write(self, first: int, count: int) -> float:
        """Stores new records, one by one."""
        assert self.store is not None
        put = self.store.put

        def write(pairs: list[Pair]) -> None:
            for key, value in pairs:
                put(key, value)

        return self._timed([record(number) for number in range(first, first + count)], write)

    def read(self, last: int, count: int) -> float:
        """Reads records in random order, one by one; before the clock starts, compares some."""
        assert self.store is not None
        get, value = self.store.get, self.store.value
        for number in self.draw.choices(range(last), k=20):
            if value(get(key_of(number))) != record(number)[1]:
                raise SystemExit(f"the value of record {number} is not the one that was stored")

        def read(keys: list[str]) -> None:
            for key in keys:
                get(key)

        return self._timed(self._keys(last, count), read)

    def batched(self, last: int, count: int, batch: int = 500) -> float:
        """Reads in batches; 0 where a store has no such call."""
        assert self.store is not None
        if (many := self.store.get_many) is None:
            return 0.0
        keys = self._keys(last, count)
        batches = [keys[at : at + batch] for at in range(0, count, batch)]
        if len(many(batches[0])) != len(set(batches[0])) and len(many(batches[0])) != len(batches[0]):
            raise SystemExit("a batch came back with records missing")
        return batch * self._timed(batches, lambda some: [many(keys) for keys in some])

    def search(self, count: int) -> float:
        """Searches a namespace of 1,000 records; extmem's alone."""
        memory = self.store.get.__self__.namespace("alice")  # type: ignore[union-attr]
        if not len(memory):
            memory.store_many(record(number) for number in range(NEVER, NEVER + 1000))
        memory.search("apple river")
        return self._timed(range(count), lambda some: [memory.search(f"apple {WORDS[n % 11]}") for n in some])

    def anew(self) -> float:
        """Opens the store again; seconds until its first answer, a search in that namespace."""
        assert self.store is not None
        self.store.close()
        began = time.perf_counter()
        self.store = self.peer.open(self.folder)
        self.store.get.__self__.namespace("alice").search("apple river")  # type: ignore[attr-defined]
        return time.perf_counter() - began

    def erase(self, first: int, count: int) -> float:
        """Deletes these records one by one; how many of their values the folder's files still hold."""
        assert self.store is not None
        for number in range(first, first + count):
            self.store.delete(key_of(number))
        return self.held(first, count)

    def held(self, first: int, count: int) -> float:
        """How many of these records' values can be found in the raw bytes of the folder's files."""
        files = [path.read_bytes() for path in self.folder.rglob("*") if path.is_file()]
        parts = [f" {key_of(number) * 2}".encode() for number in range(first, first + count)]  # from within each
        return float(sum(any(part in content for content in files) for part in parts))

    def shut(self) -> float:
        """Closes the store."""
        assert self.store is not None
        self.store.close()
        self.store = None
        return 0.0

    def _keys(self, last: int, count: int) -> list[str]:
        return [key_of(number) for number in self.draw.choices(range(last), k=count)]

    def _timed(self, items: Any, work: Callable[[Any], Any]) -> float:
        """Items a second: all of them, or as many as the time allows."""
        done, step, began = 0, 1, time.perf_counter()
        while True:
            work(items[done : done + step])
            done += min(step, len(items) - done)
            spent = time.perf_counter() - began
            if done == len(items) or spent > self.limit:
                return done / spent
            step = max(1, min(2 * step, int(done / spent * (self.limit - spent)) + 1))


def main() -> None:
    name, folder, limit = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    os.environ |= {"MEM0_TELEMETRY": "False", "ANONYMIZED_TELEMETRY": "False", "HOME": str(folder.parent)}
    worker = Worker(PEERS[name], folder, limit)
    for line in sys.stdin:
        said, *numbers = line.split()
        try:
            answer = {"rate": getattr(worker, said)(*map(int, numbers))}
        except ImportError as error:
            answer = {"missing": str(error)}
        except Exception as error:
            answer = {"failed": f"{type(error).__name__}: {error}"}
        print("\n=> " + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
