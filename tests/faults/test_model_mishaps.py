"""Mishaps of models: killed or full while saving, damaged files, names that clash. One line, nothing lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from extmem import LanguageModel, Memory
from extmem.errors import InvalidInput, ModelError, TrainingDiverged
from extmem.lm.checkpoint import save_checkpoint

SMALL = {"units": 16, "embedding": 16, "batch": 4, "slots": 2, "capacity": 20, "sequence_length": 50}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(topics["with"] + "\n\n" + topics["while"], encoding="utf-8")
    return path


@pytest.fixture
def copy(model: LanguageModel, corpus: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(corpus.parent / "model", tmp_path / "copy"))


def vocabulary(folder: Path) -> Path:
    return next(folder.glob("vocabulary-*")) / "records.db"


def test_saving_a_model_where_it_is_does_not_touch_its_words(copy):
    loaded = LanguageModel.load(copy)
    before = vocabulary(copy).stat()
    save_checkpoint(copy, loaded.checkpoint)
    after = vocabulary(copy).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert LanguageModel.load(copy).fingerprint == loaded.fingerprint


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "a word forgotten"])
def test_a_model_with_a_damaged_vocabulary_is_refused(copy, damage):
    words = vocabulary(copy)
    if damage == "missing":
        words.unlink()
    elif damage == "a word forgotten":
        with Memory(words.parent) as memory:
            memory.forget("the")
    else:
        words.write_bytes(words.read_bytes()[: 0 if damage == "empty" else 5000])
    with pytest.raises(ModelError, match="train it again"):
        LanguageModel.load(copy)


@pytest.mark.parametrize("left", ["checkpoint-1.safetensors", "checkpoint.json.partial"])
def test_a_training_killed_before_its_first_checkpoint_was_whole_can_be_started_again(tmp_path, text, left):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / left).write_bytes(b"cut")
    LanguageModel.train(text, tmp_path / "model", epochs=1, **SMALL)
    assert LanguageModel.load(tmp_path / "model").summary()["epochs"] == 1


@pytest.mark.parametrize("content", ["", "{}", '{"signature": 1', "[]", '{"signature": "x", "tensors": "gone"}'])
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path, text, content):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "checkpoint.json").write_text(content)
    with pytest.raises(ModelError, match="delete the folder and train again"):
        LanguageModel.train(text, tmp_path / "model", epochs=1, **SMALL)


def test_a_loss_beyond_all_numbers_is_a_training_diverged(tmp_path, text):
    with pytest.raises(TrainingDiverged, match="at step"):
        LanguageModel.train(
            text, tmp_path / "m", **{**SMALL, "sequence_length": 5000, "batch": 1}, learning_rate=1e4, warmup=0
        )


@pytest.mark.parametrize("option", [{"gates": "x"}, {"slots": -1}, {"capacity": -1}, {"warmup": -1}, {"clip": 0.0}])
def test_options_that_mean_nothing_are_invalid_input(tmp_path, text, option):
    with pytest.raises(InvalidInput, match=next(iter(option))):
        LanguageModel.train(text, tmp_path / "m", **{**SMALL, **option})
    assert not (tmp_path / "m").exists()


def test_another_validation_text_does_not_finish_the_training(tmp_path, text):
    (tmp_path / "corpus").mkdir()
    shutil.copy(text, tmp_path / "corpus" / "train.txt")
    (tmp_path / "corpus" / "valid.txt").write_text(topics["try"])

    class Stop(Exception):
        pass

    def stop(at):
        if at.validation is not None:
            raise Stop

    with pytest.raises(Stop):
        LanguageModel.train(tmp_path / "corpus", tmp_path / "m", epochs=2, progress=stop, **SMALL)
    (tmp_path / "corpus" / "valid.txt").write_text(topics["try"] + " And more.")
    with pytest.raises(ModelError, match="another corpus"):
        LanguageModel.train(tmp_path / "corpus", tmp_path / "m", epochs=2, **SMALL)


def test_a_fit_is_dropped_with_a_record_that_had_a_part_in_it_and_kept_with_a_later_one(model, corpus):
    memory, other = Memory(), Memory()
    model.memorize(memory, {"a": topics["with"], "b": topics["while"]})
    fitted = model.fit(memory, corpus.parent / "held-out.txt")
    model.memorize(memory, {"c": topics["del"]})
    memory.forget("c")
    assert model.mixture_for(memory) == fitted
    memory.forget("a")
    assert model.mixture_for(memory) == model.mixture == model.mixture_for(other)


def test_a_memory_whose_memorized_records_are_all_forgotten_is_open_to_any_model(model, tmp_path, text):
    another = LanguageModel.train(text, tmp_path / "m", epochs=1, **SMALL)
    memory = Memory(tmp_path / "memory")
    model.memorize(memory, {"a": topics["with"]})
    memory.forget("a")
    assert another.memorize(memory, {"b": topics["while"]}).entries > 100
    assert memory.verify() == []


def test_two_files_of_one_name_are_two_records(model, tmp_path):
    for folder in ("p", "q"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.txt").write_text(f"In {folder} the value is a string.")
    memory = Memory()
    files = [tmp_path / "p" / "x.txt", tmp_path / "q" / "x.txt"]
    assert model.memorize(memory, files).documents == 2
    assert sorted(memory.keys()) == sorted(path.as_posix() for path in files)
    assert model.memorize(memory, files).documents == 0


def test_a_document_that_has_become_blank_leaves_no_entries(model, tmp_path):
    memory = Memory(tmp_path / "memory")
    model.memorize(memory, {"a": "The value of the first item.", "b": "A list of items."})
    kept = model.memorize(Memory(), {"b": "A list of items."}).entries
    model.memorize(memory, {"a": " \n"})
    assert len(model.datastore(memory)) == kept
    assert model.memorize(memory, {"a": " \n"}).documents == 0


def test_a_word_outside_the_vocabulary_cites_only_places_that_spell_it(model):
    memory, told = Memory(), "The quokka sleeps while the wombat digs. The wombat digs while the quokka sleeps."
    model.memorize(memory, {"told": told})
    cited = [
        (token.text, told[place.start : place.end])
        for seed in range(5)
        for token in model.generate("The quokka", memory, temperature=1.0, seed=seed).tokens
        for place in token.citations
    ]
    assert len(cited) > 10
    assert all(spelled == word for word, spelled in cited)
    assert {"quokka", "wombat"} & {word for word, _ in cited}


def test_a_model_of_a_later_format_says_so(copy):
    about = json.loads((copy / "model.json").read_text())
    (copy / "model.json").write_text(json.dumps({**about, "format": 2}))
    with pytest.raises(ModelError, match="format 2"):
        LanguageModel.load(copy)
