"""A text measured over HTTP: its figures, for whom they are kept, and what is refused."""

from __future__ import annotations

import json
import socket
import time
from pydoc_data.topics import topics

import pytest
from serving import Client, key, served

from extmem import Memory

TEXT = topics["while"] + "\n\n" + topics["try"]


@pytest.fixture(scope="module")
def server(model, corpus, tmp_path_factory):
    memory = tmp_path_factory.mktemp("measuring") / "m"
    with Memory(memory) as handle:
        model.memorize(handle, corpus.parent / "manual.txt")
        handle.namespace("alice").store("apple", "A fruit")
    with served(memory, "--model", str(corpus.parent / "model")) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    return Client(server.port, key(server.folder))


def events(answer) -> list:
    assert answer.headers["content-type"].startswith("text/event-stream")
    *found, last = [line[6:] for line in answer.body.decode().split("\n\n") if line]
    assert last == "[DONE]"
    return [json.loads(event) for event in found]


def test_a_text_is_measured_as_the_model_measures_its_file(client, server, model, corpus):
    with Memory(server.folder) as memory:
        expected = model.evaluate(corpus.parent / "held-out.txt", memory).to_json()
    found = events(client.ask("POST", "/v1/evaluate", {"text": TEXT}))[-1]["result"]
    for name in ("perplexity", "calibration", "bits_per_character"):
        assert found[name] == pytest.approx(expected[name], rel=1e-6)
    assert found["tokens"] == expected["tokens"]
    assert found["reliability"].keys() == {"model", "cache", "datastore"}


def test_figures_are_kept_without_the_text_for_the_keys_of_their_namespace(client, server):
    (found,) = [one for one in events(client.ask("POST", "/v1/evaluate", {"text": TEXT[:2000]})) if "result" in one]
    answer = client.ask("GET", "/v1/results")
    assert answer.json["results"][0] == found["result"]
    assert TEXT[:20].encode() not in answer.body
    alice = Client(server.port, key(server.folder, "alice", may="read"))
    assert alice.ask("GET", "/v1/results").json == {"results": []}
    assert alice.ask("GET", "/v1/results?namespace=").status == 404
    measured = events(alice.ask("POST", "/v1/evaluate", {"text": "A fruit that is red."}))[-1]["result"]
    assert measured["perplexity"]["datastore"] is None
    assert alice.ask("GET", "/v1/results").json["results"] == [measured]
    assert client.ask("GET", "/v1/results").json == answer.json
    assert client.ask("GET", "/v1/results?namespace=alice").json["results"] == [measured]


def test_what_cannot_be_measured_is_refused_in_one_line(client, server):
    for text in ("", " \n ", "a" * 200_001):
        answer = client.ask("POST", "/v1/evaluate", {"text": text})
        assert answer.status in (400, 422)
        assert answer.json["error"]["type"] == "InvalidInput"
    assert "200000 characters" in answer.json["error"]["message"]
    assert Client(server.port).ask("POST", "/v1/evaluate", {"text": TEXT}).status == 401
    assert Client(server.port).ask("GET", "/v1/results").status == 401


def test_one_that_waits_for_another_text_says_so_and_is_measured_in_its_turn(client, server):
    body = json.dumps({"prompt": "The with statement", "max_tokens": 10_000, "min_tokens": 10_000, "stream": True})

    def request(route: str, body: str) -> bytes:
        head = f"POST /v1/{route} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {client.key}\r\n"
        return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()

    with socket.create_connection(("127.0.0.1", server.port)) as writing, socket.socket() as waiting:
        writing.sendall(request("generate", body))
        while b"data: " not in writing.recv(1 << 16):
            pass
        asked = json.dumps({"text": "A with statement is a statement."})
        waiting.connect(("127.0.0.1", server.port))
        waiting.sendall(request("evaluate", asked))
        seen, until = b"", time.monotonic() + 60
        waiting.settimeout(60)
        while b'{"read": 0, "of": 0}' not in seen and time.monotonic() < until:
            seen += waiting.recv(1 << 16)
        assert b"result" not in seen
        writing.shutdown(socket.SHUT_RDWR)
        while b"[DONE]" not in seen and time.monotonic() < until:
            seen += waiting.recv(1 << 16)
    assert b'"result"' in seen
