"""What a model is trained on: text as lessons, and the tokenizer and vocabulary that it makes.

Knows: files, tokenizers, lessons. Does not know: networks' sizes, training, memories.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from extmem.errors import CorpusError
from extmem.lm.lessons import Pairs, Stream, Text
from extmem.text.documents import split_corpus
from extmem.text.normalise import normalise
from extmem.text.parallel import Pair, read_pairs
from extmem.text.tokenizer import EOS, BpeTokenizer, Tokenizer, choose
from extmem.text.vocabulary import MOST, Vocabulary

HELD_OUT, MOST_HELD = 20, 1_000  # one pair in so many is held out, but no more pairs than that


class Prepared(NamedTuple):
    """What to learn from and what to measure on, in the numbers of a vocabulary; of pairs, the sentences as well."""

    tokenizer: Tokenizer
    vocabulary: Vocabulary
    train: Text
    valid: Text
    pairs: tuple[list[Pair], list[Pair]] = ([], [])


def prepare_text(corpus: str | Path, tokenizer: str, size: int | None, device: torch.device) -> Prepared:
    """A file or folder of text as two streams. Raises CorpusError, InvalidInput."""
    parts = split_corpus(corpus)
    texts = [[normalise(document.text) for document in some] for some in (parts.train, parts.valid)]
    cutter = choose(tokenizer, texts[0], MOST if size is None else size)
    words = [[cutter.encode(text).words for text in some] for some in texts]
    known = _vocabulary(cutter, words[0], size)
    train, valid = (stream(known, some) for some in words)
    if len(train) < 64 or len(valid) < 3:
        raise CorpusError(f"{corpus}: too little text to train on; give at least some hundred words.", corpus)
    return Prepared(cutter, known, Stream(train.to(device)), Stream(valid.to(device)))


def prepare_pairs(
    source: str | Path, target: str | Path | None, tokenizer: str, size: int | None, device: torch.device
) -> Prepared:
    """Parallel files as pairs of sentences, in one vocabulary for both languages. Raises CorpusError, InvalidInput."""
    train, valid = split_pairs(read_pairs(source, target))
    sample = [text for pair in train for text in pair]
    cutter = choose("bpe" if tokenizer == "auto" else tokenizer, sample, MOST if size is None else size)
    known = _vocabulary(cutter, [cutter.encode(text).words for text in sample], size)
    learned, held = (pairs_of(known, cutter, some, device) for some in (train, valid))
    return Prepared(cutter, known, learned, held, (train, valid))


def split_pairs(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Pairs to learn from, and those held out: one in 20, at most 1,000. Raises CorpusError for less than 20."""
    if len(pairs) < HELD_OUT:
        raise CorpusError(f"{len(pairs)} pairs of sentences are too few to learn from: give at least {HELD_OUT}.")
    every = max(HELD_OUT, -(-len(pairs) // MOST_HELD))
    return [pair for number, pair in enumerate(pairs, 1) if number % every], list(pairs[every - 1 :: every])


def pairs_of(vocabulary: Vocabulary, tokenizer: Tokenizer, pairs: Iterable[Pair], device: torch.device) -> Pairs:
    """Pairs in the numbers of a vocabulary, each sentence closed by an end."""
    both = [tuple(stream(vocabulary, [tokenizer.encode(text).words]).tolist() for text in pair) for pair in pairs]
    return Pairs([one for one, _ in both], [other for _, other in both], vocabulary.eos, device)


def stream(vocabulary: Vocabulary, documents: Iterable[list[str]]) -> Tensor:
    """The token numbers of documents one after the other, each closed by an end."""
    ids: list[int] = []
    for words in documents:
        ids.extend(vocabulary.ids(words))
        if words and words[-1] != EOS:
            ids.append(vocabulary.eos)
    return torch.tensor(ids, dtype=torch.long)


def _vocabulary(tokenizer: Tokenizer, documents: Iterable[list[str]], size: int | None) -> Vocabulary:
    """The words of a corpus, the most frequent first; of byte pairs all that there are, so that nothing is unknown."""
    words = (word for some in documents for word in some)
    if not isinstance(tokenizer, BpeTokenizer):
        return Vocabulary.build(words, size)
    counts = Counter(words)
    return Vocabulary(sorted(tokenizer.words(), key=lambda word: -counts[word]))
