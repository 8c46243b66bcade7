"""One text has one spelling."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from extmem.text.normalise import normalise

MARKS = st.sampled_from("\r\n\x0b\x85\u2028\x00\u200b\ufeff\u0301e\u1100\u1161 \x1f")
NASTY = st.text(st.one_of(st.characters(), MARKS))


@given(NASTY)
def test_normalising_twice_is_normalising_once(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(st.text(st.characters(max_codepoint=0x2FF, exclude_categories=["Cc", "Cf"])))
def test_text_of_composed_letters_is_left_as_it_is(text: str) -> None:
    assert normalise(text) == text


@given(NASTY)
def test_no_two_words_are_glued_or_parted(text: str) -> None:
    visible = [word for word in map(normalise, text.split()) if word]
    assert normalise(text).split() == visible


def test_accents_line_ends_and_invisible_characters_have_one_spelling() -> None:
    assert normalise("\ufeffcafe\u0301\r\na\u200bb\rc\x00\td\x0ce") == "café\nab\nc\td\ne"
    assert normalise("نمی\u200cخواهم 👨\u200d👩 我们") == "نمی\u200cخواهم 👨\u200d👩 我们"
