"""A Memory is a map: congruent with a dict, in RAM and in a folder; values come back as they went in."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extmem import Memory
from extmem.errors import ExtmemError, InvalidInput

KEYS = st.sampled_from(["a", "ab", "b", "é", "中文", "", "a/b", "%"])
WORDS = st.sampled_from(["quick", "brown", "fox", "lazy", "dog", "苹果"])


STEPS = st.lists(
    st.tuples(st.just("store"), KEYS, WORDS)
    | st.tuples(st.just("forget"), KEYS)
    | st.tuples(st.just("many"), st.dictionaries(KEYS, WORDS, max_size=4))
    | st.tuples(st.just("reopen")),
    max_size=15,
)


@pytest.mark.parametrize("place", ["ram", "folder"])
@settings(max_examples=50)
@given(steps=STEPS)
def test_a_memory_is_congruent_with_a_dict(place, steps):
    with tempfile.TemporaryDirectory() as folder:
        path = None if place == "ram" else Path(folder) / "memory"
        memory, twin = Memory(path), {}
        for step in steps:
            if step[0] == "store":
                memory.store(step[1], step[2])
                twin[step[1]] = step[2]
            elif step[0] == "forget":
                assert memory.forget(step[1]) == (twin.pop(step[1], None) is not None)
            elif step[0] == "many":
                memory.store_many(step[1].items())
                twin |= step[1]
            elif path is not None:
                memory.close()
                memory = Memory(path)
        assert dict(memory.items()) == twin
        assert list(memory.keys()) == sorted(twin)
        assert list(memory.keys("a")) == sorted(key for key in twin if key.startswith("a"))
        assert len(memory) == len(twin)
        for word in ("quick", "brown", "苹果"):
            assert {hit.key for hit in memory.search(word)} == {key for key in twin if twin[key] == word}
        assert memory.verify() == []
        memory.close()


VALUES = [
    *("", "A fruit", "中文与 emoji 🍎", "NUL\0inside", "line\r\nends\u2028", " spaces "),
    *(b"", b"\x00\xff", 0, 1, -1, 2**64 + 1, -(10**40), True, False),
    *(0.0, -0.0, 1.5, 1e308, 5e-324, math.inf, -math.inf, math.nan),
    *([], {}, [None, True, 1, 1.0, "x", [[]]], {"": {"中": [1, 2.5]}}, "null", "1", "[1]"),
]


def same(one: object, other: object) -> bool:
    """Equal with types, signs and NaN told apart."""
    return type(one) is type(other) and repr(one) == repr(other)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_as_it_went_in(memory, value):
    memory.store("k", value)
    assert same(memory.retrieve("k"), value)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ).filter(lambda value: value is not None)
)
def test_any_json_value_comes_back_as_it_went_in(value):
    memory = Memory()
    memory.store("k", value)
    assert same(memory.retrieve("k"), value)


NESTED: list = []
for _ in range(100_000):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    "value",
    [None, (1, 2), {1, 2}, {1: "x"}, [(1,)], {"a": b"x"}, object(), "\ud800", ["\udfff"], 10**5000, 1 + 2j, NESTED],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_would_not_come_back_as_it_went_in_is_refused_and_the_old_one_stays(memory, value):
    memory.store("k", "old")
    with pytest.raises(InvalidInput):
        memory.store("k", value)
    assert memory.retrieve("k") == "old"
    with pytest.raises(InvalidInput):
        memory.store_many([("before", "x"), ("k", value)])
    assert list(memory.keys()) == ["k"]


def test_a_list_changed_after_storing_does_not_change_the_memory(memory):
    value = [1, [2]]
    memory.store("k", value)
    value[1].append(3)
    memory.retrieve("k").append(4)
    assert memory.retrieve("k") == [1, [2]]


def test_alice_never_sees_bobs_by_any_operation(memory):
    alice, bob = memory.namespace("alice"), memory.namespace("bob")
    for handle, word in ((memory, "root"), (alice, "green"), (bob, "purple")):
        handle.store("colour", f"the colour is {word}")
    bob.store("secret", "purple elephants")
    assert alice.retrieve("secret") is None
    assert "secret" not in alice
    assert list(alice.keys()) == ["colour"]
    assert list(alice.items()) == [("colour", "the colour is green")]
    assert len(alice) == 1
    assert [hit.value for hit in alice.search("colour purple elephants")] == ["the colour is green"]
    assert not alice.forget("secret")
    assert bob.retrieve("secret") == "purple elephants"
    assert alice.namespace("bob").retrieve("secret") is None
    assert alice.search("colour")[0].score == pytest.approx(memory.search("colour")[0].score), "nor by its scores"


def test_search_ranks_by_words_and_refuses_k_below_one(memory):
    memory.store("both", "red apple")
    memory.store("one", "green apple")
    memory.store("none", "blue sky")
    assert [hit.key for hit in memory.search("which apple is red?")] == ["both", "one"]
    assert [hit.key for hit in memory.search("apple", k=1)] == ["both"]
    assert memory.search("") == [] and memory.search('"*:^(') == []
    memory.store("jar", "苹果很好吃")
    assert [hit.key for hit in memory.search("苹果")] == ["jar"]
    with pytest.raises(InvalidInput, match="k is 0"):
        memory.search("apple", k=0)


def test_rebuilding_the_keyword_index_changes_no_answer(memory):
    for number in range(20):
        memory.store(f"k{number}", f"word{number % 3} fruit {number}")
    memory.forget("k7")
    before = [memory.search(query) for query in ("fruit", "word1", "3")]
    memory.repair()
    assert [memory.search(query) for query in ("fruit", "word1", "3")] == before
    assert memory.verify() == []


def test_a_path_that_is_no_memory_is_refused_and_left_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExtmemError, match="is a file"):
        Memory(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "records.db").write_text("no database " * 100)
    with pytest.raises(ExtmemError, match="not an extmem memory"):
        Memory(tmp_path / "folder")
    assert (tmp_path / "folder" / "records.db").read_text() == "no database " * 100


def test_an_iteration_left_unfinished_neither_blocks_writes_nor_freezes_reads(tmp_path):
    with Memory(tmp_path / "m") as memory, Memory(tmp_path / "m") as other:
        memory.store_many((key, 1) for key in "abc")
        keys, items = memory.keys(), memory.items()
        assert (next(keys), next(items)) == ("a", ("a", 1))
        other.store("x", 1)
        assert memory.retrieve("x") == 1
        memory.store("y", 1)
        assert other.retrieve("y") == 1


def test_storing_while_iterating_ends(memory):
    memory.store_many((key, 1) for key in "abc")
    for key in memory.keys():  # noqa: SIM118  a Memory is no dict
        memory.store(f"z{key}", 1)
    assert list(memory.keys()) == ["a", "b", "c", "za", "zb", "zc"]
