"""All that the server's description allows, and much that it does not, asked of a real server: never a 5xx but for
what is busy or too slow, and always in the one form of errors."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from serving import Client, description, key, served

from extmem import Memory

BUSY = {503: "Busy", 504: "TooSlow"}
SLOW = {"/v1/generate": 5, "/v1/completions": 5, "/v1/evaluate": 3, "/v1/embeddings": 3}


def described() -> list[Any]:
    """Every route; and once more, against its description, where more than a namespace is said to it."""
    found = []
    for path, every in description().items():
        for method, said in every.items():
            much = "requestBody" in said or len(said.get("parameters", ())) > 1
            count = SLOW.get(path, 10 if much else 3)
            for mode in [GenerationMode.POSITIVE, *[GenerationMode.NEGATIVE] * much]:
                found.append(pytest.param(method, path, mode, count, id=f"{method} {path} {mode.name.lower()}"))
    return found


@pytest.fixture(scope="module")
def server(model, corpus, tmp_path_factory):
    memory = tmp_path_factory.mktemp("schema") / "m"
    with Memory(memory) as handle:
        handle.store("apple", "A fruit")
        model.memorize(handle, corpus.parent / "manual.txt")
    with served(memory, "--model", str(corpus.parent / "model"), "--seconds", "1") as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    return Client(server.port, key(server.folder))


@pytest.fixture(scope="module")
def schema(server):
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")


@pytest.mark.parametrize(("method", "path", "mode", "examples"), described())
def test_whatever_is_asked_is_answered_or_refused(schema, client, server, method, path, mode, examples):
    operation = schema[path][method.upper()]
    with requests.Session() as session:

        @settings(
            max_examples=examples, database=None, derandomize=True, deadline=None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case):
            case.headers["Authorization"] = f"Bearer {client.key}"
            answer = case.call(session=session, timeout=30)
            assert answer.status_code != 401 or path == "/v1/session", "the key opens all: was anything asked?"
            if answer.status_code >= 400:
                error = answer.json()["error"]
                assert answer.status_code < 500 or BUSY.get(answer.status_code) == error["type"], answer.text
                assert error["message"] and "\n" not in error["message"] and "Traceback" not in error["message"]

        ask()
    assert server.process.poll() is None
    assert client.ask("GET", "/healthz").status == 200
