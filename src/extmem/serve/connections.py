"""Connections: uvicorn's protocol for HTTP, which ends those on which no request comes to be.

Knows: uvicorn's protocol, its timers. Does not know: requests whose headers have come (`limits.py` ends those).
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from extmem.serve.limits import HASTE


class Connection(HttpToolsProtocol):
    """Closed after HASTE seconds without a request in progress, whatever comes meanwhile: headers without an end, the
    rest of a body that was refused. uvicorn waits for those as long as they take."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waits()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._waiting.cancel()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete:  # else one that was sent with it is in progress
            self._waits()

    def connection_lost(self, exc: Exception | None) -> None:
        self._waiting.cancel()
        super().connection_lost(exc)

    def _waits(self) -> None:
        self._waiting = self.loop.call_later(HASTE, self.timeout_keep_alive_handler)
