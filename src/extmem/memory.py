"""Memory: records, and the indexes derived from them, behind one door.

Knows: records and indexes. Does not know: models, files of text, commands.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from extmem.derived import Derived, Progress
from extmem.errors import ExtmemError, InvalidInput, MemoryFormatError
from extmem.indexes.base import is_embeddings
from extmem.opening import MasterKey, open_plain, open_records, sealed_records
from extmem.reading import Hit
from extmem.records.base import Record, Records, relative
from extmem.records.timeline import Moment, Timeline, checked, said, seconds
from extmem.records.values import Value, check_key, check_keys
from extmem.records.where import Where, filtered

if TYPE_CHECKING:
    from extmem.indexes.datastore import Datastore
    from extmem.indexes.duplicates import Pair
    from extmem.indexes.quantizer import Quantizer
    from extmem.text.encoder import Encoder

TOGETHER = 1_000  # records that store_many hands over at once


class Memory:
    """A map that models read and write, and people read, edit and erase.

    >>> memory = Memory()
    >>> memory.store("apple", "A fruit")
    1
    >>> memory.retrieve("apple")
    'A fruit'
    >>> memory.retrieve("pear") is None
    True
    >>> memory.forget("apple")
    True
    >>> memory.retrieve("apple") is None
    True

    `Memory("fruit.mem")` is a folder on disk, `Memory("postgresql://…")` a database; both are shared by
    threads, processes and asyncio (`AsyncMemory`). `Memory()` lives in RAM. With `key` (32 bytes, a
    file, "env:NAME" or a function that returns it) everything is encrypted at rest. `author` is noted
    with what is stored through this handle.

    Values are text, bytes, numbers, or lists and dicts of them, and come back as they went in. What
    is stored is durable when `store` returns; what is forgotten is gone from every index as well.
    Moments are datetimes (UTC where they name no zone) or seconds since 1970. Raises InvalidInput, MemoryFormatError,
    StorageError, WrongKey.
    """

    def __init__(
        self, place: str | Path | None = None, *, author: str | None = None, key: MasterKey | None = None
    ) -> None:
        self._bind(open_records(place, key), author)
        with suppress(ExtmemError):  # what is damaged: what is asked for says so
            self._settle()

    def _bind(self, records: Records, author: str | None, above: Derived | None = None) -> None:
        self.records, self.author = records, author
        self.derived = Derived(records, above)
        self.timeline = Timeline(records, self.derived.discard)

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
        """Gives `key` this value, and returns its version; what an older value left in any index is
        dropped. Storing what is there already changes nothing.

        `metadata` is any JSON; `trust` lies between 0 and 1; after `ttl` seconds the key is forgotten.
        With `valid_from` or `valid_to` the key's values are kept side by side: `retrieve` gives the one
        that is valid now, `retrieve(key, as_of=…)` the one that was. With `expect` it stores only if the
        value that is valid now is of that version (`record(key).version`), 0 meaning that there is none.
        Raises VersionConflict otherwise.
        """
        author = self.author if author is None else author
        like = said(metadata, author, trust, ttl, valid_from, valid_to)
        self.timeline.settle()
        plain = expect is None and valid_from is None and valid_to is None
        if plain and not self.records.add_new([(key, value)], like):
            return 1
        if expect is not None and type(expect) is not int:
            raise InvalidInput(f"expect is {expect!r}: give a version's number.", expect)
        with self.transaction():
            return self.timeline.write(like._replace(key=check_key(key), value=value), expect)

    def store_many(
        self,
        items: Iterable[tuple[str, object] | Record],
        *,
        metadata: dict[str, object] | None = None,
        author: str | None = None,
        trust: float = 1.0,
        ttl: float | None = None,
    ) -> None:
        """Stores pairs (key, value) in one transaction: all or none. A Record among them keeps what it
        says of itself, its times and its version where its key is new."""
        if isinstance(items, dict | str | bytes) or not isinstance(items, Iterable):
            raise InvalidInput("store_many takes pairs (key, value): give d.items() of a dict.", items)
        self.timeline.settle()
        given = iter(items)
        like = said(metadata, self.author if author is None else author, trust, ttl)
        with self.transaction():
            while batch := list(islice(given, TOGETHER)):
                pairs = [_pair(item) for item in batch if not isinstance(item, Record)]
                if len(pairs) == len(batch) and len({key for key, _ in pairs}) == len(pairs):
                    pairs = self.records.add_new(pairs, like)
                    batch = list(pairs)
                for item in batch:
                    if isinstance(item, Record):
                        self.timeline.write(checked(item), None)
                    else:
                        self.timeline.write(like._replace(key=check_key(item[0]), value=item[1]), None)

    def retrieve(self, key: str, *, as_of: Moment | None = None) -> Value | None:
        """The value of `key`, or None; with `as_of` the one that was valid at that moment."""
        if as_of is None and (value := self.records.get(key)) is not None:
            return value
        record = self.record(key, as_of=as_of)
        return None if record is None else record.value

    def retrieve_many(self, keys: Iterable[str]) -> dict[str, Value]:
        """The values of those keys that have one."""
        wanted = check_keys(keys)
        found = self.records.get_many(wanted)
        if len(found) < len(set(wanted)):
            waiting = set(self.records.due(time.time()))
            late = ((key, self.retrieve(key)) for key in wanted if key in waiting)
            found |= {key: value for key, value in late if value is not None}
        return found

    def record(self, key: str, *, as_of: Moment | None = None) -> Record | None:
        """The value of `key` with all that is known of it: version, times, author, trust, metadata."""
        return self.timeline.at(check_key(key), None if as_of is None else seconds(as_of))

    def history(self, key: str) -> list[Record]:
        """Every value of `key` that was kept, by version: `updated` says when, `author` who. Kept are
        values with a validity, and all since `keep_history`."""
        return self.timeline.states(check_key(key))

    def keep_history(self, on: bool = True) -> None:
        """Whether this namespace keeps the values that are replaced; off until it is asked for."""
        with self.transaction():
            self.records.ledger_remove("settings", "history")
            if on:
                self.records.ledger_put("settings", "history", {"on": True})

    def forget(self, key: str) -> bool:
        """Erases `key`, its history and everything derived from it; False if it was not there.
        Afterwards every answer is what it would have been had it never been stored."""
        return bool(self.forget_many([key]))

    def forget_many(self, keys: Iterable[str]) -> int:
        """Forgets all of these in one transaction; how many were there."""
        self.timeline.settle()
        with self.transaction():
            return sum(map(self.timeline.erase, check_keys(keys)))

    # Many of them

    def keys(self, prefix: str = "", after: str | None = None) -> Iterator[str]:
        """The keys in order (of their code points), those behind `after`."""
        after = after if after is None else check_key(after)
        if self.timeline.settle():
            return self.records.keys(prefix, after)
        return (record.key for record in self.timeline.walk(prefix, after))

    def items(self, prefix: str = "", after: str | None = None) -> Iterator[tuple[str, Value]]:
        """Keys and values, in the order of the keys, never more than a page of them in memory."""
        return ((record.key, record.value) for record in self.scan(prefix, after) if record.value is not None)

    def scan(self, prefix: str = "", after: str | None = None, where: Where | None = None) -> Iterator[Record]:
        """The records in the order of their keys; `where` as in `extmem.records.where`."""
        return filter(filtered(where), self.timeline.walk(prefix, after))

    def __len__(self) -> int:
        return len(self.records) if self.timeline.settle() else sum(1 for _ in self.timeline.walk())

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def __repr__(self) -> str:
        name = f", namespace {self.records.namespace!r}" if self.records.namespace else ""
        return f"<Memory {self.records.place}{name}>"

    def __contains__(self, key: str) -> bool:
        return self.retrieve(key) is not None

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
        """The k records that answer `query` best, the best first, among those that `where` lets through.

        By words; since `embed` by meaning too, unless `by` is "words". Of records that stand in one row, whose
        metadata gives the same "session", "conversation", "thread" or "document", neighbours count for one another,
        and each hit brings so many of them on each side as `around` says. `diversity`, 0 to 1, is how far hits are
        to differ from one another. A hit says what each part gave. docs/search.md tells how. Raises InvalidInput.
        """
        passes = filtered(where)
        self.timeline.settle()

        def fits(record: Record) -> bool:
            return self.timeline.fresh(record) is record and passes(record)

        return self.derived.search(by).hits(query, k, fits, around, diversity)

    def embed(self, model: str | Encoder | None = None, progress: Progress = lambda done, total: None) -> int:
        """Has this memory searched by meaning as well from now on, and those below it: embeds what is not embedded yet
        and returns how many records that were; a search embeds what came later. `model` is an Encoder, or its name:
        "minilm" (the default), a sentence-transformers model, "http://host/v1#model"; another one embeds all anew. May
        be interrupted and called again. Raises InvalidInput, ModelError, ImportError, StorageError."""
        self.timeline.settle()
        return self.derived.embed(model, progress)

    def duplicates(self, threshold: float = 0.6) -> list[Pair]:
        """Pairs of keys whose texts share at least this part of their three-word runs, the most alike
        first; nothing is merged. docs/memory.md says how many are found and how many are false."""
        from extmem.indexes.duplicates import near_duplicates

        texts = ((key, value) for key, value in self.items() if isinstance(value, str))
        return sorted(near_duplicates(texts, threshold), key=lambda pair: (-pair.similarity, pair))

    # Namespaces and transactions

    def namespace(self, name: str) -> Memory:
        """A memory within this one; it sees only its own records, whatever it is asked. Raises InvalidInput
        for a name that is empty or has a '/'."""
        handle = object.__new__(Memory)
        handle._bind(self.records.within(name), self.author, self.derived)
        return handle

    def at(self, path: str) -> Memory:
        """The namespace within namespaces that "outer/inner" names; "" is this one. Raises InvalidInput."""
        if not isinstance(path, str):
            raise InvalidInput(f"namespace {path!r} is not text: give names as team/alice.", path)
        return reduce(Memory.namespace, path.split("/") if path else (), self)

    def namespaces(self) -> list[str]:
        """The namespaces below this one that hold anything; those within others as "outer/inner"."""
        self._settle()  # what expired in one may have been all it had
        return [relative(self.records.namespace, name) for name in self.records.namespaces()]

    def drop_namespace(self, name: str) -> int:
        """Erases a namespace and all within it, and only it; how many records that were."""
        if not name:
            raise InvalidInput("drop_namespace takes the name of a namespace within this memory.", name)
        handle = self.at(name)
        with self.transaction():
            for below in ["", *handle.namespaces()]:
                handle.at(below).derived.keyword.clear()
            return handle.records.drop()

    def transaction(self) -> AbstractContextManager[None]:
        """All of what is done inside, or nothing. Raises StorageError where another writer holds the memory for
        30 seconds or the disk refuses, InvalidInput where it is left by a forked child."""
        return self.records.transaction()

    # What is derived

    def datastore(self, fingerprint: str, dim: int, quantizer: Quantizer | None = None) -> Datastore:
        """The datastore that the model with this fingerprint reads and writes."""
        self.timeline.settle()
        opened = self.derived.datastore(fingerprint, dim)
        if quantizer is not None:
            opened.use(quantizer)
        return opened

    def datastores(self) -> list[Datastore]:
        """The datastores that language models wrote into this memory."""
        self.timeline.settle()
        return [one for one in self.derived.datastores() if not is_embeddings(one.fingerprint)]

    def stats(self) -> dict[str, Any]:
        """What the memory holds, for people."""
        return {
            "records": len(self),
            "namespaces": self.namespaces(),
            "datastores": [datastore.stats() for datastore in self.datastores()],
            "embeddings": self.derived.embeddings(),
        }

    def verify(self) -> list[str]:
        """Reads everything, here and in every namespace below, against its checksums, and compares every
        index with its records; what is wrong, a line each."""
        try:
            self._settle()
            wrong = self._wrong()
            while wrong and (again := self._wrong()) != wrong:  # a file may have been replaced meanwhile
                wrong = again
            return wrong
        except MemoryFormatError as error:
            return [str(error)]

    def repair(self) -> None:
        """Derives what is damaged anew, here and below: keyword indexes at the next search; datastores by
        their models, which `memorize` again what was struck out."""
        with self.transaction():
            for handle in self._all():
                handle.derived.mend()

    def snapshot(self, place: str | Path) -> None:
        """Copies all of it, as of one moment and while others write, into a new memory: a folder or a
        database. An encrypted memory stays encrypted. Raises InvalidInput inside a transaction, and where
        there is a memory already; StorageError."""
        if self.records.in_transaction:
            raise InvalidInput("snapshot() inside a transaction: leave it first.")
        self._settle()
        target = open_plain(place)
        try:
            target.load(self.records.dump())
        finally:
            target.close()

    def rotate_master(self, key: MasterKey) -> None:
        """Has an encrypted memory open with another master key from now on; open handles go on. Raises
        InvalidInput for a memory that is not encrypted, and inside a transaction; WrongKey."""
        sealed_records(self.records).rotate_master(key)

    def rotate_keys(self) -> None:
        """Encrypts everything here and below anew with new keys, while others read and write; if
        interrupted, it can be run again."""
        sealed_records(self.records).rotate_keys()

    def close(self) -> None:
        """Lets go of files; before that erases what has expired. Raises InvalidInput inside a transaction."""
        if not self.records.in_transaction:
            with suppress(ExtmemError):
                self._settle()
        self.records.close()

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # Within

    def _settle(self) -> None:
        """Does what has come due, here and below: `Timeline.settle`."""
        for name in self.records.overdue(time.time()):
            self.at(relative(self.records.namespace, name)).timeline.settle()

    def _all(self) -> Iterator[Memory]:
        """This handle, and one for every namespace below."""
        yield self
        for name in self.records.namespaces():
            yield self.at(relative(self.records.namespace, name))

    def _wrong(self) -> list[str]:
        """What is wrong, as of one moment."""
        with self.records.reading():
            wrong = self.records.check()
            for handle in self._all():
                name = f"namespace {handle.records.namespace}: " if handle.records.namespace else ""
                try:
                    for _ in handle.records.iterate():
                        pass
                    wrong += [name + line for index in handle.derived.every() for line in index.verify()]
                except ExtmemError as error:
                    wrong.append(f"{name}{error}")
        return list(dict.fromkeys(wrong))


def _pair(item: object) -> tuple[str, object]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise InvalidInput(f"{item!r} is not a pair: give (key, value).", item)
    return item[0] if type(item[0]) is str else check_key(item[0]), item[1]
