"""Spacing: where spaces stand when words are put together again.

Knows: English punctuation as NLTK cuts it, and CJK, which is written without spaces.
Does not know: how the words were cut, or what they mean.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from extmem.text.tokens import EOS

# Han, kana, bopomofo, their punctuation and full-width marks: one token each. Not hangul, whose words
# are spaced, nor full-width letters and digits, which spell words; U+3000 is a space.
CJK = (
    "\u2e80-\u2fdf\u3001-\u312f\u3190-\u4dbf\u4e00-\u9fff\uf900-\ufaff\ufe30-\ufe4f"
    "\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff9f\uffe0-\uffe6\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
_CJK = re.compile(f"[{CJK}]")
_CJK_MARK = re.compile(
    "[\u3001-\u3003\u3008-\u3020\u3030\ufe30-\ufe4f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]"
)

_APOSTROPHE = "\u2019"  # NLTK cuts it off on both sides, and then these follow it:
_AFTER_APOSTROPHE = frozenset({"s", "t", "m", "d", "ll", "re", "ve"})
_CLITICS = {"'s", "'m", "'d", "'ll", "'re", "'ve", "n't"}
_LEFT = frozenset({*",.;:!?)]}>%", "...", "\u2026", "\u201d", "\u00bb", "''", _APOSTROPHE, *_CLITICS})
_RIGHT = frozenset({*"([{<$#@", "\u201c", "\u2018", "\u00ab", "\u201e", "`", "``"})
_QUOTES = frozenset({'"', "'"})  # open and close in turn
_HALVES = frozenset(
    {("can", "not"), ("gim", "me"), ("gon", "na"), ("got", "ta"), ("lem", "me"), ("wan", "na")}
    | {("d", "'ye"), ("more", "'n"), ("'t", "is"), ("'t", "was")}
)  # what NLTK cuts in two


def spaced(words: Sequence[str]) -> str:
    """A readable text of words and EOS: EOS is a blank line, and nothing at the very end.

    `"` opens and closes in turn within a paragraph; `'` too, unless it follows an s, as in dogs'.
    """
    paragraphs: list[str] = []
    line: list[str] = []
    for word in words:
        if word == EOS:
            paragraphs.append(_line(line))
            line = []
        else:
            line.append(word)
    return "\n\n".join([*paragraphs, _line(line)]).rstrip("\n")


def _line(words: Sequence[str]) -> str:
    pieces: list[str] = []
    opened: set[str] = set()
    before, joined = "", True  # whether the word that comes stands right after the one before
    for word in words:
        opens = word in _QUOTES and word not in opened and not (word == "'" and before[-1:] in ("s", "S"))
        clings = word.lower() in _LEFT or (word in _QUOTES and not opens)
        if not (joined or clings or _written_together(before, word)):
            pieces.append(" ")
        pieces.append(word)
        if opens:
            opened.add(word)
        else:
            opened.discard(word)
        before, joined = word, opens or word in _RIGHT
    return "".join(pieces)


def _written_together(before: str, word: str) -> bool:
    """Whether two words are written together, seen as a pair."""
    if before == _APOSTROPHE:
        return word.lower() in _AFTER_APOSTROPHE
    if (before.lower(), word.lower()) in _HALVES:
        return True
    left, right = before[-1:], word[:1]
    if _CJK.match(left) and _CJK.match(right):
        return True
    return bool(_CJK_MARK.match(left) or _CJK_MARK.match(right))
