"""Sessions: what the one-time link printed at start opens, for the page in a browser.

Knows: tokens, clocks. Does not know: HTTP, memories. Nothing is kept but in this process, and only hashed. A session
is a bearer that the page keeps in its tab, and no cookie: so no other site, and no other server at another port of
this machine, can have a browser send it.
"""

from __future__ import annotations

import hashlib
import secrets
import time

from extmem.serve.keys import Grant

LINK = 600.0  # seconds in which the link may be opened
SESSION = 12 * 3600.0  # seconds that a session lasts


class Sessions:
    """One link at a time, dead once it was used; the sessions that came of links, each with every right."""

    def __init__(self) -> None:
        self._links: dict[bytes, float] = {}
        self._sessions: dict[bytes, float] = {}

    def link(self) -> str:
        """A token that opens one session."""
        token = secrets.token_urlsafe(32)
        self._links = {_mark(token): time.monotonic() + LINK}
        return token

    def open(self, token: str) -> str | None:
        """The session of a link, which is dead from here on; None where the link is none."""
        if self._links.pop(_mark(token), 0.0) < time.monotonic():
            return None
        session = f"es_{secrets.token_urlsafe(32)}"
        self._sessions[_mark(session)] = time.monotonic() + SESSION
        return session

    def of(self, session: str) -> Grant | None:
        """What a session grants; None where it is none, or is over."""
        until = self._sessions.get(_mark(session), 0.0)
        return Grant("page", ("",), "admin", 0.0, "") if until >= time.monotonic() else None


def _mark(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
