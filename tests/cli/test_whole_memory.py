"""Commands on a whole memory: what they say of what they did."""

from __future__ import annotations

import json

import pytest
from shell import declined, run, said, told

from extmem import Memory
from extmem.indexes.postings import Document


@pytest.fixture
def home(tmp_path):
    """A folder with a memory m: 2 records in the root, one in alice, one in alice/old."""
    with Memory(tmp_path / "m") as memory:
        memory.store_many([("apple", "a red fruit"), ("pear", "a green fruit")])
        memory.at("alice").store("job", "cook")
        memory.at("alice/old").store("job", "waiter")
    return tmp_path


def test_stats_are_a_table_for_people_and_an_object_for_machines(home):
    figures = told("stats", "--memory", "m", folder=home)
    assert figures["records"] == 2
    assert figures["namespaces"] == ["alice", "alice/old"]
    assert figures["datastores"] == []
    assert (figures["encrypted"], figures["history"], figures["place"]) == (False, False, "m")
    assert figures["bytes"] == (home / "m" / "records.db").stat().st_size
    assert said("keep-history", "--memory", "m", folder=home) == ""
    table = said("stats", "--memory", "m", folder=home)
    for name, figure in (
        ("records", "2"), ("namespaces", "2 (alice, alice/old)"), ("encrypted", "no"), ("history kept", "yes"),
        ("on disk", "kB"), ("datastores", "none"),
    ):  # fmt: skip
        (row,) = [line for line in table.splitlines() if line.startswith(f"│ {name} ")]
        assert row.rstrip(" │").endswith(figure)
    assert table.startswith("m")


def test_commands_say_what_they_did(home):
    assert said("snapshot", "copy", "--memory", "m", folder=home) == "copied 4 records to copy\n"
    assert said("snapshot", "part", "--memory", "m", "--namespace", "alice", folder=home) == (
        "copied 2 records to part\n"
    )
    assert said("list", "--memory", "part", folder=home) == "job\n"
    assert told("snapshot", "other", "--memory", "m", folder=home) == {"to": "other", "records": 4}
    assert said("restore", "copy", "--memory", "back", folder=home) == "copied 4 records to back\n"
    assert told("restore", "copy", "--memory", "again", folder=home) == {"to": "again", "records": 4}
    assert said("drop", "alice/old", "--memory", "m", folder=home) == "erased 1 record of namespace alice/old\n"
    assert said("drop", "alice", "--memory", "back", folder=home) == "erased 2 records of namespace alice\n"
    assert told("drop", "bob", "--memory", "m", folder=home, status=1) == {"namespace": "bob", "forgotten": 0}
    assert told("keep-history", "--memory", "m", folder=home) == {"history": True}
    assert told("keep-history", "--off", "--memory", "m", folder=home) == {"history": False}
    assert said("export", "m.jsonl", "--memory", "m", folder=home) == "3 records\n"
    for name in ("copy", "part", "back", "m"):
        assert [path.name for path in (home / name).iterdir()] == ["records.db"]


def test_keys_are_made_and_changed_aloud(tmp_path):
    warning = "keep this file: without it nobody can read the memory\n"
    assert said("new-key", "one.key", folder=tmp_path) == f"wrote one.key; {warning}"
    assert told("new-key", "two.key", folder=tmp_path) == {"file": "two.key"}
    one, two = {"EXTMEM_KEY": "one.key"}, {"EXTMEM_KEY": "two.key"}
    said("store", "k", "v", "--memory", "m", folder=tmp_path, env=one)
    assert told("stats", "--memory", "m", folder=tmp_path, env=one)["encrypted"] is True
    assert "encrypted anew" in said("rotate", "--memory", "m", folder=tmp_path, env=one)
    assert told("rotate", "--memory", "m", folder=tmp_path, env=one) == {"rotated": "keys"}
    assert said("rotate", "--memory", "m", "--master", "two.key", folder=tmp_path, env=one) == (
        f"the master key is now the one in two.key; {warning}"
    )
    assert told("list", "--memory", "m", folder=tmp_path, env=one, status=2)["kind"] == "WrongKey"
    assert said("snapshot", "copy", "--memory", "m", folder=tmp_path, env=two) == "copied 1 record to copy\n"
    assert said("retrieve", "k", "--memory", "copy", folder=tmp_path, env=two) == "v\n"
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["records.db"]


def test_import_counts_the_keys_that_came_twice(tmp_path):
    for keys, twice in (("ab", ""), ("aba", ", 1 key came twice, the last value was kept"),
                        ("abab", ", 2 keys came twice, the last value was kept")):  # fmt: skip
        rows = [json.dumps({"key": key, "value": f"v{number}"}) for number, key in enumerate(keys)]
        (tmp_path / f"{keys}.jsonl").write_text("\n".join(rows))
        printed = said("import", f"{keys}.jsonl", "--memory", keys, folder=tmp_path)
        assert printed == f"{len(keys)} records (jsonl{twice})\n"
        assert said("retrieve", "a", "--memory", keys, folder=tmp_path) == f"v{keys.rindex('a')}\n"


def test_verify_says_how_much_it_read(home):
    said("search", "fruit", "--memory", "m", folder=home)
    well = "4 records in 3 namespaces: every checksum is right, every index holds exactly its records' entries\n"
    assert said("verify", "--memory", "m", folder=home) == well
    assert said("verify", "--repair", "--memory", "m", folder=home) == well
    assert told("verify", "--memory", "m", folder=home) == {"wrong": []}
    assert told("verify", "--repair", "--memory", "m", folder=home) == {"wrong": [], "mended": [], "gave_up": []}


def misled(folder) -> None:
    """Has the keyword index of a memory say what its records do not."""
    with Memory(folder) as memory:
        memory.search("fruit")
        with memory.transaction():
            memory.derived.keyword._postings.add([Document(99, {"nobody": 1}, 1)])


def test_repair_says_what_it_mended(home):
    misled(home / "m")
    wrong = told("verify", "--memory", "m", folder=home, status=1)["wrong"]
    assert wrong
    printed = run("verify", "--memory", "m", folder=home)
    assert (printed.stdout.splitlines(), printed.returncode) == (wrong, 1)
    lines = said("verify", "--repair", "--memory", "m", folder=home).splitlines()
    assert lines[:-1] == [f"mended: {line}" for line in wrong]
    assert lines[-1].startswith("4 records in 3 namespaces: every checksum is right")
    misled(home / "m")
    repaired = told("verify", "--repair", "--memory", "m", folder=home)
    assert repaired == {"wrong": [], "mended": wrong, "gave_up": []}


def test_repair_says_what_it_gave_up(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memory.store_many((f"k{number}", f"quick fox {number} " * 5) for number in range(3000))
        memory.search("fox")
        where = f"name = '{memory.derived.keyword._postings.table}' AND pagetype = 'leaf'"
        (page,) = memory.records.run(f"SELECT max(pageno) FROM dbstat WHERE {where}")[0]
    flipped(tmp_path / "m", (page - 1) * 4096 + 1000)
    assert run("verify", "--memory", "m", folder=tmp_path).returncode == 1
    gave_up, well = said("verify", "--repair", "--memory", "m", folder=tmp_path).splitlines()
    assert gave_up.startswith("gave up: keyword index")
    assert well.startswith("3,000 records in 1 namespace: every checksum is right")
    assert said("search", "2999", "--memory", "m", folder=tmp_path).split()[2] == "k2999"


def flipped(folder, at: int) -> None:
    """Flips a bit of records.db."""
    content = bytearray((folder / "records.db").read_bytes())
    content[at] ^= 1
    (folder / "records.db").write_bytes(content)


def test_salvage_copies_what_can_be_read(home):
    assert said("salvage", "whole", "--memory", "m", folder=home) == (
        "copied 4 records to whole; 0 places could not be read\n"
    )
    assert said("retrieve", "job", "--memory", "whole", "--namespace", "alice", folder=home) == "cook\n"
    assert told("salvage", "other", "--memory", "m", folder=home) == {"to": "other", "records": 4, "unread": 0}
    with Memory(home / "big") as memory:
        memory.store_many((f"key {number:04}", f"value {number:04} " * 20) for number in range(2000))
    flipped(home / "big", (home / "big" / "records.db").read_bytes().index(b"value 1000"))
    assert run("verify", "--memory", "big", folder=home).returncode == 1
    saved = told("salvage", "saved", "--memory", "big", folder=home, status=1)
    assert saved["unread"] > 0
    assert 1800 < saved["records"] < 2000
    assert said("retrieve", "key 0001", "--memory", "saved", folder=home) == "value 0001 " * 20 + "\n"
    assert run("verify", "--memory", "saved", folder=home).returncode == 0
    assert "saved" in declined("salvage", "saved", "--memory", "big", folder=home)
