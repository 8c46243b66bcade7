"""chat. Knows: the chat, a terminal. Does not know: how anything is remembered."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from extmem.cli import given, output
from extmem.cli.records import DEFAULT, MemoryOption, opened
from extmem.cli.tasks import WriterOption
from extmem.errors import InvalidInput, ModelError

if TYPE_CHECKING:
    from extmem.tasks.chat import Chat, Reply
    from extmem.tasks.preferences import Preference

HISTORY = 200  # turns that the arrow keys bring back
HELP = """/memories      what is remembered of you, with the turns it came from
/forget WHAT   forget one of them by its number, or a turn or preference by its key
/recalled      what the last answer recalled
/help          this
the end of input (Ctrl-D) ends the chat"""


def chat(
    message: Annotated[str | None, typer.Argument(help="Answered, and it ends; without it a session.")] = None,
    user: Annotated[str, typer.Option(help="Whose memory: the namespace of this name.")] = "me",
    memory: MemoryOption = DEFAULT,
    writer: WriterOption = "",
    words: Annotated[bool, typer.Option("--words", help="Do not embed: recalled by words alone.")] = False,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of what a writer writes.")] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object an answer.")] = False,
) -> None:
    """Talk with a chatbot that remembers. Every turn is kept, and what you say of yourself; /help says what else can be
    typed. Without --writer it answers with what you said. A MESSAGE that nothing answers gives exit status 1."""
    from extmem.tasks.chat import TOLD, Chat
    from extmem.writers.base import writer_named

    with output.warned(), opened(memory, create=True) as handle:
        talk = Chat(handle, user, writer_named(writer, TOLD) if writer else None, words=words)
        if message is not None:
            reply = _said(talk, given.text(message), max_tokens, as_json)
            if reply.failed is not None:
                raise ModelError(reply.failed) if not as_json else typer.Exit(2)
            if reply.text is None:
                raise typer.Exit(1)
            return
        last: Reply | None = None
        for line in _lines(talk):
            if line.startswith("/"):
                _command(talk, line, last, as_json)
            elif line:
                last = _said(talk, line, max_tokens, as_json)
                if last.failed is not None and not as_json:
                    output.failure(last.failed, "ModelError")


def _lines(talk: Chat) -> Iterator[str]:
    """What is typed, or comes through a pipe, a line at a time."""
    if sys.stdin is None:
        raise InvalidInput("standard input is closed: give a MESSAGE.")
    if not sys.stdin.isatty():
        for number, line in enumerate(sys.stdin.buffer, 1):
            try:
                yield line.decode().strip()
            except UnicodeDecodeError as error:
                raise InvalidInput(f"line {number:,} of standard input is not UTF-8 text: convert it.") from error
        return
    try:
        import readline

        for record in talk.latest(HISTORY):
            if (record.metadata or {}).get("speaker") == talk.user and "\n" not in str(record.value):
                readline.add_history(str(record.value))
    except ImportError:  # Windows has none
        pass
    output.note("/help says what can be typed")
    while True:
        try:
            yield input("> ").strip()
        except EOFError:
            output.raw("")
            return


def _said(talk: Chat, text: str, max_tokens: int, as_json: bool) -> Reply:
    """Says it, and shows the reply, a writer's as it comes."""
    streams = talk.writer is not None and not as_json
    reply = talk.say(text, output.piece if streams else None, max_tokens)
    if as_json:
        output.as_json(reply.to_json())
        return reply
    if not streams:
        output.raw(str(reply))
    elif reply.key is not None:  # something came: its line ends
        output.raw("")
    for one in reply.citations if streams or not reply.learned else ():
        output.raw(f"  {one.key} [{one.start}:{one.end}]")
    return reply


def _command(talk: Chat, line: str, reply: Reply | None, as_json: bool) -> None:
    """Does what is typed with a '/'."""
    name, _, what = line.partition(" ")
    if name == "/memories":
        _show_memories(talk.preferences.every(), as_json)
    elif name == "/forget" and what.strip():
        gone = talk.forget(_key(talk, what.strip()))
        if as_json:
            output.as_json({"forgotten": gone})
        else:
            output.raw(f"forgotten: {', '.join(gone)}" if gone else f"there is no {what.strip()}")
    elif name == "/recalled":
        _show_recalled(reply, as_json)
    elif as_json:
        output.as_json({"help": HELP})
    else:
        output.raw(HELP)


def _key(talk: Chat, what: str) -> str:
    """The key that was typed, or that of the preference of this number."""
    every = talk.preferences.every() if what.isdecimal() else []
    return every[int(what) - 1].key if what.isdecimal() and 0 < int(what) <= len(every) else what


def _show_memories(every: list[Preference], as_json: bool) -> None:
    if as_json:
        output.as_json({"memories": [one.to_json() for one in every]})
        return
    for number, one in enumerate(every, 1):
        turns = ", ".join(one.turns) or "written by hand"
        before = "".join(f'; before: {place.turn} "{place.text}"' for place in one.before)
        output.raw(f"{number:3}  {one.name}: {one.value}  ({turns}{before})")
    if not every:
        output.raw("nothing yet")


def _show_recalled(reply: Reply | None, as_json: bool) -> None:
    recalled = None if reply is None else reply.recalled
    if as_json:
        output.as_json({"recalled": None if reply is None else reply.recalled.to_json()})
        return
    for one in recalled.preferences if recalled else ():
        output.raw(f"  {one.score:.2f}  {one.key}  {one.value}")
    for hit in recalled.turns if recalled else ():
        output.raw(f"  {hit.score:.2f}  {hit.key}  {hit.value}")
    if recalled is None or not (recalled.turns or recalled.preferences):
        output.raw("nothing")


COMMANDS = (chat,)
