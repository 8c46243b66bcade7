"""Documents: what files and folders hold to be read, each under its key.

Knows: files, their encodings and formats. Does not know: words, memories, models.

    .txt .md .rst    one document, keyed by the file's name, or its path within the folder that was read
    .jsonl           one document a line: {"text": …} or "content" or "value", and maybe "key" or "id";
                     a line without a key is keyed file:line
    … .gz            any of these, compressed
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple, cast

from extmem.errors import CorpusError, InvalidInput

SUFFIXES = (".txt", ".md", ".rst", ".jsonl")
VALIDATION = ("valid", "val", "dev")  # stems of the file that a corpus is validated on
HELD_OUT = 20  # one part in so many is held out where there is no such file

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Document:
    """A text and the key it goes by."""

    key: str
    text: str


class Corpus(NamedTuple):
    """Documents to learn from, and documents to measure on."""

    train: list[Document]
    valid: list[Document]


def read_documents(path: str | Path) -> Iterator[Document]:
    """The documents of a file, or of a folder and the folders within, in the order of their paths.

    A single file of an unknown suffix is read as text; in a folder it is skipped, as hidden files and
    empty ones are. Raises CorpusError: no such path, not text, a bad line, nothing to read.
    """
    path = Path(path)
    if path.is_dir():
        files = [(file, file.relative_to(path).as_posix()) for file in _files(path)]
    elif path.exists():
        files = [(path, path.name.removesuffix(".gz"))]
    else:
        raise CorpusError(f"{path} does not exist: check the path.", path)
    return _documents(path, files)


Source = str | Path | Mapping[str, str] | Iterable[str | Path] | Iterable[Document]  # where documents come from


def documents_of(source: Source) -> Iterator[Document]:
    """The documents of a file, a folder, several of them, {key: text}, or documents as they are. Raises CorpusError;
    InvalidInput where two files would go by one key."""
    if isinstance(source, Mapping):
        yield from (Document(key, text) for key, text in source.items())
    elif isinstance(source, str | Path):
        yield from read_documents(source)
    else:
        items = iter(source)
        first = next(items, None)
        if isinstance(first, Document):  # as many as there may be
            yield from chain([first], cast(Iterator[Document], items))
        elif first is not None:
            yield from _of_several([Path(one) for one in chain([first], cast(Iterator[str | Path], items))])


def _of_several(paths: Sequence[Path]) -> Iterator[Document]:
    """Files of one name are told apart by their folders."""
    names = Counter(path.name for path in paths)
    came_from: dict[str, Path] = {}
    for path in paths:
        for document in read_documents(path):
            if not path.is_dir() and names[path.name] > 1:
                document = replace(document, key=(path.parent / document.key).as_posix())
            if came_from.setdefault(document.key, path) != path:
                raise InvalidInput(
                    f"{came_from[document.key]} and {path} both hold a document {document.key!r}: "
                    "memorize them into namespaces of their own, or rename one.",
                    document.key,
                )
            yield document


def split_corpus(path: str | Path) -> Corpus:
    """A file or folder as training and validation documents.

    A folder with a file called train (train.txt, train.jsonl.gz, …) is taken as it was split: train.*
    and valid.*, val.* or dev.*; never anything else, as that may be the test set. Otherwise one part in
    20 is held out: every 20th document or, where there are fewer, the last 20th of each document, from
    a line break on if its last tenth has one. Raises CorpusError.
    """
    path = Path(path)
    named: dict[str, list[tuple[Path, str]]] = {}
    if path.is_dir():
        for file in _files(path):
            if file.parent == path:
                named.setdefault(file.name.partition(".")[0], []).append((file, file.name))
    if "train" not in named:
        return _held_out(path, list(read_documents(path)))
    train = list(_documents(path, named["train"]))
    valid = [file for stem in VALIDATION for file in named.get(stem, [])]
    return Corpus(train, list(_documents(path, valid))) if valid else _held_out(path, train)


def _held_out(path: Path, documents: list[Document]) -> Corpus:
    """The corpus with one part in 20 held out."""
    if len(documents) >= HELD_OUT:
        train = [document for number, document in enumerate(documents, start=1) if number % HELD_OUT]
        return Corpus(train, documents[HELD_OUT - 1 :: HELD_OUT])
    cuts = [_cut(document.text) for document in documents]
    train = [Document(d.key, d.text[:cut]) for d, cut in zip(documents, cuts, strict=True)]
    valid = [Document(d.key, d.text[cut:]) for d, cut in zip(documents, cuts, strict=True)]
    corpus = Corpus([d for d in train if d.text.strip()], [d for d in valid if d.text.strip()])
    if not (corpus.train and corpus.valid):
        raise CorpusError(f"{path} is too short to hold a part out: give more text.", path)
    return corpus


def _cut(text: str) -> int:
    """Where the last 20th of a text begins: after a line break or else a space nearby, if there is one."""
    length = len(text.rstrip())
    wanted = length - length // HELD_OUT
    for mark in "\n ":
        after = text.find(mark, wanted, length)
        before = text.rfind(mark, wanted - length // HELD_OUT, wanted)
        if max(after, before) >= 0:
            return (after if after >= 0 else before) + 1
    return wanted


def _files(folder: Path) -> list[Path]:
    return files_within(folder, SUFFIXES)


def files_within(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files within a folder whose names end so, or so and .gz, sorted by path; no hidden ones, and no link that
    leads out of it."""
    files, top = [], folder.resolve()
    for file in folder.rglob("*"):
        parts = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in parts.parts)
        known = file.name.removesuffix(".gz").lower().endswith(suffixes)
        if not hidden and known and file.is_file() and file.resolve().is_relative_to(top):
            files.append((parts.as_posix(), file))
    return [file for _, file in sorted(files)]


def _documents(path: Path, files: list[tuple[Path, str]]) -> Iterator[Document]:
    """The documents of files and their keys; at least one, or CorpusError for the path."""
    found = False
    for file, key in files:
        text = file_text(file)
        lines = file.name.removesuffix(".gz").endswith(".jsonl")
        for document in _json_lines(file, key, text) if lines else [Document(key, text)]:
            if document.text.strip():
                found = True
                yield document
    if not found:
        kinds = " ".join(SUFFIXES)
        what = f"holds no text in files of {kinds} (or these with .gz)" if path.is_dir() else "is empty"
        raise CorpusError(f"{path} {what}: give a file or folder with text.", path)


def file_bytes(file: Path) -> bytes:
    """What a file holds, decompressed. Raises CorpusError."""
    try:
        content = file.read_bytes()
        return gzip.decompress(content) if file.name.endswith(".gz") else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorpusError(f"{file} is not a whole gzip file ({error}): compress it again.", file) from error
    except OSError as error:
        raise CorpusError(f"{file} cannot be read: {error.strerror}; check its permissions.", file) from error


def file_text(file: Path) -> str:
    """A file's text, without byte order mark, its lines ended by newlines alone. Raises CorpusError."""
    content = file_bytes(file)
    if (offset := content.find(0)) >= 0:
        raise CorpusError(f"{file} is a binary file (byte {offset} is NUL): give UTF-8 text.", file)
    skipped = len(_BYTE_ORDER_MARK) if content.startswith(_BYTE_ORDER_MARK) else 0
    try:
        text = content[skipped:].decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{file} is not UTF-8 text (byte {skipped + error.start}): convert it to UTF-8.", file
        ) from error
    return _newlines(text)


def _newlines(text: str) -> str:
    """The text with its lines ended by newlines alone."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _json_lines(file: Path, name: str, content: str) -> Iterator[Document]:
    """A document for every line that is not blank."""
    for number, record in json_values(file, content):
        fields = record if isinstance(record, dict) else {}
        text = next((fields[field] for field in ("text", "content", "value") if field in fields), None)
        if not isinstance(text, str):
            raise CorpusError(f'{file}, line {number} has no "text": write {{"text": "…"}}.', file)
        check_whole(file, number, text)
        key = fields.get("key", fields.get("id"))
        yield Document(f"{name}:{number}" if key in (None, "") else str(key), _newlines(text))


def json_values(file: Path, content: str) -> Iterator[tuple[int, object]]:
    """The number and the value of every line of JSON that is not blank. Raises CorpusError for one that is none."""
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{file}, line {number} is not JSON ({error}): mend it.", file) from error
        yield number, value


def check_whole(file: Path, line: int, text: str) -> None:
    """Raises CorpusError for a text with half a surrogate pair, which JSON can write and no file can hold."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise CorpusError(f"{file}, line {line} holds half a character (a surrogate): mend it.", file)
