"""Lines of JSON that are only ever added to: the log on stderr, and the audit of who did what.

Knows: file descriptors. Does not know: requests, memories.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from extmem.errors import storage_error


class Journal:
    """A line is one write, so that several servers may share a file."""

    def __init__(self, descriptor: int | None) -> None:
        self.descriptor = descriptor

    @classmethod
    def at(cls, path: Path) -> Journal:
        """A file that only its owner may read. Raises StorageError."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.fchmod(descriptor, 0o600)  # it may have been there
        except OSError as error:
            raise storage_error(error, path) from error
        return cls(descriptor)

    def write(self, **said: object) -> None:
        """Adds a line; what is None is left out. Raises StorageError."""
        if self.descriptor is None:
            return
        line = json.dumps({name: value for name, value in said.items() if value is not None})
        try:
            os.write(self.descriptor, f"{line}\n".encode())
        except OSError as error:
            raise storage_error(error, "the journal") from error
