"""Words have numbers, and records keep them."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extmem.errors import InvalidInput, MemoryFormatError
from extmem.text.tokens import EOS, UNKNOWN
from extmem.text.vocabulary import Vocabulary


class Records(dict[str, object]):
    """The smallest WordStore."""

    def store(self, key: str, value: object) -> None:
        self[key] = value

    def store_many(self, items: Iterable[tuple[str, object]]) -> None:
        self.update(items)


def test_words_are_numbered_by_frequency_and_then_by_first_appearance() -> None:
    vocabulary = Vocabulary.build([*"bacacd", EOS, UNKNOWN, "a"])
    assert list(vocabulary) == ["a", "c", "b", "d", EOS, UNKNOWN]
    assert vocabulary.ids(["c", "zebra", "a"]) == [1, vocabulary.unknown, 0]
    assert vocabulary.words([0, vocabulary.eos]) == ["a", EOS]
    assert "a" in vocabulary and "zebra" not in vocabulary and len(vocabulary) == 6


@given(st.lists(st.sampled_from(["a", "b", "c", "d", EOS, UNKNOWN])), st.integers(2, 6))
def test_a_vocabulary_of_a_size_has_that_size_and_always_the_two_words(words: list[str], size: int) -> None:
    distinct = len({*words, EOS, UNKNOWN})
    if size > distinct:
        with pytest.raises(InvalidInput, match=f"larger than the corpus, which has {distinct} "):
            Vocabulary.build(words, size)
    else:
        vocabulary = Vocabulary.build(words, size)
        assert len(vocabulary) == size and EOS in vocabulary and UNKNOWN in vocabulary


def test_without_a_size_a_vocabulary_has_at_most_ten_thousand_words() -> None:
    vocabulary = Vocabulary.build(f"word{n}" for n in range(20_000))
    assert len(vocabulary) == 10_000
    assert vocabulary.word(0) == "word0" and vocabulary.id("word9998") == vocabulary.unknown
    assert list(Vocabulary.build([])) == [UNKNOWN, EOS]


def test_words_are_records_and_come_back_from_them() -> None:
    records = Records()
    vocabulary = Vocabulary.build([*"我们我"], store=records)
    assert records == {"我": 0, "们": 1, UNKNOWN: 2, EOS: 3}
    assert vocabulary.add("新") == 4 == vocabulary.add("新") and vocabulary.add("我") == 0
    assert records["新"] == 4
    again = Vocabulary.load(records)
    assert list(again) == list(vocabulary)
    assert (again.unknown, again.eos) == (vocabulary.unknown, vocabulary.eos)
    assert again.add("字") == 5 == records["字"]


@pytest.mark.parametrize("forgotten", ["a", UNKNOWN])
def test_records_with_a_word_missing_are_refused(forgotten: str) -> None:
    records = Records()
    Vocabulary.build(["a", "b"], store=records)
    del records[forgotten]
    with pytest.raises(MemoryFormatError, match="damaged"):
        Vocabulary.load(records)


def test_wrong_words_and_numbers_are_refused() -> None:
    with pytest.raises(InvalidInput, match="'a' is in this vocabulary twice"):
        Vocabulary(["a", "a", EOS, UNKNOWN])
    with pytest.raises(InvalidInput, match="needs the word <unk>"):
        Vocabulary(["a", EOS])
    with pytest.raises(InvalidInput, match="too small"):
        Vocabulary.build(["a"], 1)
    for number in (-1, 2):
        with pytest.raises(InvalidInput, match="from 0 to 1"):
            Vocabulary([EOS, UNKNOWN]).word(number)
