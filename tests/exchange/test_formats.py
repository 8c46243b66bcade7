"""What people have in other tools is found, told apart, and stored with its times and owners."""

from __future__ import annotations

import csv
import gzip
import json
import os
from datetime import datetime, timezone
from pathlib import Path

import pytest

from extmem import Memory
from extmem.errors import ExtmemError, InvalidInput
from extmem.exchange.formats import detect
from extmem.exchange.importing import Imported, import_from

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
        {"id": "m3", "memory": "Plays go", "user_id": "bob%2Fx"},
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
    {"namespace": "abc", "key": "food", "value": {"likes": ["fish"]}},
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
    assert memory.namespaces() == ["ann", "bob%252Fx", "bob%2Fx"] and len(memory) == 0
    record = memory.namespace("ann").record("m1")
    assert (record.value, record.metadata, record.created, record.updated) == (
        "Likes tea", {"topic": "food", "hash": "h"}, MOMENT, MOMENT,
    )  # fmt: skip


@pytest.mark.parametrize("text", [json.dumps(LANGGRAPH), jsonl(LANGGRAPH)], ids=["list", "lines"])
def test_a_langgraph_store(written, text):
    memory = imported(written("store.json", text), "langgraph")
    assert memory.namespaces() == ["abc", "users/ann", "users/bob"]
    record = memory.at("users/ann").record("food")
    assert (record.value, record.created) == ({"likes": ["tea"]}, MOMENT)


def test_chatgpts_conversations_with_every_branch(written):
    memory = imported(written("conversations.json", json.dumps(CHATGPT)), "chatgpt")
    assert dict(memory.items()) == {"c1/00001": "Why tea?", "c1/00002": "Because.", "c1/00003": "It is warm."}
    record = memory.record("c1/00002")
    assert (record.metadata, record.created) == ({"title": "Tea", "role": "assistant"}, MOMENT + 1)


def test_what_is_not_text_in_a_conversation_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("extmem.exchange.importing.RECORDS", 2)
    talk = {"mapping": {"a": {"message": {"content": {"content_type": "code", "text": "1 + 1"}}}}, "id": "c2"}
    (tmp_path / "a.json").write_text(json.dumps([talk, *CHATGPT, {**talk, "title": "Last"}]))
    assert import_from(Memory(), tmp_path / "a.json") == Imported(3, 0, "chatgpt", 3)
    (tmp_path / "b.json").write_text(json.dumps([talk, *CHATGPT, {"mapping": {"a": 1}}]))
    memory = Memory()
    with pytest.raises(InvalidInput, match="record 6 "):
        import_from(memory, tmp_path / "b.json")
    (note,) = memory.records.ledger("import").values()
    assert (note, len(memory)) == ({"records": 4}, 2)


def test_a_conversation_that_goes_in_a_circle_ends(tmp_path):
    def node(above: str | None, *below: str) -> dict:
        return {"parent": above, "children": below, "message": {"content": {"parts": [f"below {above}"]}}}

    tree = {
        "a": node(None, "b"),
        "b": node("a", "c", "b"),
        "c": node("b", "a"),
        "x": node("y", "y"),
        "y": node("x", "x"),
    }
    (tmp_path / "a.json").write_text(json.dumps([{"id": "c", "mapping": tree}]))
    memory = imported(tmp_path / "a.json", "chatgpt")
    assert [memory.retrieve(key) for key in memory] == [f"below {name}" for name in (None, "a", "b", "y", "x")]


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


def test_a_table_is_read_by_its_delimiter_and_double_quotes_alone(tmp_path):
    rows = (
        [("1", "'hello'"), ("2", "x" * 200_000)] + [(str(n), "plain") for n in range(3, 1500)] + [("1500", 'a "b", c')]
    )
    with open(tmp_path / "a.csv", "w", newline="") as file:
        csv.writer(file).writerows([("id", "text"), *rows])
    assert dict(imported(tmp_path / "a.csv", "csv").items()) == dict(rows)
    (tmp_path / "b.csv").write_text("id,text\n1,'hello'\n2,'you'\n")
    assert dict(imported(tmp_path / "b.csv", "csv").items()) == {"1": "'hello'", "2": "'you'"}
    (tmp_path / "c.csv").write_text("id,text\n" + '1,"one, two"\n' * 700 + '2,"a ""b"", c"\n')
    assert imported(tmp_path / "c.csv", "csv").retrieve("2") == 'a "b", c'


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


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "vault" / "deep").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "vault" / "own.txt").write_text("own")
    (tmp_path / "vault" / "link.txt").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "vault" / "deep" / "within.txt").symlink_to("../own.txt")
    assert dict(imported(tmp_path / "vault", "text").items()) == {"deep/within.txt": "own", "own.txt": "own"}


def test_keys_that_come_twice_are_counted_and_the_last_one_stays(tmp_path):
    (tmp_path / "a.jsonl").write_text(jsonl([{"key": "k", "value": n} for n in range(3)]))
    memory = Memory()
    assert import_from(memory, tmp_path / "a.jsonl") == Imported(3, 2, "jsonl")
    assert memory.record("k").value == 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", b"", "cannot be told"),
        ("a.bin", b"\x00\x01\x02", "cannot be told"),
        ("a.jsonl", b'{"key": "a", "value": 1}\n{"key"', "line 2 is not JSON"),
        ("a.jsonl", b'{"key": "a", "value": 1}\n[1]\n', "line 2 is not a JSON object"),
        ("a.json", json.dumps(CHATGPT).encode()[:-40], "not whole JSON"),
        ("a.json", json.dumps(MEM0).encode()[:-10], "not whole JSON"),
        ("a.json", b'[{"id": "a", "memory": "x"}, 3]', "item 2 is not an object"),
        ("a.json", b'[{"id": "a", "memory": "x"}, {"id": "b"}]', "has no 'memory'"),
        ("a.jsonl", jsonl([MCP[0], {"type": "entity", "name": "x"}]).encode(), "line 2 is not an entity"),
        ("a.jsonl", '{"key": "é"}'.encode("latin-1"), "not UTF-8"),
        ("a.csv", b"id,text\na,b\nc\n", "line 3 has not 2 columns"),
        ("a.csv", b"id,text\na,b,c\n", "line 2 has not 2 columns"),
        ("a.csv", b"id,text,note,note\na,b,c,d\n", "two columns 'note'"),
        ("a.csv", b"id,text\na,b\n,c\n", "line 3 has an empty key"),
        ("a.jsonl.gz", gzip.compress(b'{"key": "a"}', mtime=0)[:-6], "gzip"),
        ("a.txt", b"", "is empty"),
        ("a.json", b"{" * 100_000, "cannot be told"),
        ("a.json", b'{"a":' * 30_000, "cannot be told"),
        ("a.json", b'[{"mapping": [1]}]', "record 1 is not of the kind chatgpt"),
        ("a.json", b'[{"mapping": {"a": null}}]', "record 1 is not of the kind chatgpt"),
        ("a.json", json.dumps([*CHATGPT, {"mapping": {"a": {"message": "Hi"}}}]).encode(), "record 5 is not of"),
        ("a.json", b'[{"id": "a", "memory": "x", "metadata": [1]}]', "record 1 is not of the kind mem0"),
        ("a.jsonl", b'{"namespace": ["a"], "key": "b", "value": 1, "created_at": 1e999}', "created is inf"),
        ("a.json", b'[{"namespace": 1, "key": "a", "value": 1}]', "record 1 is not of the kind langgraph"),
        ("a.jsonl", b'{"key": "a", "value": 1}\n{"key": "b", "value": null}', "record 2 is not of the kind jsonl"),
        ("a.jsonl", jsonl([{**MCP[0], "name": 3}]).encode(), "key 3 is not text"),
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
    with pytest.raises(InvalidInput, match="does not exist"):
        import_from(Memory(), tmp_path / "nothing", "csv")


def test_what_cannot_be_read_twice_is_refused_with_the_way_to_do_it(tmp_path):
    with pytest.raises(InvalidInput, match=r"standard input cannot be read twice.*to a file first"):
        import_from(Memory(), "-")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInput, match="pipe cannot be read twice"):
        import_from(Memory(), tmp_path / "pipe")
