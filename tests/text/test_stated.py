"""What a speaker states of themself is read, with its place; what they ask, suppose or quote is not."""

from __future__ import annotations

import pytest

from extmem.text.stated import DISLIKES, IS, LIKES, asked_for, asks_advice, is_question, stated


@pytest.mark.parametrize(
    ("text", "slot", "kind", "said"),
    [
        ("I love hiking.", "liking/hiking", LIKES, "I love hiking."),
        ("i really like green tea", "liking/green tea", LIKES, "i really like green tea"),
        ("I don\u2019t like coffee any more.", "liking/coffee", DISLIKES, "I don\u2019t like coffee any more."),
        ("I'm not a big fan of horror films.", "liking/horror films", DISLIKES, "I'm not a big fan of horror films."),
        ("Due to a trauma, I avoid dogs.", "liking/dogs", DISLIKES, "I avoid dogs."),
        ("I have a severe peanut allergy.", "liking/peanut", DISLIKES, "I have a severe peanut allergy"),
        ("I'm allergic to peanuts, sadly.", "liking/peanuts", DISLIKES, "I'm allergic to peanuts, sadly."),
        ("Hi, I'm Alice!", "name", IS, "I'm Alice"),
        ("my name is alice", "name", IS, "my name is alice"),
        ("Well, I live in New York, near the river.", "home", IS, "I live in New York"),
        ("I've moved to Lyon.", "home", IS, "I've moved to Lyon."),
        ("I'm from Ghana.", "origin", IS, "I'm from Ghana."),
        ("I work as a nurse, at night.", "work", IS, "I work as a nurse"),
        ("I'm 34 years old.", "age", IS, "I'm 34 years old"),
        ("My favorite color is blue.", "favourite colour", IS, "My favorite color is blue"),
        ("My dog's name is Rex.", "my dog", IS, "My dog's name is Rex"),
        ("I'm a strict vegan.", "diet", IS, "I'm a strict vegan"),
        ("我很喜欢爬山。", "liking/爬山", LIKES, "我很喜欢爬山"),
        ("我不吃辣，谢谢。", "liking/辣", DISLIKES, "我不吃辣"),
        ("我对花生过敏。", "liking/花生", DISLIKES, "我对花生过敏"),
        ("我叫小明。", "name", IS, "我叫小明"),
        ("去年我搬到了上海。", "home", IS, ""),
        ("我搬到了上海。", "home", IS, "我搬到了上海"),
        ("我最喜欢的颜色是蓝色。", "favourite 颜色", IS, "我最喜欢的颜色是蓝色"),
    ],
)
def test_what_is_said_outright_is_read_where_it_stands(text: str, slot: str, kind: str, said: str) -> None:
    found = stated(text)
    if not said:
        assert found == []
        return
    (one,) = found
    assert (one.slot, one.kind) == (slot, kind)
    assert text[one.span.start : one.span.end] == said
    assert one.says in said.replace("\u2019", "'")


def test_each_thing_of_a_text_is_read_for_itself() -> None:
    text = "Hello there, I'm Ann. It rained. I love hiking, but I hate rain and I can't stand fog."
    assert [(one.slot, text[one.span.start : one.span.end]) for one in stated(text)] == [
        ("name", "I'm Ann"),
        ("liking/hiking", "I love hiking"),
        ("liking/rain", "I hate rain"),
        ("liking/fog", "I can't stand fog."),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Do I like hiking?",
        "Should I say that I love hiking?",
        "I would like a coffee.",
        "I'd love to see Rome.",
        "I used to like coffee.",
        "I used to live in Paris.",
        "I don't live in Paris any more.",
        "I like it!",
        "I love that you came.",
        "I love the way you sing.",
        "If I like the film, I will tell you.",
        "The music I like is loud.",
        "She loves hiking and lives in Paris.",
        'He said: "I hate dogs."',
        "Bob told me I love cats.",
        "Maybe I like jazz.",
        "A man in a red hat plays the guitar.",
        "I'm tired.",
        "I'm a bit late.",
        "You like hiking.",
        "他说我喜欢猫。",
        "如果我喜欢，我就买。",
        "你喜欢什么？",
        "我喜欢吗",
        "",
        "???",
    ],
)
def test_what_is_not_plainly_said_is_not_read(text: str) -> None:
    assert stated(text) == []


@pytest.mark.parametrize(
    ("question", "slot"),
    [
        ("Where do I live?", "home"),
        ("what's my name", "name"),
        ("What is my favorite color?", "favourite colour"),
        ("What do I like?", LIKES),
        ("What don't I like?", DISLIKES),
        ("Do I like green tea?", "liking/green tea"),
        ("What is my dog's name?", "my dog"),
        ("我住在哪里？", "home"),
        ("我最喜欢的颜色是什么？", "favourite 颜色"),
        ("我讨厌什么？", DISLIKES),
    ],
)
def test_a_question_asks_for_what_a_statement_states(question: str, slot: str) -> None:
    assert asked_for(question) == [slot]
    assert is_question(question)


def test_a_question_for_advice_is_told_from_others() -> None:
    assert asks_advice("Can you recommend a film?")
    assert asks_advice("推荐一部电影")
    assert not asks_advice("Where do I live?")
    assert not is_question("I love hiking.")
