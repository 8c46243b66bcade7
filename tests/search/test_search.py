"""What a search finds, why, and that what was forgotten has no part in it."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extmem import Memory
from extmem.errors import InvalidInput
from extmem.records.base import Record

KEY = bytes(range(32))
_numbers = itertools.count()
TALK = [  # session, speaker, text
    (1, "Ann", "I went to the lake with my niece last weekend"),
    (1, "Bo", "What did you do there?"),
    (1, "Ann", "We painted a sunrise, in oil"),
    (1, "Bo", "The car needs new tyres, by the way"),
    (2, "Bo", "I have adopted a puppy from the shelter"),
    (2, "Ann", "How lovely! What is it called?"),
    (2, "Bo", "He answers to Rex"),
]


@pytest.fixture(params=["ram", "folder", "postgres", "sealed folder"])
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Memory]:
    place: str | Path | None = None if request.param == "ram" else tmp_path / "memory"
    if request.param == "postgres":
        place = f"{request.getfixturevalue('postgres').url}?extmem_schema=search_{next(_numbers)}"
    with Memory(place, key=KEY if request.param.startswith("sealed") else None) as opened:
        yield opened


def tell(memory: Memory, talk: list[tuple[int, str, str]] = TALK) -> None:
    memory.store_many(
        Record(key=f"t{n}", value=text, metadata={"session": session, "speaker": who, "time": f"2024-0{session}-07"})
        for n, (session, who, text) in enumerate(talk)
    )


def keys(hits: list) -> list[str]:
    return [hit.key for hit in hits]


def test_by_words_the_best_comes_first_and_says_why(memory):
    memory.store_many([("one", "a red apple"), ("two", "Apples and pears"), ("three", "a wheel")])
    hits = memory.search("Which apples are red?")
    assert keys(hits) == ["one", "two"] and hits[0].source == "words"
    assert hits[0].words == ("red", "apple") and hits[1].words == ("Apples",)
    assert hits[0].score == pytest.approx(sum(hits[0].parts.values())) and set(hits[0].parts) == {"words"}


def test_by_meaning_what_shares_no_word_is_found(memory):
    memory.store_many(
        [("art", "She makes oil paintings"), ("car", "The tyres are flat"), ("dog", "Rex barks at night")]
    )
    assert memory.search("a vehicle's wheels") == []
    assert memory.embed() == 3 and memory.embed() == 0
    hits = memory.search("a vehicle's wheels", k=2)
    assert hits[0].key == "car" and hits[0].source == "meaning" and hits[0].span == (0, 18)
    assert hits[0].parts["meaning"] > hits[1].parts["meaning"]
    assert memory.search("a vehicle's wheels", by="words") == []
    memory.store("late", "A bicycle has two wheels and no engine")
    assert memory.search("a vehicle's wheels", k=1)[0].key == "late", "what came later is embedded by the search"
    assert memory.stats()["embeddings"]["entries"] == 4 and memory.datastores() == []


def test_words_of_neighbours_count_within_their_session_alone(memory):
    tell(memory)
    found = {hit.key: hit.parts for hit in memory.search("paint lake niece")}
    assert max(found, key=lambda key: sum(found[key].values())) in ("t0", "t2")
    assert found["t1"].get("words") is None and found["t1"]["context"] > 0
    assert not {"t4", "t5", "t6"} & found.keys()


def test_records_that_stand_alone_have_no_neighbours(memory):
    memory.store_many([("a", "paint"), ("b", "car"), ("c", "lake")])
    assert keys(memory.search("paint lake")) == ["a", "c"]


def test_the_speaker_that_is_named_comes_first(memory):
    memory.store_many(
        Record(key=who, value="I like to paint", metadata={"speaker": who, "session": n}) for n, who in enumerate("AB")
    )
    memory.store("b", "Bo likes to paint as well")
    assert keys(memory.search("what does A like?"))[0] == "A"
    hits = memory.search("What does B paint?")
    assert hits[0].key == "B" and hits[0].parts["speaker"] > 0 and "speaker" not in hits[1].parts


def test_the_day_that_is_named_counts(memory):
    for month in (1, 2, 3):
        memory.store(f"m{month}", "walked the dog", metadata={"time": f"2024-0{month}-10"})
    assert memory.search("Who walked the dog in February 2024?")[0].key == "m2"
    assert memory.search("谁 walked the dog 2024年3月10日")[0].key == "m3"
    assert "time" not in memory.search("Who walked the dog?")[0].parts


def test_neighbours_are_brought_as_they_stood(memory):
    tell(memory)
    (hit,) = memory.search("adopted puppy", k=1, around=2)
    assert hit.key == "t4" and hit.before == () and [key for key, _ in hit.after] == ["t5", "t6"]
    memory.forget("t5")
    (hit,) = memory.search("adopted puppy", k=1, around=1)
    assert hit.after == (("t6", "He answers to Rex"),)


def test_diverse_hits_leave_out_what_was_said_already(memory):
    memory.store_many([("a", "red apple pie"), ("b", "red apple pie"), ("c", "red wine"), ("d", "green apple")])
    assert keys(memory.search("red apple", k=2)) == ["a", "b"]
    assert "b" not in keys(memory.search("red apple", k=2, diversity=0.6))


def test_a_filter_lets_through_what_lies_deep(memory):
    memory.store_many(
        (
            f"k{n}",
            "common word",
        )
        for n in range(1200)
    )
    memory.store("deep", "a word that is common", metadata={"tag": 1})
    assert keys(memory.search("common word", k=3, where={"metadata.tag": 1})) == ["deep"]
    assert len(memory.search("common word", k=1100)) == 1100


def test_in_another_script_than_the_model_reads_words_decide(memory):
    memory.store_many([("红", "红苹果很甜"), ("车", "汽车需要新轮胎"), ("狗", "小狗在夜里叫")])
    memory.embed()
    assert keys(memory.search("什么苹果是甜的?"))[0] == "红"
    assert "meaning" not in memory.search("什么苹果是甜的?")[0].parts


def test_a_namespace_is_searched_with_the_model_of_the_one_it_lies_in(memory):
    memory.embed()
    alice = memory.namespace("alice")
    alice.store("car", "The tyres are flat")
    memory.store("hers", "not of alice")
    assert keys(alice.search("a vehicle")) == ["car"] and keys(memory.search("a vehicle")) == ["hers"]
    alice.forget("car")
    assert alice.search("a vehicle") == [] and memory.namespaces() == []


@pytest.mark.parametrize(
    "bad",
    [
        {"query": 3}, {"k": 0}, {"k": True}, {"around": -1}, {"around": 1.5}, {"diversity": 2}, {"diversity": "no"},
        {"by": "magic"},
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(bad):
    with pytest.raises(InvalidInput):
        Memory().search(**{"query": "dog", **bad})


def test_an_empty_query_finds_nothing(memory):
    memory.store("a", "fruit")
    memory.embed()
    assert memory.search("") == memory.search(" ?! ") == []


def test_without_its_model_a_memory_is_searched_by_words_and_says_so_once(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memory.store("a", "a red apple")
        memory.embed()
        with memory.transaction():
            memory.records.ledger_put("settings", "encoder", {"name": str(tmp_path / "gone")})
    with Memory(tmp_path / "m") as memory, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert keys(memory.search("apples")) == keys(memory.search("apples")) == ["a"]
    assert len(said) == 1 and "searching by words alone" in str(said[0].message)


def test_who_searches_while_the_model_is_loaded_finds_by_meaning_as_well(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memory.store("car", "The tyres are flat")
        memory.embed()
    with Memory(tmp_path / "m") as memory, ThreadPoolExecutor(6) as threads:
        every = list(threads.map(memory.search, ["a vehicle"] * 6))
    assert [keys(hits) for hits in every] == [["car"]] * 6


def test_what_can_only_be_read_is_searched_as_far_as_it_is_embedded(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memory.store("a", "a red apple")
        memory.embed()
        memory.store("b", "a green apple")
    for path in (tmp_path / "m").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    (tmp_path / "m").chmod(0o555)
    with Memory(tmp_path / "m") as memory:
        assert keys(memory.search("apple"))[:2] == ["a", "b"]


steps = st.lists(
    st.tuples(
        st.sampled_from(["store", "store", "forget", "search"]), st.integers(0, 6), st.integers(0, len(TALK) - 1)
    ),
    max_size=14,
)


@settings(max_examples=12, deadline=None)
@given(steps=steps, victim=st.integers(0, 6))
def test_a_search_is_as_if_what_is_forgotten_had_never_been(steps, victim):
    with Memory() as memory, Memory() as never:
        for one in (memory, never):
            one.embed()
        for kind, key, talk in [*steps, ("forget", victim, 0)]:
            for one in (memory, never):
                if kind == "search":
                    one.search("what did Ann paint at the lake?")
                elif kind == "forget":
                    one.forget(f"t{key}")
                elif key != victim or one is memory:
                    session, who, text = TALK[talk]
                    one.store(f"t{key}", text, metadata={"session": session, "speaker": who, "time": 0})
        for query in ("what did Ann paint at the lake?", "puppy", "tyres"):
            here, there = memory.search(query, around=1), never.search(query, around=1)
            assert [(hit.key, hit.words, hit.before, hit.after) for hit in here] == [
                (hit.key, hit.words, hit.before, hit.after) for hit in there
            ]
            assert np.allclose([hit.score for hit in here], [hit.score for hit in there], atol=5e-3)
        assert memory.verify() == []


def test_what_another_stores_while_one_searches_is_found_by_the_next_search(memory, request):
    if not str(memory.records.place).startswith("postgresql"):
        pytest.skip("one handle's open transaction lets another search only in PostgreSQL")
    with Memory(memory.records.address) as other:
        other.store("old", "old apple")
        assert keys(memory.search("apple")) == ["old"]
        other.namespace("s").store("else", "x")
        with other.transaction():
            other.store("new", "new apple")
            assert keys(memory.search("apple")) == ["old"]
        assert set(keys(memory.search("apple"))) == {"old", "new"} and memory.verify() == []


def test_a_search_inside_what_is_undone_leaves_the_order_as_it_was(memory):
    memory.store_many(Record(key=key, value=f"apple {key * 3}", metadata={"session": 1}) for key in "abc")
    before = memory.search("aaa", k=1, around=1)
    with pytest.raises(KeyError), memory.transaction():
        memory.forget("a")
        memory.search("x")
        raise KeyError
    assert memory.search("aaa", k=1, around=1) == before and before[0].after == (("b", "apple bbb"),)


@pytest.mark.parametrize("session", ["x\0y", "", [1, {"a": None}], 1.5, True, "长" * 300])
def test_any_session_may_be_named(memory, session):
    memory.store_many(Record(key=key, value=f"apple {key}", metadata={"session": session}) for key in "ab")
    (hit,) = memory.search("apple a", k=1, around=1)
    assert hit.key == "a" and hit.after == (("b", "apple b"),)


def test_neighbours_that_are_filtered_out_are_not_brought(memory):
    memory.store_many(
        Record(key=key, value=f"say {key}", metadata={"session": 1, "open": key != "b"}) for key in "abcd"
    )
    (hit,) = memory.search("say a", k=1, around=2, where={"metadata.open": True})
    assert [key for key, _ in hit.after] == ["c", "d"]


def test_who_is_named_need_not_be_a_word_of_the_question(memory):
    memory.store("t", "I love tea", metadata={"speaker": "Ann"})
    memory.store("none", "capital gains", metadata={"speaker": None})
    memory.store("the", "fine weather in town", metadata={"speaker": "The Doctor"})
    assert keys(memory.search("What did Ann say?")) == ["t"]
    assert "speaker" not in memory.search("none of the capital")[0].parts
    assert "speaker" not in memory.search("the weather")[0].parts


def test_diversity_keeps_the_best_first_though_all_scores_are_low():
    memory = Memory()
    memory.store("best", "apple pear?", metadata={"session": 1})
    memory.store("worst", "apple?", metadata={"session": 2})
    query = "apple pear alpha beta gamma delta epsilon zeta eta theta iota kappa lambda"
    assert keys(memory.search(query, k=1, diversity=0.01)) == ["best"]


def test_the_records_that_were_found_are_read_by_their_ids_and_not_by_reading_all(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memory.store_many((f"k{number}", f"text {number}") for number in range(200))
        connection, said = memory.records.connection, []
        connection.exec_trace = lambda cursor, sql, given: said.append((sql, given)) or True
        assert len(memory.records.by_ids(range(1, 101))) == 100
        connection.exec_trace = None
        ((sql, given),) = said
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", given)]
        assert plan == ["SEARCH records USING INTEGER PRIMARY KEY (rowid=?)"]
