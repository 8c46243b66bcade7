"""A vocabulary: words to numbers and back, its words kept as records word -> number.

Knows: words, their numbers, and anything map-like that stores them. Does not know: memories, texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from extmem.errors import InvalidInput, MemoryFormatError
from extmem.text.tokens import EOS, UNKNOWN

MOST = 10_000  # words of a vocabulary whose size nobody chose


class WordStore(Protocol):
    """What a vocabulary's words are kept in; a Memory is one."""

    def store(self, key: str, value: object) -> object:
        """Stores one record."""
        ...

    def store_many(self, items: Iterable[tuple[str, object]]) -> object:
        """Stores many records."""
        ...

    def items(self) -> Iterable[tuple[str, object]]:
        """Every record."""
        ...


class Vocabulary:
    """Words numbered from 0, looked up at the speed of a dictionary and a list.

    With a `store`, every word that `add` brings is stored as a record there too; the words given are
    not, because they come from it or `build` has stored them.
    """

    def __init__(self, words: Sequence[str], store: WordStore | None = None) -> None:
        self._words = list(words)
        self._ids = {word: number for number, word in enumerate(self._words)}
        self._store = store
        if len(self._ids) < len(self._words):
            twice = next(word for word, count in Counter(self._words).items() if count > 1)
            raise InvalidInput(f"the word {twice!r} is in this vocabulary twice: give each word once.", twice)
        for word in (UNKNOWN, EOS):
            if word not in self._ids:
                raise InvalidInput(f"a vocabulary needs the word {word}: add it to the words.", word)
        self.unknown, self.eos = self._ids[UNKNOWN], self._ids[EOS]

    @classmethod
    def build(
        cls,
        words: Iterable[str],
        size: int | None = None,
        store: WordStore | None = None,
    ) -> Vocabulary:
        """The `size` most frequent words, ties by first appearance; UNKNOWN and EOS are always in.

        Size None takes 10,000, or all if there are fewer. Raises InvalidInput for more words than there
        are, or fewer than UNKNOWN and EOS.
        """
        counts = Counter(words)
        distinct = len(counts.keys() | {UNKNOWN, EOS})
        if size is not None and size > distinct:
            raise InvalidInput(
                f"a vocabulary of {size} words is larger than the corpus, which has {distinct} distinct "
                f"words: ask for {distinct} or fewer.",
                size,
            )
        if size is not None and size < 2:
            raise InvalidInput(f"a vocabulary of {size} words is too small: ask for 2 or more.", size)
        chosen = [word for word, _ in counts.most_common(min(size or MOST, distinct))]
        missing = [word for word in (UNKNOWN, EOS) if word not in chosen]
        while missing and len(chosen) + len(missing) > (size or MOST):
            rarest = next(word for word in reversed(chosen) if word not in (UNKNOWN, EOS))
            chosen.remove(rarest)
        vocabulary = cls([*chosen, *missing], store)
        if store is not None:
            store.store_many((word, number) for number, word in enumerate(vocabulary))
        return vocabulary

    @classmethod
    def load(cls, store: WordStore) -> Vocabulary:
        """The vocabulary that a store keeps. Raises MemoryFormatError where words are missing."""
        ids = {word: number for word, number in store.items() if isinstance(number, int)}
        words = sorted(ids, key=ids.__getitem__)
        whole = [ids[word] for word in words] == list(range(len(words)))
        if not (whole and UNKNOWN in ids and EOS in ids):
            raise MemoryFormatError(
                f"this vocabulary is damaged (it has {len(words)} words, but not every number from 0): "
                "build it again from its corpus.",
                store,
            )
        return cls(words, store)

    def __len__(self) -> int:
        return len(self._words)

    def __iter__(self) -> Iterator[str]:
        return iter(self._words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def id(self, word: str) -> int:
        """The number of a word; UNKNOWN's if it is not in the vocabulary."""
        return self._ids.get(word, self.unknown)

    def word(self, id: int) -> str:
        """The word of a number. Raises InvalidInput for a number that no word has."""
        if not 0 <= id < len(self._words):
            raise InvalidInput(f"no word has number {id}: give one from 0 to {len(self) - 1}.", id)
        return self._words[id]

    def ids(self, words: Iterable[str]) -> list[int]:
        """The numbers of words, as `id` gives them."""
        get, unknown = self._ids.get, self.unknown
        return [get(word, unknown) for word in words]

    def words(self, ids: Iterable[int]) -> list[str]:
        """The words of numbers, as `word` gives them."""
        return [self.word(id) for id in ids]

    def add(self, word: str) -> int:
        """The number of a word, which is new if the word is; then it is stored as a record too."""
        number = self._ids.get(word)
        if number is None:
            number = len(self._words)
            if self._store is not None:
                self._store.store(word, number)
            self._words.append(word)
            self._ids[word] = number
        return number
