"""What a key holds over time: versions, compare-and-set, expiry, validity, history, authors and filters."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from extmem import Memory
from extmem.errors import InvalidInput, VersionConflict
from extmem.exchange.importing import import_from
from extmem.exchange.lines import export
from extmem.indexes.datastore import Entries
from extmem.records.base import Record

SOON = 10.0  # seconds


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets seconds pass on the clock."""
    real, passed = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + passed[0])
    return lambda seconds: passed.__setitem__(0, passed[0] + seconds)


def test_versions_count_the_values_of_a_key(memory):
    assert [memory.store("k", value) for value in ("a", "b", "b", "c")] == [1, 2, 2, 3]
    first, memory_time = memory.record("k").created, memory.record("k").updated
    assert first <= memory_time <= time.time()
    memory.store("k", "d", author="ann", trust=0.5, metadata={"page": 3})
    record = memory.record("k")
    assert (record.version, record.value, record.author, record.trust) == (4, "d", "ann", 0.5)
    assert record.metadata == {"page": 3} and record.created == first
    assert memory.store("k", "d") == 5, "who says it is part of what is said"
    memory.forget("k")
    assert memory.record("k") is None
    assert memory.store("k", "a") == 1, "as if it had never been stored"


def test_compare_and_set_stores_only_over_the_version_that_was_read(memory):
    with pytest.raises(VersionConflict, match="is not there, version 1 was expected"):
        memory.store("k", "a", expect=1)
    assert memory.store("k", "a", expect=0) == 1
    with pytest.raises(VersionConflict) as refused:
        memory.store("k", "b", expect=0)
    assert (refused.value.version, refused.value.subject) == (1, "k")
    assert memory.store("k", "a", expect=1) == 2, "even the same value: it was claimed"
    assert memory.retrieve("k") == "a"


def test_many_are_stored_retrieved_and_forgotten_at_once(memory):
    memory.store("k1", "old")
    memory.store_many(((f"k{number}", number) for number in range(2500)), author="ann")
    assert memory.retrieve_many(["k0", "k2499", "no"]) == {"k0": 0, "k2499": 2499}
    assert (memory.record("k1").version, memory.record("k2").version) == (2, 1)
    assert memory.record("k7").author == "ann"
    memory.store_many([("a", 1), ("a", 2), ("a", 3)])
    assert memory.record("a").value == 3
    assert memory.forget_many(["k0", "k1", "no"]) == 2
    assert len(memory) == 2499
    records = list(memory.scan())
    other = Memory()
    other.store_many(records)
    assert [r._replace(id=0) for r in other.scan()] == [r._replace(id=0) for r in records]


def test_a_record_with_a_time_to_live_is_forgotten_when_it_is_over(memory, wait):
    memory.store("k", "quick fox", ttl=SOON)
    memory.store("stays", "lazy dog", ttl=10000)
    memory.store("cleared", "x", ttl=SOON)
    memory.store("cleared", "x")
    assert memory.retrieve("k") == "quick fox" and len(memory) == 3
    wait(SOON)
    assert memory.retrieve("k") is None and "k" not in memory and memory.record("k") is None
    assert memory.retrieve_many(["k", "stays"]) == {"stays": "lazy dog"}
    assert list(memory.keys()) == ["cleared", "stays"] and len(memory) == 2
    assert memory.search("quick fox") == [] and memory.history("k") == []
    assert not memory.forget("k")
    assert memory.store("k", "new", expect=0) == 1
    assert memory.verify() == []


def test_a_record_that_expires_takes_its_entries_in_datastores_along(memory, wait):
    memory.store("doc", "stays")
    memory.store("over", "soon", ttl=SOON)
    memory.store("ends", "soon", valid_to=time.time() + SOON)
    store = memory.datastore("model", 4)
    with memory.transaction():
        for key in ("doc", "over", "ends"):
            spans = np.array([[0, 1], [1, 2]])
            store.append([Entries(memory.record(key).id, np.ones((2, 4)), np.array([1, 2]), spans)])
    assert len(memory.datastore("model", 4)) == 6
    wait(SOON)
    assert len(memory.datastore("model", 4)) == 2 and list(memory) == ["doc"]
    assert memory.forget("doc") and memory.datastores() == [] and memory.verify() == []


def test_a_time_to_live_holds_for_its_value_whatever_is_stored_beside_it(memory, wait):
    memory.store("k", "secret", ttl=SOON)
    memory.store("k", "old", valid_from=5.0)
    assert memory.retrieve("k") == "secret"
    wait(SOON)
    assert memory.retrieve("k") == "old" and [r.value for r in memory.history("k")] == ["old"]
    assert [hit.key for hit in memory.search("old")] == ["k"] and memory.search("secret") == []
    assert memory.store("k", "new") == 3 and memory.verify() == []


def test_a_value_that_has_expired_hides_none_that_is_valid(memory, wait, tmp_path):
    memory.store("k", "a", valid_from=100.0, ttl=SOON)
    memory.store("k", "b", valid_from=50.0)
    memory.keep_history()
    memory.store("h", "one", ttl=SOON)
    memory.store("h", "two")
    wait(SOON)
    assert memory.retrieve("k") == "b"
    assert export(memory, tmp_path / "all.jsonl") == 2
    other = Memory()
    assert import_from(other, tmp_path / "all.jsonl").records == 2
    assert dict(other.items()) == {"h": "two", "k": "b"}
    memory.store("k", "c", valid_from=40.0)
    assert memory.retrieve("k") == memory.retrieve("k", as_of=time.time()) == "b" and list(memory) == ["h", "k"]
    assert memory.verify() == []


def test_what_expires_while_it_is_walked_through_is_not_given(memory, wait):
    memory.store_many(((f"k{number:03}", "x") for number in range(300)), ttl=SOON)
    memory.store("stays", "x")
    walk = memory.items()
    next(walk)
    wait(SOON)
    assert list(walk) == [("stays", "x")]


def test_a_value_of_another_type_is_another_value(memory):
    for number, metadata in enumerate(({"n": 1}, {"n": True}, {"n": 1.0}), start=1):
        assert memory.store("k", "x", metadata=metadata) == number
        assert type(memory.record("k").metadata["n"]) is type(metadata["n"])


def test_storing_the_same_again_makes_no_version_with_a_history_either(memory):
    memory.keep_history()
    assert [memory.store("k", value) for value in ("a", "a", "b", "b", "a")] == [1, 1, 2, 2, 3]
    assert [record.value for record in memory.history("k")] == ["a", "b", "a"]


def test_a_record_that_says_of_itself_what_none_can_is_refused(memory):
    good = Record("k", "v", 3, 1.0, 2.0)
    for said in ({"version": "abc"}, {"version": 0}, {"version": 1.5}, {"trust": 9}, {"trust": None}, {"author": 5},
                 {"metadata": [1]}, {"valid_from": float("nan")}, {"created": None}, {"updated": float("inf")},
                 {"value": None}):  # fmt: skip
        with pytest.raises(InvalidInput):
            memory.store_many([("before", 1), good._replace(**said)])
    assert len(memory) == 0
    memory.store_many([good._replace(updated=9e15)])
    assert memory.record("k").updated <= time.time() and memory.retrieve("k", as_of=time.time()) == "v"


FACTS = [("Ann", 100.0, None), ("Bob", 200.0, 250.0), ("Cid", 300.0, None)]


def test_the_answer_at_a_moment_does_not_depend_on_the_order_of_storing(memory):
    expected = {50.0: None, 100.0: "Ann", 199.0: "Ann", 200.0: "Bob", 249.0: "Bob", 250.0: None, 300.0: "Cid"}
    for seed in range(6):
        facts = random.Random(seed).sample(FACTS, len(FACTS))
        for name, begins, ends in facts:
            memory.store("ceo", name, valid_from=begins, valid_to=ends)
        assert {moment: memory.retrieve("ceo", as_of=moment) for moment in expected} == expected
        assert memory.retrieve("ceo") == "Cid"
        assert [hit.value for hit in memory.search("Ann Bob Cid")] == ["Cid"], "only what is valid is found"
        assert sorted(record.value for record in memory.history("ceo")) == ["Ann", "Bob", "Cid"]
        assert memory.forget("ceo")
        assert memory.retrieve("ceo", as_of=150.0) is None and memory.history("ceo") == []


def test_a_value_begins_and_ends_by_itself(memory, wait):
    now = datetime.now(timezone.utc)
    memory.store("k", "first", valid_from=now - timedelta(days=1))
    memory.store("k", "next", valid_from=now + timedelta(seconds=SOON), valid_to=now + timedelta(seconds=2 * SOON))
    memory.store("later", "z", valid_from=now + timedelta(seconds=SOON))
    assert memory.retrieve("k") == "first" and memory.retrieve("later") is None
    assert list(memory.keys()) == ["k"] and len(memory) == 1
    wait(1.3 * SOON)
    assert memory.retrieve("k") == "next" and memory.retrieve_many(["k", "later"]) == {"k": "next", "later": "z"}
    assert [hit.value for hit in memory.search("first next")] == ["next"]
    wait(SOON)
    assert memory.retrieve("k") is None and "k" not in memory
    assert memory.retrieve("k", as_of=now) == "first"
    assert [hit.key for hit in memory.search("next z")] == ["later"]
    assert memory.verify() == []
    assert memory.store("k", "again") == 3
    assert memory.retrieve("k") == "again"
    assert memory.forget_many(["k", "later"]) == 2
    assert len(memory) == 0 and memory.verify() == []


def test_a_value_stored_without_a_validity_holds_from_then_on(memory):
    memory.store("k", "old", valid_from=100.0)
    memory.store("k", "new")
    moment = memory.record("k").updated
    assert memory.retrieve("k", as_of=moment - 1) == "old"
    assert memory.retrieve("k", as_of=moment) == memory.retrieve("k") == "new"


def test_history_is_kept_from_when_it_is_asked_for_and_erased_with_the_key(memory):
    memory.store("k", "a")
    memory.store("k", "b")
    assert [r.value for r in memory.history("k")] == ["b"], "off by default"
    memory.keep_history()
    memory.store("k", "c", author="ann")
    memory.store("k", "d", author="bob")
    assert [(r.version, r.value, r.author) for r in memory.history("k")] == [
        (2, "b", None),
        (3, "c", "ann"),
        (4, "d", "bob"),
    ]
    times = [r.updated for r in memory.history("k")]
    assert times == sorted(times)
    assert memory.retrieve("k", as_of=times[1]) == "c"
    assert memory.namespace("alice").store("k", 1) == memory.namespace("alice").store("k", 1) == 1
    memory.keep_history(False)
    memory.store("other", 1)
    memory.store("other", 2)
    assert len(memory.history("other")) == 1 and len(memory.history("k")) == 3
    assert memory.forget("k")
    assert memory.history("k") == [] and memory.store("k", "new") == 1
    assert [r.value for r in memory.history("k")] == ["new"]


def test_a_clock_that_goes_back_does_not_turn_history_round(memory, wait):
    memory.keep_history()
    memory.store("k", "a")
    wait(-3600)
    memory.store("k", "b")
    assert memory.retrieve("k") == "b" and memory.record("k").version == 2
    times = [record.updated for record in memory.history("k")]
    assert times == sorted(times)


def test_a_handle_notes_its_author(tmp_path):
    with Memory(tmp_path / "m", author="ann") as memory:
        memory.store("mine", 1)
        memory.store("theirs", 1, author="bob")
        memory.namespace("n").store("k", 1)
        assert [memory.record(key).author for key in ("mine", "theirs")] == ["ann", "bob"]
        assert memory.namespace("n").record("k").author == "ann"


@pytest.mark.parametrize(
    ("where", "keys"),
    [
        ({"author": "ann"}, ["a", "c"]),
        ({"trust": {"$gte": 0.5}}, ["a", "b"]),
        ({"author": "ann", "trust": {"$lt": 0.5}}, ["c"]),
        ({"metadata.page": {"$gt": 1}}, ["b"]),
        ({"metadata.page": {"$exists": False}}, ["c"]),
        ({"key": {"$in": ["a", "z"]}}, ["a"]),
        ({"key": {"$nin": ["a", "z"]}}, ["b", "c"]),
        ({"$or": [{"key": "a"}, {"trust": {"$lte": 0.1}}]}, ["a", "c"]),
        ({"$and": [{"author": {"$ne": "bob"}}, {"$not": {"key": "a"}}]}, ["c"]),
        ({"metadata.page": {"$gt": "text"}}, []),
        ({}, ["a", "b", "c"]),
    ],
)
def test_filters_choose_records(memory, where, keys):
    memory.store("a", "fruit", author="ann", metadata={"page": 1})
    memory.store("b", "fruit", author="bob", trust=0.5, metadata={"page": 2})
    memory.store("c", "fruit", author="ann", trust=0.1)
    assert [record.key for record in memory.scan(where=where)] == keys
    assert sorted(hit.key for hit in memory.search("fruit", where=where)) == keys
    assert len(memory.search("fruit", k=1, where=where)) == min(1, len(keys))


def test_a_filter_finds_what_stands_far_down_the_ranking(memory):
    memory.store_many(((f"k{number}", "fruit fruit") for number in range(300)), author="bob")
    memory.store("far", "one fruit among many other words that make it rank lower", author="ann")
    assert [hit.key for hit in memory.search("fruit", k=2, where={"author": "ann"})] == ["far"]


@pytest.mark.parametrize(
    "refused",
    [
        lambda m: m.scan(where={"nobody": 1}), lambda m: m.scan(where={"metadata": 1}), lambda m: m.scan(where=["a"]),
        lambda m: m.scan(where={"key": {"$regex": "a"}}), lambda m: m.scan(where={"$or": {"key": 1}}),
        lambda m: m.scan(where={"key": {"$in": 3}}), lambda m: m.scan(where={"trust": "a"}),
        lambda m: m.scan(where={"updated": {"$gt": "yesterday"}}), lambda m: m.scan(where={"key": {"$in": 3, 4: 5}}),
        lambda m: m.store("k", 1, valid_to=float("inf")), lambda m: list(m.keys(after=5)), lambda m: m.forget_many(5),
        lambda m: m.store_many(5), lambda m: m.at(5), lambda m: m.store("k", 1, ttl=10**400),
        lambda m: m.retrieve("k", as_of=10**400),
        lambda m: m.store_many([(["a"], 1)]), lambda m: m.retrieve_many(None), lambda m: m.drop_namespace(""),
        lambda m: m.at("a//b"), lambda m: m.store("k", 1, trust=2),
        lambda m: m.store("k", 1, ttl=0),
        lambda m: m.store("k", 1, ttl=float("nan")), lambda m: m.store("k", 1, valid_from=2.0, valid_to=1.0),
        lambda m: m.store("k", 1, valid_from="2020"), lambda m: m.store("k", 1, valid_from=float("nan")),
        lambda m: m.store("k", 1, metadata={1: 2}), lambda m: m.store("k", 1, author="\ud800"),
        lambda m: m.retrieve("k", as_of="now"), lambda m: m.store("k", 1, metadata=[1]),
        lambda m: m.store("k", 1, author=3),
        lambda m: m.store("k", 1, expect="1"), lambda m: m.duplicates(0), lambda m: m.duplicates("a"),
        lambda m: m.namespace("\ud800"), lambda m: list(m.keys("\ud800")), lambda m: list(m.keys(None)),
        lambda m: m.search(None), lambda m: m.search("dog", k=1.5), lambda m: m.search("dog", k=2**70),
        lambda m: m.store_many([1]), lambda m: m.store_many({"ab": 1}), lambda m: m.store_many("ab"),
        lambda m: m.drop_namespace(""), lambda m: Memory("a\0b"), lambda m: Memory(""), lambda m: Memory(3),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_one_line_and_changes_nothing(memory, refused):
    with pytest.raises(InvalidInput) as error:
        refused(memory)
    assert "\n" not in str(error.value)
    assert len(memory) == 0


class Name(str):
    """Text of a class of its own."""


class Blob(bytes):
    """Bytes of a class of their own."""


@pytest.mark.parametrize("value", [Name("x"), Blob(b"x"), [Name("x")], True + 0j])
def test_values_of_other_classes_would_not_come_back_and_are_refused(memory, value):
    with pytest.raises(InvalidInput) as refused:
        memory.store("k", value)
    assert refused.value.subject is not None


def test_a_key_of_another_class_of_text_is_that_text(memory):
    memory.store(Name("k"), 1)
    assert memory.retrieve("k") == memory.retrieve(Name("k")) == 1
    assert [type(key) for key in memory.keys()] == [str]  # noqa: SIM118
