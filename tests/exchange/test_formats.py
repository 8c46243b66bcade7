"""What people have in other tools is found, told apart, and stored with its times and owners."""

from __future__ import annotations

import gzip
import json
from datetime import datetime, timezone
from pathlib import Path

import pytest

from extmem import Memory
from extmem.errors import ExtmemError, InvalidInput
from extmem.exchange.formats import detect
from extmem.exchange.importing import import_from

MOMENT = datetime(2025, 3, 1, 12, tzinfo=timezone.utc).timestamp()
MCP = [
    {"type": "entity", "name": "Ann", "entityType": "person", "observations": ["likes tea", "plays chess"]},
    {"type": "relation", "from": "Ann", "to": "Bob", "relationType": "knows"},
]
MEM0 = {
    "results": [
        {"id": "m1", "memory": "Likes tea", "user_id": "ann", "hash": "h", "metadata": {"topic": "food"},
         "created_at": "2025-03-01T05:00:00-07:00", "updated_at": None},
        {"id": "m2", "memory": "Plays chess", "user_id": "bob/x", "metadata": None,
         "created_at": "2025-03-01T12:00:00Z"},
    ]
}  # fmt: skip
LANGGRAPH = [
    {
        "namespace": ["users", "ann"],
        "key": "food",
        "value": {"likes": ["tea"]},
        "created_at": "2025-03-01T12:00:00+00:00",
    },
    {"namespace": ["users", "bob"], "key": "food", "value": {"likes": ["cake"]}},
]  # fmt: skip
CHATGPT = [
    {
        "title": "Tea", "conversation_id": "c1", "create_time": MOMENT, "current_node": "3",
        "mapping": {
            "0": {"id": "0", "message": None, "parent": None, "children": ["1"]},
            "1": {"id": "1", "parent": "0", "children": ["2", "4"], "message": {
                "author": {"role": "user"}, "create_time": MOMENT,
                "content": {"content_type": "text", "parts": ["Why tea?"]}}},
            "2": {"id": "2", "parent": "1", "children": ["3"], "message": {
                "author": {"role": "assistant"}, "create_time": MOMENT + 1,
                "content": {"parts": ["Because.", {"image": 1}]}}},
            "3": {"id": "3", "parent": "2", "children": [], "message": {
                "author": {"role": "user"}, "create_time": None, "content": {"parts": [""]}}},
            "4": {"id": "4", "parent": "1", "children": [], "message": {
                "author": {"role": "assistant"}, "create_time": MOMENT + 2, "content": {"parts": ["It is warm."]}}},
        },
    }
]  # fmt: skip


def jsonl(items: list) -> str:
    return "".join(json.dumps(item) + "\n" for item in items)


def imported(path: Path, kind: str) -> Memory:
    memory = Memory()
    assert detect(path) == kind
    assert import_from(memory, path).kind == kind
    assert memory.verify() == []
    return memory


@pytest.fixture(params=["", ".gz"])
def written(request: pytest.FixtureRequest, tmp_path: Path):
    def write(name: str, text: str) -> Path:
        path = tmp_path / f"{name}{request.param}"
        path.write_bytes(gzip.compress(text.encode()) if request.param else text.encode())
        return path

    return write


def test_the_mcp_servers_graph(written):
    memory = imported(written("memory.jsonl", jsonl(MCP)), "mcp")
    assert memory.retrieve("Ann") == {"type": "person", "observations": ["likes tea", "plays chess"]}
    assert memory.retrieve("Ann knows Bob") == {"from": "Ann", "relation": "knows", "to": "Bob"}
    assert memory.search("chess")[0].key == "Ann"
    assert [r.key for r in memory.scan(where={"metadata.kind": "relation"})] == ["Ann knows Bob"]


@pytest.mark.parametrize("whole", [MEM0, MEM0["results"]], ids=["results", "list"])
@pytest.mark.parametrize("indent", [None, 2])
def test_mem0s_memories_belong_to_their_users(written, whole, indent):
    memory = imported(written("mem0.json", json.dumps(whole, indent=indent)), "mem0")
    assert memory.namespaces() == ["ann", "bob%2Fx"] and len(memory) == 0
    record = memory.namespace("ann").record("m1")
    assert (record.value, record.metadata, record.created, record.updated) == (
        "Likes tea", {"topic": "food", "hash": "h"}, MOMENT, MOMENT,
    )  # fmt: skip


@pytest.mark.parametrize("text", [json.dumps(LANGGRAPH), jsonl(LANGGRAPH)], ids=["list", "lines"])
def test_a_langgraph_store(written, text):
    memory = imported(written("store.json", text), "langgraph")
    assert memory.namespaces() == ["users/ann", "users/bob"]
    record = memory.at("users/ann").record("food")
    assert (record.value, record.created) == ({"likes": ["tea"]}, MOMENT)


def test_chatgpts_conversations_with_every_branch(written):
    memory = imported(written("conversations.json", json.dumps(CHATGPT)), "chatgpt")
    assert dict(memory.items()) == {"c1/00001": "Why tea?", "c1/00002": "Because.", "c1/00003": "It is warm."}
    record = memory.record("c1/00002")
    assert (record.metadata, record.created) == ({"title": "Tea", "role": "assistant"}, MOMENT + 1)


@pytest.mark.parametrize(
    ("text", "metadata"),
    [
        ('id,text,page\na,"one, 1",7\nb,two,8\n', {"page": "7"}),
        ("\ufeffpage;Key;Value\r\n7;a;one, 1\r\n8;b;two\r\n", {"page": "7"}),
        ("word\tmeaning\na\tone, 1\nb\ttwo\n", None),
    ],
)
def test_tables(written, text, metadata):
    memory = imported(written("table.csv", text), "csv")
    assert dict(memory.items()) == {"a": "one, 1", "b": "two"}
    assert memory.record("a").metadata == metadata


def test_json_lines_of_any_objects(written):
    lines = [{"id": 7, "content": "seven", "page": 1}, {"text": "no key"}, {"colour": "red"}]
    memory = imported(written("any.jsonl", jsonl(lines)), "jsonl")
    assert dict(memory.items()) == {"7": "seven", "00000002": "no key", "00000003": {"colour": "red"}}
    assert memory.record("7").metadata == {"page": 1}


def test_a_folder_of_text_with_front_matter(tmp_path):
    (tmp_path / "notes" / "deep").mkdir(parents=True)
    (tmp_path / "notes" / "tea.md").write_text("---\ntitle: Tea\ntags: warm\n---\n# Tea\nIs warm.\n")
    (tmp_path / "notes" / "deep" / "plain.txt").write_text("Plain text: no front matter.")
    memory = imported(tmp_path / "notes", "text")
    assert list(memory.keys()) == ["deep/plain.txt", "tea.md"]
    assert memory.record("tea.md").metadata == {"title": "Tea", "tags": "warm"}
    assert memory.retrieve("tea.md") == "# Tea\nIs warm.\n"


def test_keys_that_come_twice_are_counted_and_the_last_one_stays(tmp_path):
    (tmp_path / "a.jsonl").write_text(jsonl([{"key": "k", "value": n} for n in range(3)]))
    memory = Memory()
    assert import_from(memory, tmp_path / "a.jsonl") == (3, 2, "jsonl")
    assert memory.record("k").value == 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", b"", "cannot be told"),
        ("a.bin", b"\x00\x01\x02", "cannot be told"),
        ("a.jsonl", b'{"key": "a", "value": 1}\n{"key"', "line 2 is no JSON"),
        ("a.jsonl", b'{"key": "a", "value": 1}\n[1]\n', "line 2 is no JSON object"),
        ("a.json", json.dumps(CHATGPT).encode()[:-40], "no whole JSON"),
        ("a.json", json.dumps(MEM0).encode()[:-10], "no whole JSON"),
        ("a.json", b'[{"id": "a", "memory": "x"}, 3]', "item 2 is no object"),
        ("a.json", b'[{"id": "a", "memory": "x"}, {"id": "b"}]', "has no 'memory'"),
        ("a.jsonl", jsonl([MCP[0], {"type": "entity", "name": "x"}]).encode(), "line 2 is no entity"),
        ("a.jsonl", '{"key": "é"}'.encode("latin-1"), "not UTF-8"),
        ("a.csv", b"id,text\na,b\nc\n", "line 3 has not 2 columns"),
        ("a.csv", b"id,text\na,b,c\n", "line 2 has not 2 columns"),
        ("a.jsonl.gz", gzip.compress(b'{"key": "a"}')[:-6], "gzip"),
        ("a.txt", b"", "is empty"),
    ],
)
def test_a_file_that_cannot_be_read_gets_one_line_and_stores_nothing(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    memory = Memory()
    with pytest.raises(ExtmemError) as error:
        import_from(memory, tmp_path / name)
    assert said in str(error.value) and "\n" not in str(error.value) and name in str(error.value)
    assert len(memory) == 0 and memory.namespaces() == []


def test_a_kind_and_a_path_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="no kind 'excel'"):
        import_from(Memory(), tmp_path, "excel")
    with pytest.raises(InvalidInput, match="does not exist"):
        import_from(Memory(), tmp_path / "nothing")
