"""The one tree of exceptions. Knows: nothing but plain values.

    ExtmemError             anything extmem refuses; the message says what is wrong and how to mend it
    ├── InvalidInput        a key, value, option or text that cannot be taken
    │   └── CorpusError     a corpus that is empty, binary or unreadable
    ├── VersionConflict     a record is of another version than the writer expected
    ├── WrongKey            an encrypted memory, or a server, opened without its key, or with another one
    ├── MemoryFormatError   a memory folder that is damaged or of another version
    ├── ModelError          a model folder that is missing, half-written or of another version
    │   ├── WrongModel      a datastore written by another model
    │   ├── ServerRefused   a model's server that answered, and refused
    │   └── PromptTooLong   a prompt that a model has no room for
    ├── TrainingDiverged    NaN or Inf in training
    └── StorageError        the disk is full, read-only or not to be opened

Every class is also the built-in exception a Python programmer would expect. `subject` is the thing
at fault: the key, the path, the option's value.
"""

from __future__ import annotations

import errno


class ExtmemError(Exception):
    """Base of all errors: `str(error)` is one line with the cause and the cure."""

    def __init__(self, message: str, subject: object = None) -> None:
        super().__init__(message)
        self.subject = subject


class InvalidInput(ExtmemError, ValueError):
    """A key, value, option or text that cannot be taken."""


class CorpusError(InvalidInput):
    """A corpus that is empty, binary or unreadable."""


class VersionConflict(ExtmemError, RuntimeError):
    """A record is of another version than the writer expected: `version`, 0 where it is not there."""

    def __init__(self, key: str, expected: int, version: int) -> None:
        there = f"is of version {version}" if version else "is not there"
        super().__init__(f"{key!r} {there}, version {expected} was expected: read it again, then store.", key)
        self.expected, self.version = expected, version


class WrongKey(ExtmemError, PermissionError):
    """An encrypted memory opened without its key, or with another one; a server's key that is none, or may not."""


class MemoryFormatError(ExtmemError, RuntimeError):
    """A memory folder that is damaged or was written by another version of extmem."""


class ModelError(ExtmemError, RuntimeError):
    """A model folder that is missing, half-written or of another version."""


class WrongModel(ModelError):
    """A datastore written by another model than the one that wants to read it."""


class ServerRefused(ModelError):
    """A model's server answered, and refused: `status` is its HTTP status, `said` what it said, in one line."""

    def __init__(self, message: str, server: str, status: int, said: str) -> None:
        super().__init__(message, server)
        self.status, self.said = status, said


class PromptTooLong(ModelError):
    """A prompt that a model has no room for."""


class TrainingDiverged(ExtmemError, ArithmeticError):
    """NaN or Inf in training; names the step and the last good checkpoint."""


class StorageError(ExtmemError, OSError):
    """The disk is full, read-only or not to be opened."""


def storage_error(error: OSError, path: object) -> StorageError:
    """The StorageError that an operating system's error on `path` means."""
    cures = {
        errno.ENOSPC: "the disk is full: free some space and run it again",
        errno.EFBIG: "the file may not grow further: raise the file size limit and run it again",
        errno.EROFS: "the disk is read-only: choose a folder that can be written",
        errno.EACCES: "access was refused: choose a folder that you may write",
        errno.EMFILE: "too many files are open: close some or raise the limit (ulimit -n)",
    }
    cure = cures.get(error.errno or 0, "check the path and the disk")
    return StorageError(f"{path}: {error.strerror or error}; {cure}. What was saved before is intact.", path)
