"""Terms: what a text is found by. Its words, stemmed; Chinese by its characters and their pairs.

Knows: words, the endings of English (Porter's second stemmer). Does not know: records, how often what occurs.

A word's form does not matter: case, accents, full-width letters and English endings are alike. Chinese is
written without spaces: every character is a term, and so is every pair of neighbours, of which most words
are made (bigrams: what Lucene's CJKAnalyzer indexes). A word of letters and digits, such as FY2018, is a term and so
are its parts: a question may ask for 2018.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import Stemmer

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_PIECE = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+(?:['\u2019][^\W_{_CJK}]+)*")
_ASCII = re.compile(r"[A-Za-z0-9]+(?:'[A-Za-z0-9]+)*")
_FIRST_CJK = "\u3040"
_DIGIT = re.compile("[0-9]")
_RUN = re.compile("[A-Za-z0-9]{3,}")
_PART = re.compile(r"[A-Za-z]{2,}|[0-9]{2,}")

LONGEST = 100  # characters of a term that count

# Words of English that say how others belong together, not what a text is about.
_STOP_WORDS = """
a about above after again all also am an and any are as at be because been before being below between both but
by can could did do does doing down during each else ever few for from further had has have having he her here
hers herself him himself his how i if in into is it its itself just let me might more most must my myself no nor
not of off on once only or other ought our ours ourselves out over own same shall she should so some such than
that the their theirs them themselves then there these they this those through to too under until up upon us
very was we were what when where which while who whom whose why will with would yet you your yours yourself
yourselves
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())


def terms(text: str) -> list[str]:
    """The terms of a text, in order, stop words among them."""
    if text.isascii():
        words = _ASCII.findall(text)
        found = list(map(_term, words))
    else:
        text, found = unicodedata.normalize("NFKC", text), []
        words = _PIECE.findall(text)
        for word in words:
            if is_cjk(word):
                found += word
                found += map("".join, pairwise(word))
            else:
                found.append(_term(word))
    if _DIGIT.search(text):
        runs = (run for word in words if not word.isalpha() for run in _RUN.findall(word))
        mixed = (run for run in runs if not run.isalpha() and not run.isdecimal())
        found += [_term(part) for run in mixed for part in _PART.findall(run)]
    return found


def is_cjk(term: str) -> bool:
    """Whether a term, or a piece of a text, is of Chinese characters or kana."""
    return term[0] >= _FIRST_CJK and re.match(f"[{_CJK}]", term) is not None


def asked(query: str) -> list[str]:
    """The different terms that a query asks for: its stop words only where it has nothing else."""
    every = list(dict.fromkeys(terms(query)))
    return content(every) or every


def content(words: list[str]) -> list[str]:
    """These terms without stop words."""
    return [word for word in words if word not in STOPPED]


def plain(text: str) -> list[str]:
    """The words of a text in small letters, not stemmed; without "'s"."""
    return [word.casefold().replace("\u2019", "'").removesuffix("'s") for word in _PIECE.findall(text)]


def telling(words: list[str]) -> int:
    """How many of these terms are not stop words."""
    return len(words) - sum(map(STOPPED.__contains__, words))


def matching(text: str, wanted: set[str]) -> list[str]:
    """The different words of a text, as they stand there, whose terms are among those wanted."""
    found = dict.fromkeys(word for word, term in _surfaces(text) if term in wanted)
    return [word for word in found if not any(word != other and word in other for other in found if word > _FIRST_CJK)]


def _surfaces(text: str) -> Iterator[tuple[str, str]]:
    for match in _PIECE.finditer(unicodedata.normalize("NFKC", text)):
        word = match[0]
        if is_cjk(word):
            yield from ((piece, piece) for piece in (*word, *map("".join, pairwise(word))))
        else:
            yield word, _term(word)


_STEMMER = Stemmer.Stemmer("english", 0)  # 0: it keeps nothing, so that threads may share it


@lru_cache(1 << 17)
def _term(word: str) -> str:
    """The term of one word."""
    if word.isdecimal() and word.isascii():
        return word[:LONGEST]
    word = word.casefold().replace("\u2019", "'")
    if not word.isascii():
        apart = unicodedata.normalize("NFKD", word)
        word = "".join(letter for letter in apart if not unicodedata.combining(letter))
    word = word.removesuffix("'s")
    if word in STOP_WORDS:
        return word
    stem: str = _STEMMER.stemWord(word)
    return stem.replace("'", "")[:LONGEST]


def forget_words() -> None:
    """Lets go of the words whose terms were remembered."""
    _term.cache_clear()


STOPPED = frozenset(map(_term, STOP_WORDS))
