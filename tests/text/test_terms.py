"""What a text is found by."""

from __future__ import annotations

import pytest

from extmem.text.terms import asked, matching, telling, terms


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Running runs", "run run"), ("Caroline’s café", "caroline CAFE"), ("Ｆｕｌｌ", "full"), ("ÀÉÎ", "aei"),
        ("state_of-the-art", "state of the art"), ("don’t", "DON'T"), ("x" * 500, "x" * 100),
    ],
)  # fmt: skip
def test_forms_of_a_word_are_one_term(one, other):
    assert terms(one) == terms(other) != []


def test_chinese_is_found_by_characters_and_their_pairs():
    assert terms("红苹果") == ["红", "苹", "果", "红苹", "苹果"]
    assert terms("iPhone手机 5") == ["iphon", "手", "机", "手机", "5"]


def test_marks_are_no_terms():
    assert terms('"*:^( ... — 。、') == [] and asked("") == []


def test_a_query_asks_for_its_stop_words_only_where_it_has_nothing_else():
    assert asked("What is the name of the dog?") == ["name", "dog"]
    assert asked("Who are you?") == ["who", "are", "you"]
    assert telling(terms("Who are you, dog?")) == 1


def test_the_words_that_matched_are_named_as_they_stand_there():
    assert matching("She was painting; he Painted a lake", set(asked("paint"))) == ["painting", "Painted"]
    assert matching("我喜欢红苹果", set(asked("红苹果"))) == ["红苹", "苹果"]
