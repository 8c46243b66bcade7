"""What nobody sends on purpose: bytes as imports of every kind, and lines to the MCP server that are no messages."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import time
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from serving import EXTMEM, Client, key, served

from extmem import Memory
from extmem.exchange.formats import READERS

BOUNDED = settings(
    max_examples=25, database=None, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
HEADER = b'{"extmem": "export", "format": 1}\n'
NAMES = st.sampled_from(
    ["key", "value", "id", "text", "namespace", "version", "states", "bytes", "metadata", "ttl", "created", "expires",
     "type", "entityType", "observations", "from", "to", "relationType", "name", "results", "memory", "user_id",
     "mapping", "message", "content", "parts", "parent", "children"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=4),
    max_leaves=6,
)
LINES = st.lists(JSON.map(lambda said: json.dumps(said).encode()), max_size=4).map(b"\n".join)
BODIES = st.binary(max_size=200) | LINES | LINES.map(HEADER.__add__) | JSON.map(lambda said: json.dumps(said).encode())


# Imports


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    memory = tmp_path_factory.mktemp("fuzz") / "m"
    with Memory(memory) as handle:
        handle.store("apple", "A fruit")
    with served(memory) as running:
        yield running
        assert running.process.poll() is None
    with Memory(memory) as handle:
        assert handle.retrieve("apple") == "A fruit"
        assert handle.verify() == []


@pytest.mark.parametrize("kind", [*READERS, "auto", "nonsense"])
def test_no_bytes_of_any_kind_bring_the_server_down(server, kind):
    client = Client(server.port, key(server.folder, f"fuzz-{kind}"))

    @BOUNDED
    @given(body=BODIES)
    @example(body=b"\x1f\x8b\x08\0\0")
    @example(body=b"[" * 100_000)
    @example(body=b'{"a":' * 100_000)
    @example(body=b'{"key": "k", "value": ' + b"1" * 5000 + b"}\n")
    @example(body=b'key,value\n"a\n')
    @example(body=b"\xef\xbb\xbf" + HEADER)
    def bring(body):
        answer = client.ask("POST", f"/v1/import?kind={kind}", body=body)
        assert answer.status in (200, 400), (answer.status, answer.body)
        if answer.status == 400:
            said = answer.json["error"]["message"]
            assert "\n" not in said and tempfile.gettempdir() not in said and "Traceback" not in said

    bring()
    assert client.ask("GET", "/v1/stats").status == 200


def test_what_stands_before_a_bad_line_is_kept_and_what_stands_behind_it_is_not(server):
    client = Client(server.port, key(server.folder, "lines"))
    line = b'{"key": "k%d", "value": 1}\n'
    body = HEADER + b"".join(line % n for n in range(2_500)) + b"rubbish\n" + line % 9_999
    assert client.ask("POST", "/v1/import?kind=lines", body=body).status == 400
    kept = {f"k{n}" for n in range(2_000)}  # a whole batch
    with Memory(server.folder) as memory:
        here = memory.namespace("lines")
        assert set(here.keys()) == kept
        assert here.records.ledger("import") == {}, "nobody goes on with a body"


def test_a_text_is_stored_under_a_name_that_tells_nothing_of_the_server(server):
    client = Client(server.port, key(server.folder, "text"))
    for name in ("", "&name=notes.txt"):
        assert client.ask("POST", f"/v1/import?kind=text{name}", body=b"A plain text.").status == 200
    assert client.ask("GET", "/v1/records").json["keys"] == ["body", "notes.txt"]
    for name in ("", "..", "a/b", "a%00", "a" * 300):
        assert client.ask("POST", f"/v1/import?kind=text&name={name}", body=b"x").status == 400


# Messages of the Model Context Protocol


ID = st.integers() | st.text(max_size=3) | st.none() | JSON
METHODS = st.sampled_from(
    ["tools/call", "tools/list", "ping", "initialize", "resources/read", "prompts/get", "completion/complete",
     "nonsense", "notifications/cancelled", "logging/setLevel"]
)  # fmt: skip
CALLS = st.fixed_dictionaries(
    {"name": st.sampled_from(["store", "retrieve", "search", "forget", "list", "nonsense"]) | JSON},
    optional={"arguments": JSON | st.dictionaries(st.sampled_from(["key", "value", "k", "query", "where"]), JSON)},
)
MESSAGES = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0") | JSON, "method": METHODS | JSON}, optional={"id": ID, "params": CALLS | JSON}
)
RAW = (
    st.binary(max_size=100).map(lambda some: some.replace(b"\n", b""))
    | JSON.map(lambda said: json.dumps(said).encode())
    | MESSAGES.map(lambda said: json.dumps(said).encode())
)


class Speaking:
    """`extmem mcp` in a process of its own, told lines."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process, self.asked, self.rest = process, 0, b""

    def tell(self, line: bytes) -> None:
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def ask(self, method: str, **params: object) -> dict:
        """The answer to a message that is whole, whatever else it says before."""
        self.asked += 1
        number = f"asked {self.asked}"
        self.tell(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode())
        until = time.monotonic() + 30
        while True:
            line, found, rest = self.rest.partition(b"\n")
            if found:
                self.rest, said = rest, json.loads(line)
                if said.get("id") == number:
                    return said
                continue
            assert time.monotonic() < until and self.process.poll() is None, "it died, or says nothing more"
            if select.select([self.process.stdout], [], [], 1)[0]:
                piece = os.read(self.process.stdout.fileno(), 1 << 16)
                assert piece, "it ended"
                self.rest += piece


@contextmanager
def speaking(memory):
    with memory.with_name("mcp.log").open("ab") as log:
        process = subprocess.Popen(
            [EXTMEM, "mcp", str(memory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        )
    try:
        said = Speaking(process)
        about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "fuzz", "version": "1"}}
        assert "result" in said.ask("initialize", **about)
        said.tell(b'{"jsonrpc": "2.0", "method": "notifications/initialized"}')
        yield said
        process.stdin.close()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_no_line_brings_the_mcp_server_down_and_the_memory_stays_whole(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memory.store("apple", "A fruit")
    with speaking(tmp_path / "m") as server:

        @settings(BOUNDED, max_examples=120)
        @given(line=RAW)
        @example(line=b"")
        @example(line=b"\xff\xfe{}")
        @example(line=b'{"jsonrpc": "2.0", "id": 1, "method": "\xff"}')
        @example(line=b"[" * 100_000)
        @example(line=b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": "' + b"a" * 5_000_000 + b'"}}')
        @example(line=b'{"jsonrpc": "2.0", "id": ' + b"1" * 5000 + b', "method": "ping"}')
        @example(line=b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]')
        def tell(line):
            server.tell(line)
            assert "result" in server.ask("ping")

        tell()
        stored = server.ask("tools/call", name="store", arguments={"key": "after", "value": "still here"})
        assert stored["result"]["structuredContent"]["key"] == "after"
    with Memory(tmp_path / "m") as memory:
        assert memory.retrieve("after") == "still here"
        assert memory.verify() == []
