"""A model's text over HTTP: whole, as events, and for clients that leave."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import openai
import pytest
from serving import Client, key, run, served

from extmem import Memory
from extmem.indexes.datastore import Entries

PROMPT = "The with statement"


@pytest.fixture(scope="module")
def server(model, corpus, tmp_path_factory):
    memory = tmp_path_factory.mktemp("generating") / "m"
    with Memory(memory) as handle:
        model.memorize(handle, corpus.parent / "manual.txt")
    with served(memory, "--model", str(corpus.parent / "model")) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    return Client(server.port, key(server.folder))


def test_a_text_is_what_the_model_writes_with_this_memory_and_cites_it(client, server, model):
    with Memory(server.folder) as memory:
        expected = model.generate(PROMPT, memory, max_tokens=12)
    found = client.ask("POST", "/v1/generate", {"prompt": PROMPT, "max_tokens": 12}).json
    assert found["text"] == expected.text
    cited = [[(c["key"], c["start"], c["end"]) for c in token["citations"]] for token in found["tokens"]]
    assert cited == [[(c.key, c.start, c.end) for c in token.citations] for token in expected.tokens]
    assert any(cited)


def test_its_events_are_its_tokens(client):
    whole = client.ask("POST", "/v1/generate", {"prompt": PROMPT, "max_tokens": 12}).json
    answer = client.ask("POST", "/v1/generate", {"prompt": PROMPT, "max_tokens": 12, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, last = [line[6:] for line in answer.body.decode().split("\n\n") if line]
    assert last == "[DONE]"
    assert [json.loads(event) for event in events] == whole["tokens"]


def test_a_bad_prompt_is_refused_before_the_first_event(client):
    for said in ({"prompt": ""}, {"prompt": PROMPT, "beams": 4}, {"prompt": PROMPT, "temperature": -1.0}):
        answer = client.ask("POST", "/v1/generate", {**said, "stream": True})
        assert (answer.status, answer.json["error"]["type"]) == (400, "InvalidInput")
    assert client.ask("POST", "/v1/generate", {"prompt": PROMPT, "tokens": 1}).status == 422
    assert client.ask("POST", "/v1/generate", {"prompt": PROMPT, "beams": 100_000}).status == 422
    tiny = client.ask("POST", "/v1/generate", {"prompt": PROMPT, "temperature": 1e-320, "max_tokens": 2})
    assert tiny.json == client.ask("POST", "/v1/generate", {"prompt": PROMPT, "max_tokens": 2}).json


@pytest.mark.parametrize("how", [{"stream": True}, {}, {"beams": 16}], ids=["streamed", "whole", "searched"])
def test_a_client_that_leaves_stops_the_generation(client, server, how):
    log = server.folder.with_name("m.log")
    before = log.read_text().count("went away")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {**client.headers(), "Content-Type": "application/json"}
    said = {"prompt": PROMPT, "max_tokens": 10_000, "min_tokens": 10_000, **how}
    connection.request("POST", "/v1/generate", json.dumps(said), headers)
    if "stream" in how:
        assert connection.getresponse().read(6) == b"data: "
    else:
        time.sleep(0.5)  # it is written, and nothing of it is sent
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    until = time.monotonic() + 15  # far within --seconds
    while log.read_text().count("went away") == before:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert client.ask("POST", "/v1/generate", {"prompt": PROMPT, "max_tokens": 1}).status == 200


def test_a_search_that_takes_too_long_is_given_up(corpus, server):
    with served(server.folder, "--model", str(corpus.parent / "model"), "--seconds", "2") as patient:
        client = Client(patient.port, key(server.folder))
        said = {"prompt": PROMPT, "max_tokens": 10_000, "min_tokens": 10_000, "beams": 16}
        assert client.ask("POST", "/v1/generate", said).status == 504
        assert client.ask("POST", "/v1/generate", {"prompt": PROMPT, "max_tokens": 1}).status == 200


def drained(answer):
    with suppress(http.client.IncompleteRead):
        answer.read()


def test_while_a_long_text_is_written_others_are_told_so_in_time_and_the_memory_answers(corpus, server):
    with served(server.folder, "--model", str(corpus.parent / "model"), "--seconds", "2") as patient:
        client = Client(patient.port, key(server.folder))
        said = {"prompt": PROMPT, "max_tokens": 10_000, "min_tokens": 10_000, "stream": True}
        connection = http.client.HTTPConnection("127.0.0.1", patient.port, timeout=60)
        headers = {**client.headers(), "Content-Type": "application/json"}
        connection.request("POST", "/v1/generate", json.dumps(said), headers)
        answer = connection.getresponse()
        reading = threading.Thread(target=drained, args=(answer,))
        reading.start()
        short = {"prompt": PROMPT, "max_tokens": 1}
        waiting = [("/v1/generate", {**short, "stream": True}), ("/v1/generate", short)]
        waiting += [("/v1/memorize", {"keys": ["none"]})] * 12
        with ThreadPoolExecutor(len(waiting)) as pool:
            told = [pool.submit(client.ask, "POST", *one) for one in waiting]
            time.sleep(0.5)  # all wait for the model's turn
            assert client.ask("PUT", "/v1/records/meanwhile", {"value": 1}).status == 200
            assert not any(one.done() for one in told)
            assert {one.result().status for one in told} == {504}
        assert reading.is_alive()
        patient.process.kill()
        reading.join()
        answer.close()
        connection.close()


def test_a_memory_of_another_model_is_refused_at_the_start(corpus, model, tmp_path):
    width = model.network.config.embedding
    with Memory(tmp_path / "m") as memory, memory.transaction():
        memory.store("apple", "A fruit")
        entry = Entries(
            memory.record("apple").id, np.ones((1, width), np.float32), np.zeros(1, int), np.array([[0, 1]])
        )
        memory.datastore("another", width).append([entry])
    said = run("serve", str(tmp_path / "m"), "--port", "0", "--model", str(corpus.parent / "model"))
    assert (said.returncode, said.stdout) == (2, "")
    (line,) = said.stderr.strip().splitlines()
    assert "another model" in line


def test_a_text_that_was_stored_is_memorized_and_then_written_with(client, server):
    fact = {"prompt": "The zebra of this house is", "max_tokens": 1, "allow_unknown": True}
    client.ask("PUT", "/v1/records/zebra", {"value": "The zebra of this house is statement."})
    client.ask("PUT", "/v1/records/number", {"value": 7})
    before = client.ask("POST", "/v1/generate", fact).json["tokens"][0]
    assert "zebra" not in {one["key"] for one in before["citations"]}
    assert client.ask("POST", "/v1/memorize", {"keys": ["zebra", "number"]}).json["documents"] == 1
    after = client.ask("POST", "/v1/generate", fact).json["tokens"][0]
    assert after["citations"][0]["key"] == "zebra"
    assert client.ask("POST", "/v1/memorize", {"keys": ["zebra"]}).json == {"documents": 0, "entries": 0}
    assert Client(server.port, key(server.folder, may="read")).ask("POST", "/v1/memorize", {}).status == 403
    assert client.ask("DELETE", "/v1/records/zebra").status == 200
    again = client.ask("POST", "/v1/generate", fact).json["tokens"][0]
    assert again == before


def test_memorizing_leaves_what_is_said_of_a_record(client):
    said = {"value": "A lamp by the door.", "metadata": {"room": 1}, "trust": 0.5, "author": "ann", "ttl": 1000}
    client.ask("PUT", "/v1/records/lamp", said)
    before = client.ask("GET", "/v1/records/lamp").json
    assert client.ask("POST", "/v1/memorize", {"keys": ["lamp", "nowhere"]}).json["documents"] == 1
    assert client.ask("GET", "/v1/records/lamp").json == before
    assert client.ask("DELETE", "/v1/records/lamp").status == 200


def test_openais_client_has_a_text_completed_with_citations(client, server):
    openais = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key=client.key, max_retries=0)
    assert "lm" in [one.id for one in openais.models.list()]
    whole = openais.completions.create(model="lm", prompt=PROMPT, max_tokens=8)
    found = client.ask("POST", "/v1/generate", {"prompt": PROMPT, "max_tokens": 8}).json
    assert PROMPT + whole.choices[0].text == found["text"]
    assert whole.choices[0].citations == [token["citations"] for token in found["tokens"]]
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (3, len(found["tokens"]))
    said = list(
        openais.completions.create(
            model="lm", prompt=PROMPT, max_tokens=8, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(one.choices[0].text for one in said if one.choices) == whole.choices[0].text
    assert said[-1].usage == whole.usage
    assert said[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    with pytest.raises(openai.BadRequestError):
        openais.completions.create(model="lm", prompt=PROMPT, temperature=-1.0)
    with pytest.raises(openai.NotFoundError):
        openais.completions.create(model="memory", prompt=PROMPT)


def test_a_key_that_is_revoked_opens_no_more_of_a_stream(server):
    made = key(server.folder, may="read")
    body = json.dumps({"prompt": PROMPT, "max_tokens": 10_000, "min_tokens": 10_000, "stream": True})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request(
        "POST", "/v1/generate", body, {"Authorization": f"Bearer {made}", "Content-Type": "application/json"}
    )
    answer = connection.getresponse()
    assert answer.readline().startswith(b"data: ")
    assert run("revoke", str(server.folder), made.split("_")[1]).returncode == 0
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    connection.close()
