"""Sessions: what the one-time link printed at start opens, for the page in a browser.

Knows: tokens, clocks, what the processes of a server share. Does not know: HTTP, memories. A link is an empty file,
named by its hash, which can be removed but once; a session is a signed date. So any process can tell both, and nothing
is left of either when the server has ended. A session is a bearer that the page keeps in its tab, and no cookie: so no
other site, and no other server at another port of this machine, can have a browser send it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path

from extmem.serve.keys import Grant

LINK = 600.0  # seconds in which the link may be opened
SESSION = 12 * 3600  # seconds that a session lasts
_SHAPE = re.compile(r"es_(\d{1,12})_([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True)
class Sessions:
    """One link at a time, dead once it was used; the sessions that came of links, each with every right. `folder` and
    `secret` are the same in all processes of a server."""

    folder: Path
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def link(self) -> str:
        """A token that opens one session."""
        for old in self.folder.glob("link-*"):
            old.unlink(missing_ok=True)
        token = secrets.token_urlsafe(32)
        self._file(token).touch(0o600)
        return token

    def open(self, token: str) -> str | None:
        """The session of a link, which is dead from here on; None where the link is none."""
        try:
            made = self._file(token).stat().st_mtime
            self._file(token).unlink()
        except FileNotFoundError:
            return None
        if time.time() - made > LINK:
            return None
        until = str(int(time.time()) + SESSION)
        return f"es_{until}_{self._signed(until)}"

    def of(self, session: str) -> Grant | None:
        """What a session grants; None where it is none, or is over."""
        shaped = _SHAPE.fullmatch(session)
        if shaped is None or not hmac.compare_digest(self._signed(shaped[1]), shaped[2]):
            return None
        return Grant("page", ("",), "admin", 0.0, "") if int(shaped[1]) >= time.time() else None

    def _file(self, token: str) -> Path:
        sent = token.encode(errors="replace")  # of JSON, where half a surrogate pair can stand
        return self.folder / f"link-{hashlib.sha256(sent).hexdigest()}"

    def _signed(self, until: str) -> str:
        return hmac.digest(self.secret, until.encode(), "sha256").hex()
