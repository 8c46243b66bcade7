"""Labelled texts: examples of classes as files hold them.

Knows: csv, tsv and jsonl with "text" and "label". Does not know: classifiers, memories.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from extmem.errors import CorpusError
from extmem.text.documents import check_whole, file_text, json_values
from extmem.text.tables import table_rows

SHAPE = 'give csv or tsv whose first row names "text" and "label", or jsonl of {"text": …, "label": …}'


def read_labelled(path: str | Path) -> list[tuple[str, str]]:
    """The (text, label) of every row of a file, at least one; any of them may be .gz. Raises CorpusError, naming the
    file and the line: no such file, another form, a row without a text or a label."""
    file = Path(path)
    kind = Path(file.name.removesuffix(".gz")).suffix.lower()
    if kind not in (".csv", ".tsv", ".jsonl"):
        raise CorpusError(f"{file} is of a kind that is not read: {SHAPE}.", file)
    if not file.exists():
        raise CorpusError(f"{file} does not exist: check the path.", file)
    rows = _objects(file) if kind == ".jsonl" else _table(file)
    found = []
    for line, row in rows:
        said, label = row.get("text"), row.get("label")
        if not isinstance(said, str) or not said.strip() or label is None or str(label).strip() == "":
            raise CorpusError(f"{file}, line {line} has no text or no label: {SHAPE}.", file)
        check_whole(file, line, said + str(label))
        found.append((said, str(label).strip()))
    if not found:
        raise CorpusError(f"{file} holds no examples: {SHAPE}.", file)
    return found


def _table(file: Path) -> Iterator[tuple[int, dict[str, object]]]:
    rows = table_rows(file)
    _, columns = next(rows, (1, []))
    for line, row in rows:
        yield line, dict(zip(columns, row, strict=False))


def _objects(file: Path) -> Iterator[tuple[int, dict[str, object]]]:
    for number, row in json_values(file, file_text(file)):
        yield number, row if isinstance(row, dict) else {}
