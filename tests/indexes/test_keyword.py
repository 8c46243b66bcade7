"""BM25: as its formula says, wherever the postings lie, and as if what was forgotten had never been stored."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extmem import Memory
from extmem.indexes.keyword import K1, K_CJK, B, KeywordIndex, Matches
from extmem.indexes.postings import BLOCK
from extmem.text.terms import asked, is_cjk, telling, terms

TEXTS = {
    "a": "the quick brown fox jumps over the lazy dog",
    "b": "a fox is quick, a dog is not",
    "c": "foxes and hounds and hounds",
    "d": "nothing of that kind",
    "e": "苹果是红的, 梨不是",
}


def by_the_formula(texts: dict[str, str], query: str) -> dict[str, float]:
    """BM25, and for Chinese terms what stands in for it, in plain loops."""
    held = {key: terms(key) + terms(text) for key, text in texts.items()}
    mean = sum(telling(words) for words in held.values()) / len(held) or 1
    alone = math.log(1 + (len(held) - 0.5) / 1.5)
    scores: Counter[str] = Counter()
    for term in asked(query):
        holders = sum(term in words for words in held.values())
        idf = math.log(1 + (len(held) - holders + 0.5) / (holders + 0.5))
        for key, words in held.items():
            times = words.count(term)
            if times and is_cjk(term):
                asking = math.log2(1 + terms(query).count(term))
                root = math.sqrt(mean / telling(words))
                scores[key] += idf**2 / alone * asking * times * (K_CJK + 1) / (times + K_CJK) * root
            elif times:
                scores[key] += idf * times * (K1 + 1) / (times + K1 * (1 - B + B * telling(words) / mean))
    return dict(scores)


def scores(memory: Memory, query: str) -> dict[str, float]:
    memory.derived.keyword.catch_up()
    found = memory.derived.keyword.search(query)
    ids, given = found.best(1000)
    assert np.allclose(found.of(ids).sum(0), given, rtol=1e-6)
    return {memory.records.by_id(number).key: score for number, score in zip(ids.tolist(), given.tolist(), strict=True)}


@pytest.mark.parametrize("query", ["quick fox", "hounds", "红苹果", "红的, 红的", "the", "fox dog nothing 梨", "zebra"])
def test_the_scores_are_those_of_the_formula(tmp_path, query):
    for place in (None, tmp_path / "m"):
        with Memory(place) as memory:
            memory.store_many(TEXTS.items())
            assert scores(memory, query) == pytest.approx(by_the_formula(TEXTS, query), rel=1e-5)


KEYS, WORDS = "abcdef", ["fox", "dog", "hound", "quick", "lazy", "红苹果", "the"]
stores = st.tuples(st.just("store"), st.sampled_from(KEYS), st.lists(st.sampled_from(WORDS), max_size=6))
others = st.tuples(st.sampled_from(["forget", "search"]), st.sampled_from(KEYS), st.just([]))


@pytest.mark.parametrize("block", [3, 8192])
@settings(max_examples=80)
@given(steps=st.lists(stores | others, max_size=20))
def test_the_index_is_the_one_derived_anew_after_any_sequence(block, steps):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for module in ("keyword", "postings"):
            patch.setattr(f"extmem.indexes.{module}.BLOCK", block)
        with Memory(Path(folder) / "m") as memory, Memory() as ram:
            for kind, key, words in steps:
                for one in (memory, ram):
                    if kind == "store":
                        one.store(key, " ".join(words))
                    elif kind == "forget":
                        one.forget(key)
                    else:
                        one.search("fox")
            texts = dict(memory.items())
            assert memory.verify() == []
            before = {word: scores(memory, word) for word in WORDS}
            assert before == {word: scores(ram, word) for word in WORDS}
            for word in WORDS:
                assert before[word] == pytest.approx(by_the_formula(texts, word) if texts else {}, rel=1e-5)
            memory.repair()
            assert before == {word: scores(memory, word) for word in WORDS}


def test_an_empty_namespace_leaves_no_table(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memory.namespace("a").store("k", "fox")
        assert memory.namespace("a").search("fox")
        memory.namespace("a").forget("k")
        assert memory.records.run("SELECT name FROM sqlite_master WHERE name GLOB 'words_*'") == []


def indexed_by_fts5(memory: Memory) -> None:
    """Has the memory's one record, "quick fox" under "k", indexed as an earlier version did it."""
    name = KeywordIndex(memory.records)._name
    with memory.transaction():
        memory.records.run(f"CREATE VIRTUAL TABLE {name} USING fts5(words, content='')")
        memory.records.run(f"INSERT INTO {name} (rowid, words) VALUES (1, 'k quick fox')")
        memory.records.ledger_put("keyword", name, {"through": 1, "format": 1})


def test_an_index_of_an_earlier_version_is_derived_anew(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memory.store("k", "quick fox")
        indexed_by_fts5(memory)
        assert memory.verify() == []
        assert [hit.key for hit in memory.search("foxes")] == ["k"]
        assert memory.records.run("SELECT name FROM sqlite_master WHERE sql LIKE '%fts5%'") == []


def test_forgetting_takes_an_index_of_an_earlier_version_away(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memory.store("k", "quick fox")
        indexed_by_fts5(memory)
        memory.forget("k")
    assert b"quick" not in b"".join(path.read_bytes() for path in (tmp_path / "m").rglob("*") if path.is_file())


@pytest.mark.parametrize("place", [None, "memory"])
def test_records_without_a_word_are_taken_in_and_found_by_nobody(tmp_path, place):
    with Memory(place and tmp_path / place) as memory:
        memory.store("🙂", "…")
        assert memory.search("anything") == [] and memory.verify() == []
        memory.store("k", "anything")
        assert [hit.key for hit in memory.search("anything")] == ["k"]
        memory.forget("🙂")
        assert memory.verify() == []


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_the_best_are_those_of_all_by_score_and_then_by_order(k, seed):
    draw = np.random.default_rng(seed)
    held, scores = [], np.zeros(2 * BLOCK, np.float32)
    for _ in range(draw.integers(1, 4)):
        places = np.unique(draw.integers(0, 2 * BLOCK, draw.integers(0, 40)))
        given_ = draw.integers(1, 4, len(places)).astype(np.float32)
        held.append((places, given_))
        scores[places] += given_
    nothing = np.ones(len(held), np.float32)
    matches = Matches(["t"] * len(held), 100, nothing, nothing, held, np.array([0, 3]), scores)
    ids, found = matches.best(k)
    order = np.lexsort((np.arange(2 * BLOCK), -scores))[:k]
    order = order[scores[order] > 0]
    assert ids.tolist() == [int(place) if place < BLOCK else int(place) + 2 * BLOCK for place in order]
    assert found.tolist() == scores[order].tolist()
