"""Passages are whole sentences, short enough, and nothing of the text is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extmem.errors import InvalidInput
from extmem.text.passages import passages


def cut(text: str, *words: int) -> list[str]:
    return [text[start:end] for start, end in passages(text, *words)]


def test_a_short_text_is_one_passage_and_a_blank_one_none() -> None:
    assert cut(" The apple is red. The pear is green.\n") == ["The apple is red. The pear is green."]
    assert cut("") == cut(" \n\t ") == []


def test_sentences_stay_whole_where_they_fit() -> None:
    text = 'He said "go!" and left. It was 3.5 km\nto the sea. Then?'
    assert cut(text, 15) == ['He said "go!" and left. It was 3.5 km', "to the sea. Then?"]
    assert cut(text, 9) == ['He said "go!" and left.', "It was 3.5 km", "to the sea. Then?"]


def test_chinese_sentences_need_no_space() -> None:
    assert cut("他说：“你好！”然后走了。下雨了？是的。", 12) == ["他说：“你好！”", "然后走了。下雨了？是的。"]


def test_a_long_sentence_is_cut_where_a_word_ends() -> None:
    assert cut("internationalisation of the " * 3, 8) == [
        "internationalisation of the internationalisation",
        "of the internationalisation of the",
    ]
    assert cut("苹果" * 5, 4) == ["苹果苹果", "苹果苹果", "苹果"]


@given(st.text(st.sampled_from("ab1 .!?\n。！苹é\u2019\u200b")) | st.text(), st.integers(1, 30))
def test_nothing_is_lost_and_nothing_is_twice(text: str, words: int) -> None:
    spans = passages(text, words)
    last = 0
    for start, end in spans:
        assert not text[last:start].strip() and start < end
        assert text[start:end] == text[start:end].strip()
        last = end
    assert not text[last:].strip()


def test_nonsense_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least 1"):
        passages("a", 0)
