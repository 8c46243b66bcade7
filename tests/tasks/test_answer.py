"""A question gets the fact or the sentence that answers it, with its record, or is told that the memory has none."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest

from extmem import Memory
from extmem.errors import InvalidInput, ModelError
from extmem.tasks.answer import EDITED, KNOWN, Answer, answer, edit
from extmem.writers.base import Writer, Written

TOWER = (
    "The Eiffel Tower stands in Paris. It was built by Gustave Eiffel's company and was finished in 1889. "
    "Mr. Eiffel kept a small flat at its top. About 7 million people visit it every year."
)
WALL = "长城是中国古代的军事防御工程。明长城总长度为8851.8千米。秦始皇把各国的长城连接起来。"


@pytest.fixture
def memory() -> Memory:
    memory = Memory()
    memory.store("tower", TOWER)
    memory.store("wall", WALL)
    memory.store("fruit", "Apples are sweet, and most of them are red. Pears are green and soft when they are ripe.")
    memory.store("The capital of France is", "Paris")
    memory.store("The mother tongue of Danielle Darrieux is", "French")
    return memory


@pytest.mark.parametrize(
    ("question", "sentence", "key"),
    [
        ("When was the Eiffel Tower finished?", TOWER.split(". ")[1] + ".", "tower"),
        ("Who kept a flat at the top?", "Mr. Eiffel kept a small flat at its top.", "tower"),
        ("How many people visit the Eiffel Tower?", "About 7 million people visit it every year.", "tower"),
        ("Which fruit is green and soft?", "Pears are green and soft when they are ripe.", "fruit"),
        ("明长城有多长？", "明长城总长度为8851.8千米。", "wall"),
        ("是谁把各国的长城连接起来的？", "秦始皇把各国的长城连接起来。", "wall"),
    ],
)  # fmt: skip
def test_the_sentence_that_answers_is_given_with_its_place(
    memory: Memory, question: str, sentence: str, key: str
) -> None:
    found = answer(memory, question)
    assert found.text == sentence
    (cited,) = found.citations
    assert (cited.key, cited.weight) == (key, 1.0)
    assert str(memory.retrieve(key))[cited.start : cited.end] == sentence
    assert found.confidence >= KNOWN


@pytest.mark.parametrize("question", ["Who discovered the planet Neptune?", "谁发明了电话？", "zebra", "???"])
def test_what_is_not_in_the_memory_is_said_to_be_so(memory: Memory, question: str) -> None:
    found = answer(memory, question)
    assert (found.text, found.citations, str(found)) == (None, (), "not in memory")


def test_what_is_forgotten_is_answered_no_more(memory: Memory) -> None:
    assert answer(memory, "When was the Eiffel Tower finished?").text
    memory.forget("tower")
    assert answer(memory, "When was the Eiffel Tower finished?").text is None


@pytest.mark.parametrize(
    ("question", "value"),
    [
        ("What is the capital of France?", "Paris"),
        ("The capital city of France is called", "Paris"),
        ("Which language did Danielle Darrieux speak?", "French"),
        ("danielle darrieux's mother tongue?", "French"),
        ("What is the capital of New France?", None),
        ("Which language did Danielle speak?", None),
    ],
)
def test_a_fact_answers_what_speaks_of_the_same_name(memory: Memory, question: str, value: str | None) -> None:
    assert answer(memory, question).text == value


def test_an_edited_fact_is_the_answer_until_it_is_forgotten(tmp_path: Path) -> None:
    with Memory(tmp_path / "m") as memory:
        memory.store("The capital of France is", "Paris")
        memory.store("The capital of Germany is", "Berlin")
        edit(memory, "The capital of France is", "Lyon")
        assert answer(memory, "What is the capital of France?").text == "Lyon"
        assert answer(memory, "What is the capital of Germany?").text == "Berlin"
        edit(memory, "The capital of France is", "Nice")
        assert answer(memory, "What is the capital of France?").text == "Nice"
        memory.forget(f"{EDITED}The capital of France is")
        assert answer(memory, "What is the capital of France?").text == "Paris"


def test_only_records_that_the_filter_lets_through_answer(memory: Memory) -> None:
    memory.store("other", "The Eiffel Tower was finished in 1900, says this one.", metadata={"of": "hearsay"})
    assert "1900" in str(answer(memory, "When was the Eiffel Tower finished?", where={"metadata.of": "hearsay"}))


def test_meaning_tells_what_words_do_not(memory: Memory) -> None:
    question = "Which building did an engineer's firm erect?"
    assert answer(memory, question).text is None
    memory.embed()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert answer(memory, question, least=-1.0).citations[0].key == "tower"


class Quoting(Writer):
    """Answers with the sources it is given."""

    name = "quoting"

    def __init__(self, written: Written) -> None:
        self.written, self.given = written, list[str]()

    def write(self, question: str, sources: Sequence[str], max_tokens: int = 0) -> Written:
        self.given = list(sources)
        if not self.written.text:
            raise ModelError("quoting is down.")
        return self.written


def test_a_writer_is_given_facts_and_passages_and_cites_records(memory: Memory) -> None:
    writer = Quoting(Written("It was 1889 [1].", (0,), dropped=2, left_out=1))
    found = answer(memory, "When was the Eiffel Tower finished?", writer=writer)
    assert writer.given[0] == TOWER
    assert (found.text, found.dropped, found.left_out) == ("It was 1889 [1].", 2, 1)
    (cited,) = found.citations
    assert TOWER[cited.start : cited.end].endswith("finished in 1889.")
    answer(memory, "What is the capital of France?", writer=writer)
    assert writer.given[0] == "The capital of France is Paris"


def test_a_writer_may_find_no_answer_and_is_not_asked_what_is_unknown(memory: Memory) -> None:
    writer = Quoting(Written("Not in memory.", ()))
    assert answer(memory, "When was the Eiffel Tower finished?", writer=writer).text is None
    writer = Quoting(Written("It was Galle.", ()))
    assert answer(memory, "Who discovered the planet Neptune?", writer=writer) == Answer(None, (), 0.0)
    assert writer.given == []


def test_when_a_writer_fails_nothing_is_lost(memory: Memory) -> None:
    with pytest.raises(ModelError, match="down"):
        answer(memory, "When was the Eiffel Tower finished?", writer=Quoting(Written("", ())))
    assert answer(memory, "When was the Eiffel Tower finished?").text


@pytest.mark.parametrize(
    ("key", "value", "question"),
    [
        ("Paris", "visited in May", "Who founded the city of Paris?"),
        ("apples", "red or green", "Who invented the steam engine that presses apples?"),
        ("The capital of France is", "Paris", "How tall is the highest mountain of France?"),
        ("The capital of France is", "!!!", "What is the capital of France?"),
        ("几内亚的首都是", "科纳克里", "赤道几内亚的首都是什么？"),
    ],
)
def test_what_only_names_the_same_is_no_answer(key: str, value: str, question: str) -> None:
    memory = Memory()
    memory.store(key, value)
    assert answer(memory, question).text is None


@pytest.mark.parametrize(
    ("key", "value", "question"),
    [
        ("apple", "A fruit", "What is an apple?"),
        ("The population of France is", 67000000, "How many people are the population of France?"),
        ("几内亚的首都是", "科纳克里", "几内亚的首都是哪里？"),
    ],
)
def test_what_asks_for_it_is_answered(key: str, value: object, question: str) -> None:
    memory = Memory()
    memory.store(key, value)
    assert answer(memory, question).text == str(value)


@pytest.mark.parametrize("metadata", [{"kind": "passage"}, {"label": "x"}, {"session": 1}])
def test_a_passage_an_example_and_a_turn_are_no_facts(metadata: dict[str, object]) -> None:
    memory = Memory()
    memory.store("France/notes.txt, line 1", "See the other file.", metadata=metadata)
    assert answer(memory, "Who is the president of France?").text is None


@pytest.mark.parametrize("question", ["", "  ", None])
def test_a_blank_question_is_refused(memory: Memory, question: str) -> None:
    with pytest.raises(InvalidInput, match="asks nothing"):
        answer(memory, question)


def test_a_writers_no_in_any_form_is_a_no(memory: Memory) -> None:
    for said in ("Not in memory [1].", '"not in memory"', "**Not in memory.**"):
        found = answer(memory, "When was the Eiffel Tower finished?", writer=Quoting(Written(said, (0,))))
        assert found.text is None
