"""Passages: a text in stretches of whole sentences, each short enough for an encoder to read at once.

Knows: words, how long a passage may be. Does not know: where sentences end, encoders, their word pieces.

A passage takes in sentences as long as its words are at most `words`. As a word count at most 8 letters
of A to Z, at most 3 digits, and any other character but a space: so close to the word pieces of a BERT
that MAXIMUM of them fit the 256 of MiniLM. Only a sentence longer than that is cut within, where a word
ends. Everything but the spaces between passages lies in exactly one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from extmem.errors import InvalidInput
from extmem.reading import Span
from extmem.text.sentences import stretches

MAXIMUM = 160  # words

_WORD = re.compile(r"[A-Za-z]{1,8}|[0-9]{1,3}|[^\sA-Za-z0-9]")


def passages(text: str, words: int = MAXIMUM) -> list[Span]:
    """The passages of a text in order, text[start:end] each, no space at either end; none of a blank one.
    Raises InvalidInput for `words` below 1."""
    if type(words) is not int or words < 1:
        raise InvalidInput(f"words is {words!r}: give a whole number, at least 1.", words)
    found: list[Span] = []
    begin, end, count = 0, 0, 0
    for start, stop, size in _pieces(text, words):
        if count and count + size > words:
            found.append(Span(begin, end))
            count = 0
        begin = begin if count else start
        end, count = stop, count + size
    return [*found, Span(begin, end)] if count else found


def _pieces(text: str, words: int) -> Iterator[tuple[int, int, int]]:
    """Start, end and words of every sentence, and of the parts of one that has more than `words`."""
    for start, end in stretches(text):
        found = [match.span() for match in _WORD.finditer(text, start, end)]
        while len(found) > words:
            cut = next((n for n in range(words, words // 2, -1) if found[n][0] > found[n - 1][1]), words)
            yield found[0][0], found[cut - 1][1], cut
            found = found[cut:]
        if found:
            yield found[0][0], found[-1][1], len(found)
