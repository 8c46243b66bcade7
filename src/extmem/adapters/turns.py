"""Turns: conversations of one user as other libraries keep them, stored as `extmem chat` stores its own.

Knows: a chat's turns, who speaks in one. Does not know: any library; what it notes of a message is a dict.

So a conversation that was kept through one library can be read through another, and what a user said of themself there
`extmem chat` remembers. Of a turn that another library wrote there is text and speaker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from extmem.errors import InvalidInput
from extmem.memory import Memory
from extmem.records.base import Record
from extmem.tasks.chat import ASSISTANT, TURN, Chat
from extmem.text.stated import is_question

USER = "user"
OTHERS = ("system", "tool")  # what neither side said: no sources of a chat


class Turn(NamedTuple):
    """`speaker` is USER, ASSISTANT, or one of OTHERS; `note` is what a library needs to make its message anew."""

    speaker: str
    text: str
    note: dict[str, Any]


class Turns:
    """The conversations of one user, whose memory is the namespace of that name; `library` names what notes are
    kept under. Raises InvalidInput for a name that is no namespace's."""

    def __init__(self, memory: Memory, user: str, library: str) -> None:
        self.chat, self.library = Chat(memory, user, words=True), library

    def add(self, conversation: str | int, turns: Iterable[Turn]) -> None:
        """Keeps turns behind all others: all or none."""
        named(conversation)
        with self.chat.memory.transaction():
            for turn in turns:
                human = turn.speaker == USER
                about: dict[str, Any] = {self.library: turn.note}
                self.chat.record(
                    turn.text,
                    self.chat.user if human else turn.speaker,
                    None,
                    conversation,
                    asks=(human and is_question(turn.text)) or None,
                    quoted=turn.speaker in OTHERS or None,
                    **about,
                )

    def of(self, conversation: str | int) -> list[tuple[str, Turn]]:
        """The turns of a conversation by key, in their order."""
        here = {"metadata.conversation": named(conversation)}
        return [(record.key, self._turn(record)) for record in self.chat.memory.scan(TURN, where=here)]

    def forget(self, keys: Sequence[str]) -> None:
        """Forgets turns, and what rests on them."""
        self.chat.forget(*keys)

    def conversations(self) -> list[str]:
        """The names of all conversations that have one and no number, the oldest first."""
        found = ((record.metadata or {}).get("conversation") for record in self.chat.memory.scan(TURN))
        return list(dict.fromkeys(name for name in found if isinstance(name, str)))

    def _turn(self, record: Record) -> Turn:
        about = record.metadata or {}
        speaker, note = about.get("speaker"), about.get(self.library)
        speaker = speaker if speaker in (ASSISTANT, *OTHERS) else USER
        return Turn(str(speaker), str(record.value), note if isinstance(note, dict) else {})


def named(conversation: object) -> str | int:
    """The name of a conversation; those of `extmem chat` have numbers, so "7" is another than 7. Raises InvalidInput
    for what is no name."""
    if isinstance(conversation, bool) or not isinstance(conversation, str | int) or conversation == "":
        raise InvalidInput(f"conversation {conversation!r}: give it a name, or the number it has.", conversation)
    return conversation
