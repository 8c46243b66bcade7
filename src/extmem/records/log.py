"""The write-ahead log of SQLite as bytes: whether it holds more than SQLite took from it.

Knows: the log's format (SQLite's "Database File Format", section 4). Does not know: SQLite's tables.

A log that was cut short by a crash and one that was damaged look alike to SQLite: it takes the frames
up to the first whose checksum does not fit, and what was committed behind it is gone without a word.
"""

from __future__ import annotations

import itertools
import struct
from pathlib import Path
from typing import IO

HEAD, FRAME = 32, 24  # bytes: of the log, and of each frame before its page


def holds_more(log: Path, taken: int) -> bool:
    """Whether a commit of the log's present run stands behind the first `taken` frames of it, or what
    must have been one. A crash leaves no such thing: there frames are whole and uncommitted, or cut off.

    Frames of the present run carry the two salts of the head; those an earlier run left carry others.
    """
    with open(log, "rb") as file:
        head = file.read(HEAD)
        order = ">" if head[3] & 1 else "<"
        if _sums(head[:24], (0, 0), order) != struct.unpack(">2I", head[24:]):
            return True
        size, salts = struct.unpack(">I", head[8:12])[0], (head[16:20], head[20:24])
        last = None
        for number in itertools.count(taken):
            file.seek(HEAD + number * (FRAME + size))
            frame = file.read(FRAME)
            if len(frame) < FRAME or file.seek(0, 2) < HEAD + (number + 1) * (FRAME + size):
                break
            if frame[8:12] == salts[0] or frame[12:16] == salts[1]:  # either: a salt may be what was damaged
                if frame[4:8] != b"\0\0\0\0":
                    return True
                last = number
        return last is not None and not _fits(file, last, size, order)


def _fits(file: IO[bytes], number: int, size: int, order: str) -> bool:
    """Whether a frame's checksum continues that of the frame before it, or of the head."""
    start = HEAD + number * (FRAME + size)
    file.seek(start - size - 8 if number else 24)
    before = struct.unpack(">2I", file.read(8))
    file.seek(start)
    frame = file.read(FRAME + size)
    return _sums(frame[:8] + frame[FRAME:], before, order) == struct.unpack(">2I", frame[16:FRAME])


def _sums(content: bytes, sums: tuple[int, ...], order: str) -> tuple[int, ...]:
    first, second = sums
    for one, other in struct.iter_unpack(f"{order}2I", content):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second
