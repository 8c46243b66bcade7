"""OpenAI's own client against the server, with its address and key changed."""

from __future__ import annotations

import base64

import numpy as np
import openai
import pytest
from serving import Client, key, served

from extmem import Memory

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openai") / "m"
    with Memory(folder) as memory:
        memory.store("The capital of France is", "Paris")
        memory.namespace("other").store("The capital of Italy is", "Rome")
    with served(folder) as running:
        yield running


def speaking(server, *namespaces, may="read"):
    address = f"http://127.0.0.1:{server.port}/v1"
    return openai.OpenAI(base_url=address, api_key=key(server.folder, *namespaces, may=may), max_retries=0)


@pytest.fixture(scope="module")
def client(server):
    return speaking(server)


def test_a_question_is_answered_from_the_memory_with_citations(client):
    said = client.chat.completions.create(model="memory", messages=QUESTION, user="u", metadata={"a": "b"})
    assert said.choices[0].message.content == "Paris"
    assert said.choices[0].message.citations == [
        {"key": "The capital of France is", "start": 0, "end": 5, "weight": 1.0}
    ]
    assert said.usage.total_tokens == said.usage.prompt_tokens + said.usage.completion_tokens > 0


def test_a_stream_says_the_same_and_ends_with_citations_and_usage(client):
    asked = client.chat.completions.create(
        model="memory", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(asked)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Paris"
    assert chunks[-2].choices[0].citations[0]["key"] == "The capital of France is"
    assert chunks[-1].usage.total_tokens > 0


def test_asking_stores_nothing(client, server):
    client.chat.completions.create(model="memory", messages=[{"role": "user", "content": "My name is Ada."}])
    with Memory(server.folder) as memory:
        assert list(memory.keys()) == ["The capital of France is"]


def test_a_key_is_answered_from_its_namespace_only(server):
    other = speaking(server, "other")
    assert "Paris" not in other.chat.completions.create(model="memory", messages=QUESTION).choices[0].message.content
    with pytest.raises(openai.NotFoundError):
        other.chat.completions.create(model="memory", messages=QUESTION, extra_query={"namespace": ""})


def test_embeddings_are_the_same_as_floats_and_as_base64(client):
    one = client.embeddings.create(model="minilm", input=["a cat", "a dog"], encoding_format="float")
    two = client.embeddings.create(model="minilm", input=["a cat", "a dog"], encoding_format="base64")
    vectors = np.array([row.embedding for row in one.data])
    coded = np.array([np.frombuffer(base64.b64decode(row.embedding), "<f4") for row in two.data])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors, coded, atol=1e-6)


def test_the_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["memory", "minilm"]


def test_without_a_model_nothing_is_completed(client):
    with pytest.raises(openai.NotFoundError, match="extmem serve --model"):
        client.completions.create(model="lm", prompt="The")


def test_another_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4o", messages=QUESTION)
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("wanted", [{"n": 2}, {"logprobs": True}, {"tools": [{"type": "function"}]}, {"stop": "x"}])
def test_what_is_not_offered_is_refused(client, wanted):
    with pytest.raises(openai.BadRequestError, match=f"{next(iter(wanted))}"):
        client.chat.completions.create(model="memory", messages=QUESTION, **wanted)


def test_a_wrong_key_opens_nothing(server):
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="em_no", max_retries=0).models.list()


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b'{"model": 1}', b'{"model": "memory", "messages": [1]}'])
def test_bad_input_is_told_in_openais_form(server, body):
    said = Client(server.port, key(server.folder)).ask(
        "POST", "/v1/chat/completions", body=body, Content_Type="application/json"
    )
    assert 400 <= said.status < 500
    assert set(said.json["error"]) == {"message", "type", "param", "code"}
