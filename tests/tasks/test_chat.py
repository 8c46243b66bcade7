"""A chat keeps every turn and what the user said of themself, answers from it, cites it, and forgets it whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_server import PIECES, StreamingServer, streaming_server
from extmem import Memory
from extmem.errors import InvalidInput
from extmem.tasks.chat import ASSISTANT, TOLD, Chat
from extmem.writers.base import writer_named


@pytest.fixture
def chat() -> Chat:
    return Chat(Memory(), "alice", words=True)


@pytest.fixture
def server() -> Iterator[StreamingServer]:
    with streaming_server() as running:
        yield running


def test_every_turn_is_kept_in_order_with_who_said_it_when_and_in_which_conversation(chat: Chat) -> None:
    said = ["The bell rings at nine.", "我喜欢爬山。", "When does the bell ring?"]
    for text in said:
        chat.say(text)
    turns = list(chat.memory.scan("turn/"))
    assert [turn.value for turn in turns][::2] == said
    assert [turn.metadata["speaker"] for turn in turns] == ["alice", ASSISTANT] * 3
    assert {turn.metadata["conversation"] for turn in turns} == {1}
    assert all(turn.metadata["time"].endswith("+00:00") for turn in turns)
    assert [turn.key for turn in chat.latest(2)] == [turn.key for turn in turns][-2:]
    again = Chat(chat.memory, "bob", words=True)
    assert again.say("Hello.").turn == "turn/00000001"


def test_a_question_gets_the_sentence_that_answers_it_or_not_in_memory(chat: Chat) -> None:
    told = chat.say("It is cold. The wifi password is tulip42.")
    assert str(told) == "noted"
    found = chat.say("What is the wifi password?")
    assert found.text == "The wifi password is tulip42."
    assert [(one.key, one.start) for one in found.citations] == [(told.turn, 12)]
    unknown = chat.say("Who discovered the planet Neptune?")
    assert (unknown.text, str(unknown), unknown.citations) == (None, "not in memory", ())
    assert chat.say("Who discovered the planet Neptune?").text is None  # the question itself is no answer


def test_a_preference_is_what_the_user_said_and_cites_the_turn(chat: Chat) -> None:
    reply = chat.say("It rained. I don't enjoy games with pixel art, but I love hiking.")
    values = {one.value: one.kind for one in reply.learned}
    assert values == {"I don't enjoy games with pixel art": "dislikes", "I love hiking.": "likes"}
    for one in chat.preferences.every():
        (place,) = one.said
        assert place.turn == reply.turn
        assert str(chat.memory.retrieve(place.turn))[place.span.start : place.span.end] == one.value
    assert chat.say("What do I like?").text == "I love hiking"
    assert chat.say("What do I dislike?").text == "I don't enjoy games with pixel art"


def test_nothing_is_made_up_of_what_states_nothing(chat: Chat) -> None:
    for text in ("I used to like tea.", "Do I like tea?", "Bob said I love tea.", "If I like it, fine.", "Tea!"):
        assert chat.say(text).learned == ()
    assert chat.preferences.every() == []
    assert chat.say("Do I like tea?").learned == ()


def test_of_contradicting_facts_the_newest_holds_and_both_are_cited(chat: Chat) -> None:
    paris, lyon = chat.say("I live in Paris.").turn, chat.say("I moved to Lyon.").turn
    reply = chat.say("Where do I live?")
    assert reply.text == "I moved to Lyon"
    assert [one.key for one in reply.citations] == [lyon, paris]
    (home,) = chat.preferences.every()
    assert (home.turns, [place.turn for place in home.before]) == ([lyon], [paris])
    chat.say("My favourite colour is blue.")
    chat.say("My favorite color is green.")
    assert chat.say("What is my favourite colour?").text == "My favorite color is green"
    chat.say("I like coffee.")
    chat.say("I don't like coffee any more.")
    assert chat.say("Do I like coffee?").text == "I don't like coffee any more"


def test_saying_it_again_confirms_it(chat: Chat) -> None:
    turns = [chat.say(text).turn for text in ("I like hiking.", "Really, I love hiking!", "I enjoy hiking.")]
    (one,) = chat.preferences.every()
    assert one.turns == turns[::-1]
    assert one.value == "I enjoy hiking."
    assert chat.forget(turns[2])
    (one,) = chat.preferences.every()
    assert (one.turns, one.value) == (turns[1::-1], "I love hiking!")


def test_what_a_person_writes_wins_over_the_rules(chat: Chat) -> None:
    chat.say("I live in Paris.")
    chat.memory.store("preference/home", "I live in Rome")
    assert chat.say("I moved to Lyon.").learned == ()
    reply = chat.say("Where do I live?")
    assert reply.text == "I live in Rome"
    assert [one.key for one in reply.citations] == ["preference/home"]
    chat.memory.store("preference/liking/tea", "I like tea")
    assert chat.say("What do I like?").text == "I like tea"
    chat.say("I love hiking.")
    hiking = chat.memory.record("preference/liking/hiking")
    chat.memory.store(hiking.key, "I love hiking in winter", metadata=hiking.metadata)  # written over, claims kept
    chat.say("I hate hiking.")
    assert chat.say("Do I like hiking?").text == "I love hiking in winter"


def test_a_preference_that_was_forgotten_does_not_come_back_by_itself(chat: Chat) -> None:
    chat.say("I live in Paris.")
    assert chat.forget("preference/home")[0] == "preference/home"
    chat.say("The sky is blue.")
    assert Chat(chat.memory, "x").preferences.every() == chat.preferences.every() == []
    chat.say("I moved to Lyon.")
    (home,) = chat.preferences.every()
    assert (home.value, home.before) == ("I moved to Lyon.", ())


def everything(chat: Chat) -> list[tuple[str, object, object]]:
    """All records but their times."""
    records = [(one.key, one.value, {**(one.metadata or {}), "time": None}) for one in chat.memory.scan()]
    return [(key, value, about) for key, value, about in records]


def test_a_forgotten_turn_is_gone_as_if_it_had_never_been() -> None:
    with_it, without = Chat(Memory(), "alice", words=True), Chat(Memory(), "alice", words=True)
    for one in (with_it, without):
        one.say("I live in Paris.")
        one.say("I love hiking.")
    turn = with_it.say("I moved to Lyon. I hate fog. The code is 1234.").turn
    with_it.say("What is the code?")
    with_it.say("Where do I live?")
    gone = with_it.forget(turn)
    assert gone[0] == turn
    assert {"preference/liking/fog", "turn/00000006", "turn/00000008", "turn/00000010"} <= set(gone)
    assert with_it.forget(turn) == []
    kept = [one for one in everything(with_it) if one[0] not in ("turn/00000007", "turn/00000009")]  # the questions
    assert kept == everything(without)
    assert with_it.say("Where do I live?").text == "I live in Paris"
    assert with_it.say("What is the code?").text is None
    assert "Lyon" not in str(everything(with_it))


def test_a_turn_forgotten_or_changed_by_hand_takes_its_preference_along(chat: Chat) -> None:
    paris, lyon, fog = (chat.say(text).turn for text in ("I live in Paris.", "I moved to Lyon.", "I hate fog."))
    chat.memory.forget(fog)
    chat.memory.store(lyon, "Nothing to see here.")
    (home,) = chat.preferences.every()
    assert (home.value, home.turns, home.before) == ("I live in Paris.", [paris], ())
    assert "preference/liking/fog" not in chat.memory


NAMES = ["alice", "Alice", "..", ".", "a b", "a\\b", "alice/", "*", "é", "e\u0301", "李雷", "🙂", "%", "_", "'; --"]


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_user_never_sees_anothers_memory(on_disk: bool, tmp_path: Path) -> None:
    with Memory(tmp_path / "m" if on_disk else None) as memory:
        memory.store("shared", "The root's word is basalt.")
        users = [name for name in NAMES if "/" not in name]
        for number, name in enumerate(users):
            Chat(memory, name, words=True).say(f"I love thing{number}. The secret word is pebble{number}.")
        for number, name in enumerate(users):
            chat = Chat(memory, name, words=True)
            assert [one.value for one in chat.preferences.every()] == [f"I love thing{number}."]
            assert chat.say("What is the secret word?").text == f"The secret word is pebble{number}."
            recalled = chat.recall("the secret word, thing, love, pebble0, pebble1, basalt")
            said = str([hit.value for hit in recalled.turns]) + str(recalled.preferences)
            assert not [other for other in range(len(users)) if other != number and f"pebble{other}." in said]
            assert "basalt" not in said
            assert chat.forget("shared") == []


@pytest.mark.parametrize("name", ["", "a/b", "/", "alice/"])
def test_a_name_that_is_no_namespaces_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="namespace"):
        Chat(Memory(), name)


@pytest.mark.parametrize("text", ["", "  \n", 5, None])
def test_what_says_nothing_is_refused(chat: Chat, text: object) -> None:
    with pytest.raises(InvalidInput, match="says nothing"):
        chat.say(text)  # type: ignore[arg-type]
    assert not len(chat.memory)


def test_recall_is_by_relevance_speaker_and_time(chat: Chat) -> None:
    chat.record("We painted a sunrise", "Ann", "2024-03-02T10:00:00", "spring")
    chat.record("We painted a harbour", "Bo", "2024-07-09T10:00:00", "summer")
    chat.record("The car needs tyres", "Bo", "2024-07-10T10:00:00", "garage")
    first = lambda question: chat.recall(question, 1).turns[0].value  # noqa: E731
    assert first("Which car was it?") == "The car needs tyres"
    assert first("What did Ann paint?") == "We painted a sunrise"
    assert first("What did Bo paint?") == "We painted a harbour"
    assert first("What was painted in March 2024?") == "We painted a sunrise"
    assert first("What was painted on 9 July 2024?") == "We painted a harbour"
    assert chat.preferences.every() == []  # what others say of themselves is not the user's


def test_the_preference_that_a_question_must_respect_is_recalled_by_meaning() -> None:
    chat = Chat(Memory(), "alice")
    for text in (
        "I have a severe allergy to shellfish.",
        "I don't enjoy games with pixel art graphics.",
        "I avoid hotels without a lift.",
        "I dislike games with pixel-art graphics!",
    ):
        chat.say(text)
    reply = chat.say("Can you recommend some indie games that I would enjoy?")
    first = reply.recalled.preferences[0]
    assert "pixel" in first.value
    assert [one.value for one in first.alike] != [first.value]
    assert reply.text is not None
    assert "pixel" in reply.text
    assert "allergy" not in reply.text
    assert "shellfish" in chat.recall("Which dish should I order at the harbour restaurant?").preferences[0].value


def test_a_writer_is_given_what_was_recalled_and_its_answer_is_kept(server: StreamingServer) -> None:
    chat = Chat(Memory(), "alice", writer_named(server.spec("good"), TOLD), words=True)
    turn, _ = chat.record("I love hiking.")
    chat.record("half an ans", ASSISTANT, broken=True)
    heard: list[str] = []
    reply = chat.say("What sport do I love?", heard.append)
    assert heard == PIECES
    assert reply.text == "You love hiking [1]."
    assert [one.key for one in reply.citations] == ["preference/liking/hiking"]
    assert server.asked[0]["stream"] is True
    assert "alice said: I love hiking." in server.told()
    assert "half an ans" not in server.told()
    assert str(chat.memory.retrieve(str(reply.key))) == reply.text
    assert reply.key in chat.forget(turn)


@pytest.mark.parametrize("model", ["breaks", "says why"])
def test_an_answer_that_breaks_off_is_kept_as_broken_and_the_chat_goes_on(server: StreamingServer, model: str) -> None:
    chat = Chat(Memory(), "alice", writer_named(server.spec(model), TOLD), words=True)
    reply = chat.say("What sport do I love?")
    assert reply.text is None
    assert "broke off its answer" in str(reply.failed)
    turn, half = chat.memory.record(reply.turn), chat.memory.record(str(reply.key))
    assert turn is not None and half is not None
    assert turn.value == "What sport do I love?"
    assert (half.value, (half.metadata or {})["broken"]) == ("You love ", True)
    assert half.key not in [hit.key for hit in chat.recall("What do I love?").turns]
    chat.writer = writer_named(server.spec("good"), TOLD)
    good = chat.say("And now?")
    assert (good.text, [one.key for one in good.citations]) == ("You love hiking [1].", [turn.key])
    assert '"assistant' not in server.told()


def test_an_endpoint_that_cannot_be_reached_costs_no_turn() -> None:
    chat = Chat(Memory(), "alice", writer_named("http://127.0.0.1:9/v1#m"), words=True)
    reply = chat.say("I love hiking.")
    assert (reply.text, reply.key) == (None, None)
    assert "cannot be reached" in str(reply.failed)
    assert [one.value for one in chat.preferences.every()] == ["I love hiking."]
    assert [turn.value for turn in chat.latest(5)] == ["I love hiking."]


TALKS = """
import sys
from extmem import Memory
from extmem.tasks.chat import Chat
memory = Memory(sys.argv[1])
chat = Chat(memory, "alice", words=True)
for number in range(40):
    chat.say(f"I like thing{number} of {sys.argv[2]}.")
"""


def test_two_processes_on_one_user_lose_and_overwrite_no_turn(tmp_path: Path) -> None:
    Memory(tmp_path / "m").close()
    both = [subprocess.Popen([sys.executable, "-c", TALKS, str(tmp_path / "m"), name]) for name in ("one", "two")]
    assert [process.wait(120) for process in both] == [0, 0]
    with Memory(tmp_path / "m") as memory:
        chat = Chat(memory, "alice", words=True)
        turns = list(chat.memory.scan("turn/"))
        said = {turn.value for turn in turns if turn.metadata["speaker"] == "alice"}
        assert said == {f"I like thing{number} of {name}." for number in range(40) for name in ("one", "two")}
        assert [turn.key for turn in turns] == [f"turn/{number:08d}" for number in range(1, 161)]
        assert len({turn.metadata["conversation"] for turn in turns}) == 2
        assert len(chat.preferences.every()) == 80
        assert memory.verify() == []
