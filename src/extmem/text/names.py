"""Names: whom or what a statement speaks of, and whether a question speaks of the same.

Knows: capital letters, the small words inside names. Does not know: records, answers.

The name of a statement is its first run of words with a capital letter or a digit, with small words inside it ("of",
"de", "la") but none that only begins a sentence; where nothing is written so, what it begins with, up to a stop word
or a mark, in Chinese up to a function word. A question speaks of a name where it holds it whole: "David Bowie sings"
does not speak of David.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from extmem.reading import Span
from extmem.text.asking import FUNCTION
from extmem.text.spacing import CJK
from extmem.text.terms import STOP_WORDS, terms

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_GAP = re.compile(r"[ \-\u2013/&:'\u2019\"@]*")  # what stands between the words of one name
_SENTENCE = re.compile(r"[.?!\n]\s+")
_CJK_OPENING = re.compile(rf"[{CJK}]+")
_LINKS = "of the de da do du des la le van von der den del and y al ibn bin"
_INNER = "les el di et a an for to in on at with zu e um und dos"
LINKS = frozenset(_LINKS.split())
INNER = LINKS | frozenset(_INNER.split())  # inside a name
TOGETHER = 2  # small words in a row, inside a name


class _Word(NamedTuple):
    text: str
    span: Span
    term: str
    big: bool  # has a capital letter or a digit
    stop: bool


@dataclass(frozen=True)
class Name:
    """The terms of a name; `big` where it was written with capital letters or digits."""

    terms: tuple[str, ...]
    big: bool

    def __bool__(self) -> bool:
        return any(character.isalpha() for term in self.terms for character in term)


def name_in(statement: str) -> Name:
    """The name that a statement speaks of; one without terms, which is false, where it has none."""
    if opened := _CJK_OPENING.match(statement):
        return Name((re.split(f"[{FUNCTION}]", opened[0], maxsplit=1)[0],), False)
    words = _words(statement)
    run = _first_run(statement, words)
    if run:
        return Name(tuple(word.term for word in run), True)
    opening: list[_Word] = []
    for word in words:
        if opening and (word.stop or statement[opening[-1].span.end : word.span.start].strip(" -")):
            break
        opening += [] if word.stop else [word]
    return Name(tuple(word.term for word in opening), False)


class Question:
    """A question, cut once to be asked of many names."""

    def __init__(self, text: str) -> None:
        self.text, self._words = text, _words(text)
        self._cased = text != text.lower()

    def place(self, name: Name) -> Span | None:
        """Where the question holds this name, whole; None where it does not. A name that was written big is not found
        in small letters, unless the question has no others."""
        if _CJK_OPENING.fullmatch(name.terms[0]):
            found = re.search(rf"(?<![{CJK}])(?:[{FUNCTION}问])?({re.escape(name.terms[0])})", self.text)
            return None if found is None else Span(*found.span(1))
        size = len(name.terms)
        for first in range(len(self._words) - size + 1):
            some = self._words[first : first + size]
            if tuple(word.term for word in some) != name.terms:
                continue
            if (some[0].big or not (self._cased and name.big)) and not self._goes_on(first, first + size):
                return Span(some[0].span.start, some[-1].span.end)
        return None

    def clause(self, place: Span) -> str:
        """The sentence of the question that holds a place, from its beginning to the end of the question."""
        return self.text[max((match.end() for match in _SENTENCE.finditer(self.text, 0, place.start)), default=0) :]

    def _goes_on(self, first: int, last: int) -> bool:
        """Whether words first to last - 1 are part of a longer name: behind them comes a big word, over at most two
        links; or before them one over links, or next to a name of one word."""
        for step, edge in ((-1, first), (1, last - 1)):
            for links in range(TOGETHER + 1):
                here, there = edge + step * links, edge + step * (links + 1)
                if not 0 <= there < len(self._words):
                    break
                one, two = (self._words[here], self._words[there])[::step]
                if one.text.endswith(("'s", "\u2019s")) or not _joined(self.text, one, two):
                    break
                word = self._words[there]
                if word.big and not (step < 0 and (word.stop or (links == 0 and last - first > 1))):
                    return True
                if word.text.casefold() not in LINKS:
                    break
        return False


def _words(text: str) -> list[_Word]:
    found = []
    for match in _WORD.finditer(text):
        word = match[0]
        big = any(letter.isupper() or letter.isdigit() for letter in word)
        stop = word.casefold().removesuffix("'s") in STOP_WORDS
        found.append(_Word(word, Span(*match.span()), " ".join(terms(word)), big, stop))
    return found


def _joined(text: str, one: _Word, two: _Word) -> bool:
    """Whether a name may go on from one word to the next: over a space, a hyphen, the point of an initial."""
    gap = text[one.span.end : two.span.start]
    return gap == "." or (gap == ". " and len(one.text) == 1 and one.text.isalpha()) or bool(_GAP.fullmatch(gap))


def _first_run(text: str, words: Sequence[_Word]) -> list[_Word]:
    """The first run of big words, without stop words in front."""
    first = 0
    while first < len(words):
        last = _end_of_run(text, words, first)
        run = list(words[first : last + 1]) if words[first].big else []
        while run and run[0].stop:
            run = run[1:]
        if run:
            return run
        first = last + 1
    return []


def _end_of_run(text: str, words: Sequence[_Word], first: int) -> int:
    """The last word of the run that begins with a word."""
    last = at = first
    while words[first].big and at + 1 < len(words) and _joined(text, words[at], words[at + 1]):
        at += 1
        if words[at].big or text[words[at - 1].span.end : words[at].span.start] in ("-", ".", "'", "\u2019"):
            last = at
        elif words[at].text not in INNER or at - last > TOGETHER:
            break
    return last
