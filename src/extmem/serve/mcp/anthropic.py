"""The six commands of Anthropic's memory tool (`memory_20250818`), as one tool: files under /memories.

Knows: its commands and the words of its answers (docs.claude.com, "Memory tool"). Does not know: any disk; a file
is a record under its path, a folder is what paths have in common.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import accumulate
from typing import Annotated, Any, Literal

from pydantic import Field

from extmem.errors import InvalidInput
from extmem.memory import Memory
from extmem.serve.mcp.offered import READS, REPLACES, Offered

ROOT = "/memories"
LINES = 999_999  # of a file that is shown
BESIDE = 4  # lines shown before and behind an edit

Path = Annotated[str, Field(description="A file or folder: /memories, or a path below it.")]
ViewRange = Annotated[
    list[int] | None, Field(description="Of a file, the first and the last line to view, from 1; -1 is the end.")
]


class Files:
    """Files and folders in the records of a memory."""

    def __init__(self, memory: Memory) -> None:
        self.held = memory

    def tools(self) -> list[Offered]:
        def memory(
            command: Annotated[Literal["view"], Field(description="What to do.")],
            path: Path = ROOT,
            view_range: ViewRange = None,
        ) -> str:
            """View the files under /memories: a folder's listing or a file's lines."""
            return self._view(path, view_range)

        return [
            Offered(self.memory, "Memory", REPLACES, structured=False),
            Offered(memory, "Memory", READS, structured=False),
        ]

    def memory(
        self,
        command: Annotated[
            Literal["view", "create", "str_replace", "insert", "delete", "rename"], Field(description="What to do.")
        ],
        path: Path = "",
        view_range: ViewRange = None,
        file_text: Annotated[str, Field(description="create: the text of the file.")] = "",
        old_str: Annotated[str, Field(description="str_replace: the text to replace; it must stand there once.")] = "",
        new_str: Annotated[str, Field(description="str_replace: the text in its place.")] = "",
        insert_line: Annotated[int, Field(description="insert: the line behind which; 0 is the beginning.")] = 0,
        insert_text: Annotated[str, Field(description="insert: the text.")] = "",
        old_path: Annotated[str, Field(description="rename: the file or folder.")] = "",
        new_path: Annotated[str, Field(description="rename: what it is called from now on.")] = "",
    ) -> str:
        """View, create, edit, delete and rename the files under /memories, which stay between conversations."""
        if command == "view":
            return self._view(path, view_range)
        with self.held.transaction():
            if command == "create":
                return self._create(path, file_text)
            if command == "str_replace":
                return self._replace(path, old_str, new_str)
            if command == "insert":
                return self._insert(path, insert_line, insert_text)
            return self._delete(path) if command == "delete" else self._rename(old_path, new_path)

    # The commands

    def _view(self, path: str, view_range: list[int] | None) -> str:
        path = _checked(path)
        text = self._text(path)
        if text is None:
            if path != ROOT and not self._is_folder(path):
                raise InvalidInput(f"The path {path} does not exist. Please provide a valid path.", path)
            return self._listing(path)
        lines = _lines(text)
        if len(lines) > LINES:
            raise InvalidInput(f"File {path} exceeds maximum line limit of {LINES:,} lines.", path)
        first, last = _range(view_range, len(lines))
        return f"Here's the content of {path} with line numbers:\n{_numbered(lines, first, last)}"

    def _create(self, path: str, text: str) -> str:
        path = self._new(path, f"Error: File {path} already exists")
        self.held.store(path, text)
        return f"File created successfully at: {path}"

    def _replace(self, path: str, old: str, new: str) -> str:
        path = _checked(path)
        text = self._text(path)
        if text is None:
            raise InvalidInput(f"Error: The path {path} does not exist. Please provide a valid path.", path)
        places = [*_places(text, old)]
        if not places:
            said = f"No replacement was performed, old_str `{old}` did not appear verbatim in {path}."
            raise InvalidInput(said, path)
        lines = [text.count("\n", 0, place) + 1 for place in places]
        if len(places) > 1:
            said = f"Multiple occurrences of old_str `{old}` in lines: {', '.join(map(str, dict.fromkeys(lines)))}"
            raise InvalidInput(f"No replacement was performed. {said}. Please ensure it is unique", path)
        self._write(path, text := text[: places[0]] + new + text[places[0] + len(old) :])
        first, last = max(1, lines[0] - BESIDE), lines[0] + new.count("\n") + BESIDE
        return f"The memory file has been edited.\n{_numbered(_lines(text), first, last)}"

    def _insert(self, path: str, line: int, new: str) -> str:
        path = _checked(path)
        text = self._text(path)
        if text is None:
            raise InvalidInput(f"Error: The path {path} does not exist", path)
        lines = _lines(text)
        if not 0 <= line <= len(lines):
            said = f"It should be within the range of lines of the file: [0, {len(lines)}]"
            raise InvalidInput(f"Error: Invalid `insert_line` parameter: {line}. {said}", line)
        lines[line:line] = [new.removesuffix("\n")]
        self._write(path, "\n".join(lines) + "\n" * (text.endswith("\n") or not text))
        return f"The file {path} has been edited."

    def _delete(self, path: str) -> str:
        path = _checked(path)
        if path == ROOT:
            raise InvalidInput(f"Error: The folder {ROOT} itself cannot be deleted", path)
        if not self.held.forget_many([path, *self.held.keys(f"{path}/")]):
            raise InvalidInput(f"Error: The path {path} does not exist", path)
        return f"Successfully deleted {path}"

    def _rename(self, old: str, new: str) -> str:
        old = _checked(old)
        records = [*self.held.scan(f"{old}/")]
        if (record := self.held.record(old)) is not None:
            records.append(record)
        if not records or old == ROOT:
            raise InvalidInput(f"Error: The path {old} does not exist" if old != ROOT else
                               f"Error: The folder {ROOT} itself cannot be renamed", old)  # fmt: skip
        if f"{_checked(new)}/".startswith(f"{old}/") and _checked(new) != old:
            raise InvalidInput(f"Error: The path {new} is within {old}", new)
        new = self._new(new, f"Error: The destination {new} already exists")
        self.held.store_many(one._replace(key=new + one.key[len(old) :], id=0) for one in records)
        self.held.forget_many(one.key for one in records)
        return f"Successfully renamed {old} to {new}"

    # Files as records

    def _text(self, path: str) -> str | None:
        """The text of a file; a value of another kind, which another command stored, as JSON."""
        value: Any = self.held.retrieve(path)
        if value is None or isinstance(value, str):
            return value
        return value.hex() if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False)

    def _write(self, path: str, text: str) -> None:
        record = self.held.record(path)
        self.held.store(path, text, metadata=record and record.metadata)

    def _is_folder(self, path: str) -> bool:
        return next(self.held.keys(f"{path}/"), None) is not None

    def _new(self, path: str, taken: str) -> str:
        """The path of what is to be made. Raises InvalidInput where something is there, or above it a file."""
        path = _checked(path)
        if path == ROOT or path in self.held or self._is_folder(path):
            raise InvalidInput(taken, path)
        for above in accumulate(path.split("/")[1:-1], "{}/{}".format, initial=""):
            if above in self.held:
                raise InvalidInput(f"Error: The path {above} is a file, not a folder", path)
        return path

    def _listing(self, path: str) -> str:
        """What lies up to two levels below a folder, with sizes; a folder's is that of all within."""
        sizes = {path: 0}
        for key in self.held.keys(f"{path}/"):
            parts = key[len(path) + 1 :].split("/")
            if any(part.startswith(".") or part == "node_modules" for part in parts):
                continue
            size = len((self._text(key) or "").encode())
            sizes[path] += size
            for shown in accumulate(parts[:2], "{}/{}".format, initial=path):
                if shown != path:
                    sizes[shown] = sizes.get(shown, 0) + size
        said = (
            f"Here're the files and directories up to 2 levels deep in {path}, excluding hidden items and node_modules:"
        )
        return "\n".join([said, *(f"{_human(size)}\t{name}" for name, size in sorted(sizes.items()))])


def _checked(path: str) -> str:
    """The path, if it stays below /memories. Raises InvalidInput."""
    parts = path.removesuffix("/").split("/")
    odd = "\\" in path or "\0" in path or "%2e" in path.lower() or "%2f" in path.lower()
    if parts[:2] != ["", "memories"] or odd or {"", ".", ".."} & {*parts[2:]}:
        raise InvalidInput(f"Error: The path {path} is not below {ROOT}: give one such as {ROOT}/notes.txt", path)
    return "/".join(parts)


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n") if text else []


def _numbered(lines: list[str], first: int, last: int) -> str:
    return "\n".join(f"{number:6d}\t{line}" for number, line in enumerate(lines[first - 1 : last], first))


def _range(wanted: list[int] | None, count: int) -> tuple[int, int]:
    if wanted is None:
        return 1, count
    first, last = wanted if len(wanted) == 2 else (0, 0)
    last = count if last == -1 else last
    if not 1 <= first <= last:
        raise InvalidInput(
            f"Error: Invalid `view_range` parameter: {wanted}. It should be [first, last], from 1", wanted
        )
    return first, last


def _places(text: str, sought: str) -> Iterator[int]:
    place = text.find(sought) if sought else -1
    while place >= 0:
        yield place
        place = text.find(sought, place + 1)


def _human(size: float) -> str:
    """As 17B, 5.5K, 1.2M."""
    if size < 1024:
        return f"{size}B"
    units = iter("KMGT")
    while size >= 1024:
        size, unit = size / 1024, next(units)
    return f"{size:.1f}{unit}"
