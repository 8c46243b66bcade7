"""Segments as extmem 0.1 wrote them.

Knows: that file. Does not know: how segments are laid out now (`segment.py`), who reads them.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from extmem.indexes.segment import Columns, damaged


def first_format(content: bytes, note: dict[str, Any], place: str) -> Columns:
    """The entries of a segment as extmem 0.1 wrote it. Raises MemoryFormatError."""
    try:
        if zlib.crc32(content) != note["crc32"]:
            raise damaged(place, "it is damaged (its checksum differs)")
        arrays = load(content)
    except SafetensorError as error:
        raise damaged(place, str(error)) from error
    ids, spans = arrays["records"], arrays["spans"]
    first = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]])) if len(ids) else np.empty(0, np.int64)
    sizes = np.diff(np.append(first, len(ids)))
    lengths = spans[:, 1] - spans[:, 0]
    return Columns(arrays["keys"], None, None, arrays["tokens"], spans[:, 0], lengths, ids[first], sizes)
