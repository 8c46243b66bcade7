"""Abbreviations: which a text explains, as in "chronic obstructive pulmonary disease (COPD)", and how.

Knows: the rule of Schwartz and Hearst (2003, A simple algorithm for identifying abbreviation definitions in biomedical
text). Does not know: records, where a text is from.

The letters of the short form are looked for in the words before its bracket, from its last letter to its first, which
must begin a word; at most min(A + 5, 2 A) words are looked at, A being the letters of the short form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from extmem.reading import Span

REACH = 300  # characters that are looked at before a bracket
SHORTEST, LONGEST = 2, 10  # characters of a short form
_BRACKET = re.compile(r"\(([^()\[\]]+)\)")


class Abbreviation(NamedTuple):
    """A short form, what it stands for, and where in the text that is explained."""

    short: str
    long: str
    span: Span


def abbreviations(text: str) -> Iterator[Abbreviation]:
    """Those that a text explains, in order; one that is explained twice comes twice."""
    for match in _BRACKET.finditer(text):
        short = re.split(r"[;,]", match[1])[0].strip()
        if not _is_short(short):
            continue
        before_it = text[max(0, match.start() - REACH) : match.start()]
        sentence = re.split(r"[.!?;:()]\s", before_it)[-1].rstrip()
        words = list(re.finditer(r"\S+", sentence))
        most = min(len(short) + 5, 2 * len(short))
        before = sentence[words[-most].start() if len(words) > most else 0 :]
        begin = _begin(short, before)
        if begin is not None and _tells(short, before[begin:]):
            long = before[begin:]
            yield Abbreviation(short, " ".join(long.split()), Span(match.start() - len(long) - 1, match.end()))


def _is_short(text: str) -> bool:
    """Whether this can be a short form: one or two words, a capital or a digit among its letters."""
    known = SHORTEST <= len(text) <= LONGEST and len(text.split()) <= 2 and text[0].isalnum()
    return known and any(map(str.isalpha, text)) and any(map(str.isupper, text))


def _begin(short: str, before: str) -> int | None:
    """Where the long form begins."""
    place = len(before)
    for index in range(len(short) - 1, -1, -1):
        letter = short[index].lower()
        if not letter.isalnum():
            continue
        place -= 1
        while place >= 0 and (
            before[place].lower() != letter or (index == 0 and place > 0 and before[place - 1].isalnum())
        ):
            place -= 1
        if place < 0:
            return None
    return before.rfind(" ", 0, place) + 1


def _tells(short: str, long: str) -> bool:
    """Whether a long form says more than the short one."""
    return len(long) > len(short) and short.lower() not in long.lower().split()
