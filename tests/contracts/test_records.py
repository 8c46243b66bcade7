"""The contract of records, held by every implementation."""

from __future__ import annotations

import pytest

from extmem.errors import InvalidInput, MemoryFormatError
from extmem.records.base import Record, Records
from extmem.records.ram import RamRecords
from extmem.records.sealed import Sealed
from extmem.records.sqlite import SqliteRecords

KEY = bytes(range(32))  # of conftest.py


def put(records: Records, key: str, value: object) -> int:
    return records.put(Record(key, value)).id


def test_a_key_has_one_value_the_last_one_put(records):
    first, second = put(records, "k", "one"), put(records, "k", {"two": [2, None]})
    assert second > first
    assert records.get("k") == {"two": [2, None]}
    assert records.find("k").id == second
    assert records.by_id(first) is None
    assert records.by_id(second).key == "k"
    assert len(records) == 1


def test_a_record_comes_back_with_all_that_is_said_of_it(records):
    said = Record("k\0", b"\0", 3, 1.5, 2.5, {"a": [1, None, "\0"]}, "ann\0", 0.25, 9e9, -1.0, 8e9, 8e9)
    stored = records.put(said)
    assert stored == said._replace(id=stored.id) == records.find("k\0") == records.by_id(stored.id)
    again = records.put(stored._replace(due=None))
    assert again.id == stored.id, "a record that has an id keeps it"
    assert records.find("k\0") == stored._replace(due=None)


def test_what_is_new_is_added_and_the_rest_is_told(records):
    put(records, "a", "old")
    like = Record("", None, 1, 5.0, 5.0, {"of": "all"}, "ann", 0.5)
    assert records.add_new([("a", 1), ("b", 2), ("c", b"3")], like) == [("a", 1)]
    assert records.add_new([("b", 4)], like) == [("b", 4)]
    assert records.add_new([], like) == []
    assert {key: records.get(key) for key in "abc"} == {"a": "old", "b": 2, "c": b"3"}
    assert records.find("b") == like._replace(key="b", value=2, id=records.find("b").id)
    with pytest.raises(InvalidInput):
        records.add_new([("d", 1), ("e", None)], like)
    assert records.find("d") is None


def test_an_id_is_never_given_twice(records):
    given = [put(records, "a", "x")]
    for _ in range(3):
        assert records.delete("a")
        given.append(put(records, "a", "x"))
    with pytest.raises(RuntimeError), records.transaction():
        given_inside = put(records, "b", "x")
        raise RuntimeError
    assert given == sorted(set(given))
    assert put(records, "c", "x") > given[-1]
    assert records.by_id(given_inside) is None or records.by_id(given_inside).key == "c"


def test_deleting_what_is_not_there_says_so(records):
    assert not records.delete("nothing")
    assert records.find("nothing") is None


def test_many_are_got_at_once(records):
    with records.transaction():
        for number in range(1200):
            put(records, f"k{number}", number)
    wanted = [f"k{number}" for number in range(0, 2400, 2)]
    assert records.get_many(wanted) == {f"k{number}": number for number in range(0, 1200, 2)}
    assert records.get_many([]) == {}


def test_keys_come_in_order_by_prefix_and_behind_a_key(records):
    for key in ["b", "a/2", "é", "a/10", "a", "中", "B", "", "😀", "\uffff"]:
        put(records, key, key)
    everything = sorted(["b", "a/2", "é", "a/10", "a", "中", "B", "", "😀", "\uffff"])
    assert list(records.keys()) == everything
    assert [record.key for record in records.iterate()] == everything
    assert list(records.keys("a/")) == ["a/10", "a/2"]
    assert list(records.keys("a", after="a")) == ["a/10", "a/2"]
    assert list(records.keys("b", after="a/2")) == ["b"]
    assert list(records.keys(after="b")) == everything[everything.index("b") + 1 :]
    assert list(records.keys("z")) == []


def test_iterating_by_pages_gives_every_key_once_whatever_is_written_meanwhile(records):
    with records.transaction():
        for number in range(600):
            put(records, f"{number:04}", "x" * 10)
    seen = []
    for record in records.iterate():
        seen.append(record.key)
        put(records, record.key, "again")
        put(records, f"{record.key}+", "new")
        records.delete(f"{int(record.key) // 2:04}-")
    assert seen == [f"{number:04}" for number in range(600)]
    assert len(records) == 1200


def test_ids_since_one_come_by_id(records):
    given = [put(records, key, key) for key in "cab"]
    alice = put(records.within("alice"), "k", "hers")
    assert records.ids() == set(given)
    assert [record.id for record in records.since(0, 9)] == given
    assert [record.key for record in records.since(given[0], 1)] == ["a"]
    assert records.since(alice, 9) == []


def test_a_key_without_a_valid_value_is_known_and_not_there(records):
    records.put(Record("k", None, due=100.0))
    records.put(Record("over", "x", due=100.0))
    records.put(Record("later", "x", due=9e15))
    assert records.find("k").value is None
    assert records.get("k") is None and records.get("over") is None and records.get("later") == "x"
    assert records.get_many(["k", "over", "later"]) == {"later": "x"}
    assert list(records.keys()) == ["later", "over"] and len(records) == len(records.ids()) == 2
    assert records.waiting() == ["k"] and records.within("alice").waiting() == []
    assert sorted(records.due(100.0)) == ["k", "over"] and records.due(99.0) == []
    assert records.delete("k")


def test_states_are_kept_by_version_and_erased_with_their_key(records):
    put(records, "k", "now")
    for version in (2, 1):
        records.keep(Record("k", f"value {version}", version))
    records.keep(Record("k", "value 2 again", 2, metadata={"a": 1}))
    assert [state.value for state in records.states("k")] == ["value 1", "value 2 again"]
    assert records.states("k")[1].metadata == {"a": 1}
    assert records.within("alice").states("k") == []
    records.delete("k")
    assert records.states("k") == []


@pytest.mark.parametrize("prefix", ["%", "_", "a%", "'", "\\"])
def test_a_prefix_is_text_and_no_pattern(records, prefix):
    put(records, "abc", 1)
    put(records, f"{prefix}x", 2)
    assert list(records.keys(prefix)) == [f"{prefix}x"]


def test_namespaces_see_only_their_own(records):
    alice, bob = records.within("alice"), records.within("bob")
    inner = alice.within("bob")
    for place, value in ((records, "root"), (alice, "alice"), (bob, "bob"), (inner, "inner")):
        put(place, "k", value)
    assert [place.get("k") for place in (records, alice, bob, inner)] == ["root", "alice", "bob", "inner"]
    assert all(len(place) == 1 for place in (records, alice, bob, inner))
    assert alice.by_id(bob.find("k").id) is None
    assert records.namespaces() == ["alice", "alice/bob", "bob"]
    assert alice.namespaces() == ["alice/bob"]
    bob.delete("k")
    assert [place.get("k") for place in (records, alice, bob, inner)] == ["root", "alice", None, "inner"]


def fill(place: Records, word: str) -> None:
    put(place, "k", word)
    place.keep(Record("k", f"{word} state"))
    place.ledger_put("kind", "name", {"note": word})
    with place.transaction():
        place.write_file("datastores/m/file", word.encode())


def test_dropping_a_namespace_erases_all_of_it_and_only_it(records):
    names = ["", "alice", "alice/inner", "alice0", "alicf", "alice-", "ali"]
    places = {}
    for name in names:
        places[name] = records
        for part in filter(None, name.split("/")):
            places[name] = places[name].within(part)
        fill(places[name], name)
    assert places["alice"].drop() == 2
    for name in names:
        gone = name.startswith("alice/") or name == "alice"
        place = places[name]
        assert (place.get("k"), len(place.states("k"))) == ((None, 0) if gone else (name, 1))
        assert place.ledger("kind") == ({} if gone else {"name": {"note": name}})
        assert place.files("datastores/m") == ([] if gone else ["datastores/m/file"])
    assert records.namespaces() == ["ali", "alice-", "alice0", "alicf"]


def test_a_drop_that_is_rolled_back_erases_nothing(records):
    alice = records.within("alice")
    fill(alice, "hers")
    with pytest.raises(RuntimeError), records.transaction():
        alice.drop()
        raise RuntimeError
    assert alice.get("k") == "hers"
    assert alice.read_file("datastores/m/file") == b"hers"


def test_files_are_kept_by_namespace(records):
    alice = records.within("alice")
    with records.transaction():
        records.write_file("datastores/m/a", b"\0one")
        records.write_file("datastores/n/b", b"two")
        alice.write_file("datastores/m/a", b"hers")
    assert records.read_file("datastores/m/a") == b"\0one" and alice.read_file("datastores/m/a") == b"hers"
    assert records.files("datastores/m") == ["datastores/m/a"] and records.files("datastores/o") == []
    records.delete_file("datastores/m/a")
    records.delete_file("datastores/m/a")
    with pytest.raises(MemoryFormatError, match="missing"):
        records.read_file("datastores/m/a")
    assert alice.read_file("datastores/m/a") == b"hers"


@pytest.mark.parametrize("name", ["", "a/b", "/", None, 3, "\ud800"])
def test_a_namespace_without_a_usable_name_is_refused(records, name):
    with pytest.raises(InvalidInput):
        records.within(name)


@pytest.mark.parametrize("key", [None, 3, b"k", "\ud800"])
def test_a_key_that_is_no_text_is_refused(records, key):
    for refused in (
        lambda: put(records, key, "x"), lambda: records.get(key), lambda: records.find(key),
        lambda: records.delete(key), lambda: records.get_many([key]),
        lambda: records.add_new([(key, 1)], Record("", None)), lambda: list(records.keys(key)),
    ):  # fmt: skip
        with pytest.raises(InvalidInput):
            refused()
    assert len(records) == 0


def test_the_ledger_keeps_the_order_of_entering(records):
    for name in ("b", "a", "c"):
        records.ledger_put("kind", name, {"n": name})
    records.ledger_put("kind", "b", {"n": "again"})
    records.ledger_put("other", "x", {})
    records.ledger_remove("kind", "a")
    records.ledger_remove("kind", "never there")
    assert list(records.ledger("kind").items()) == [("c", {"n": "c"}), ("b", {"n": "again"})]
    assert records.within("alice").ledger("kind") == {}


def everything(records: Records) -> tuple:
    return list(records.iterate()), [records.states(key) for key in "ab"], list(records.ledger("kind").items())


def test_a_transaction_that_fails_leaves_everything_as_it_was(records):
    put(records, "a", 1)
    put(records, "b", 2)
    records.keep(Record("a", 0))
    for name in ("x", "y"):
        records.ledger_put("kind", name, {"is": name})
    before = everything(records), everything(records.within("alice"))
    with pytest.raises(RuntimeError), records.transaction():
        put(records, "a", "changed")
        put(records, "c", "new")
        records.add_new([("d", 1), ("e", 2)], Record("", None))
        records.delete("b")
        put(records, "b", "back again")
        records.keep(Record("b", 0))
        records.delete("a")
        records.ledger_remove("kind", "x")
        records.ledger_put("kind", "y", {"is": "changed"})
        with records.transaction():
            put(records.within("alice"), "k", "hers")
        assert records.in_transaction
        raise RuntimeError
    assert (everything(records), everything(records.within("alice"))) == before
    assert not records.in_transaction


def test_an_inner_transaction_is_all_or_nothing_within_the_outer(records):
    put(records, "there", "before")
    with records.transaction():
        put(records, "first", 1)
        with pytest.raises(RuntimeError), records.transaction():
            put(records, "inner", 1)
            put(records, "there", "changed")
            records.ledger_put("kind", "inner", {})
            records.write_file("datastores/inner", b"x")
            with records.transaction():
                records.delete("first")
            raise RuntimeError
        assert records.get("inner") is None and records.get("there") == "before" and records.get("first") == 1
        put(records, "outer", 2)
    assert list(records.keys()) == ["first", "outer", "there"] and records.get("outer") == 2
    assert records.ledger("kind") == {} and records.files("datastores") == []
    with pytest.raises(RuntimeError), records.transaction():
        with records.transaction():
            put(records, "kept by the inner one", 1)
        raise RuntimeError
    assert records.get("kept by the inner one") is None and len(records) == 3


def test_the_generation_differs_after_every_change(records):
    seen = [records.generation()]
    for change in (
        lambda: put(records, "a", 1),
        lambda: put(records, "a", 2),
        lambda: records.add_new([("b", 1)], Record("", None)),
        lambda: records.ledger_put("kind", "x", {}),
        lambda: records.ledger_remove("kind", "x"),
        lambda: records.delete("a"),
    ):
        change()
        seen.append(records.generation())
    assert len(set(seen)) == len(seen)
    assert records.generation() == seen[-1]


def test_a_file_is_there_when_its_transaction_is_committed_and_only_then(records):
    name = "datastores/m/a"
    with records.transaction():
        records.write_file(name, b"first")
        assert records.read_file(name) == b"first"
    for change in (
        lambda: records.write_file(name, b"second"),
        lambda: records.delete_file(name),
        lambda: records.write_file("datastores/m/b", b"new"),
    ):
        with pytest.raises(RuntimeError), records.transaction():
            change()
            raise RuntimeError
        assert records.files("datastores/m") == [name] and records.read_file(name) == b"first"
    records.write_file(name, b"second")
    assert records.read_file(name) == b"second"
    records.delete_file(name)
    with pytest.raises(MemoryFormatError):
        records.read_file(name)
    if isinstance(records, SqliteRecords):
        assert not [path for path in (records.folder / "datastores").rglob("*") if path.is_file()]


def test_what_is_dumped_from_one_store_is_the_same_in_another(records, tmp_path):
    alice = records.within("alice")
    for place, word in ((records, "root"), (alice, "hers"), (alice.within("b"), "in")):
        fill(place, word)
        place.put(Record("bytes", b"\0\xff", 2, 1.0, 2.0, {"a": 1}, "ann", 0.5, None, 3.0, 4.0, 5.0))
        place.put(Record("nothing", None, due=7.0))
    for plain in (RamRecords(), SqliteRecords(tmp_path / "other")):
        plain.load(records.dump())
        other = Sealed(plain, KEY) if isinstance(records, Sealed) else plain
        assert sorted(other.dump(), key=repr) == sorted(records.dump(), key=repr)
        assert other.within("alice").read_file("datastores/m/file") == b"hers"
        assert put(other, "next", 1) > max(record.id for record in alice.within("b").iterate())
        with pytest.raises(InvalidInput, match="not empty"):
            other.load(records.dump())
        part = RamRecords()
        part.load(alice.dump())
        hers = Sealed(part, KEY) if isinstance(records, Sealed) else part
        assert (hers.get("k"), hers.within("b").get("k"), hers.namespaces()) == ("hers", "in", ["b"])
        other.close()
