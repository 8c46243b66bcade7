"""A small language pair for tests: English as a few words make it, and a language that turns its words around."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from extmem.text.parallel import Pair

WORDS = {
    "the": "lo", "a": "un", "old": "vek", "small": "min", "red": "rud", "quick": "rap", "dog": "kanu", "cat": "gatu",
    "farmer": "agru", "child": "filu", "sees": "vidar", "helps": "ajar", "follows": "sekar", "finds": "trovar",
}  # fmt: skip
NOUNS, VERBS, KINDS = ("dog", "cat", "farmer", "child"), ("sees", "helps", "follows", "finds"), ("old", "small", "red")


def translated(sentence: str) -> str:
    """Word by word, but adjectives stand behind their nouns."""
    words = sentence.lower().rstrip(".").split()
    turned = [WORDS[word] for word in words]
    for at, word in enumerate(words[:-1]):
        if word in (*KINDS, "quick"):
            turned[at], turned[at + 1] = turned[at + 1], turned[at]
    return f"{' '.join(turned).capitalize()}."


def write(folder: Path) -> tuple[Path, Path]:
    """The pairs as two parallel files."""
    files = folder / "small.en", folder / "small.xx"
    for file, texts in zip(files, zip(*pairs(), strict=True), strict=True):
        file.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return files


def pairs() -> list[Pair]:
    """144 sentences with their translations, always the same."""
    found = []
    for number, (noun, kind, verb, other) in enumerate(product(NOUNS, KINDS, VERBS, NOUNS)):
        if noun != other:
            sentence = f"{'The' if number % 2 else 'A'} {kind} {noun} {verb} the {other}."
            found.append(Pair(sentence, translated(sentence)))
    return found
