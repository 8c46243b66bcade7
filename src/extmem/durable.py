"""Writing a file so that, whatever happens, the old one or the new one is there, whole; and deleting some.

Knows: bytes and paths. Does not know: what is in the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from extmem.errors import storage_error


def write_durably(path: Path, content: bytes) -> None:
    """Writes `content` beside `path`, flushes it to the disk, then renames it into place.

    Raises StorageError (disk full, read-only, not allowed); `path` is then as it was before.
    """
    draft = path.with_name(path.name + ".partial")
    try:
        for left in range(4, -1, -1):
            try:
                _write(draft, content)
                break
            except (FileNotFoundError, FileExistsError):  # another deleted the folder with its last file meanwhile
                if not left:
                    raise
        os.replace(draft, path)
        _flush(path.parent)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise storage_error(error, path) from error


def size(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def unlink(folder: Path, paths: Iterable[str]) -> None:
    """Deletes files, and the folders that are empty without them; what cannot be deleted stays."""
    for path in paths:
        with suppress(OSError):
            (folder / path).unlink(missing_ok=True)
        for above in (folder / path).parents:
            if above == folder:
                break
            with suppress(OSError):  # it is not empty
                above.rmdir()


def _write(path: Path, content: bytes) -> None:
    """Writes a file and the folders above it that are not there yet, down to the disk."""
    new = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in new:
        _flush(folder.parent)
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    """Brings the entries of a folder to the disk."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
