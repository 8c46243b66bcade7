"""Files beside records.db, for indexes: each is there when the transaction that wrote it is committed, and
only then; one that a transaction deleted is gone from the disk when it has ended, or at the next opening.

Knows: the table `files` of records.db, paths. Does not know: what is in a file.

A path is never written twice, so that readers of an older state and transactions that fail keep what they
have. What a killed process left on the disk without a row is deleted at the next opening.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from mmap import ACCESS_READ, mmap
from pathlib import Path

from extmem.durable import write_durably
from extmem.errors import InvalidInput, MemoryFormatError, storage_error
from extmem.records.base import Mapped, Row, short_name
from extmem.records.database import Database

_AT = "namespace = ? AND name = ?"


class Files:
    """The files of a memory, for all its namespaces."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def write(self, namespace: str, name: str, content: bytes) -> None:
        """Keeps a file; inside a transaction."""
        if not re.fullmatch(r"datastores(/\w[\w.-]*)+", name, re.ASCII):
            raise InvalidInput(f"{name!r} does not name a file: give letters, digits, '_', '.' and '-'.", name)
        self.delete(namespace, name)
        top = f"namespaces/{short_name(namespace)}/" if namespace else ""
        path = top + name
        if (self.database.folder / path).exists():
            path += f".{uuid.uuid4().hex[:12]}"
        self.database.session.touched.add(path)
        write_durably(self.database.folder / path, content)
        self.database.run("INSERT INTO files (namespace, name, path) VALUES (?, ?, ?)", (namespace, name, path))

    def read(self, namespace: str, name: str) -> bytes:
        """Raises MemoryFormatError where it is missing."""
        path = self.database.folder / self._path(namespace, name)
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise MemoryFormatError(f"{path} is missing.", path) from error
        except OSError as error:
            raise storage_error(error, path) from error

    def map(self, namespace: str, name: str) -> Mapped:
        """The file as it lies on the disk. Raises MemoryFormatError where it is missing."""
        path = self.database.folder / self._path(namespace, name)
        try:
            with open(path, "rb") as file:
                return mmap(file.fileno(), 0, access=ACCESS_READ) if os.fstat(file.fileno()).st_size else b""
        except FileNotFoundError as error:
            raise MemoryFormatError(f"{path} is missing.", path) from error
        except OSError as error:
            raise storage_error(error, path) from error

    def names(self, namespace: str, folder: str) -> list[str]:
        """The names of a namespace's files in a folder."""
        rows = self.database.run("SELECT name FROM files WHERE namespace = ? ORDER BY name", (namespace,))
        return [name for (name,) in rows if name.rpartition("/")[0] == folder]

    def delete(self, namespace: str, name: str) -> None:
        """Deletes a file, if it is there; inside a transaction."""
        self.give_up(self.database.run(f"DELETE FROM files WHERE {_AT} RETURNING path", (namespace, name)))

    def give_up(self, rows: Iterable[Row]) -> None:
        """Has the transaction delete these paths, of which the rows are gone, when it is committed."""
        self.database.session.touched.update(path for (path,) in rows)

    def sweep(self) -> None:
        """Deletes what a killed process left; nobody writes a file meanwhile."""
        if self._strays():
            with self.database.transaction():
                self.give_up((path,) for path in self._strays())

    def _path(self, namespace: str, name: str) -> str:
        rows = self.database.run(f"SELECT path FROM files WHERE {_AT}", (namespace, name))
        if not rows:
            path = self.database.folder / name
            raise MemoryFormatError(f"{path} is missing.", path)
        return str(rows[0][0])

    def _strays(self) -> list[str]:
        """Paths of files that no row names."""
        there = list(_lying(self.database.folder))
        named = {path for (path,) in self.database.run("SELECT path FROM files")} if there else set()
        return [path for path in there if path not in named]


def _lying(folder: Path) -> Iterator[str]:
    """The paths of all files of indexes, from the memory's folder on. Every opening asks for them: os.walk takes
    a third of what Path.rglob does."""
    tops = ["datastores"]
    with suppress(OSError):
        tops += [f"namespaces/{name}/datastores" for name in os.listdir(folder / "namespaces")]
    start = len(f"{folder}/")
    for top in tops:
        for place, _, names in os.walk(f"{folder}/{top}"):
            yield from (f"{place}/{name}"[start:] for name in names)
