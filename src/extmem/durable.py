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
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(draft, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise storage_error(error, path) from error


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
