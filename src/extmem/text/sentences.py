"""Sentences: where each of a text begins and ends, in English and in Chinese.

Knows: full stops, what closes behind them, abbreviations. Does not know: passages, questions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from extmem.reading import Span

_CLOSING = "\"')\\]\u2019\u201d\u300b\u300d\u300f\u3011\uff09"  # what closes after a full stop belongs to it
_END = re.compile(
    rf"(?<![.!?\u2026])[.!?\u2026]+[{_CLOSING}]*(?=\s)"  # a full stop, then a space
    rf"|[\u3002\uff01\uff1f\uff1b]+[{_CLOSING}]*"  # Chinese ones need no space
    r"|\n"
)
LONGEST = 20  # characters of an abbreviation, and what stands before it
_ABBREVIATED = re.compile(
    r"(?:^|[\s(\"'\u201c])(?:[A-Z]|(?:[A-Za-z]\.)+[A-Za-z]"
    r"|Mr|Mrs|Ms|Dr|St|Prof|Rev|Gen|Col|Lt|Sgt|Capt|Jr|Sr|Gov|Sen|Rep|Vol|No|Fig|approx|vs|cf|ca|c)\.$"
)


def stretches(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of what stands between full stops or line breaks; together they are the whole text."""
    start = 0
    for match in _END.finditer(text):
        yield start, match.end()
        start = match.end()
    yield start, len(text)


def sentences(text: str) -> list[Span]:
    """The sentences of a text in order, none blank and no space at either end. The full stop of an abbreviation ends
    none, nor one that a small letter or a comma follows."""
    found: list[Span] = []
    for start, end in stretches(text):
        part = text[start:end]
        start, end = end - len(part.lstrip()), start + len(part.rstrip())
        if start >= end:
            continue
        before = text[max(found[-1].start, found[-1].end - LONGEST) : found[-1].end] if found else ""
        goes_on = before.endswith(".") and (text[start].islower() or text[start] in ",;" or _ABBREVIATED.search(before))
        if found and (goes_on or not any(map(str.isalnum, text[start:end]))):
            found[-1] = Span(found[-1].start, end)
        else:
            found.append(Span(start, end))
    return found
