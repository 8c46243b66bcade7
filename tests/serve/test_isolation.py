"""A key of one namespace never learns that another's record exists: every route of the server's own description is
asked for a record that is there, in a namespace that is not the key's, and for one that never was anywhere. There is
"bob", which holds it; there never was "eve"."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest
from serving import Client, Server, description, key, served

from extmem import Memory

THERE, NEVER = "rosebud", "nowhere"  # as long, so that no length tells them apart
PLAN = "the plan of rosebud"
OPEN = {"/healthz", "/readyz"}  # for anybody, and say the same to all
ASK = {"model": "memory", "messages": [{"role": "user", "content": "What is {key}?"}]}
BODIES = {  # a body for each route that takes one; {key} and {space} are filled in
    "PUT /v1/records/{key}": {"value": "mine", "expect": 0},
    "PUT /v1/history": {"on": False},
    "POST /v1/store": {"items": [{"key": "{key}", "value": "mine"}]},
    "POST /v1/retrieve": {"keys": ["{key}", "{space}/{key}"]},
    "POST /v1/forget": {"keys": ["{key}", "{space}/{key}"]},
    "POST /v1/search": {"query": "plan of {key}", "where": {"key": {"$in": ["{key}", "{space}/{key}"]}}},
    "POST /v1/import": '{"extmem": "export", "format": 1}\n{"namespace": "../{space}", "key": "{key}", "value": 1}\n',
    "POST /v1/answer": {"question": "What is {key}?"},
    "POST /v1/chat": {"user": "{key}", "message": "What is {key}?"},
    "POST /v1/evaluate": {"text": "The statement {key} is one of them. " * 3},
    "POST /v1/generate": {"prompt": "The statement {key}", "max_tokens": 3},
    "POST /v1/memorize": {"keys": ["{key}", "{space}/{key}"]},
    "POST /v1/chat/completions": ASK,
    "POST /v1/completions": {"model": "lm", "prompt": "The statement {key}", "max_tokens": 3},
    "POST /v1/embeddings": {"model": "minilm", "input": "{key}"},
    "POST /v1/session": {"link": "{space}"},
}
WAYS = {  # of naming the other namespace: the query, and the key
    "its name": ("{space}", "{key}"),
    "below ours": ("alice/{space}", "{key}"),
    "up and down": ("alice/../{space}", "{key}"),
    "up": ("../{space}", "{key}"),
    "the root": ("", "{space}/{key}"),
    "the key": (None, "{space}/{key}"),
    "the key, up": (None, "../{space}/{key}"),
    "only the key": (None, "{key}"),
}


def routes() -> list[str]:
    return [f"{method.upper()} {path}" for path, all_of in description().items() for method in all_of]


@pytest.fixture(scope="module")
def server(model, corpus, tmp_path_factory):
    memory = tmp_path_factory.mktemp("isolation") / "m"
    with Memory(memory) as handle:
        for space in (handle, handle.namespace("bob"), handle.namespace("bob").namespace("deep")):
            space.store(THERE, PLAN)
        model.memorize(handle.namespace("bob"), corpus.parent / "manual.txt")
        handle.namespace("alice").store("ours", "a fruit")
    with served(memory, "--model", str(corpus.parent / "model")) as running:
        yield running


@pytest.fixture(scope="module", params=["read", "admin"])
def alice(request, server):
    return Client(server.port, key(server.folder, "alice", may=request.param))


def test_every_route_that_takes_a_body_has_one_here():
    needing = [route for route in routes() if route.split()[0] in ("PUT", "POST", "PATCH")]
    missing = sorted(set(needing) - set(BODIES))
    assert not missing, f"give BODIES a body for these new routes, so that their isolation is tested: {missing}"
    assert not set(BODIES) - set(needing), "BODIES has routes that are gone"


@pytest.mark.parametrize("route", [route for route in routes() if route.split()[1] not in OPEN])
def test_what_is_there_and_what_never_was_are_answered_alike(alice, server, route):
    for way, (space, name) in WAYS.items():
        there = asked(alice, route, space, name, "bob", THERE)
        for absent in (("bob", NEVER), ("eve", THERE)):
            afresh(server, route)
            assert asked(alice, route, space, name, *absent) == there, (way, absent)
        afresh(server, route)
        if space is not None and "alice" not in space and route != "POST /v1/session":
            assert there[0] == 404, (way, there)
        assert PLAN not in there[1]
    with Memory(server.folder) as memory:
        assert memory.at("bob").retrieve(THERE) == memory.at("bob/deep").retrieve(THERE) == PLAN


def afresh(server: Server, route: str) -> None:
    """The key's own namespace as it was, where a route may have written there."""
    if not route.startswith("GET"):
        with Memory(server.folder) as memory:
            memory.drop_namespace("alice")
            memory.namespace("alice").store("ours", "a fruit")


def asked(client: Client, route: str, space: str | None, name: str, in_space: str, of_key: str) -> tuple[int, str]:
    """Status and body of a route asked so, without the names that were asked for and what differs every time."""

    def filled(text: str) -> str:
        return text.replace("{space}", in_space).replace("{key}", of_key)

    method, path = route.split()
    place = path.replace("{key}", quote(filled(name))).replace("{name}", quote(f"{in_space}/{of_key}"))
    user = f"&user={quote(of_key)}" if path.startswith("/v1/chat/") and not path.endswith("completions") else ""
    query = f"?{user}" if space is None else f"?namespace={quote(filled(space))}{user}"
    body = BODIES.get(route)
    text = filled(body if isinstance(body, str) else json.dumps(body)) if body else None
    kind = {"Content_Type": "application/json"} if text else {}
    answer = client.ask(method, place + query, body=None if text is None else text.encode(), **kind)
    said = answer.body.decode()
    for one in (in_space, of_key):
        said = said.replace(one, "*")
    said = re.sub(r'"(created|updated)": ?[\d.e+]+|(chat)?cmpl-\w+|\d+\.\d+(e[+-]\d+)?', "#", said)
    # figures of this process, and of what was measured before in namespaces of ours; vectors of what was asked itself
    if path in ("/metrics", "/v1/results", "/v1/embeddings"):
        return answer.status, ""
    return answer.status, said
