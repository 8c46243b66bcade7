"""Parallel text: sentences and their translations, line by line.

Knows: two files, or one of tab-separated pairs. Does not know: tokens, models, memories.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from extmem.errors import CorpusError
from extmem.text.documents import file_text
from extmem.text.normalise import normalise
from extmem.text.words import WordTokenizer

SAME = 0.6  # of the words of two texts in one language, by count, at least so many are alike
COMPARED = 5_000  # pairs whose languages are compared


class Pair(NamedTuple):
    """A sentence and its translation."""

    source: str
    target: str


def read_pairs(source: str | Path, target: str | Path | None = None) -> list[Pair]:
    """The sentences of one file with those of another, the nth with the nth; or of one .tsv file, a sentence, a tab and
    its translation on each line. Any may be .gz. Raises CorpusError, naming file and line: no such file, not as many
    lines in both, an empty line, the same language twice."""
    first = Path(source)
    if target is None:
        lines = [line.split("\t") for line in _lines(first)]
        for number, fields in enumerate(lines, start=1):
            if len(fields) < 2:
                raise CorpusError(f"{first}, line {number} has no tab: give 'sentence<tab>translation'.", first)
        pairs, place = [Pair(one, other) for one, other, *_ in lines], f"{first}"
    else:
        second = Path(target)
        sources, targets = _lines(first), _lines(second)
        if len(sources) != len(targets):
            raise CorpusError(
                f"{first} has {len(sources):,} lines and {second} {len(targets):,}: the nth line of the one must be "
                "the translation of the nth of the other.",
                target,
            )
        pairs, place = [Pair(*both) for both in zip(sources, targets, strict=True)], f"{first} and {second}"
    return checked_pairs(pairs, place)


def checked_pairs(pairs: Sequence[Pair], place: str) -> list[Pair]:
    """The pairs in one spelling, without space at their ends. Raises CorpusError as `read_pairs`."""
    found = [Pair(normalise(one).strip(), normalise(other).strip()) for one, other in pairs]
    if not found:
        raise CorpusError(f"{place}: there are no sentences: give at least one pair.", place)
    for number, pair in enumerate(found, start=1):
        if not all(pair):
            raise CorpusError(f"{place}: line {number} is empty on one side: mend or delete it on both.", place)
    some = found[:: max(1, len(found) // COMPARED)]
    if (share := _alike([pair.source for pair in some], [pair.target for pair in some])) > SAME:
        raise CorpusError(
            f"{place}: {share:.0%} of the words are the same on both sides: give two languages, not one twice.", place
        )
    return found


def _lines(file: Path) -> list[str]:
    if not file.is_file():
        raise CorpusError(f"{file} is no file: check the path.", file)
    text = file_text(file)
    return text.removesuffix("\n").split("\n") if text else []


def _alike(one: Sequence[str], other: Sequence[str]) -> float:
    """The part of the words, by count, that two texts share."""
    cut = WordTokenizer().encode
    counts = [
        Counter(word.lower() for text in texts for word in cut(text).words if word.isalpha()) for texts in (one, other)
    ]
    return (counts[0] & counts[1]).total() / max(1, min(count.total() for count in counts))
