"""Memory: records, and the indexes derived from them, behind one door.

Knows: records and indexes. Does not know: models, files of text, commands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extmem.errors import InvalidInput
from extmem.indexes.keyword import KeywordIndex
from extmem.reading import Hit
from extmem.records.base import Records
from extmem.records.ram import RamRecords
from extmem.records.sqlite import SqliteRecords
from extmem.records.values import Value, check_key, encode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from extmem.indexes.datastore import Datastore


class Memory:
    """A map that models read and write, and people read, edit and erase.

    >>> memory = Memory()
    >>> memory.store("apple", "A fruit")
    >>> memory.retrieve("apple")
    'A fruit'
    >>> memory.retrieve("pear") is None
    True
    >>> memory.forget("apple")
    True
    >>> memory.retrieve("apple") is None
    True

    `Memory("fruit.mem")` is a folder on disk, shared by threads and processes; `Memory()` lives in RAM.
    Values are text, bytes, numbers, or lists and dicts of them, and come back as they went in. What
    is stored is durable when `store` returns; what is forgotten is gone from every index as well.
    Raises InvalidInput, MemoryFormatError and StorageError.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        if path is not None and str(path).startswith(("postgresql://", "postgres://")):
            raise InvalidInput("this version keeps memories in folders and RAM: give a folder's path.", path)
        records: Records = RamRecords() if path is None else SqliteRecords(Path(path))
        self._bind(records)

    def _bind(self, records: Records) -> None:
        self.records = records
        self._keyword = KeywordIndex(records)
        self._datastores: dict[str, Datastore] = {}

    def store(self, key: str, value: object) -> None:
        """Gives `key` this value; what an older value left in any index is dropped."""
        self.store_many([(key, value)])

    def store_many(self, items: Iterable[tuple[str, object]]) -> None:
        """Stores pairs in one transaction: all or none."""
        with self.transaction():
            for key, value in items:
                old = self.records.find(check_key(key))
                if old is not None and encode(old.value) == encode(value):
                    continue
                if old is not None:
                    self._discard(old.id)
                self.records.put(key, value)
                record = self.records.find(key)
                assert record is not None
                self._keyword.add(record)

    def retrieve(self, key: str) -> Value | None:
        """The value of `key`, or None."""
        return self.records.get(check_key(key))

    def forget(self, key: str) -> bool:
        """Erases `key` and everything derived from it; False if it was not there. Afterwards every
        answer is what it would have been had it never been stored."""
        with self.transaction():
            record_id = self.records.delete(check_key(key))
            if record_id is None:
                return False
            self._discard(record_id)
            self.records.enlist(self._keyword)
        return True

    def keys(self, prefix: str = "") -> Iterator[str]:
        """The keys, in order."""
        return self.records.keys(prefix)

    def items(self) -> Iterator[tuple[str, Value]]:
        """Keys and values, in the order they were stored."""
        return ((record.key, record.value) for record in self.records.records())

    def __len__(self) -> int:
        return len(self.records)

    def __contains__(self, key: str) -> bool:
        return self.records.find(check_key(key)) is not None

    def namespace(self, name: str) -> Memory:
        """A memory within this one; it sees only its own records, whatever it is asked."""
        handle = object.__new__(Memory)
        handle._bind(self.records.within(name))
        return handle

    def search(self, query: str, k: int = 10) -> list[Hit]:
        """The k records that share the most telling words with `query`, the best first."""
        if k < 1:
            raise InvalidInput(f"k is {k}: give at least 1.", k)
        for _ in range(9):  # a record may be replaced by another writer between its finding and its reading
            found = [(self.records.by_id(number), score) for number, score in self._keyword.search(query, k)]
            if all(record for record, _ in found):
                break
        return [Hit(record.key, record.value, score, "keyword") for record, score in found if record]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of what is done inside, or nothing."""
        with self.records.transaction():
            yield

    def datastore(self, fingerprint: str, dim: int, cells: NDArray[np.float32] | None = None) -> Datastore:
        """The datastore that the model with this fingerprint reads and writes."""
        from extmem.indexes.datastore import Datastore

        if fingerprint not in self._datastores:
            self._datastores[fingerprint] = Datastore(self.records, fingerprint, dim, cells)
            self._datastores[fingerprint].sweep()
        opened = self._datastores[fingerprint]
        if cells is not None:
            opened.use_cells(cells)
        return opened

    def datastores(self) -> list[Datastore]:
        """All datastores of this memory, whichever models wrote them."""
        return [self.datastore(name, note["dim"]) for name, note in self.records.ledger("datastore").items()]

    def stats(self) -> dict[str, Any]:
        """What the memory holds, for people."""
        return {
            "records": len(self),
            "namespaces": self.records.namespaces(),
            "datastores": [datastore.stats() for datastore in self.datastores()],
        }

    def verify(self) -> list[str]:
        """What in any index, here or in a namespace below, does not fit the records; empty if all is well."""
        wrong = self._verify_own()
        own = len(self.records.namespace) + 1 if self.records.namespace else 0
        for name in self.records.namespaces():
            handle = reduce(Memory.namespace, name[own:].split("/"), self)
            wrong += [f"namespace {name}: {line}" for line in handle._verify_own()]
        return wrong

    def rebuild(self) -> None:
        """Derives the keyword index anew and strikes out what is damaged in datastores; their models
        derive that again (`memorize`)."""
        with self.transaction():
            for datastore in self.datastores():
                datastore.mend()
            self._keyword.clear()
            for record in self.records.records():
                self._keyword.add(record)

    def close(self) -> None:
        """Lets go of files."""
        self.records.close()

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _verify_own(self) -> list[str]:
        return [line for index in (self._keyword, *self.datastores()) for line in index.verify()]

    def _discard(self, record_id: int) -> None:
        for index in (self._keyword, *self.datastores()):
            index.discard([record_id])
