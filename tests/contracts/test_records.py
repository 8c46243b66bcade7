"""The contract of records, held by every implementation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from extmem.errors import InvalidInput
from extmem.records.base import Records
from extmem.records.ram import RamRecords
from extmem.records.sqlite import SqliteRecords


@pytest.fixture(params=["ram", "sqlite"])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    opened: Records = RamRecords() if request.param == "ram" else SqliteRecords(tmp_path / "memory")
    yield opened
    opened.close()


def test_a_key_has_one_value_the_last_one_put(records):
    first = records.put("k", "one")
    second = records.put("k", {"two": [2, None]})
    assert second > first
    assert records.get("k") == {"two": [2, None]}
    assert records.find("k").id == second
    assert records.by_id(first) is None
    assert records.by_id(second).key == "k"
    assert len(records) == 1


def test_an_id_is_never_given_twice(records):
    given = [records.put("a", "x")]
    for _ in range(3):
        assert records.delete("a") == given[-1]
        given.append(records.put("a", "x"))
    with pytest.raises(RuntimeError), records.transaction():
        given_inside = records.put("b", "x")
        raise RuntimeError
    assert given == sorted(set(given))
    assert records.put("c", "x") > given[-1]
    assert records.by_id(given_inside) is None or records.by_id(given_inside).key == "c"


def test_deleting_what_is_not_there_says_so(records):
    assert records.delete("nothing") is None
    assert records.find("nothing") is None


def test_keys_come_in_order_and_by_prefix(records):
    for key in ["b", "a/2", "é", "a/10", "a", "中", "B", ""]:
        records.put(key, key)
    assert list(records.keys()) == sorted(["b", "a/2", "é", "a/10", "a", "中", "B", ""])
    assert list(records.keys("a/")) == ["a/10", "a/2"]
    assert list(records.keys("z")) == []
    assert [record.key for record in records.records()] == ["b", "a/2", "é", "a/10", "a", "中", "B", ""]


@pytest.mark.parametrize("prefix", ["%", "_", "a%", "'", "\\"])
def test_a_prefix_is_text_and_no_pattern(records, prefix):
    records.put("abc", 1)
    records.put(f"{prefix}x", 2)
    assert list(records.keys(prefix)) == [f"{prefix}x"]


def test_namespaces_see_only_their_own(records):
    alice, bob = records.within("alice"), records.within("bob")
    inner = alice.within("bob")
    for place, value in ((records, "root"), (alice, "alice"), (bob, "bob"), (inner, "inner")):
        place.put("k", value)
    assert [place.get("k") for place in (records, alice, bob, inner)] == ["root", "alice", "bob", "inner"]
    assert all(len(place) == 1 for place in (records, alice, bob, inner))
    assert alice.by_id(bob.find("k").id) is None
    assert records.namespaces() == ["alice", "alice/bob", "bob"]
    assert alice.namespaces() == ["alice/bob"]
    bob.delete("k")
    assert [place.get("k") for place in (records, alice, bob, inner)] == ["root", "alice", None, "inner"]


@pytest.mark.parametrize("name", ["", "a/b", "/", None, 3])
def test_a_namespace_without_a_usable_name_is_refused(records, name):
    with pytest.raises(InvalidInput, match="namespace"):
        records.within(name)


@pytest.mark.parametrize("key", [None, 3, b"k", "\ud800"])
def test_a_key_that_is_no_text_is_refused(records, key):
    with pytest.raises(InvalidInput):
        records.put(key, "x")
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
    return [(r.id, r.key, r.value) for r in records.records()], list(records.ledger("kind").items())


def test_a_transaction_that_fails_leaves_everything_as_it_was(records):
    records.put("a", 1)
    records.put("b", 2)
    for name in ("x", "y"):
        records.ledger_put("kind", name, {"is": name})
    before = everything(records), everything(records.within("alice"))
    with pytest.raises(RuntimeError), records.transaction():
        records.put("a", "changed")
        records.put("c", "new")
        records.delete("b")
        records.put("b", "back again")
        records.ledger_remove("kind", "x")
        records.ledger_put("kind", "y", {"is": "changed"})
        with records.transaction():
            records.within("alice").put("k", "hers")
        assert records.in_transaction
        raise RuntimeError
    assert (everything(records), everything(records.within("alice"))) == before
    assert not records.in_transaction


def test_an_inner_transaction_joins_the_outer(records):
    with records.transaction():
        with pytest.raises(RuntimeError), records.transaction():
            records.put("inner", 1)
            raise RuntimeError
        records.put("outer", 2)
    assert records.get("outer") == 2


def test_the_generation_differs_after_every_change(records):
    seen = [records.generation()]
    for change in (
        lambda: records.put("a", 1),
        lambda: records.put("a", 2),
        lambda: records.ledger_put("kind", "x", {}),
        lambda: records.ledger_remove("kind", "x"),
        lambda: records.delete("a"),
    ):
        change()
        seen.append(records.generation())
    assert len(set(seen)) == len(seen)
    assert records.generation() == seen[-1]


class Told:
    """Something derived that notes when it is called."""

    def __init__(self, records: Records) -> None:
        self.records, self.calls = records, []

    def settle(self) -> None:
        self.calls.append(("settle", self.records.in_transaction))

    def sweep(self) -> None:
        self.calls.append(("sweep", self.records.in_transaction))


def test_what_is_derived_is_settled_inside_the_outermost_transaction_and_swept_after_it(records):
    told = Told(records)
    with records.transaction():
        for _ in range(2):
            with records.within("alice").transaction():
                records.enlist(told)
        assert told.calls == []
    assert told.calls == [("settle", True), ("sweep", False)]
    with pytest.raises(RuntimeError), records.transaction():
        records.enlist(told)
        raise RuntimeError
    assert told.calls[2:] == [("sweep", False)]
    with records.transaction():
        pass
    assert len(told.calls) == 3
