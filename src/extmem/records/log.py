"""The write-ahead log of SQLite as bytes: whether it holds more than SQLite took from it.

Knows: the log's format (SQLite's "Database File Format", section 4). Does not know: SQLite's tables.

A log that a crash cut short and one that was damaged look alike to SQLite: it takes the frames up to the
first whose checksum does not fit, and what was committed behind it is gone without a word. To tell
them apart every commit must be followed by a copy of its last frame: SQLite writes one where it may not
trust the disk to leave the rest of a sector alone (psow=0).
"""

from __future__ import annotations

import itertools
import struct
from pathlib import Path
from typing import IO

HEAD, FRAME = 32, 24  # bytes: of the log, and of each frame before its page
NO_COMMIT = b"\0\0\0\0"


def holds_more(log: Path, taken: int) -> bool:
    """Whether something committed stands behind the first `taken` frames of a log, which SQLite took.

    A process that was killed leaves frames of one transaction that fit, and then one that may be cut
    off or have another page under its head: behind that there are only frames of an earlier run of the
    log, which carry other salts than the head does, both of them.
    """
    with open(log, "rb") as file:
        head = file.read(HEAD)
        if len(head) < HEAD:  # it was emptied meanwhile
            return False
        order = ">" if head[3] & 1 else "<"
        if _sums(head[:24], (0, 0), order) != struct.unpack(">2I", head[24:]):
            return True
        size, salts = struct.unpack(">I", head[8:12])[0], (head[16:20], head[20:24])
        end = file.seek(0, 2)
        earlier, commits = -1, False
        for number in itertools.count(taken):
            if HEAD + (number + 1) * (FRAME + size) > end:
                break
            file.seek(HEAD + number * (FRAME + size))
            frame = file.read(FRAME)
            if frame[8:12] != salts[0] and frame[12:16] != salts[1]:
                continue
            if commits or (earlier >= 0 and frame[4:8] != NO_COMMIT and not _fits(file, earlier, size, order)):
                return True
            earlier, commits = number, frame[4:8] != NO_COMMIT
    return False


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
