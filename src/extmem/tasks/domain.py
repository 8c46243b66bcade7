"""Domain: a folder of files as a knowledge base, every passage with the file, page and line it stands at.

Knows: Memory, the sections of files. Does not know: how passages are found, or answered from.

A passage is a record: its key says where it stands, as "guide.pdf, page 3, line 12, Dosage", and is searched with it;
its metadata has "file", "page", "line" and "title", and, but for rows of a table, "document": passages of one document
are neighbours in a search. Reading a file again changes what changed: passages that are no longer there are forgotten,
the others left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from extmem.errors import CorpusError, InvalidInput
from extmem.memory import Memory
from extmem.records.base import Record
from extmem.tasks.answer import GLOSSARY, PASSAGE, TERM
from extmem.text.abbreviations import abbreviations
from extmem.text.documents import files_within
from extmem.text.passages import passages
from extmem.text.sections import SUFFIXES, Section, read_sections

WORDS = 120  # of a passage, at most
TABLES = (".csv", ".tsv", ".jsonl")  # of which rows have nothing to do with those beside them
TITLE = 80  # characters of a title that stand in a key


@dataclass(frozen=True)
class Added:
    """What reading came to: files, how many passages they have and how many of those are new, passages forgotten; for
    each file that was not read a line that says why; and files of the folder that are remembered but gone."""

    files: int
    passages: int
    new: int
    forgotten: int
    refused: tuple[str, ...]
    missing: tuple[str, ...]


class Term(NamedTuple):
    """A term, what it means, and the key of the record that says so."""

    term: str
    meaning: str
    key: str


class _Change(NamedTuple):
    """Passages that there are, that are new, that were forgotten."""

    passages: int
    new: int
    forgotten: int


class Domain:
    """A knowledge base in a memory. Other records of the memory are left alone."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    def read(
        self,
        path: str | Path,
        prune: bool = False,
        progress: Callable[[int, int, str], None] = lambda done, total, name: None,
    ) -> Added:
        """Stores the passages of a file, or of all files of a folder and the folders within, in order of their paths; a
        folder's files are named with its own name before. A file that cannot be read, or of whose name another one is
        remembered, is named in what is returned, and what is remembered is kept. With `prune` what is remembered of
        files that are gone from the folder is forgotten. `progress(done, total, name)` counts files. Raises CorpusError
        where nothing can be read.
        """
        path = Path(path)
        files = named(path)
        found, refused = [_Change(0, 0, 0)], list[str]()
        for done, (name, file) in enumerate(files.items()):
            progress(done, len(files), name)
            try:
                found.append(self._replace(name, file, {one.key: one for one in _records(name, file)}))
            except (InvalidInput, ImportError) as error:
                refused.append(str(error))
        if len(refused) == len(files):
            raise CorpusError(f"{path} holds nothing that can be read: {refused[0]}", path)
        progress(len(files), len(files), "")
        within = f"{path.resolve().name}/" if path.is_dir() else "\0"
        missing = [name for name in self.documents() if name.startswith(within) and name not in files]
        if prune:
            found += [_Change(0, 0, self.remove(name)) for name in missing]
        total = _Change(*map(sum, zip(*found, strict=True)))
        return Added(len(files) - len(refused), *total, tuple(refused), () if prune else tuple(missing))

    def documents(self) -> dict[str, int]:
        """The files, and how many passages each has."""
        found: dict[str, int] = {}
        for record in self.memory.scan(where={"metadata.kind": PASSAGE}):
            name = str((record.metadata or {}).get("file"))
            found[name] = found.get(name, 0) + 1
        return found

    def remove(self, document: str) -> int:
        """Forgets a file; how many passages it had."""
        return self.memory.forget_many([record.key for record in self._of(document)])

    def define(self, term: str, meaning: str) -> None:
        """Puts a term into the glossary, in place of what it said of it."""
        self.memory.store(f"{GLOSSARY}{term}", meaning, metadata={"kind": TERM})

    def glossary(self) -> list[Term]:
        """The terms that were defined, and the abbreviations that passages explain, by term; of several explanations of
        one the most frequent comes first. What is forgotten explains nothing any more."""
        defined = [Term(key.removeprefix(GLOSSARY), str(value), key) for key, value in self.memory.items(GLOSSARY)]
        found: dict[tuple[str, str], list[Term]] = {}
        for record in self.memory.scan(where={"metadata.kind": PASSAGE}):
            for short, long, _ in abbreviations(str(record.value)):
                found.setdefault((short, long.lower()), []).append(Term(short, long, record.key))
        explained = sorted(found.items(), key=lambda item: (item[0][0].lower(), -len(item[1]), item[0]))
        return sorted([*defined, *(terms[0] for _, terms in explained)], key=lambda term: term.term.lower())

    def _of(self, document: str) -> Iterator[Record]:
        where = {"metadata.kind": PASSAGE, "metadata.file": document}
        return self.memory.scan(f"{document}, ", where=where)

    def _replace(self, document: str, file: Path, records: dict[str, Record]) -> _Change:
        """Has a file consist of these passages. Raises InvalidInput where its name or a key is another's."""
        with self.memory.transaction():
            there = {record.key: record for record in self._of(document)}
            others = {str((record.metadata or {}).get("from")) for record in there.values()} - {str(file.resolve())}
            if other := next((one for one in others if Path(one).exists()), None):
                raise InvalidInput(
                    f"{file} goes by the name of {other}, which is remembered: rename one, or its folder.", file
                )
            if taken := next((key for key in records if key not in there and key in self.memory), None):
                raise InvalidInput(f"{file}: the key {taken!r} is another record's: rename the file.", file)
            gone = self.memory.forget_many([key for key in there if key not in records])
            same = {key for key, record in there.items() if key in records and _alike(record, records[key])}
            self.memory.store_many(record for key, record in records.items() if key not in same)
        return _Change(len(records), len(records) - len(same), gone)


def _alike(one: Record, other: Record) -> bool:
    return (one.value, one.metadata) == (other.value, other.metadata)


def named(path: Path) -> dict[str, Path]:
    """The files of a path and what they are called. Raises CorpusError where there are none."""
    if not path.is_dir():
        if not path.exists():
            raise CorpusError(f"{path} does not exist: check the path.", path)
        return {path.name: path}
    top = path.resolve().name
    files = {f"{top}/{file.relative_to(path).as_posix()}": file for file in files_within(path, SUFFIXES)}
    if not files:
        raise CorpusError(f"{path} holds no file that is read: give {' '.join(SUFFIXES)}.", path)
    return files


def _records(name: str, file: Path) -> Iterator[Record]:
    """The passages of a file. Raises InvalidInput for a name that is not text."""
    if any("\ud800" <= character <= "\udfff" for character in name):  # how Python shows a byte that is not UTF-8
        raise InvalidInput(f"{str(file)!r} has a name that is not UTF-8: rename it.", file)
    seen: dict[str, int] = {}
    rows = Path(name.removesuffix(".gz")).suffix.lower() in TABLES
    for section in read_sections(file):
        about: dict[str, object] = {"kind": PASSAGE, "file": name, "from": str(file.resolve())}
        about |= {} if rows else {"document": name}
        for start, end in passages(section.text, WORDS):
            line = section.line + (section.text.count("\n", 0, start) if section.lines else 0)
            key = _place(name, section, line)
            seen[key] = seen.get(key, 0) + 1
            key = key if seen[key] == 1 else f"{key} ({seen[key]})"
            place = {"page": section.page, "line": line, "title": section.title}
            metadata = about | {field: value for field, value in place.items() if value not in (None, "")}
            yield Record(key, section.text[start:end], metadata=metadata)


def _place(name: str, section: Section, line: int) -> str:
    page = f", page {section.page}" if section.page is not None else ""
    title = " ".join(section.title.split())[:TITLE]
    return f"{name}{page}, line {line}{f', {title}' if title else ''}"
