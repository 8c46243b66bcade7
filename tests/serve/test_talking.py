"""Questions and chats over HTTP: answered from the memory, remembered, erased whole, and nobody else's."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from serving import Client, Server, key, run, served

from chat_server import PIECES, StreamingServer, streaming_server
from extmem import Memory


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("talking") / "memory"
    with Memory(folder) as memory:
        memory.namespace("team").store("tower", "It is tall. The bell rings at nine o'clock. It is of stone.")
    with served(folder) as running:
        yield running


@pytest.fixture(scope="module")
def team(server: Server) -> Client:
    return Client(server.port, key(server.folder, "team", may="write"))


@pytest.fixture(scope="module")
def model() -> Iterator[StreamingServer]:
    with streaming_server() as running:
        yield running


@contextmanager
def written(memory: Path, writer: str) -> Iterator[Client]:
    """A client of a server whose replies that writer writes."""
    opens = key(memory)
    with served(memory, "--writer", writer) as running:
        yield Client(running.port, opens)


def say(client: Client, user: str, message: str, **more: Any) -> dict[str, Any]:
    answer = client.ask("POST", "/v1/chat", {"user": user, "message": message, **more})
    assert answer.status == 200, answer
    return answer.json


def memories(client: Client, user: str) -> dict[str, dict[str, Any]]:
    return {one["key"]: one for one in client.ask("GET", f"/v1/chat/memories?user={user}").json["memories"]}


def turns(client: Client, user: str, more: str = "") -> list[dict[str, Any]]:
    return client.ask("GET", f"/v1/chat/turns?user={user}{more}").json["turns"]


def events(body: bytes) -> tuple[list[str], dict[str, Any]]:
    """The pieces of a stream, and the reply at its end."""
    *told, last = [line.removeprefix("data: ") for line in body.decode().split("\n\n") if line]
    assert last == "[DONE]"
    *pieces, reply = map(json.loads, told)
    return [one["piece"] for one in pieces], reply


def test_a_question_is_answered_with_the_sentence_and_its_place(team: Client, server: Server) -> None:
    found = team.ask("POST", "/v1/answer", {"question": "When does the bell ring?"}).json
    (cited,) = found["citations"]
    assert (found["text"], found["known"]) == ("The bell rings at nine o'clock.", True)
    assert (cited["key"], cited["start"], cited["end"], cited["weight"]) == ("tower", 12, 43, 1.0)
    reader = Client(server.port, key(server.folder, "team", may="read"))
    unknown = reader.ask("POST", "/v1/answer", {"question": "Who discovered Neptune?", "k": 1})
    assert unknown.status == 200
    assert (unknown.json["text"], unknown.json["known"], unknown.json["citations"]) == (None, False, [])


def test_a_chat_remembers_across_requests_and_cites_the_turn(team: Client) -> None:
    told = say(team, "ada", "I love hiking.")
    assert [one["value"] for one in told["learned"]] == ["I love hiking."]
    asked = say(team, "ada", "What do I like?", conversation=told["conversation"])
    assert (asked["text"], asked["failed"]) == ("I love hiking", None)
    assert [(one["key"], one["start"], one["end"]) for one in asked["citations"]] == [(told["turn"], 0, 14)]
    assert asked["recalled"]["turns"][0]["key"] == told["turn"]
    assert asked["recalled"]["turns"][0]["score"] > 0
    assert memories(team, "ada")["preference/liking/hiking"]["turns"] == [told["turn"]]
    kept = turns(team, "ada")
    assert [(one["value"], one["metadata"]["speaker"]) for one in kept] == [
        ("I love hiking.", "ada"),
        ("noted: I love hiking", "assistant"),
        ("What do I like?", "ada"),
        ("I love hiking", "assistant"),
    ]
    assert [one["key"] for one in turns(team, "ada", "&limit=2")] == [one["key"] for one in kept[2:]]


def test_a_conversation_goes_on_where_its_number_is_given_and_else_a_new_one_begins(team: Client) -> None:
    first = say(team, "bea", "It rains.")["conversation"]
    second = say(team, "bea", "It snows.")["conversation"]
    again = say(team, "bea", "It still rains.", conversation=first)["conversation"]
    assert first == again != second
    ahead = say(team, "bea", "Who am I?", conversation=1000)
    assert ahead["conversation"] == int(ahead["turn"].rpartition("/")[2])
    found = [one["metadata"]["conversation"] for one in turns(team, "bea")]
    assert found == [number for number in (first, second, first, ahead["conversation"]) for _ in range(2)]


def test_many_requests_of_one_user_at_once_are_all_kept(team: Client) -> None:
    said = [f"I like tea number {n}." for n in range(12)]
    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(lambda text: say(team, "cy", text), said))
    kept = {one["key"]: one for one in turns(team, "cy")}
    assert len(kept) == 24
    assert [kept[one["turn"]]["value"] for one in told] == said
    assert len({one["conversation"] for one in told}) == 12
    for one in told:
        assert kept[one["key"]]["metadata"]["conversation"] == one["conversation"]
        assert one["turn"] in kept[one["key"]]["metadata"]["rests_on"]


def test_a_user_never_sees_anothers_turns(team: Client, server: Server) -> None:
    say(team, "dan", "My secret word is Zanzibar.")
    assert say(team, "eve", "What is the secret word?")["text"] is None
    assert memories(team, "eve") == {}
    assert all("Zanzibar" not in one["value"] for one in turns(team, "eve"))
    other = Client(server.port, key(server.folder, "others"))
    assert turns(other, "dan") == []
    assert other.ask("GET", "/v1/chat/turns?user=dan&namespace=team").status == 404
    assert other.ask("POST", "/v1/chat?namespace=team", {"user": "dan", "message": "What is it?"}).status == 404
    assert other.ask("DELETE", "/v1/chat/memories/turn/00000001?user=dan").status == 404
    assert len(turns(team, "dan")) == 2


def test_a_key_that_reads_may_look_but_not_talk(team: Client, server: Server) -> None:
    say(team, "fay", "I love tea.")
    reader = Client(server.port, key(server.folder, "team", may="read"))
    assert "preference/liking/tea" in memories(reader, "fay")
    assert len(turns(reader, "fay")) == 2
    assert reader.ask("POST", "/v1/chat", {"user": "fay", "message": "I hate tea."}).status == 403
    assert reader.ask("DELETE", "/v1/chat/memories/preference/liking/tea?user=fay").status == 403
    assert len(turns(team, "fay")) == 2


def test_what_is_forgotten_goes_with_the_replies_that_rest_on_it(team: Client) -> None:
    told = say(team, "gus", "I love chess.")
    asked = say(team, "gus", "What do I like?")
    address = f"/v1/chat/memories/{told['turn']}?user=gus"
    gone = team.ask("DELETE", address).json["forgotten"]
    assert set(gone) == {told["turn"], told["key"], asked["key"], "preference/liking/chess"}
    assert memories(team, "gus") == {}
    assert [one["value"] for one in turns(team, "gus")] == ["What do I like?"]
    assert b"chess" not in team.ask("GET", "/v1/export?namespace=team/gus").body
    assert team.ask("DELETE", address).status == 404


def test_what_is_held_is_changed_as_any_record_and_counts_at_once(team: Client) -> None:
    say(team, "hal", "I live in Rome.")
    team.ask("PUT", "/v1/records/preference%2Fhome?namespace=team/hal", {"value": "I live in Oslo"})
    assert say(team, "hal", "Where do I live?")["text"] == "I live in Oslo"
    assert memories(team, "hal")["preference/home"]["turns"] == []


def test_a_reply_without_a_writer_is_one_event(team: Client) -> None:
    answer = team.ask("POST", "/v1/chat", {"user": "ida", "message": "I love jazz.", "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    pieces, reply = events(answer.body)
    assert (pieces, reply["text"], reply["conversation"]) == ([], "noted: I love jazz", 1)


def test_a_writers_reply_streams_and_its_citations_are_what_was_recalled(
    model: StreamingServer, tmp_path: Path
) -> None:
    with written(tmp_path / "m", model.spec("good")) as client:
        told = say(client, "me", "I love hiking.")
        assert told["text"].startswith("You love hiking")
        body = {"user": "me", "message": "What shall I do on Sunday?", "stream": True, "max_tokens": 7}
        pieces, reply = events(client.ask("POST", "/v1/chat", body).body)
        assert pieces == PIECES
        assert reply["text"] == "".join(PIECES)
        recalled = {one["key"] for part in reply["recalled"].values() for one in part}
        assert told["turn"] in recalled and {one["key"] for one in reply["citations"]} <= recalled
        assert reply["citations"]
        assert "I love hiking." in model.told()
        assert model.asked[-1]["max_tokens"] == 7


@pytest.mark.parametrize("stream", [False, True])
def test_where_the_writer_fails_the_turn_is_kept_and_the_reply_says_so(
    model: StreamingServer, tmp_path: Path, stream: bool
) -> None:
    with written(tmp_path / "m", model.spec("breaks")) as client:
        answer = client.ask("POST", "/v1/chat", {"user": "me", "message": "I love hiking.", "stream": stream})
        assert answer.status == 200
        pieces, reply = events(answer.body) if stream else ([], answer.json)
        assert pieces == (PIECES[:2] if stream else [])
        assert (reply["text"], reply["failed"]) == (None, "the writer failed: the server's log says why.")
        assert [one["value"] for one in turns(client, "me")] == ["I love hiking.", "You love "]
        assert "preference/liking/hiking" in memories(client, "me")
    assert model.spec("breaks") in (tmp_path / "m.log").read_text()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_the_writer_and_what_was_said_is_kept(tmp_path: Path, stream: bool) -> None:
    with streaming_server() as model, written(tmp_path / "m", model.spec("hangs")) as client:
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
        body = json.dumps({"user": "me", "message": "I love hiking.", "stream": stream})
        connection.request("POST", "/v1/chat", body, {**client.headers(), "Content-Type": "application/json"})
        if stream:
            answer = connection.getresponse()
            assert json.loads(answer.readline()[6:]) == {"piece": PIECES[0]}
            answer.close()
        assert model.halfway.wait(30)
        connection.close()
        ends = time.monotonic() + 15  # far within --seconds
        while not stream and "went away" not in (tmp_path / "m.log").read_text():
            assert time.monotonic() < ends
            time.sleep(0.05)
        while len(kept := turns(client, "me")) < 2 and time.monotonic() < ends:
            model.go_on.set()
            time.sleep(0.05)
        assert kept[0]["value"] == "I love hiking."
        assert kept[1]["metadata"]["broken"] is True
        assert "".join(PIECES).startswith(kept[1]["value"])


@pytest.mark.parametrize("writer", ["http://host", "nowhere/at all"])
def test_a_writer_that_cannot_be_had_is_one_line_at_the_start(server: Server, writer: str) -> None:
    done = run("serve", str(server.folder), "--port", "0", "--writer", writer)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert writer in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"user": "me"}, 422),
        ({"message": "Hello."}, 422),
        ({"user": "me", "message": 1}, 422),
        ({"user": "me", "message": "  "}, 400),
        ({"user": "", "message": "Hello."}, 400),
        ({"user": "a/b", "message": "Hello."}, 400),
        ({"user": "assistant", "message": "Hello."}, 400),
        ({"user": "me", "message": "Hello.", "conversation": 0}, 422),
        ({"user": "me", "message": "Hello.", "max_tokens": 0}, 422),
        ({"user": "me", "message": "Hello.", "temperature": 1}, 422),
        ({"user": "me", "message": "Hello \ud800."}, 400),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_bad_input_is_refused_and_nothing_is_kept(
    team: Client, body: dict[str, Any], status: int, stream: bool
) -> None:
    assert team.ask("POST", "/v1/chat", {**body, "stream": stream}).status == status
    assert turns(team, "me") == []


def test_bad_questions_and_users_are_refused(team: Client) -> None:
    assert team.ask("POST", "/v1/answer", {"question": " "}).status == 400
    assert team.ask("POST", "/v1/answer", {"question": "Who?", "k": 0}).status == 422
    assert team.ask("POST", "/v1/answer", {"question": "Who?", "where": {"x": {"$no": 1}}}).status == 400
    assert team.ask("GET", "/v1/chat/turns").status == 422
    assert team.ask("GET", "/v1/chat/turns?user=a%2Fb").status == 400
    assert team.ask("GET", "/v1/chat/turns?user=me&limit=0").status == 422


def test_the_audit_names_keys_and_namespace_but_nothing_that_was_said(server: Server, team: Client) -> None:
    say(team, "jo", "I love quinces.")
    lines = server.folder.with_name("memory.audit.jsonl").read_text().splitlines()
    began, mine = [line for line in map(json.loads, lines) if line["namespace"] == "team/jo"]
    assert (began["did"], began["keys"]) == ("chat", [])
    assert (mine["did"], mine["keys"]) == ("said", ["turn/00000001", "turn/00000002"])
    assert not any("I love" in line for line in lines)
