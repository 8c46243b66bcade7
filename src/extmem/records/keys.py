"""Keys: where a master key comes from, and what is sealed with a key.

Knows: bytes, key files, AES-256-GCM (of the cryptography library). Does not know: records.

What is sealed begins with the id of its key (8 bytes), a salt (16) and a nonce (12), then come
ciphertext and tag (16). It is sealed with a subkey that is derived from the key and the salt
(HKDF-Expand with SHA-256), and a process takes a new salt after 2^20 seals: random nonces of 96 bits
are good for 2^32 under one key (NIST SP 800-38D, 8.3), so no key is ever used up and nobody has to
count across processes. Nothing random is kept in advance: a forked process repeats no nonce.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import itertools
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from extmem.errors import InvalidInput, MemoryFormatError, storage_error

KeySource: TypeAlias = "bytes | str | Path | Callable[[], bytes | str]"

SIZE: Final = 32
ID, SALT, NONCE = 8, 24, 36  # where the parts of what is sealed end
LEAST: Final = NONCE + 16
SEALS: Final = 2**20  # under one subkey
SUBKEYS: Final = 1024  # kept ready for one key
LARGEST: Final = 2**31 - 2**10  # what the cryptography library takes in one piece
FORMS: Final = "32 bytes, 64 hex digits, or base64 of 32 bytes"


class UnknownKey(MemoryFormatError):
    """Sealed with a key that is not among these: `id` says with which."""

    def __init__(self, id: bytes) -> None:
        super().__init__("this was sealed with a key that the memory does not hold: restore a snapshot.")
        self.id = id


class Key:
    """256 bits that seal and open. Its id is derived from them and gives nothing of them away."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self.id = derived(secret, b"id")[:ID]
        self._ciphers: dict[bytes, AESGCM] = {}
        self._writing: tuple[bytes, AESGCM, itertools.count[int]] | None = None

    def seal(self, plain: bytes, bound: bytes) -> bytes:
        """Seals; only who gives the same `bound` opens it again."""
        head, cipher, used = self._writing or self._renew()
        while next(used) >= SEALS:
            head, cipher, used = self._renew()
        if len(plain) > LARGEST:
            raise InvalidInput(f"{len(plain)} bytes in one piece: an encrypted memory takes up to {LARGEST}.")
        nonce = os.urandom(NONCE - SALT)
        return head + nonce + cipher.encrypt(nonce, plain, bound)

    def open(self, sealed: bytes, bound: bytes) -> bytes:
        """What was sealed. Raises InvalidTag where one bit is not as it was."""
        salt = sealed[ID:SALT]
        cipher = self._ciphers.get(salt)
        if cipher is None:
            if len(self._ciphers) >= SUBKEYS:
                self._ciphers.clear()
            cipher = self._ciphers[salt] = self._cipher(salt)
        return cipher.decrypt(sealed[SALT:NONCE], memoryview(sealed)[NONCE:], bound)

    def _renew(self) -> tuple[bytes, AESGCM, itertools.count[int]]:
        salt = os.urandom(SALT - ID)
        self._writing = renewed = self.id + salt, self._cipher(salt), itertools.count()
        return renewed

    def _cipher(self, salt: bytes) -> AESGCM:
        return AESGCM(derived(self.secret, b"subkey " + salt))


class Ring:
    """Keys by their id; the last one seals."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self.keys = [Key(secret) for secret in secrets]
        self.last = self.keys[-1]
        self.seal = self.last.seal
        self._by_id = {key.id: key for key in self.keys}

    def open(self, sealed: object, bound: bytes, what: str, subject: object) -> bytes:
        """What was sealed. Raises UnknownKey where its key is not here, MemoryFormatError that names
        the `subject` where it was changed or lay elsewhere when it was sealed."""
        if type(sealed) is bytes and len(sealed) >= LEAST:
            key = self._by_id.get(sealed[:ID])
            if key is None:
                raise UnknownKey(sealed[:ID])
            try:
                return key.open(sealed, bound)
            except InvalidTag:
                pass
        cure = "it was changed, or moved here, after it was sealed: restore it from a snapshot"
        raise MemoryFormatError(f"{what} {subject!r} cannot be opened; {cure}, or erase it.", subject)

    def secrets(self) -> list[str]:
        """The keys as text, to be sealed."""
        return [key.secret.hex() for key in self.keys]


def derived(secret: bytes, use: bytes) -> bytes:
    """Another key for another use, that gives nothing of this one away."""
    return HKDFExpand(algorithm=SHA256(), length=SIZE, info=b"extmem 1 " + use).derive(secret)


def blinder(secret: bytes, use: bytes) -> Callable[[str], str]:
    """A function from a name to 40 hex digits that stand for it (HMAC-SHA256, 160 bits of it): the same
    ones for the same name, and who has no key learns nothing but that."""
    begun = hmac.new(derived(secret, use), digestmod=hashlib.sha256)

    def blind(name: str) -> str:
        mac = begun.copy()
        mac.update(name.encode())
        return mac.hexdigest()[:40]

    return blind


def new_master_key() -> bytes:
    """32 random bytes."""
    return os.urandom(SIZE)


def write_key_file(path: str | Path, key: bytes) -> None:
    """Writes a master key as hex digits into a new file that only its owner may read. Raises
    InvalidInput where there is such a file: a memory may depend on it."""
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(_taken(key, "the key").hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise InvalidInput(f"{path} is there, and a memory may depend on it: give another path.", path) from error
    except OSError as error:
        raise storage_error(error, path) from error


def master_key(source: KeySource) -> bytes:
    """The master key: given as 32 bytes, or lying in a file (its path), in an environment variable
    ("env:NAME"), or handed out by a function. In all of them it may be written as 64 hex digits or in
    base64. Raises InvalidInput, which never shows a key."""
    if isinstance(source, bytes | bytearray):
        return _taken(bytes(source), "the key")
    if isinstance(source, str) and source.startswith("env:"):
        name = source.removeprefix("env:")
        if name not in os.environ:
            raise InvalidInput(f"the environment variable {name} is not set: put the key into it.", source)
        return _taken(os.environ[name], f"the environment variable {name}")
    if isinstance(source, str | Path):
        return _from_file(source)
    if callable(source):
        return _taken(source(), "what the key's function returned")
    raise InvalidInput(f"a key from {type(source).__name__}: give 32 bytes, a path, 'env:NAME' or a function.")


def _from_file(path: str | Path) -> bytes:
    if re.fullmatch(r"[0-9A-Za-z+/_=-]{40,90}", str(path)) and not os.path.exists(path):  # not to be shown
        raise InvalidInput("this is not a key file's path; is it the key itself? Put it into a file and give its path.")
    try:
        with open(path, "rb") as file:
            content = file.read(1000)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        said = getattr(error, "strerror", None) or error
        raise InvalidInput(f"the key file {path} cannot be read ({said}): give a key file's path.", path) from error
    return _taken(content, f"the key file {path}")


def _taken(given: object, what: str) -> bytes:
    """The 32 bytes that are given in one of FORMS."""
    if isinstance(given, bytes) and len(given) == SIZE:
        return given
    if isinstance(given, bytes | str):
        text = given if isinstance(given, str) else given.decode("ascii", "replace")
        text = text.strip()
        if re.fullmatch(r"[0-9A-Fa-f]{64}", text):
            return bytes.fromhex(text)
        try:
            key = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
            if len(key) == SIZE:
                return key
        except (binascii.Error, ValueError):
            pass
    size = f"{len(given)} long" if isinstance(given, bytes | str) else f"of type {type(given).__name__}"
    raise InvalidInput(f"{what} does not hold a key, it is {size}: a key is {FORMS}.")
