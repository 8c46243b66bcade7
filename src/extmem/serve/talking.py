"""/v1/answer and /v1/chat: a question answered from the memory, and a dialogue that remembers its user.

Knows: `tasks.answer`, `tasks.chat`, one Chat a user. Does not know: how answers are found, what is remembered. A user
is a namespace below the one that is asked for. Which conversation a message goes on with its client says, by the number
that the reply before had; so those of many pages, and of many servers, go on at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from extmem.serve.access import Reader, Space, Writer
from extmem.serve.answers import Events, heeded, not_there, record_json, reply
from extmem.serve.records import LISTED, Body
from extmem.tasks.answer import PASSAGES
from extmem.tasks.answer import answer as answered
from extmem.tasks.chat import Chat
from extmem.writers import base

USERS = 1_000  # whose Chat is kept at once
FAILED = "the writer failed: the server's log says why."

router = APIRouter(prefix="/v1")
User = Annotated[str, Query(description="Whose memory: the namespace of this name.")]


class Talks:
    """The Chat of each user, with what it knows of its memory. `writer` writes the replies."""

    def __init__(self, writer: base.Writer | None) -> None:
        self.writer = writer
        self._chats: dict[tuple[str, str], Chat] = {}

    def of(self, space: Space, user: str) -> Chat:
        """A user's. Raises InvalidInput."""
        found = self._chats.get((space.path, user))
        if found is None:
            found = Chat(space.memory, user, self.writer)
            if len(self._chats) >= USERS:
                self._chats = {}
            self._chats[space.path, user] = found
        return found


class Question(Body):
    """What is asked; `k` passages found are read, of the records that `where` lets through."""

    question: str
    k: Annotated[int, Field(ge=1, le=LISTED)] = PASSAGES
    where: dict[str, Any] | None = None


class Message(Body):
    """What a user says, and in which conversation: without it in a new one."""

    user: str
    message: str
    conversation: Annotated[int, Field(ge=1)] | None = None
    stream: bool = False
    max_tokens: Annotated[int, Field(ge=1)] = base.TOKENS


@router.post("/answer")
async def answer(said: Question, space: Reader) -> Response:
    """The fact or the sentence that answers a question, and where it stands; a null text where nothing does."""
    found = await space.search(partial(answered, space.memory, said.question, where=said.where, passages=said.k))
    space.note("answer", keys=[one.key for one in found.citations])
    about = {"citations": list(map(asdict, found.citations)), "confidence": found.confidence}
    return reply({"text": found.text, "known": found.text is not None, **about})


@router.post("/chat")
async def chat(said: Message, space: Writer, request: Request) -> Response:
    """The reply to what a user says; both are kept. With `stream` events: what a writer writes, piece by piece, then
    the whole reply, then [DONE]. What the user said is kept, even where the writer fails, as `failed` then says."""
    talk = (await space.run(request.app.state.talks.of, space, said.user)).within(said.conversation)
    saying = partial(_said, talk, said, space, request)
    if said.stream:
        return Events(lambda event: event(saying(lambda piece: event({"piece": piece}))))
    return reply(await heeded(request, saying))  # a writer is slow: not among the threads that others wait for


@router.get("/chat/turns")
async def turns(
    space: Reader, request: Request, user: User, limit: Annotated[int, Query(ge=1, le=LISTED)] = 50
) -> Response:
    """A user's last turns, the last one at the end, and the namespace that they are in."""
    talk = await space.run(request.app.state.talks.of, space, user)
    found = await space.run(talk.latest, limit)
    _note(space, talk, "turns", *(one.key for one in found))
    return reply({"namespace": talk.memory.records.namespace, "turns": list(map(record_json, found))})


@router.get("/chat/memories")
async def memories(space: Reader, request: Request, user: User) -> Response:
    """What is held of a user, each with the turns that it came from."""
    talk = await space.run(request.app.state.talks.of, space, user)
    found = await space.run(talk.preferences.every)
    _note(space, talk, "memories", *(one.key for one in found))
    return reply({"memories": [one.to_json() for one in found]})


@router.delete("/chat/memories/{key:path}")
async def forget(key: str, space: Writer, request: Request, user: User) -> Response:
    """Erases a turn or what is held of a user, with the replies that rest on it; the keys of all that is gone."""
    talk = await space.run(request.app.state.talks.of, space, user)
    gone = await space.run(talk.forget, key)
    _note(space, talk, "forget", *gone)
    return reply({"forgotten": gone}) if gone else not_there(key)


def _said(talk: Chat, said: Message, space: Space, request: Request, heard: Callable[[str], None]) -> dict[str, Any]:
    """The reply, with the number of its conversation. Why a writer failed, which may name a path, is for the log."""
    _note(space, talk, "chat")  # before: a client that goes away ends it
    told = talk.say(said.message, heard, said.max_tokens)
    _note(space, talk, "said", told.turn, told.key)
    found = told.to_json() | {"conversation": talk.conversation}
    if told.failed is not None:
        request.scope["fault"] = told.failed
        found["failed"] = FAILED
    return found


def _note(space: Space, talk: Chat, did: str, *keys: str | None) -> None:
    """A line of the audit, of the namespace of the user."""
    replace(space, path=talk.memory.records.namespace).note(did, keys=[key for key in keys if key])
