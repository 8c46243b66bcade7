"""API keys: who may do what in which namespaces. A key is shown once; the memory keeps its argon2 hash.

Knows: the ledger of a memory's root, argon2. Does not know: HTTP.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import anyio
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from extmem.errors import InvalidInput
from extmem.memory import Memory

LEDGER = "keys"
RIGHTS = ("read", "write", "admin")  # each may what the ones before it may
FRESH = 0.5  # seconds until the ledger is read again, so that every server sees a revocation within one
NEW = 0.02  # the same for an id that is not known: it may be of a key just made
VERDICTS = 1_000  # kept at once
_SHAPE = re.compile(r"em_([0-9a-f]{12})_[\w-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a key may do: `may` one of RIGHTS, in `namespaces` and those within them; "" is the whole memory."""

    id: str
    namespaces: tuple[str, ...]
    may: str
    made: float
    hash: str

    def covers(self, path: str) -> bool:
        """Whether a namespace is one of this key's."""
        return any(not space or path == space or path.startswith(f"{space}/") for space in self.namespaces)

    def allows(self, may: str) -> bool:
        """Whether this key has that right."""
        return RIGHTS.index(self.may) >= RIGHTS.index(may)


def grant(memory: Memory, namespaces: Sequence[str], may: str) -> tuple[str, str]:
    """Makes a key: its id, and the key itself, which nobody can be shown again. Raises InvalidInput."""
    if may not in RIGHTS:
        raise InvalidInput(f"{may!r} is no right: give one of {', '.join(RIGHTS)}.", may)
    for path in namespaces:
        memory.at(path)  # raises where it names none
    number, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    key = f"em_{number}_{secret}"
    note = {"namespaces": list(namespaces), "may": may, "made": time.time(), "hash": _hasher().hash(key)}
    memory.records.ledger_put(LEDGER, number, note)
    return number, key


def grants(memory: Memory) -> list[Grant]:
    """The keys there are."""
    notes = memory.records.ledger(LEDGER)
    return [Grant(name, tuple(n["namespaces"]), n["may"], n["made"], n["hash"]) for name, n in notes.items()]


def revoke(memory: Memory, number: str) -> bool:
    """Has a key open nothing from now on; False where there is none with that id."""
    with memory.transaction():
        there = number in memory.records.ledger(LEDGER)
        memory.records.ledger_remove(LEDGER, number)
    return there


class Keys:
    """Tells keys from texts that are none. argon2 is slow on purpose, so its verdict on a text is kept, under
    a hash whose key lives as long as this process. `direct`: the ledger may be read in the event loop."""

    def __init__(self, memory: Memory, *, direct: bool) -> None:
        self.memory, self.direct, self._secret = memory, direct, os.urandom(32)
        self._grants: dict[str, Grant] = {}
        self._read, self._reading, self._verifying = -FRESH, asyncio.Lock(), asyncio.Lock()
        self._verdicts: OrderedDict[bytes, tuple[str, bool]] = OrderedDict()

    async def of(self, key: str) -> Grant | None:
        """What a key grants; None where it is none, or was revoked."""
        shaped = _SHAPE.fullmatch(key)
        if shaped is None:
            return None
        await self._refresh(FRESH if shaped[1] in self._grants else NEW)
        found = self._grants.get(shaped[1])
        if found is None:
            return None
        mark = hmac.digest(self._secret, key.encode(), hashlib.sha256)
        if (known := self._verdicts.get(mark)) is None or known[0] != found.hash:
            known = await self._verified(mark, key, found.hash)
        if known[1]:
            self._verdicts.move_to_end(mark)  # guesses push out guesses
        return found if known[1] else None

    async def _refresh(self, seconds: float) -> None:
        """Reads the ledger, unless that was done so short a time ago."""
        if time.monotonic() - self._read < seconds:
            return
        async with self._reading:
            if time.monotonic() - self._read >= seconds:
                asked = time.monotonic()
                # a short read in the loop is over before a thread would have begun
                found = grants(self.memory) if self.direct else await anyio.to_thread.run_sync(grants, self.memory)
                self._grants = {one.id: one for one in found}
                self._read = asked

    async def _verified(self, mark: bytes, key: str, kept: str) -> tuple[str, bool]:
        async with self._verifying:  # one at a time: guessing must not take the other cores
            if (known := self._verdicts.get(mark)) is None or known[0] != kept:
                known = kept, await anyio.to_thread.run_sync(_right, kept, key)
                self._verdicts[mark] = known
                if len(self._verdicts) > VERDICTS:
                    self._verdicts.popitem(last=False)
            return known


def _right(kept: str, key: str) -> bool:
    try:
        return _hasher().verify(kept, key)
    except (VerificationError, InvalidHashError):
        return False


def _hasher() -> PasswordHasher:
    return PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)  # OWASP's least: a key has 256 random bits
