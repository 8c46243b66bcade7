"""An embedding model that a program hands over."""

from __future__ import annotations

import pytest

from extmem import Memory
from extmem.errors import ModelError
from extmem.text.given import GivenEncoder

COLOURS = ("red", "green", "blue")


def vector(text: str) -> list[float]:
    return [0.1 + text.count(colour) for colour in COLOURS]


def colours(name: str = "colours") -> GivenEncoder:
    return GivenEncoder(name, lambda texts: list(map(vector, texts)), vector)


def test_a_memory_is_searched_with_a_model_of_the_program_and_so_are_those_below_it():
    memory = Memory()
    memory.store("sky", "blue blue")
    assert memory.embed(colours()) == 1
    assert memory.namespace("shop").search("blue") == []
    memory.namespace("shop").store("sea", "blue")
    hit = memory.namespace("shop").search("blue, blue, blue", k=1)[0]
    assert (hit.key, hit.source) == ("sea", "words+meaning")
    memory.forget("sky")
    assert memory.stats()["embeddings"] is None


def test_another_program_searches_by_words_and_says_why_until_it_hands_over_the_same_model(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memory.store("sky", "blue")
        memory.embed(colours())
    with Memory(tmp_path / "m") as memory:
        with pytest.warns(UserWarning, match="given:colours is at hand only in the program that gave it"):
            assert memory.search("blue")[0].source == "words"
        with pytest.raises(ModelError, match="embed it with another model"):
            memory.embed()
        assert memory.embed(colours()) == 0  # its vectors are there
        assert memory.search("blue")[0].source == "words+meaning"
        assert memory.embed(colours("others")) == 1


def test_vectors_that_are_none_are_refused():
    with pytest.raises(ModelError, match=r"given:x did not embed \(ValueError: "):
        GivenEncoder("x", lambda texts: [[1.0], [1.0, 2.0]], lambda text: [1.0]).encode(["a", "b"])
    with pytest.raises(ModelError, match=r"gave vectors of shape \(1, 2\), not \(1, 1\)"):
        GivenEncoder("x", lambda texts: [[1.0, 2.0]], lambda text: [1.0]).encode(["a"])
    with pytest.raises(ModelError, match="no list of vectors"):
        GivenEncoder("x", lambda texts: [], lambda text: 1.0)  # a number
    with pytest.raises(ModelError, match=r"did not embed \(ZeroDivisionError"):
        GivenEncoder("x", lambda texts: [], lambda text: [1 / 0])
