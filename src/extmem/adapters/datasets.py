"""Rows of Hugging Face's datasets as documents, to be memorized by any model.

Knows: that a dataset is rows with named columns. Does not know: the package itself, models.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from extmem.errors import InvalidInput
from extmem.text.documents import Document


def documents(dataset: Any, text: str = "text", key: str | None = None, name: str | None = None) -> Iterator[Document]:
    """The rows of a Dataset, or of an IterableDataset as they arrive, as documents: what stands in column `text`, under
    the key in column `key`, or else "name:row", where `name` is the dataset's own with its split. Raises InvalidInput
    for a column that there is not, a text that is none, and a DatasetDict."""
    if hasattr(dataset, "keys"):
        raise InvalidInput(f"this dataset has splits: give one, such as dataset[{next(iter(dataset), 'train')!r}].")
    if name is None:
        parts = (getattr(dataset.info, "dataset_name", None), dataset.split)
        name = "/".join(str(part) for part in parts if part) or "dataset"
    for number, row in enumerate(dataset):
        for column in (text, key):
            if column is not None and column not in row:
                raise InvalidInput(f"there is no column {column!r}: choose from {', '.join(row)}.", column)
        if not isinstance(row[text], str):
            raise InvalidInput(f"row {number} has no text in column {text!r}: choose another, or filter it.", number)
        yield Document(f"{name}:{number}" if key is None else str(row[key]), row[text])
