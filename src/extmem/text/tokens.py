"""What every tokenizer gives, and the two words that every vocabulary has.

Knows: words and spans. Does not know: any way of cutting a text into them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

EOS = "<eos>"  # the end of a line, a paragraph or a text, as its tokenizer defines it
UNKNOWN = "<unk>"  # stands for every word that is not in the vocabulary


class Tokens(NamedTuple):
    """Parallel lists: word i is text[starts[i]:ends[i]] of the text given, EOS apart."""

    words: list[str]
    starts: list[int]
    ends: list[int]

    def append(self, word: str, start: int, end: int) -> None:
        """One more word at the end."""
        self.words.append(word)
        self.starts.append(start)
        self.ends.append(end)


class Tokenizer(Protocol):
    """Cuts a text into words and puts words together again.

    `encode` never normalises: its spans index into the text as it was given. `join` makes a readable
    text, an EOS at its very end left out; `encode(join(words)).words == words` is not promised, as
    spacing is not kept by every kind.
    """

    name: str

    def encode(self, text: str) -> Tokens:
        """The words of a text, with their spans."""
        ...

    def join(self, words: Sequence[str]) -> str:
        """A readable text of these words."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Everything `tokenizer.from_json` needs to make this tokenizer again."""
        ...
