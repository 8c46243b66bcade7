"""Tables: the rows of a csv or tsv file, and the line that each begins at.

Knows: csv. Does not know: what columns mean.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from extmem.errors import CorpusError
from extmem.text.documents import file_text


def table_rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The line and the cells of every row that is not blank, the first one too; cut by tabs where the file's name ends
    in .tsv, or in .tsv.gz. Raises CorpusError, naming file and line."""
    text = file_text(file)
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))  # by itself it takes a long cell for a mistake
    tabs = file.name.removesuffix(".gz").lower().endswith(".tsv")
    reader = csv.reader(io.StringIO(text), delimiter="\t" if tabs else ",")
    line = 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise CorpusError(f"{file}, line {reader.line_num}: {error}; mend it.", file) from error
