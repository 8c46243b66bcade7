"""The page's files, and the link by which a person opens it.

Knows: the folder page/, its headers, sessions. Does not know: records, models: the page asks the same routes as any
client. The page stands outside `Watched`, whose policy for answers allows nothing at all.
"""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from extmem.serve.answers import Refused, reply
from extmem.serve.records import Body

KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}

router = APIRouter(prefix="/v1")


class Link(Body):
    """The token of a one-time link."""

    link: str


@router.post("/session")
async def session(said: Link, request: Request) -> Response:
    """Exchanges a one-time link, which is dead from here on, for a session: a key for twelve hours."""
    opened = request.app.state.access.sessions.open(said.link)
    if opened is None:
        raise Refused(401, "NoKey", "this link was used, or is too old: start the server anew, or give a key.")
    return reply({"session": opened})


class Page:
    """Answers for the page's files, read once; all else is for the application within."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.answers = app, _answers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self.answers.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "GET" else None
        await (found or self.app)(scope, receive, send)


def _answers() -> dict[str, Response]:
    found = {}
    for file in files("extmem.serve").joinpath("page").iterdir():
        kind = KINDS.get(file.name.rpartition(".")[2])
        if kind is not None:
            place = "/" if file.name == "index.html" else f"/page/{file.name}"
            found[place] = Response(file.read_bytes(), headers=HEADERS, media_type=kind)
    return found
