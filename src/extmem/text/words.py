"""WordTokenizer: NLTK's words with their spans, and CJK characters one by one.

Knows: paragraphs, sentences, words. Does not know: vocabularies, files, the other tokenizers.

A paragraph ends at a blank line, a sentence after [.!?], closing quotes and brackets, and whitespace.
So every chunk between whitespace that ends in a full stop ends its sentence, and as no other rule of
NLTK's looks past whitespace, cutting chunk by chunk gives what NLTK gives sentence by sentence (a test
holds it). So a chunk need be cut only once, and a plain one not by NLTK at all: chunks repeat, and NLTK
cuts 0.4 MB/s.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

from extmem.text.spacing import CJK, spaced
from extmem.text.tokens import EOS, Tokens

_PIECE = re.compile(rf"\n\s*\n|[{CJK}]|[^\s{CJK}]+")
_PLAIN = re.compile(r"(\w+(?:[-./=+|]\w+)*)([,.;:!?]?)", re.ASCII)  # NLTK cuts only its end,
_CONTRACTED = re.compile(r"\b(cannot|gimme|gonna|gotta|lemme|wanna)\b", re.ASCII | re.I)  # but for these
_REMEMBERED = 1 << 17  # chunks, some 30 MB


class WordTokenizer:
    """Words as NLTK's `word_tokenize` finds them, except that quotes keep their own characters.

    EOS stands at each blank line between words (its span: the blank line) and at the end of the text
    (of no length). A single line break is a space.
    """

    name = "words"

    def __init__(self) -> None:
        self._cut = lru_cache(_REMEMBERED)(_words)

    def encode(self, text: str) -> Tokens:
        """The words of a text, with their spans."""
        tokens = Tokens([], [], [])
        append, cut = tokens.append, self._cut
        blank: tuple[int, int] | None = None
        for match in _PIECE.finditer(text):
            piece, (start, end) = match[0], match.span()
            if piece[0] == "\n":
                blank = (start, end)
                continue
            if blank and tokens.words:
                append(EOS, *blank)
            blank = None
            for word in cut(piece):
                end = start + len(word)
                append(word, start, end)
                start = end
        append(EOS, len(text), len(text))
        return tokens

    def join(self, words: Sequence[str]) -> str:
        """A readable text: spaces where English has them, none in Chinese, a blank line for EOS."""
        return spaced(words)

    def to_json(self) -> dict[str, Any]:
        """Its name says everything."""
        return {"name": self.name}


def _words(chunk: str) -> tuple[str, ...]:
    """The words of a chunk between whitespace."""
    if (plain := _PLAIN.fullmatch(chunk)) and not _CONTRACTED.search(chunk):
        return (plain[1], plain[2]) if plain[2] else (chunk,)
    return _surfaces(chunk, _nltk().tokenize(chunk))


@cache
def _nltk() -> Any:
    """NLTK's tokenizer, from the first chunk on that needs it: to import NLTK takes as long as to import torch."""
    from nltk.tokenize.destructive import NLTKWordTokenizer

    return NLTKWordTokenizer()


def _surfaces(chunk: str, words: list[str]) -> tuple[str, ...]:
    """NLTK's words as they stand in the chunk: it writes `` and '' for quotes and changes nothing else."""
    surfaces, start = [], 0
    for word in words:
        if not chunk.startswith(word, start):
            word = '"' if chunk[start] == '"' else chunk[start : start + 2]
        surfaces.append(word)
        start += len(word)
    assert start == len(chunk), "NLTK's words cover the chunk"
    return tuple(surfaces)
