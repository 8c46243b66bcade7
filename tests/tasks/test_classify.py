"""A text gets the label of the examples it is like; a class needs no training, and what is forgotten tells nothing."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from extmem import Memory
from extmem.errors import InvalidInput, MemoryFormatError
from extmem.tasks.classify import Classifier

FRUIT = ["apple", "pear", "plum", "cherry", "peach", "grape", "melon", "lemon", "mango", "fig"]
TOOLS = ["hammer", "saw", "drill", "wrench", "chisel", "plane", "pliers", "clamp", "file", "axe"]
BIRDS = ["robin", "crow", "owl", "swan", "gull", "heron", "finch", "eagle", "stork", "duck"]


def texts(words: list[str], first: int = 0) -> list[str]:
    forms = ["I saw a {} on the table today.", "The {} is one of my favourites.", "She gave him a {} yesterday."]
    return [form.format(word) for word in words[first:] for form in forms]


def examples() -> list[tuple[str, str]]:
    told = "ripe sweet juicy", "heavy steel sharp"
    return [
        (f"{text} It was {of}.", label)
        for words, label, of in ((FRUIT, "fruit", told[0]), (TOOLS, "tool", told[1]))
        for text in texts(words)
    ]


@pytest.mark.parametrize("encoder", ["", None], ids=["n-grams", "minilm"])
def test_a_text_gets_the_label_of_examples_like_it(tmp_path: Path, encoder: str | None) -> None:
    with Memory(tmp_path / "m") as memory:
        classifier = Classifier(memory, encoder)
        assert classifier.remember(examples()) == 60
        for _ in range(2):  # learned on the spot, then trained and kept
            found = classifier.classify("A banana, ripe and juicy and sweet.")
            assert found.label == "fruit"
            assert sum(found.probabilities.values()) == pytest.approx(1.0, abs=1e-5)
            assert sum(one.weight for one in found.citations) == pytest.approx(1.0, abs=1e-5)
            for one in found.citations:
                assert len(memory.retrieve(one.key)) == one.end
            assert memory.record(found.citations[0].key).metadata == {"label": "fruit"}
            assert classifier.classify("A screwdriver of heavy steel.").label == "tool"
            assert classifier.train() == {"fruit": 30, "tool": 30}
        before = classifier.classify("A sweet thing of steel.")
    with Memory(tmp_path / "m") as memory:
        again = Classifier(memory, encoder).classify("A sweet thing of steel.")
        assert again.label == before.label
        assert again.probabilities == pytest.approx(before.probabilities, abs=1e-3)


def test_a_new_class_works_from_ten_examples_without_training() -> None:
    memory = Memory()
    classifier = Classifier(memory)
    classifier.remember(examples())
    classifier.train()
    assert "bird" not in classifier.classify("A robin sang in the tree.").probabilities
    classifier.remember((f"The {word} has feathers, sings and flies.", "bird") for word in BIRDS)
    assert classifier.classify("An ostrich has feathers but hardly flies.").label == "bird"
    assert classifier.classify("A banana, ripe and juicy and sweet.").label == "fruit"
    memory.forget_many([key for key in memory if memory.record(key).metadata == {"label": "bird"}])
    assert "bird" not in classifier.classify("An ostrich has feathers but hardly flies.").probabilities


def test_what_was_trained_goes_with_an_example_that_is_forgotten(tmp_path: Path) -> None:
    with Memory(tmp_path / "m") as memory, Memory() as other:
        classifier = Classifier(memory, "")
        classifier.remember(examples())
        classifier.train()
        memory.store("note", "not an example")
        memory.forget("note")
        assert memory.derived.trained("classifier").note()
        gone = next(memory.keys("example/"))
        forgotten = memory.retrieve(gone)
        memory.forget(gone)
        assert memory.derived.trained("classifier").note() is None
        assert memory.records.files("datastores/trained") == []
        assert memory.verify() == []
        fresh = Classifier(other, "")
        fresh.remember(pair for pair in examples() if pair[0] != forgotten)
        text = "A sweet thing of steel."
        assert classifier.classify(text) == fresh.classify(text)


def test_an_example_stored_later_counts_at_once() -> None:
    classifier = Classifier(Memory(), "")
    classifier.remember(examples())
    classifier.train()
    text = "A grommet of quite another kind."
    before = classifier.classify(text).probabilities["tool"]
    classifier.remember([(f"{text} {number}", "tool") for number in range(5)])
    assert classifier.classify(text).probabilities["tool"] > before


def test_chinese_is_classified_by_its_characters() -> None:
    classifier = Classifier(Memory())
    classifier.remember([(f"这家酒店很好，{word}干净舒适", "good") for word in "房床厅窗门桌椅灯"])
    classifier.remember([(f"太差了，{word}又脏又吵，不会再来", "bad") for word in "房床厅窗门桌椅灯"])
    assert classifier.classify("环境很好，干净舒适").label == "good"
    assert classifier.classify("又脏又吵，太差").label == "bad"


def test_with_enough_examples_a_head_is_trained_on_the_encoders_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extmem.tasks.learning.ENOUGH", 60)
    monkeypatch.setattr("extmem.tasks.classify.ENOUGH", 60)
    memory = Memory()
    classifier = Classifier(memory)
    classifier.remember(examples())
    with pytest.warns(UserWarning, match="not trained"):
        assert classifier.classify("A banana, ripe and juicy and sweet.").label == "fruit"
    seen = []
    classifier.train(lambda part, done, total: seen.append(part))
    assert {"counting n-grams", "reading", "training"} <= set(seen)
    assert any(name.startswith("head.") for name in memory.derived.trained("classifier").load().arrays)
    found = [classifier.classify(text).label for text in ("A banana, ripe and sweet.", "A screwdriver of heavy steel.")]
    assert found == ["fruit", "tool"]


def test_bad_examples_and_texts_are_refused_in_a_line() -> None:
    memory = Memory()
    classifier = Classifier(memory, "")
    with pytest.raises(InvalidInput, match="no record has a label"):
        classifier.classify("anything")
    classifier.remember([("an apple", "fruit"), ("a pear", "fruit")])
    for act in (classifier.train, lambda: classifier.classify("anything")):
        with pytest.raises(InvalidInput, match="all examples are labelled 'fruit'"):
            act()
    for bad in ("", "  ", 5):
        with pytest.raises(InvalidInput, match="nothing to classify"):
            classifier.classify(bad)
    for bad in (("", "fruit"), ("an apple", ""), ("an apple", 5)):
        with pytest.raises(InvalidInput, match="no example"):
            classifier.remember([bad])
    assert len(memory) == 2


def test_the_same_examples_give_the_same_answer() -> None:
    found = []
    for _ in range(2):
        classifier = Classifier(Memory(), "")
        classifier.remember(examples())
        classifier.train()
        found.append(list(classifier.classify("A sweet thing of steel.").probabilities.values()))
    assert np.array_equal(*found)


def test_what_was_undone_has_no_part_in_an_answer() -> None:
    memory = Memory()
    classifier = Classifier(memory, "")
    classifier.remember(examples())
    with pytest.raises(KeyError), memory.transaction():
        memory.store("A", "zebra zebra", metadata={"label": "tool"})
        assert classifier.classify("zebra zebra").citations[0].key == "A"
        raise KeyError
    memory.store("B", "quark quark", metadata={"label": "fruit"})
    assert classifier.classify("zebra zebra") == Classifier(memory, "").classify("zebra zebra")


@pytest.mark.parametrize("pair", [("ab", "cd"), ("!!!", "???"), ("a", "b"), ("same", "Same"), ("苹果", "锤子")])
def test_two_examples_are_enough(pair: tuple[str, str]) -> None:
    for encoder in ("", None):
        classifier = Classifier(Memory(), encoder)
        classifier.remember(zip(pair, "xy", strict=True))
        assert set(classifier.classify(pair[0]).probabilities) == {"x", "y"}


def test_expired_examples_and_labels_that_are_none_do_not_count() -> None:
    memory = Memory()
    classifier = Classifier(memory, "")
    classifier.remember(examples())
    memory.store("late", "a ripe fig", metadata={"label": "gone"}, ttl=0.01)
    for label in (None, "", 3, ["a"]):
        memory.store(f"odd {label}", "a ripe fig", metadata={"label": label})
    time.sleep(0.05)
    assert classifier.train() == {"fruit": 30, "tool": 30}


def test_damaged_training_is_told_and_struck_out(tmp_path: Path) -> None:
    with Memory(tmp_path / "m") as memory:
        classifier = Classifier(memory, "")
        classifier.remember(examples())
        classifier.train()
        (file,) = (tmp_path / "m").rglob("classifier*.safetensors*")
        file.write_bytes(b"rubbish")
        assert any("classifier.safetensors" in line for line in memory.verify())
        with pytest.raises(MemoryFormatError, match="repair"):
            Classifier(memory, "").classify("a ripe fig")
        memory.repair()
        assert memory.verify() == []
        assert Classifier(memory, "").classify("a ripe juicy sweet fig").label == "fruit"
