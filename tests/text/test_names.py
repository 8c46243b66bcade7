"""A name is found in a statement, and in a question only where it stands there whole."""

from __future__ import annotations

import pytest

from extmem.text.names import Question, name_in


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("David Robinson professionally plays the sport", ("david", "robinson")),
        ("The mother tongue of Danielle Darrieux is", ("daniell", "darrieux")),
        ("In the Kingdom of the Netherlands, they speak", ("kingdom", "of", "the", "netherland")),
        ("B-17 Flying Fortress is made by", ("b", "17", "fli", "fortress")),
        ("J. R. R. Tolkien wrote", ("j", "r", "r", "tolkien")),
        ("apple", ("appl",)),
        ("red apples are eaten", ("red", "appl")),
        ("法国的首都是", ("法国",)),
    ],
)
def test_the_first_name_of_a_statement(statement: str, name: tuple[str, ...]) -> None:
    assert name_in(statement).terms == name


@pytest.mark.parametrize("statement", ["", "is it", "17", "2024-01-01", "..."])
def test_some_statements_name_nothing(statement: str) -> None:
    assert not name_in(statement)


@pytest.mark.parametrize(
    ("question", "statement", "there"),
    [
        ("Which sport does David Robinson play?", "David Robinson plays", True),
        ("which sport does david robinson play?", "David Robinson plays", True),
        ("Which sport does David play?", "David Robinson plays", False),
        ("Which sport does David Robinson play?", "David plays", False),
        ("What does Michael Jordan play?", "Jordan borders", False),
        ("Where is Jordan's capital?", "Jordan borders", True),
        ("Where is the University of Paris?", "Paris is in", False),
        ("Is Paris the capital?", "Paris is in", True),
        ("Will a turkey fly?", "Turkey is in", False),
        ("法国的首都是哪里？", "法国的首都是", True),
        ("德国的首都是哪里？", "法国的首都是", False),
    ],
)
def test_a_question_speaks_of_a_whole_name(question: str, statement: str, there: bool) -> None:
    place = Question(question).place(name_in(statement))
    assert (place is not None) == there


def test_a_clause_is_the_sentence_that_speaks_of_the_name() -> None:
    question = Question("He was born. References\n\nParis is the capital of what?")
    assert question.clause(question.place(name_in("Paris is in"))) == "Paris is the capital of what?"
