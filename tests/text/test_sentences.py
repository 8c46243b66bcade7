"""Sentences are whole, in English and Chinese, and long runs of marks take no time."""

from __future__ import annotations

import pytest

from extmem.text.asking import fits
from extmem.text.sentences import sentences


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Mr. Eiffel built it. He lived there.", ["Mr. Eiffel built it.", "He lived there."]),
        ("It cost approx. 7 francs! Who paid?", ["It cost approx. 7 francs!", "Who paid?"]),
        ("红的。绿的！\u201c黄的吗？\u201d是。", ["红的。", "绿的！", "\u201c黄的吗？\u201d", "是。"]),
        ("One line\nanother.\n\n", ["One line", "another."]),
        ("J. R. R. Tolkien wrote it. etc. and so on.", ["J. R. R. Tolkien wrote it. etc. and so on."]),
        ("  ", []),
    ],
)
def test_a_text_is_cut_where_sentences_end(text: str, parts: list[str]) -> None:
    assert [text[start:end] for start, end in sentences(text)] == parts


@pytest.mark.parametrize("text", ["." * 200_000, "A. " * 20_000, "7" * 200_000, "一" * 200_000, "(" * 200_000])
def test_long_runs_are_read(text: str) -> None:
    assert sentences(text)
    for question in ("When was it?", "How many?", "有多少？", "Why?"):
        fits(question, text)
