"""What people have: the formats of other tools, read as records, one after another.

Knows: files and their formats. Does not know: memories. Every reader streams (namespace, states), so a
file may be larger than the machine's memory; each says how it maps. What a reader stumbles over in a
malformed file, `importing.py` names.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

import ijson

from extmem.errors import InvalidInput, storage_error
from extmem.exchange.lines import States, check_header, read
from extmem.records.base import Record
from extmem.records.timeline import checked
from extmem.records.values import check_key
from extmem.text.documents import read_documents

Found = Iterator[tuple[str, States]]  # no states: something that was skipped
KEYS, VALUES = ("key", "id", "name", "uuid"), ("value", "text", "content", "memory", "document")
_MARKS = re.compile(rb'\\.|["\[\]{}]|\d{2000,}', re.S)
_HALF = re.compile(rb"(?<!\\)(?:\\\\)*\\\Z")  # an escape whose other half comes with the next piece
DEEPEST = 1_000  # of values and lists within one another, in a JSON file
CELL = 1 << 27  # characters of one cell of a table


def lines(path: Path) -> Found:
    """An export of extmem (`lines.py`)."""
    for count, (number, line) in enumerate(_json_texts(path)):
        if count == 0:
            check_header(line, str(path))
        else:
            yield read(line, f"{path}, line {number}")


def jsonl(path: Path) -> Found:
    """Objects, one a line: "key" or "id", "value" or "text"; other fields are metadata. Without a key the
    line's number is the key, without a value the whole object the value."""
    for number, line in _json_texts(path):
        fields = _object(line, f"{path}, line {number}")
        yield "", [_record(*_split(fields, f"{number:08}"))]


def mcp(path: Path) -> Found:
    """memory.jsonl of the MCP reference memory server. An entity is a record under its name: {"type",
    "observations"}; a relation one under "from relation to", so that all three are found by search."""
    for number, line in _json_texts(path):
        fields, what = _object(line, f"{path}, line {number}"), f"{path}, line {number}"
        try:
            if fields["type"] == "entity":
                value: Any = {"type": fields["entityType"], "observations": fields["observations"]}
                yield "", [_record(fields["name"], value, {"kind": "entity"})]
            else:
                ends = {"from": fields["from"], "relation": fields["relationType"], "to": fields["to"]}
                yield "", [_record(" ".join(ends.values()), ends, {"kind": "relation"})]
        except (KeyError, TypeError) as error:
            raise InvalidInput(f"{what} is not an entity or relation ({error!r}): mend or delete it.", what) from error


def mem0(path: Path) -> Found:
    """What mem0's get_all returns, as JSON: {"results": [...]} or the list. A memory is a record under its
    id, in the namespace of its user_id (or agent_id, run_id); the rest is metadata."""
    for fields in _json_items(path, "results"):
        owner = next((str(fields[name]) for name in ("user_id", "agent_id", "run_id") if fields.get(name)), "")
        said = {name: fields[name] for name in ("agent_id", "run_id", "actor_id", "role", "hash") if fields.get(name)}
        metadata = {**(fields.get("metadata") or {}), **said}
        key, text = str(_field(fields, "id", path)), str(_field(fields, "memory", path))
        yield name_of(owner), [_record(key, text, metadata, fields.get("created_at"), fields.get("updated_at"))]


def langgraph(path: Path) -> Found:
    """A dump of a LangGraph store: items with namespace (a list; text is one part), key, value; a list or lines."""
    items = (_object(line, f"{path}, line {n}") for n, line in _json_texts(path))
    for fields in _json_items(path, "items") if _first(path) in ("[", "") else items:
        parts = _field(fields, "namespace", path)
        space = "/".join(name_of(str(part)) for part in ([parts] if isinstance(parts, str) else parts))
        key, value = str(_field(fields, "key", path)), _field(fields, "value", path)
        yield space, [_record(key, value, None, fields.get("created_at"), fields.get("updated_at"))]


def chatgpt(path: Path) -> Found:
    """conversations.json of a ChatGPT export: a record a message, in order, every branch of it, under
    "conversation/number"; role and title are metadata. Parts that are not text (code, images) are skipped."""
    for talk in _json_items(path, "conversations"):
        nodes = _field(talk, "mapping", path)
        name = str(talk.get("conversation_id") or talk.get("id") or talk.get("title"))
        count = 0
        for node in _in_order(nodes):
            message = node.get("message") or {}
            content = message.get("content") or {}
            parts = content["parts"] if "parts" in content else [None] * bool(content)
            yield from [("", [])] * sum(not isinstance(part, str) for part in parts or [])
            text = "\n".join(part for part in parts or [] if isinstance(part, str)).strip()
            if text:
                count += 1
                metadata = {"title": talk.get("title"), "role": (message.get("author") or {}).get("role")}
                begun = message.get("create_time") or talk.get("create_time")
                yield "", [_record(f"{name}/{count:05}", text, metadata, begun)]


def _in_order(nodes: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The nodes of a conversation, each once: those without a parent and what is below them, first."""
    roots = [name for name, node in nodes.items() if node.get("parent") not in nodes]
    waiting, seen = [*reversed(nodes), *reversed(roots)], set[str]()
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in seen:
            seen.add(name)
            yield nodes[name]
            waiting += (nodes[name].get("children") or [])[::-1]


def table(path: Path) -> Found:
    """CSV with a header: the key in the column "key" or "id", else the first; the value in "value" or
    "text", else the second; other columns are metadata."""
    csv.field_size_limit(max(csv.field_size_limit(), CELL))
    with _opened(path) as opened:
        file = io.TextIOWrapper(opened, "utf-8-sig", newline="")
        sample = file.read(8192)
        file.seek(0)
        try:
            between = csv.Sniffer().sniff(sample, ",;\t|").delimiter
        except csv.Error:
            between = ","
        rows = csv.DictReader(file, delimiter=between, strict=True)
        try:
            names = list(rows.fieldnames or [])
            if twice := [name for name in names if names.count(name) > 1]:
                raise InvalidInput(f"{path} names two columns {twice[0]!r}: give each a name of its own.", path)
            for row in rows:
                what = f"{path}, line {rows.line_num}"
                if None in row or None in row.values():
                    raise InvalidInput(f"{what} has not {len(names)} columns as the header has: mend it.", what)
                key, value, metadata = _split(dict(row), "", names)
                if not key:
                    raise InvalidInput(f"{what} has an empty key: give it one, or delete the line.", what)
                yield "", [_record(key, value, metadata)]
        except (csv.Error, UnicodeDecodeError) as error:
            raise InvalidInput(f"{path}, line {rows.line_num} is not CSV ({error}): mend it.", path) from error


def folder(path: Path) -> Found:
    """A file or folder of text (.txt .md .rst .jsonl, .gz): a record a document, under its path; what
    stands between two lines of --- at its top ("name: value") is metadata."""
    for document in read_documents(path):
        metadata, text = None, document.text
        if front := re.match(r"---\n(.*?)\n---\n", text, re.S):
            metadata = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in front[1].split("\n")) if v}
            text = text[front.end() :]
        yield "", [_record(document.key, text, metadata)]


READERS: dict[str, Callable[[Path], Found]] = {
    "lines": lines, "jsonl": jsonl, "mcp": mcp, "mem0": mem0, "langgraph": langgraph, "chatgpt": chatgpt,
    "csv": table, "text": folder,
}  # fmt: skip


def detect(path: Path) -> str:
    """Which reader a file is for, by what is in it. Raises InvalidInput where that cannot be told."""
    suffix = path.name.removesuffix(".gz").rpartition(".")[2]
    if path.is_dir() or suffix in ("txt", "md", "rst"):
        return "text"
    if suffix in ("csv", "tsv"):
        return "csv"
    first = _first(path)
    if first == "[":
        fields = next(iter(_json_items(path, "results")), {})
    elif first == "{":
        with _opened(path) as file:
            head = file.read(65_536).decode("utf-8", "replace")
        line = head.partition("\n")[0]
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            return "mem0" if re.match(r'\s*\{\s*"results"\s*:', head) else _cannot_tell(path)
    else:
        return _cannot_tell(path)
    for kind, names in (
        ("lines", ("extmem",)), ("mem0", ("results",)), ("chatgpt", ("mapping",)), ("mcp", ("type", "entityType")),
        ("mcp", ("type", "relationType")), ("langgraph", ("namespace", "key", "value")), ("mem0", ("id", "memory")),
    ):  # fmt: skip
        if all(name in fields for name in names):
            return kind
    return "jsonl" if first == "{" else _cannot_tell(path)


def _cannot_tell(path: Path) -> str:
    raise InvalidInput(f"it cannot be told what {path} is: say so with --kind ({', '.join(READERS)}).", path)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file behind its byte order mark, decompressed."""
    try:
        opener: Callable[..., IO[bytes]] = gzip.open if path.name.endswith(".gz") else open  # type: ignore[assignment]
        with opener(path, "rb") as file:
            if file.read(3) != b"\xef\xbb\xbf":
                file.seek(0)
            yield file
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 text ({error.reason}): convert it to UTF-8.", path) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InvalidInput(f"{path} is not a whole gzip file ({error}): compress it again.", path) from error
    except OSError as error:
        raise storage_error(error, path) from error


def _json_texts(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, and their numbers."""
    with _opened(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line.decode("utf-8")


def _json_items(path: Path, under: str) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list, or of the list under a name, one after another."""
    start = "item" if _first(path) == "[" else f"{under}.item"
    try:
        with _opened(path) as file:
            for number, item in enumerate(ijson.items(_Shallow(file, path), start, use_float=True), start=1):
                if not isinstance(item, dict):
                    raise InvalidInput(f"{path}, item {number} is not an object: mend or delete it.", path)
                yield item
    except (ijson.JSONError, ijson.IncompleteJSONError) as error:
        said = " ".join(str(error).split())[:120]
        raise InvalidInput(f"{path} is not whole JSON ({said}): mend it or export it again.", path) from error


class _Shallow:
    """A file of JSON, refused where ijson would not end well: nested deep, its time grows with the square of the depth;
    a number of thousands of digits ends the process."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path
        self._depth, self._quoted, self._rest = 0, False, b""

    def read(self, size: int = -1) -> bytes:
        """As a file's. Raises InvalidInput."""
        piece = self._file.read(size)
        text = self._rest + piece
        for mark in _MARKS.findall(text):
            if mark == b'"':
                self._quoted = not self._quoted
            elif not self._quoted:
                self._depth += (mark in b"[{") - (mark in b"]}")
                if self._depth > DEEPEST or len(mark) > 2:
                    what = f"is nested more than {DEEPEST} deep" if len(mark) == 1 else "has a number without end"
                    raise InvalidInput(f"{self._path} {what}: export it again.", self._path)
        self._rest = b"\\" if _HALF.search(text) else b""
        return piece


def _first(path: Path) -> str:
    """The first character that is not a space."""
    with _opened(path) as file:
        return file.read(4096).strip()[:1].decode("utf-8", "replace")


def _object(line: str, what: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{what} is not JSON ({error}): mend or delete it.", what) from error
    if not isinstance(fields, dict):
        raise InvalidInput(f'{what} is not a JSON object: write {{"key": …, "value": …}}.', what)
    return fields


def _field(fields: dict[str, Any], name: str, path: Path) -> Any:
    if fields.get(name) is None:
        raise InvalidInput(f"{path}: an item has no {name!r}: {json.dumps(fields)[:80]}; mend or delete it.", path)
    return fields[name]


def _split(fields: dict[str, Any], key: str, names: list[str] | None = None) -> tuple[str, Any, dict[str, Any] | None]:
    """Key, value and metadata among fields; of a table the first and the second column unless named."""
    small = {name.lower(): name for name in reversed(fields)}
    of_key = next((small[name] for name in KEYS if name in small), names[0] if names else None)
    of_value = next((small[name] for name in VALUES if name in small), None)
    if of_value is None and names:
        of_value = next((name for name in names if name != of_key), of_key)
    if of_key is not None and fields[of_key] not in (None, ""):
        key = str(fields[of_key])
    if of_value is None:
        return key, fields, None
    return key, fields[of_value], {n: v for n, v in fields.items() if n not in (of_key, of_value)} or None


def _record(key: str, value: Any, metadata: Any = None, created: Any = None, updated: Any = None) -> Record:
    begun = _moment(created)
    changed = _moment(updated)
    changed = begun if changed is None else changed
    created, updated = begun or changed or 0.0, changed or 0.0
    return checked(Record(check_key(key), value, created=created, updated=updated, metadata=metadata or None))


def _moment(said: Any) -> float | None:
    if isinstance(said, int | float) and not isinstance(said, bool):
        return float(said)
    try:
        moment = datetime.fromisoformat(str(said).replace("Z", "+00:00"))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def name_of(part: str) -> str:
    """A part of a namespace's name: '/' stands between parts only."""
    return part.replace("%", "%25").replace("/", "%2F")
