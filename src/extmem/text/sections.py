"""Sections: what a file of any kind holds, in stretches that each stand at one place of it: a page, a row, a heading.

Knows: txt, md, rst, html, pdf, csv, tsv and jsonl, and any of these as .gz. Does not know: memories, passages.

    .txt .rst           one section
    .md .html           one for what stands under each heading, whose words are its title
    .pdf                one for each page that has text
    .csv .tsv           one for each row, as "column: value" lines; the first row names the columns
    .jsonl              one for each line: its "text", "content" or "value", or else its fields as a row's
"""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

from extmem.errors import CorpusError
from extmem.text.documents import check_whole, file_bytes, file_text, json_values
from extmem.text.tables import table_rows

SUFFIXES = (".txt", ".md", ".rst", ".html", ".htm", ".pdf", ".csv", ".tsv", ".jsonl")
TITLES = ("title", "name", "question", "heading")  # columns that name what a row is about


class Section(NamedTuple):
    """A text, the page it stands on (None where a file has none), the line of the page or of the file that it begins
    at, and its title. `lines` says whether its line breaks are those of the file, so that lines within it count."""

    text: str
    page: int | None = None
    line: int = 1
    title: str = ""
    lines: bool = True


def read_sections(file: Path) -> Iterator[Section]:
    """The sections of a file that are not blank, in order. Raises CorpusError, naming the file: not to be read, of an
    unknown kind, damaged, or without text; ImportError where what reads its kind is not installed."""
    kind = Path(file.name.removesuffix(".gz")).suffix.lower()
    if kind == ".pdf":
        found = _pdf(file)
    elif kind in (".csv", ".tsv"):
        found = _rows(file)
    elif kind in (".html", ".htm"):
        found = _html(file)
    elif kind == ".md":
        found = _markdown(file_text(file))
    elif kind == ".jsonl":
        found = _lines(file)
    elif kind in (".txt", ".rst"):
        found = iter([Section(file_text(file))])
    else:
        raise CorpusError(f"{file} is of a kind that is not read: give {' '.join(SUFFIXES)}.", file)
    some = False
    for section in found:
        check_whole(file, section.line, section.text + section.title)
        if section.text.strip():
            some = True
            yield section
    if not some:
        cure = "it holds pictures of pages: run it through OCR first" if kind == ".pdf" else "give a file with text"
        raise CorpusError(f"{file} holds no text: {cure}.", file)


def _markdown(text: str) -> Iterator[Section]:
    """What stands under each heading, the heading with it; none is looked for in a fenced block."""
    titles: list[str] = []
    lines, first, fence = list[str](), 1, ""
    for number, line in enumerate(text.split("\n"), 1):
        mark = re.match(r" {0,3}(`{3,}|~{3,})([^`]*)$", line)
        if fence:
            fence = "" if mark and mark[1].startswith(fence) and not mark[2].strip() else fence
        elif mark:
            fence = mark[1]
        elif heading := re.match(r"(#{1,6})\s+(.*?)\s*#*\s*$", line):
            yield Section("\n".join(lines), None, first, _title(titles))
            titles = _under(titles, len(heading[1]), heading[2])
            lines, first = [], number
        lines.append(line)
    yield Section("\n".join(lines), None, first, _title(titles))


def _under(titles: list[str], depth: int, heading: str) -> list[str]:
    """The titles, one for each depth, when a heading comes."""
    return [*[*titles, *[""] * depth][: depth - 1], heading]


def _title(titles: list[str]) -> str:
    return " / ".join(filter(None, titles))


def _pdf(file: Path) -> Iterator[Section]:
    try:
        from pypdf import PdfReader
        from pypdf.errors import PyPdfError
    except ModuleNotFoundError as error:
        raise ImportError(f"reading {file.name} needs {error.name}: pip install 'extmem[documents]'") from error
    content, log = file_bytes(file), logging.getLogger("pypdf")
    heard = log.level
    log.setLevel(logging.CRITICAL)  # it tells stderr of every fault that it mends
    try:
        reader = PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise CorpusError(f"{file} asks for a password: save it without one.", file)
        for number, page in enumerate(reader.pages, 1):
            yield Section(page.extract_text(), number)
    except CorpusError:
        raise
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        said = str(error).partition("\n")[0] or type(error).__name__  # a damaged file raises any of these
        raise CorpusError(f"{file} is not a whole PDF ({said}): export it again.", file) from error
    finally:
        log.setLevel(heard)


def _rows(file: Path) -> Iterator[Section]:
    rows = table_rows(file)
    _, columns = next(rows, (1, []))
    for line, row in rows:
        names = [columns[n].strip() if n < len(columns) else "" for n in range(len(row))]
        names = [f"column {n + 1}" if not name or name in names[:n] else name for n, name in enumerate(names)]
        yield _fields(dict(zip(names, row, strict=True)), line)


def _lines(file: Path) -> Iterator[Section]:
    for number, found in json_values(file, file_text(file)):
        if not isinstance(found, dict):
            raise CorpusError(f'{file}, line {number} is not an object: write {{"text": "…"}}.', file)
        texts = (found.get(name) for name in ("text", "content", "value"))
        text = next((one for one in texts if isinstance(one, str) and one.strip()), None)
        section = _fields({name: said for name, value in found.items() if (said := _said(value))}, number)
        yield section if text is None else section._replace(text=text)


def _said(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def _fields(fields: dict[str, str], line: int) -> Section:
    """A row: its fields a line each."""
    there = {name: " ".join(value.split()) for name, value in fields.items() if value.strip()}
    title = next((there[name] for name in there if name.lower() in TITLES), "")
    return Section("\n".join(f"{name}: {value}" for name, value in there.items()), None, line, title, False)


def _html(file: Path) -> Iterator[Section]:
    page = _Page()
    try:
        page.feed(file_text(file))
        page.close()
    except AssertionError as error:  # what HTMLParser says of a broken declaration
        raise CorpusError(f"{file}, line {page.getpos()[0]} is not HTML ({error}): mend it.", file) from error
    page.end()
    return iter(page.sections)


class _Page(HTMLParser):
    """Gathers what a reader of the page sees, a section for each heading."""

    HIDDEN = frozenset(("script", "style", "noscript", "template", "nav", "svg", "title"))
    SHOWN = re.compile("body|main|article")
    BLOCKS = re.compile(
        "address|article|aside|blockquote|br|d[dtl]|div|fig.*|footer|form|h[1-6r]|header|li|main|[ou]l|p|pre|section|t(able|body|foot|head|[dhr])"
    )

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.sections: list[Section] = []
        self._pieces: list[str] = []
        self._titles, self._of = list[str](), ""
        self._hidden, self._heading, self._line = list[str](), 0, 1

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.SHOWN.fullmatch(tag):  # what is never within them: they were not closed
            self._hidden = []
        if tag in self.HIDDEN:
            self._hidden.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.end()
            self._heading, self._line = int(tag[1]), self.getpos()[0]
        if self.BLOCKS.fullmatch(tag):
            self._pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._hidden:
            del self._hidden[self._hidden.index(tag) :]
        if re.fullmatch("h[1-6]", tag) and self._heading:
            self._titles = _under(self._titles, self._heading, " ".join("".join(self._pieces).split()))
            self._heading = 0
        if self.BLOCKS.fullmatch(tag):
            self._pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if self._hidden == ["title"]:
            self._of += data
        if not self._hidden:
            self._pieces.append(re.sub(r"\s+", " ", data))

    def end(self) -> None:
        """Ends the section that was gathered."""
        text = re.sub(r" ?\n[ \n]*", "\n", "".join(self._pieces)).strip()
        self.sections.append(Section(text, None, self._line, _title(self._titles) or self._of.strip(), False))
        self._pieces = []
