"""The MCP server as its clients meet it: the official client, over a real process and over real HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp import Client, StdioServerParameters

from extmem import Memory
from extmem.errors import InvalidInput
from extmem.exchange.importing import import_from
from extmem.serve.mcp.server import MemoryServer, listening

EXTMEM = str(Path(sys.executable).with_name("extmem"))
READING = {"retrieve", "search", "list"}


@asynccontextmanager
async def client(place: Path, *options: str) -> AsyncIterator[Client]:
    """The official client of `extmem mcp` in a process of its own, over stdio."""
    command = StdioServerParameters(command=EXTMEM, args=["mcp", str(place), *options], env={**os.environ})
    async with Client(command, read_timeout_seconds=60) as opened:
        yield opened


def within(memory: Memory, family: str, then: Callable[[Client], Awaitable[Any]], read_only: bool = False) -> Any:
    """What comes of `then` with the official client of a server in this process."""

    async def run() -> Any:
        async with Client(MemoryServer(memory, family, read_only)) as opened:
            return await then(opened)

    return anyio.run(run)


async def told(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.content[0].text
    return answer.structured_content


async def text(client: Client, tool: str, **arguments: Any) -> str:
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.content[0].text
    return answer.content[0].text


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    """The one line of a call that is refused."""
    answer = await client.call_tool(tool, arguments)
    assert answer.is_error, answer
    said = answer.content[0].text
    assert "\n" not in said and "Traceback" not in said and ".py" not in said
    return said


# Our own tools


def test_our_own_tools_store_find_list_and_forget_over_stdio(tmp_path):
    async def run():
        async with client(tmp_path / "m.mem") as c:
            assert await told(c, "store", key="apple", value="A fruit", metadata={"topic": "food"}) == {
                "key": "apple",
                "version": 1,
            }
            found = await told(c, "retrieve", key="apple")
            assert (found["found"], found["value"], found["metadata"]) == (True, "A fruit", {"topic": "food"})
            assert (await told(c, "retrieve", key="pear"))["found"] is False
            (hit,) = (await told(c, "search", query="which fruit?"))["hits"]
            assert (hit["key"], hit["value"], hit["words"]) == ("apple", "A fruit", ["fruit"])
            assert hit["score"] > 0
            assert (await told(c, "search", query="fruit", where={"metadata.topic": "cars"}))["hits"] == []
            await told(c, "store", key="pear", value='{"not": "parsed"}')
            assert (await told(c, "retrieve", key="pear"))["value"] == '{"not": "parsed"}'
            assert await told(c, "list", limit=1) == {"keys": ["apple"], "more": True}
            assert await told(c, "list", after="apple") == {"keys": ["pear"], "more": False}
            assert await told(c, "forget", key="apple") == {"key": "apple", "forgotten": True}
            assert await told(c, "forget", key="apple") == {"key": "apple", "forgotten": False}
            assert (await told(c, "search", query="fruit"))["hits"] == []

    anyio.run(run)
    with Memory(tmp_path / "m.mem") as memory:
        assert list(memory) == ["pear"]
        assert memory.verify() == []


def test_every_tool_says_what_it_takes_and_whether_it_reads_or_erases():
    async def run(c):
        return (await c.list_tools()).tools

    for family in ("extmem", "reference", "mem0", "anthropic"):
        tools = within(Memory(), family, run)
        for tool in tools:
            assert tool.title and tool.description, tool.name
            assert tool.annotations.read_only_hint is not None
            assert tool.annotations.open_world_hint is False
            for name, schema in tool.input_schema["properties"].items():
                assert schema["description"], (tool.name, name)
    own = {tool.name: tool.annotations for tool in within(Memory(), "extmem", run)}
    assert {name for name, hints in own.items() if hints.read_only_hint} == READING
    assert {name for name, hints in own.items() if hints.destructive_hint} == {"store", "forget"}


@pytest.mark.parametrize(
    ("family", "left"),
    [
        ("extmem", READING),
        ("reference", {"read_graph", "search_nodes", "open_nodes"}),
        ("mem0", {"search_memories", "get_memories", "get_memory"}),
        ("anthropic", {"memory"}),
    ],
)
def test_a_read_only_server_has_no_tool_that_writes(family, left):
    memory = Memory()
    memory.store("/memories/a.txt", "a")

    async def run(c):
        assert {tool.name for tool in (await c.list_tools()).tools} == left
        if family == "anthropic":
            assert "a.txt" in await text(c, "memory", command="view", path="/memories")
            await refused(c, "memory", command="delete", path="/memories/a.txt")

    within(memory, family, run, read_only=True)
    assert list(memory) == ["/memories/a.txt"]


# Those it stands in for


def test_the_reference_servers_nine_tools_make_a_graph():
    memory = Memory()
    ann = {"name": "Ann", "entityType": "person", "observations": ["likes tea"]}
    bob = {"name": "Bob", "entityType": "person", "observations": []}
    knows = {"from": "Ann", "to": "Bob", "relationType": "knows"}

    async def run(c):
        assert await told(c, "create_entities", entities=[ann, bob, ann]) == {"entities": [ann, bob]}
        assert await told(c, "create_entities", entities=[ann]) == {"entities": []}
        assert await told(c, "create_relations", relations=[knows]) == {"relations": [knows]}
        assert await told(c, "create_relations", relations=[knows]) == {"relations": []}
        added = await told(
            c, "add_observations", observations=[{"entityName": "Bob", "contents": ["drives a bus", "drives a bus"]}]
        )
        assert added == {"results": [{"entityName": "Bob", "addedObservations": ["drives a bus"]}]}
        graph = await told(c, "read_graph")
        assert graph == {"entities": [ann, {**bob, "observations": ["drives a bus"]}], "relations": [knows]}
        assert json.loads(await text(c, "read_graph")) == graph
        found = await told(c, "search_nodes", query="who drives buses?")
        assert ([one["name"] for one in found["entities"]], found["relations"]) == (["Bob"], [knows])
        assert [one["name"] for one in (await told(c, "search_nodes", query="IKES TE"))["entities"]] == ["Ann"]
        assert [one["name"] for one in (await told(c, "open_nodes", names=["Bob", "Cy"]))["entities"]] == ["Bob"]
        assert await refused(
            c, "add_observations", observations=[{"entityName": "Cy", "contents": ["x"]}]
        ) == "Entity with name Cy not found"  # fmt: skip
        await refused(c, "create_relations", relations=[{**knows, "to": "Cy"}])
        said = await told(c, "delete_observations", deletions=[{"entityName": "Bob", "observations": ["drives a bus"]}])
        assert said["message"] == "Observations deleted successfully"
        said = await told(c, "delete_relations", relations=[knows, {**knows, "to": "Cy"}])
        assert said["message"] == "Deleted 1 of 2 relations. The rest matched nothing."

    within(memory, "reference", run)


def test_forgetting_an_entity_takes_its_observations_and_relations():
    memory = Memory()
    names = [{"name": name, "entityType": "person", "observations": [f"{name} was here"]} for name in ("Ann", "Bob")]

    async def run(c):
        await told(c, "create_entities", entities=names)
        await told(c, "create_relations", relations=[{"from": "Bob", "to": "Ann", "relationType": "likes"}])
        said = await told(c, "delete_entities", entityNames=["Ann", "Cy"])
        assert said == {"success": True, "message": "Deleted 1 of 2 entities. Not found: Cy"}

    within(memory, "reference", run)
    assert list(memory) == ["Bob"]
    assert memory.search("Ann") == []


def test_an_entity_never_replaces_another_record():
    memory = Memory()
    memory.store("Ann", "a note of mine")

    async def run(c):
        ann = {"name": "Ann", "entityType": "person", "observations": []}
        bob = {"name": "Bob", "entityType": "person", "observations": []}
        assert "another record" in await refused(c, "create_entities", entities=[bob, ann])
        assert await told(c, "read_graph") == {"entities": [], "relations": []}
        await told(c, "delete_entities", entityNames=["Ann"])

    within(memory, "reference", run)
    assert dict(memory.items()) == {"Ann": "a note of mine"}


def test_an_imported_file_of_the_reference_server_is_seen_by_its_tools(tmp_path):
    ann = {"name": "Ann", "entityType": "person", "observations": ["likes tea"]}
    knows = {"from": "Ann", "to": "Ann", "relationType": "knows"}
    lines = [json.dumps({"type": "entity", **ann}), json.dumps({"type": "relation", **knows})]
    (tmp_path / "memory.jsonl").write_text("\n".join(lines))
    memory = Memory()
    import_from(memory, tmp_path / "memory.jsonl")

    async def run(c):
        assert await told(c, "read_graph") == {"entities": [ann], "relations": [knows]}
        assert await told(c, "create_relations", relations=[knows]) == {"relations": []}

    within(memory, "reference", run)


def test_mem0s_seven_tools_add_find_change_and_delete():
    memory = Memory()

    async def run(c):
        (one,) = (await told(c, "add_memory", text="Ann likes tea", user_id="ann", metadata={"topic": "tea"}))[
            "results"
        ]
        assert (one["memory"], one["event"]) == ("Ann likes tea", "ADD")
        await told(c, "add_memory", text="Bob likes tea", user_id="bob/../ann")
        await told(c, "add_memory", text="x", messages=[{"role": "user", "content": "I drink tea"}])
        of_ann = {"AND": [{"user_id": "ann"}]}
        (hit,) = (await told(c, "search_memories", query="tea", filters=of_ann))["results"]
        assert (hit["id"], hit["user_id"], hit["metadata"]) == (one["id"], "ann", {"topic": "tea"})
        (hit,) = (await told(c, "search_memories", query="tea"))["results"]
        assert (hit["memory"], hit["metadata"]) == ("I drink tea", {"role": "user"})
        either = {"OR": [{"user_id": {"in": ["ann", "bob/../ann"]}}, {"agent_id": "none"}]}
        assert (await told(c, "get_memories", filters=either))["count"] == 2
        recent = {"AND": [{"user_id": "ann"}, {"created_at": {"gte": "2999-01-01"}}]}
        assert (await told(c, "get_memories", filters=recent))["count"] == 0
        assert (await told(c, "get_memories", filters={"NOT": [{"user_id": "ann"}]}))["count"] == 2
        assert (await told(c, "get_memories", filters={"metadata": {"topic": "tea"}, "user_id": "*"}))["count"] == 1
        await refused(c, "get_memories", filters={"AND": [{"user_id": {"like": "a"}}]})
        assert (await told(c, "update_memory", memory_id=one["id"], text="Ann likes coffee"))["memory"].endswith(
            "coffee"
        )
        assert (await told(c, "get_memory", memory_id=one["id"]))["metadata"] == {"topic": "tea"}
        await told(c, "delete_memory", memory_id=one["id"])
        assert "there is no memory" in await refused(c, "get_memory", memory_id=one["id"])
        await told(c, "delete_all_memories", user_id="bob/../ann")

    within(memory, "mem0", run)
    assert memory.namespaces() == ["mem0-mcp"]


def test_an_imported_file_of_mem0_is_seen_by_its_tools(tmp_path):
    item = {"id": "1", "memory": "likes tea", "user_id": "a/b", "metadata": {"topic": "tea"}}
    (tmp_path / "mem0.json").write_text(json.dumps({"results": [item]}))
    memory = Memory()
    import_from(memory, tmp_path / "mem0.json")

    async def run(c):
        (hit,) = (await told(c, "search_memories", query="tea", filters={"user_id": "a/b"}))["results"]
        assert {name: hit[name] for name in item} == item

    within(memory, "mem0", run)


def test_the_six_commands_of_anthropics_memory_tool_answer_as_it_is_written():
    memory = Memory()

    async def run(c):
        async def does(**arguments):
            return await text(c, "memory", **arguments)

        async def fails(**arguments):
            answer = await c.call_tool("memory", arguments)
            assert answer.is_error
            return answer.content[0].text

        notes = "/memories/trips/notes.txt"
        created = await does(command="create", path=notes, file_text="one\ntwo\ntwo\n")
        assert created == f"File created successfully at: {notes}"
        assert await fails(command="create", path=notes) == f"Error: File {notes} already exists"
        assert await does(command="view", path=notes) == (
            f"Here's the content of {notes} with line numbers:\n     1\tone\n     2\ttwo\n     3\ttwo"
        )
        assert (await does(command="view", path=notes, view_range=[2, 2])).splitlines()[1:] == ["     2\ttwo"]
        listing = (await does(command="view", path="/memories")).splitlines()
        assert listing[1:] == ["12B\t/memories", "12B\t/memories/trips", f"12B\t{notes}"]
        assert (await does(command="str_replace", path=notes, old_str="one", new_str="1")).splitlines() == [
            "The memory file has been edited.", "     1\t1", "     2\ttwo", "     3\ttwo",
        ]  # fmt: skip
        assert await fails(command="str_replace", path=notes, old_str="two", new_str="2") == (
            "No replacement was performed. Multiple occurrences of old_str `two` in lines: 2, 3. "
            "Please ensure it is unique"
        )
        assert "did not appear verbatim" in await fails(command="str_replace", path=notes, old_str="nine")
        edited = await does(command="insert", path=notes, insert_line=1, insert_text="{}\n")
        assert edited == f"The file {notes} has been edited."
        assert memory.retrieve(notes) == "1\n{}\ntwo\ntwo\n"
        assert "[0, 4]" in await fails(command="insert", path=notes, insert_line=5, insert_text="x")
        moved = await does(command="rename", old_path="/memories/trips", new_path="/memories/play")
        assert moved == "Successfully renamed /memories/trips to /memories/play"
        assert await fails(command="view", path=notes) == (
            f"The path {notes} does not exist. Please provide a valid path."
        )
        await does(command="create", path="/memories/other.txt", file_text="x")
        taken = await fails(command="rename", old_path="/memories/other.txt", new_path="/memories/play")
        assert taken == "Error: The destination /memories/play already exists"
        assert await does(command="delete", path="/memories/play") == "Successfully deleted /memories/play"
        assert await fails(command="delete", path=notes) == f"Error: The path {notes} does not exist"
        await fails(command="delete", path="/memories")

    within(memory, "anthropic", run)
    assert list(memory) == ["/memories/other.txt"]


@pytest.mark.parametrize(
    "path",
    ["", "/", "notes.txt", "/etc/passwd", "/memoriesx/a", "/memories/../a", "/memories/a/../../b", "/memories/./a",
     "/memories//a", "/memories/%2e%2e/a", "/memories/..\\a", "../memories/a"],
)  # fmt: skip
def test_a_path_that_leaves_memories_is_refused(path):
    memory = Memory()
    memory.store("/etc/passwd", "mine")
    memory.store("/memories/b", "b")

    async def run(c):
        for command in ("view", "create", "delete"):
            assert "/memories" in await refused(c, "memory", command=command, path=path)
        await refused(c, "memory", command="rename", old_path="/memories/b", new_path=path)
        await refused(c, "memory", command="rename", old_path=path, new_path="/memories/c")

    within(memory, "anthropic", run)
    assert list(memory) == ["/etc/passwd", "/memories/b"]


# Who sees what


def test_a_server_bound_to_a_namespace_never_leaves_it(tmp_path):
    with Memory(tmp_path / "m.mem") as memory:
        memory.store("secret", "of the root: fruit")
        memory.namespace("bob").store("secret", "of bob: fruit")

    async def run():
        async with client(tmp_path / "m.mem", "--namespace", "ann") as c:
            await told(c, "store", key="mine", value="a fruit")
            assert (await told(c, "list"))["keys"] == ["mine"]
            assert [hit["key"] for hit in (await told(c, "search", query="fruit"))["hits"]] == ["mine"]
            for key in ("secret", "bob/secret", "../secret", "../bob/secret"):
                assert not (await told(c, "retrieve", key=key))["found"]
                assert not (await told(c, "forget", key=key))["forgotten"]
            assert "takes no 'namespace'" in await refused(c, "search", query="fruit", namespace="bob")

    anyio.run(run)
    with Memory(tmp_path / "m.mem") as memory:
        assert memory.namespaces() == ["ann", "bob"]
        assert memory.retrieve("secret") == "of the root: fruit"


def test_mem0s_users_stay_within_the_servers_namespace():
    memory = Memory()
    memory.namespace("bob").store("1", "bob's tea")

    async def run(c):
        for user in ("bob", "../bob", "/bob", ".."):
            await told(c, "delete_all_memories", user_id=user)
            assert (await told(c, "get_memories", filters={"user_id": user}))["count"] == 0
        await refused(c, "get_memory", memory_id="1")
        await told(c, "add_memory", text="ann's", user_id="bob")

    within(memory.namespace("ann"), "mem0", run)
    assert memory.namespace("bob").retrieve("1") == "bob's tea"
    assert memory.namespaces() == ["ann/bob", "bob"]


# Bad input


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("store", {"key": "a"}, "value"),
        ("store", {"key": 1, "value": "x"}, "key"),
        ("store", {"key": "a", "value": ["x"]}, "value"),
        ("store", {"key": "a", "value": "x", "ttl": -1}, "ttl"),
        ("store", {"key": "a", "value": "x", "expect": 7}, "version 7 was expected"),
        ("search", {"query": "x", "k": 0}, "k is 0"),
        ("search", {"query": "x", "where": {"nonsense": 1}}, "nonsense"),
        ("list", {"limit": 0}, "limit"),
        ("erase_everything", {}, "Unknown tool"),
    ],
)
def test_what_cannot_be_taken_is_refused_in_one_line(tool, arguments, said):
    memory = Memory()

    async def run(c):
        assert said in await refused(c, tool, **arguments)

    within(memory, "extmem", run)
    assert len(memory) == 0


def test_an_error_names_no_path(tmp_path):
    place = tmp_path / "m.mem"
    memory = Memory(place)
    for number in range(200):
        memory.store(f"{number}", "x" * 100)
    memory.close()
    content = bytearray((place / "records.db").read_bytes())
    content[4096:] = b"\x55" * (len(content) - 4096)

    async def run(c):
        assert "the memory" in (said := await refused(c, "retrieve", key="1"))
        assert str(tmp_path) not in said

    with Memory(place) as damaged:
        (place / "records.db").write_bytes(content)
        within(damaged, "extmem", run)


@contextmanager
def process(place: Path, *options: str) -> Iterator[subprocess.Popen]:
    """`extmem mcp` as a bare process, for what no client would send."""
    command = [EXTMEM, "mcp", str(place), *options]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as started:
        try:
            yield started
        finally:
            started.kill()


def send(server: subprocess.Popen, method: str, number: int | None = None, **params: Any) -> None:
    message = {"jsonrpc": "2.0", "method": method, "params": params} | ({} if number is None else {"id": number})
    server.stdin.write(json.dumps(message).encode() + b"\n")
    server.stdin.flush()


def answer(server: subprocess.Popen, number: int) -> dict[str, Any]:
    """The answer of that id; every line on the way is a message of the protocol."""
    while line := server.stdout.readline():
        message = json.loads(line)
        assert message["jsonrpc"] == "2.0"
        if message.get("id") == number:
            return message
    raise AssertionError(server.stderr.read().decode())


def greet(server: subprocess.Popen) -> None:
    said = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
    send(server, "initialize", 0, **said)
    assert answer(server, 0)["result"]["serverInfo"]["name"] == "extmem"
    send(server, "notifications/initialized")


def store(server: subprocess.Popen, number: int, key: str) -> None:
    send(server, "tools/call", number, name="store", arguments={"key": key, "value": f"value of {key}"})
    assert not answer(server, number)["result"].get("isError")


def test_lines_that_are_no_messages_are_survived_and_lose_nothing(tmp_path):
    with process(tmp_path / "m.mem") as server:
        greet(server)
        store(server, 1, "before")
        for line in (b"nonsense", b"{", b"\xff\xfe\xfa", b"[]", b"null", b'{"jsonrpc": "2.0", "id": 9}', b"[" * 100_000,
                     b'{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"store","arguments":'
                     b'{"key":"\\ud800","value":"half"}}}', b"", b"\0", b'"' + b"x" * 1_000_000 + b'"'):  # fmt: skip
            server.stdin.write(line + b"\n")
        store(server, 2, "after")
        out, err = server.communicate(timeout=60)
        assert server.returncode == 0, err
        assert all(json.loads(line)["jsonrpc"] == "2.0" for line in out.splitlines())
    with Memory(tmp_path / "m.mem") as memory:
        assert list(memory) == ["after", "before"]
        assert memory.verify() == []


def test_a_server_that_is_killed_loses_no_acknowledged_store(tmp_path):
    with process(tmp_path / "m.mem") as server:
        greet(server)
        for number in range(1, 41):
            store(server, number, f"key {number:03}")
        send(server, "tools/call", 99, name="store", arguments={"key": "unanswered", "value": "x"})
        server.send_signal(signal.SIGKILL)
    with Memory(tmp_path / "m.mem") as memory:
        assert [key for key in memory if key != "unanswered"] == [f"key {number:03}" for number in range(1, 41)]
        assert memory.verify() == []


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("family", ["extmem", "reference", "mem0", "anthropic"])
def test_whatever_is_said_to_a_tool_it_answers_in_one_line_and_nothing_breaks(family):
    memory = Memory()
    server = MemoryServer(memory, family)
    names = {name: sorted(known) for name, known in server.arguments.items()}
    likely = anything | st.sampled_from(["/memories/a", "view", "create", "a", [{"name": "a"}], ["a"]])
    calls = st.sampled_from(sorted(names)).flatmap(
        lambda name: st.tuples(
            st.just(name), st.dictionaries(st.sampled_from(names[name] or ["x"]), likely, max_size=5)
        )
    )

    @settings(max_examples=8)
    @given(st.lists(calls, min_size=5, max_size=10))
    def fuzzed(said: list[tuple[str, dict[str, Any]]]) -> None:
        async def run() -> None:
            async with Client(server) as c:
                for name, arguments in said:
                    answered = await c.call_tool(name, arguments)
                    if answered.is_error:
                        assert answered.content[0].text.count("\n") <= json.dumps(arguments).count("\\n")
                        assert not answered.content[0].text.startswith("Error executing tool")

        anyio.run(run)

    fuzzed()
    assert memory.verify() == []


# Several at once, and HTTP


def test_two_servers_on_one_memory_see_each_others_writes(tmp_path):
    async def run():
        with Memory(tmp_path / "m.mem") as memory:
            async with client(tmp_path / "m.mem") as one, Client(MemoryServer(memory)) as other:
                await told(one, "store", key="apple", value="A fruit")
                assert (await told(other, "search", query="fruit"))["hits"][0]["key"] == "apple"
                await told(other, "forget", key="apple")
                assert (await told(one, "search", query="fruit"))["hits"] == []
                assert (await told(one, "list"))["keys"] == []

    anyio.run(run)


def test_the_same_tools_are_served_over_http_and_to_no_other_origin(tmp_path):
    with process(tmp_path / "m.mem", "--http", "0", "--json") as server:
        address = json.loads(server.stdout.readline())["address"]
        assert address.startswith("http://127.0.0.1:")

        async def run():
            async with Client(address) as one, Client(address) as other:
                await told(one, "store", key="apple", value="A fruit")
                assert (await told(other, "retrieve", key="apple"))["value"] == "A fruit"
                assert "k is 0" in await refused(other, "search", query="x", k=0)

        anyio.run(run)
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        said = {"Accept": "application/json, text/event-stream"}
        for wrong in ({"Origin": "https://example.org"}, {"Host": "example.org"}):
            assert httpx2.post(address, json=message, headers={**said, **wrong}).status_code in (403, 421)
        with pytest.raises(InvalidInput, match="cannot be had"):
            listening(int(address.rpartition(":")[2].removesuffix("/mcp")))
        server.send_signal(signal.SIGINT)
        assert b"Traceback" not in server.communicate(timeout=60)[1]
    with Memory(tmp_path / "m.mem") as memory:
        assert memory.verify() == []


def test_starting_loads_neither_torch_nor_faiss():
    code = "import extmem.serve.mcp.server, sys; print([m for m in ('torch', 'faiss') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
