"""Texts become words with spans, and words become texts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nltk.tokenize import NLTKWordTokenizer

from extmem.errors import InvalidInput
from extmem.text.tokenizer import (
    EOS,
    BpeTokenizer,
    CharacterTokenizer,
    Tokenizer,
    WhitespaceTokenizer,
    WordTokenizer,
    choose,
    from_json,
)

PTB = Path(__file__).parents[3] / "shared/data/ptb"
ENGLISH = "The dog's tail can't wag (I think), \"really\"? Cannot say: $3.88 or 50%. We'd gonna see..."
WORDS = WordTokenizer()
BPE = BpeTokenizer.train([ENGLISH * 20, "床前明月光，疑是地上霜。" * 20], 400)
NLTK = NLTKWordTokenizer()
MARKS = st.sampled_from("ab \n\t.,!?'\"`:()[]<$&-–“”’漢字。かな한")
TEXTS = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), MARKS))
ASCII = st.text(st.sampled_from("aBst1  .,!?'\"`:;()[]{}<>$%&*@#-_/=+|é’“”«"), max_size=40)


@pytest.mark.parametrize(("name", "count"), [("train", 929_589), ("valid", 73_760)])
def test_penn_treebank_has_the_token_count_that_the_field_reports(name: str, count: int) -> None:
    file = PTB / f"{name}.txt"
    if not file.exists():
        pytest.skip(f"{file} is not here: it is not part of the repository")
    text = file.read_text(encoding="utf-8")
    tokens = WhitespaceTokenizer().encode(text)
    assert len(tokens.words) == len(tokens.starts) == len(tokens.ends) == count
    assert choose("auto", [text], 10_000).name == "whitespace"


@pytest.mark.parametrize(
    ("text", "words"),
    [("", []), ("a b\n\nc", ["a", "b", EOS, EOS, "c", EOS]), ("a\n", ["a", EOS]), (" \n", [EOS])],
)
def test_whitespace_ends_every_line_once(text: str, words: list[str]) -> None:
    assert WhitespaceTokenizer().encode(text).words == words


@pytest.mark.parametrize(
    "tokenizer", [WORDS, WhitespaceTokenizer(), CharacterTokenizer()], ids=["words", "lines", "characters"]
)
@given(TEXTS)
def test_spans_point_at_the_words_in_order(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.encode(text)
    assert len(tokens.words) == len(tokens.starts) == len(tokens.ends)
    last = 0
    for word, start, end in zip(*tokens, strict=True):
        assert last <= start <= end <= len(text)
        assert text[start:end] == word if word != EOS else text[start:end].strip() == ""
        last = end
    between = zip([0, *tokens.ends], [*tokens.starts, len(text)], strict=True)
    assert not "".join(text[start:end] for start, end in between).strip()


@given(ASCII)
@example("a'' b's 'tis `x` ''\"q\"'' more'n d'ye (\"a\") x.\" y.) cannot. wanna, ,,a a.. gonna-be")
@example('."')
def test_words_are_what_nltk_finds_sentence_by_sentence(text: str) -> None:
    sentences = re.split(r"""(?<=[.!?])(?=[\])}>"'»”’]*\s)([\])}>"'»”’]*)\s+""", " ".join(text.split()) + " ")
    whole = ["".join(sentences[i : i + 2]) for i in range(0, len(sentences), 2)]
    expected = [word for sentence in whole for word in NLTK.tokenize(sentence)]
    found = WORDS.encode(text).words
    assert found.pop() == EOS
    assert len(found) == len(expected), (found, expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == theirs or (theirs in ("``", "''") and ours in ('"', "''", "``"))


def test_words_of_plain_english_equal_nltks() -> None:
    for sentence in (
        "They'll save and invest more.",
        "Good muffins cost $3.88 (roughly 3,36 euros), don't they?",
        "I cannot say: she's gonna tell us 50% -- or so...",
        "The economy grew by 1.5 points; well-known facts [1].",
    ):
        assert WORDS.encode(sentence).words[:-1] == NLTK.tokenize(sentence)


def test_a_full_stop_stands_alone_at_the_end_of_every_sentence() -> None:
    assert WORDS.encode('So "go." I left.').words == ["So", '"', "go", ".", '"', "I", "left", ".", EOS]


def test_a_paragraph_ends_at_a_blank_line_and_a_line_does_not() -> None:
    text = "\n\nOne\ntwo.\n \n\nThree\n\n"
    tokens = WORDS.encode(text)
    assert tokens.words == ["One", "two", ".", EOS, "Three", EOS]
    assert text[tokens.starts[3] : tokens.ends[3]] == "\n \n\n"
    assert (tokens.starts[-1], tokens.ends[-1]) == (len(text), len(text))
    assert WORDS.encode("").words == [EOS]


def test_chinese_and_japanese_are_cut_by_character_and_korean_by_word() -> None:
    assert WORDS.encode("我用Python写，かな。한국어 단어").words == [
        *"我用", "Python", *"写，かな。", "한국어", "단어", EOS,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        ENGLISH,
        "He said \"go.\" She 'quoted' the dogs' tails.\n\nIt’s “fine” [really]; isn’t it?",
        "床前明月光，疑是地上霜。他说：“你好！”",
        "我们 learn 中文。",
    ],
)
def test_words_join_to_the_text_they_came_from(text: str) -> None:
    assert WORDS.join(WORDS.encode(text).words) == text


def test_whitespace_joins_lines() -> None:
    tokenizer = WhitespaceTokenizer()
    assert tokenizer.join(tokenizer.encode("a  b\n c \n\nd\n").words) == "a b\nc\n\nd"


@given(TEXTS)
def test_characters_and_bpe_lose_nothing(text: str) -> None:
    for tokenizer in (CharacterTokenizer(), BPE):
        assert tokenizer.join(tokenizer.encode(text).words) == text


def test_bpe_spans_cover_the_text_and_its_words_are_known() -> None:
    text = "The cat can't see 明月 or 龍 🐉."
    tokens = BPE.encode(text)
    spans = zip(tokens.starts, tokens.ends, strict=True)
    assert {place for start, end in spans for place in range(start, end)} == set(range(len(text)))
    assert set(tokens.words) <= set(BPE.words())
    assert len(BPE.words()) <= 400 and tokens.words[-1] == EOS


@pytest.mark.parametrize(
    "tokenizer",
    [WORDS, WhitespaceTokenizer(), CharacterTokenizer(), BPE],
    ids=["words", "lines", "characters", "bpe"],
)
def test_a_tokenizer_comes_back_from_json(tokenizer: Tokenizer) -> None:
    again = from_json(json.loads(json.dumps(tokenizer.to_json())))
    assert type(again) is type(tokenizer)
    assert again.encode(ENGLISH + "\n\n明月") == tokenizer.encode(ENGLISH + "\n\n明月")
    assert again.to_json() == tokenizer.to_json()


def test_a_tokenizer_is_chosen_by_name_or_by_what_the_text_looks_like() -> None:
    assert choose("auto", ["no unknowns", "a <unk> b"], 10).name == "whitespace"
    assert choose("auto", ["a<unk>b"], 10).name == "words"
    assert choose("bpe", [ENGLISH], 300).name == "bpe"
    assert choose("characters", [], 10).name == "characters"
    with pytest.raises(InvalidInput, match=r"no tokenizer 'syllables'.*auto, words"):
        choose("syllables", [], 10)
    with pytest.raises(InvalidInput, match="at least 258"):
        choose("bpe", [ENGLISH], 100)
    for broken in ({}, {"name": "bpe"}, {"name": "bpe", "model": "{"}):
        with pytest.raises(InvalidInput):
            from_json(broken)
