"""Which words a translator has learned from: so that a text in another language is told from one that is hard.

Knows: words, and their hashes as a tensor, which is a part of the model. Does not know: models, tokens.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from extmem.text.tokens import EOS
from extmem.text.words import WordTokenizer

RARE = 10_000  # a word that fewer texts than one in so many have is as good as unseen


def words_of(text: str) -> list[str]:
    """The words of a text that have letters, in lower case."""
    return [word.lower() for word in WordTokenizer().encode(text).words if any(map(str.isalpha, word)) and word != EOS]


def seen_words(texts: Sequence[str]) -> Tensor:
    """The words of these texts, as sorted 64-bit hashes (W,), but those of fewer than one text in ten thousand: such a
    word, a name it may be, says nothing of the language."""
    counts = Counter(word for text in texts for word in set(words_of(text)))
    seen = [_hash(word) for word, count in counts.items() if count * RARE >= len(texts)]
    return torch.tensor(sorted(seen), dtype=torch.long)


def unseen(text: str, seen_W: Tensor) -> tuple[list[str], int]:
    """The words of a text that are not among those, and how many it has altogether."""
    words = words_of(text)
    there = torch.isin(torch.tensor([_hash(word) for word in words], dtype=torch.long), seen_W).tolist()
    return [word for word, known in zip(words, there, strict=True) if not known], len(words)


def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big", signed=True)
