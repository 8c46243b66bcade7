"""Tokenizers: text to words with spans, and back; `choose` picks one, `from_json` brings one back.

Knows: how each kind cuts a text. Does not know: which words a vocabulary has, files, models.

    whitespace   text that was tokenised before, one EOS a line (Penn Treebank)
    words        NLTK's words, CJK characters one by one, one EOS a paragraph (words.py)
    characters   every character, one EOS a text
    bpe          byte-level pairs learned from a corpus, one EOS a text
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from extmem.errors import InvalidInput
from extmem.text.tokens import EOS, UNKNOWN, Tokenizer, Tokens
from extmem.text.words import WordTokenizer

__all__ = [
    "EOS",
    "KINDS",
    "UNKNOWN",
    "BpeTokenizer",
    "CharacterTokenizer",
    "Tokenizer",
    "Tokens",
    "WhitespaceTokenizer",
    "WordTokenizer",
    "choose",
    "from_json",
]

KINDS = ("auto", "words", "whitespace", "characters", "bpe")
SMALLEST_BPE = 258  # the 256 bytes, UNKNOWN and EOS

_WORD_OR_LINE_END = re.compile(r"\S+|\n")
_UNKNOWN_WORD = re.compile(rf"(?<!\S){re.escape(UNKNOWN)}(?!\S)")


class WhitespaceTokenizer:
    """Words are what stands between whitespace; every line ends in EOS, whose span is its newline."""

    name = "whitespace"

    def encode(self, text: str) -> Tokens:
        """The words of a text, with their spans."""
        matches = list(_WORD_OR_LINE_END.finditer(text))
        words = [EOS if (word := match[0]) == "\n" else word for match in matches]
        starts = [match.start() for match in matches]
        ends = [match.end() for match in matches]
        tokens = Tokens(words, starts, ends)
        if text and not text.endswith("\n"):
            tokens.append(EOS, len(text), len(text))
        return tokens

    def join(self, words: Sequence[str]) -> str:
        """Words with single spaces, a new line for EOS."""
        lines = " ".join("\n" if word == EOS else word for word in words)
        return lines.replace(" \n", "\n").replace("\n ", "\n").rstrip("\n")

    def to_json(self) -> dict[str, Any]:
        """Its name says everything."""
        return {"name": self.name}


class CharacterTokenizer:
    """Every character is a word, a newline too; one EOS, of no length, at the end of the text."""

    name = "characters"

    def encode(self, text: str) -> Tokens:
        """The characters of a text, with their spans."""
        count = len(text)
        return Tokens([*text, EOS], list(range(count + 1)), [*range(1, count + 1), count])

    def join(self, words: Sequence[str]) -> str:
        """The characters as they are, a blank line for EOS between texts."""
        return "\n\n".join("".join(part) for part in _texts(words))

    def to_json(self) -> dict[str, Any]:
        """Its name says everything."""
        return {"name": self.name}


class BpeTokenizer:
    """Byte-level byte pair encoding (Sennrich et al. 2016), by the `tokenizers` library.

    Words are the library's token strings, in which Ġ is a space. A character cut into several words
    is the span of each of them. One EOS, of no length, at the end of the text.
    """

    name = "bpe"

    def __init__(self, engine: tokenizers.Tokenizer) -> None:
        self._engine = engine

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary_size: int) -> BpeTokenizer:
        """Learns at most `vocabulary_size` words, EOS and UNKNOWN among them. Raises InvalidInput."""
        if vocabulary_size < SMALLEST_BPE:
            raise InvalidInput(
                f"bpe needs a vocabulary of at least {SMALLEST_BPE} words (every byte is one), not "
                f"{vocabulary_size}: ask for more, or choose characters.",
                vocabulary_size,
            )
        engine = tokenizers.Tokenizer(models.BPE())
        engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        engine.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary_size - 2,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
        engine.train_from_iterator(texts, trainer)
        return cls(engine)

    def words(self) -> list[str]:
        """Every word it can give, EOS and UNKNOWN last: a vocabulary that leaves nothing unknown."""
        ids = self._engine.get_vocab()
        return [*sorted(ids, key=ids.__getitem__), EOS, UNKNOWN]

    def encode(self, text: str) -> Tokens:
        """The byte pairs of a text, with their spans in characters."""
        encoding = self._engine.encode(text)
        spans = encoding.offsets
        tokens = Tokens(encoding.tokens, [start for start, _ in spans], [end for _, end in spans])
        tokens.append(EOS, len(text), len(text))
        return tokens

    def join(self, words: Sequence[str]) -> str:
        """The text that the bytes spell, a blank line for EOS between texts."""
        return "\n\n".join(self._engine.decoder.decode(part) for part in _texts(words))

    def to_json(self) -> dict[str, Any]:
        """Its name and the library's own JSON."""
        return {"name": self.name, "model": self._engine.to_str()}


def _texts(words: Sequence[str]) -> list[list[str]]:
    """Words as lists of one text each: EOS parts them, and one at the very end is dropped."""
    parts: list[list[str]] = [[]]
    for number, word in enumerate(words, start=1):
        if word != EOS:
            parts[-1].append(word)
        elif number < len(words):
            parts.append([])
    return parts


def choose(name: str, sample_texts: Sequence[str], vocabulary_size: int) -> Tokenizer:
    """The tokenizer of that name; bpe learns from the sample, auto looks whether it holds <unk>.

    A text with the word <unk> was tokenised before: auto leaves it so (whitespace), else takes words.
    Raises InvalidInput for another name.
    """
    if name == "auto":
        name = "whitespace" if any(map(_UNKNOWN_WORD.search, sample_texts)) else "words"
    if name == BpeTokenizer.name:
        return BpeTokenizer.train(sample_texts, vocabulary_size)
    return _plain(name)


def from_json(content: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that `to_json` described. Raises InvalidInput where it is none."""
    if content.get("name") != BpeTokenizer.name:
        return _plain(content.get("name"))
    try:
        return BpeTokenizer(tokenizers.Tokenizer.from_str(content["model"]))
    except Exception as error:  # the library raises plain Exception
        raise InvalidInput(f"this bpe tokenizer cannot be read ({error}): train it again.", "bpe") from error


def _plain(name: object) -> Tokenizer:
    """A tokenizer that has nothing to learn."""
    plain: tuple[Tokenizer, ...] = (WordTokenizer(), WhitespaceTokenizer(), CharacterTokenizer())
    for tokenizer in plain:
        if tokenizer.name == name:
            return tokenizer
    raise InvalidInput(f"there is no tokenizer {name!r}: choose one of {', '.join(KINDS)}.", name)
