"""One spelling for one text, so that equal words compare equal.

Knows: Unicode. Does not know: words, languages, files.

    normalise("cafe\\u0301\\r\\n")  ->  "café\\n"

What changes: letters and their accents are composed (NFC); every line end that `str.splitlines` knows
becomes "\\n"; the byte order mark, invisible spaces and control characters go. What stays: case, width,
tabs, spaces, and the joiners U+200C and U+200D, which shape Persian words and emoji and are seen.
A control character that separates words (U+001F) becomes a space, so no two words are ever glued.
"""

from __future__ import annotations

import re
import unicodedata

_LINE_END = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_INVISIBLE = re.compile(
    "["
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"  # control characters that are no whitespace
    "\u200b\u2060\ufeff"  # zero-width space, word joiner, byte order mark
    "\u180e\u2061-\u2064"  # Mongolian vowel separator, the invisible operators of mathematics
    "]"
)
_SEPARATOR = "\x1f"


def normalise(text: str) -> str:
    """The text in its one spelling. Normalising twice is normalising once.

    Whitespace-separated words keep their order and number, apart from words that were wholly invisible.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _INVISIBLE.sub("", text)
    text = _LINE_END.sub("\n", text).replace(_SEPARATOR, " ")
    return unicodedata.normalize("NFC", text)
