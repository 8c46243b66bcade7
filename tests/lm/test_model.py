"""A model on disk: it comes back as it was, is whole or refused, in plain formats, from any kind of corpus."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from pydoc_data.topics import topics

import pytest
import torch
from safetensors.torch import load_file

from extmem import LanguageModel, Memory
from extmem.errors import CorpusError, InvalidInput, ModelError, StorageError

SMALL = {"units": 16, "embedding": 16, "batch": 4, "slots": 2, "capacity": 20, "sequence_length": 50, "epochs": 1}
PLACES = ("axes", "cells", "codebook", "probes", "spread")  # where its states lie, and the quantiser of its datastores


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with text.txt and the model trained on it, in `model`."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "text.txt").write_text(topics["with"] + "\n\n" + topics["while"], encoding="utf-8")
    LanguageModel.train(folder / "text.txt", folder / "model", **SMALL)
    return folder


@pytest.fixture
def copy(place: Path, tmp_path: Path) -> Path:
    """A model's folder that a test may damage."""
    return Path(shutil.copytree(place / "model", tmp_path / "copy"))


def predictions(model: LanguageModel) -> torch.Tensor:
    """The probability of every word after each word of a text, (T, V)."""
    states, _ = model.network.read(model.encode("The with statement is used to wrap the execution of a block."))
    return model.network.log_probabilities(states).detach().exp()


def test_a_loaded_model_is_the_model_that_was_saved(place, tmp_path):
    model = LanguageModel.load(place / "model")
    model.save(tmp_path / "again")
    again = LanguageModel.load(tmp_path / "again")
    assert again.fingerprint == model.fingerprint
    assert torch.equal(predictions(again), predictions(model))
    assert torch.allclose(predictions(again).sum(1), torch.ones(len(predictions(again))), atol=1e-5)
    assert again.mixture == model.mixture
    assert again.summary() == model.summary()
    assert [*again.vocabulary] == [*model.vocabulary]
    assert again.quantizer.name == model.quantizer.name


def test_the_fingerprint_is_that_of_the_weights_and_the_words(place):
    model = LanguageModel.load(place / "model")
    tensors = {name: tensor.clone() for name, tensor in model.checkpoint.tensors.items()}
    tensors["bias"][0] += 1e-6
    changed = type(model.checkpoint)(**{**vars(model.checkpoint), "tensors": tensors})
    assert changed.fingerprint() != model.fingerprint
    assert model.checkpoint.fingerprint() == model.fingerprint


def test_a_models_folder_holds_safetensors_json_and_a_memory_and_nothing_else(place):
    model = LanguageModel.load(place / "model")
    found = {path.relative_to(place / "model").as_posix() for path in (place / "model").rglob("*") if path.is_file()}
    weights, words = f"weights-{model.fingerprint}.safetensors", f"vocabulary-{model.fingerprint}/records.db"
    assert found == {"model.json", weights, words}
    assert load_file(place / "model" / weights).keys() == {*model.network.state_dict(), *PLACES}
    assert json.loads((place / "model" / "model.json").read_text())["fingerprint"] == model.fingerprint
    assert (place / "model" / words).read_bytes().startswith(b"SQLite format 3\0")


def test_the_words_are_records_of_a_memory(place):
    model = LanguageModel.load(place / "model")
    (words,) = (place / "model").glob("vocabulary-*")
    with Memory(words) as memory:
        assert memory.retrieve("with") == model.vocabulary.id("with")
        assert memory.retrieve("<unk>") == model.vocabulary.unknown
        assert memory.retrieve("zebra") is None
        assert dict(memory.items()) == {word: number for number, word in enumerate(model.vocabulary)}
        assert memory.verify() == []


@pytest.mark.parametrize("damage", ["removed", "cut", "emptied"])
@pytest.mark.parametrize("part", ["model.json", "weights-*.safetensors"])
def test_a_model_without_one_of_its_files_is_refused(copy, part, damage):
    (path,) = copy.glob(part)
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 if damage == "cut" else 0])
    if part == "model.json":
        assert ("holds no model" if damage == "removed" else "model.json cannot be read") in refused(copy)
    else:
        assert ("is incomplete" if damage == "removed" else "its weights are damaged") in refused(copy)


def test_a_model_without_its_vocabulary_is_refused(copy):
    (words,) = copy.glob("vocabulary-*")
    shutil.rmtree(words)
    assert f"{words} is missing" in refused(copy)


def test_a_model_with_one_bit_of_its_weights_changed_is_refused(copy):
    (path,) = copy.glob("weights-*.safetensors")
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    assert "checksum" in refused(copy)


def test_a_model_of_another_format_is_refused(copy):
    about = json.loads((copy / "model.json").read_text())
    (copy / "model.json").write_text(json.dumps({**about, "format": 2}))
    assert "format 2" in refused(copy)
    for wrong in ("[]", "{}", '"model"'):
        (copy / "model.json").write_text(wrong)
        assert "format None" in refused(copy)


def refused(folder: Path) -> str:
    with pytest.raises(ModelError) as error:
        LanguageModel.load(folder)
    message = str(error.value)
    assert "\n" not in message
    assert str(folder) in message
    assert "train it again" in message
    return message


SAVE = """
import resource, sys, torch
from dataclasses import replace
from extmem import LanguageModel
model = LanguageModel.load(sys.argv[1])
tensors = {name: tensor + 1 for name, tensor in model.checkpoint.tensors.items()}
other = LanguageModel(replace(model.checkpoint, tensors=tensors))
for limit in map(int, sys.stdin):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        other.save(sys.argv[1])
        print("saved", other.fingerprint, flush=True)
    except Exception as error:
        print(type(error).__name__, str(error).count("\\n"), flush=True)
"""


def test_saving_on_a_disk_that_is_full_leaves_the_old_model(place, copy):
    (weights,) = copy.glob("weights-*.safetensors")
    sizes = [weights.stat().st_size - 1, weights.stat().st_size + 1, 10_000_000]
    (words,) = copy.glob("vocabulary-*/records.db")
    assert words.stat().st_size > sizes[1], "the first limit stops the weights, the second the words"
    with subprocess.Popen(
        [sys.executable, "-c", SAVE, copy], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as saver:

        def said(limit: int) -> list[str]:
            print(limit, file=saver.stdin, flush=True)
            return saver.stdout.readline().split()

        for limit in sizes[:2]:
            assert said(limit) == [StorageError.__name__, "0"]
            assert torch.equal(predictions(LanguageModel.load(copy)), predictions(LanguageModel.load(place / "model")))
        assert said(sizes[2]) == ["saved", LanguageModel.load(copy).fingerprint]
    assert len([path for path in copy.rglob("*") if path.is_file()]) == 3, "nothing of the old one stays"


def test_weights_of_another_network_are_refused_in_a_line(model):
    wide = replace(model.checkpoint, config=replace(model.checkpoint.config, slots=9))
    with pytest.raises(ModelError, match=r"not of this version's network .*slot.*train the model again") as caught:
        LanguageModel(wide)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"gates": "input", "layers": 2}, {"memory_layer": False, "embedding": 8}])
def test_the_summary_counts_every_parameter(place, options):
    model = LanguageModel.train(place / "text.txt", **{**SMALL, **options})
    summary = model.summary()
    counted = sum(tensor.numel() for name, tensor in model.checkpoint.tensors.items() if name not in PLACES)
    assert summary["parameters"] == counted
    assert sum(summary["parts"].values()) + len(model.vocabulary) == counted, "the parts and the bias of each word"
    assert ("memory" in summary["parts"]) == options.get("memory_layer", True)
    assert summary["config"]["vocabulary"] == len(model.vocabulary)
    assert (summary["tokenizer"], summary["epochs"]) == ("words", 1)


def test_an_option_that_there_is_not_is_refused_before_anything_is_done(place, tmp_path):
    with pytest.raises(InvalidInput, match=r"no option 'unit': choose from .*units") as refusal:
        LanguageModel.train(place / "text.txt", tmp_path / "m", unit=16)
    assert refusal.value.subject == {"unit"}
    assert not (tmp_path / "m").exists()
    model = LanguageModel.load(place / "model")
    with pytest.raises(InvalidInput, match=r"no option 'beam': choose from .*beams"):
        model.generate("The", beam=2)
    with pytest.raises(ModelError, match=r"device 'tpu' is not there: .*cpu"):
        LanguageModel.load(place / "model", device="tpu")


def test_chinese_trains_memorizes_measures_and_generates_with_no_option(tmp_path):
    people, things = ["小明", "老师", "妈妈", "朋友"], ["苹果", "书", "茶", "花"]
    lines = [f"{who}在市场买了{what}。{what}很好,{who}很高兴!" for who in people for what in things] * 5
    (tmp_path / "zh.txt").write_text("\n\n".join(lines), encoding="utf-8")
    model = LanguageModel.train(tmp_path / "zh.txt", tmp_path / "model")
    assert model.tokenizer.name == "words"
    assert {"苹", "果", "。", "!"} <= set(model.vocabulary), "a character is a word"
    history = model.checkpoint.history
    assert history[-1]["train_perplexity"] < history[0]["train_perplexity"]
    with Memory() as memory:
        text = "小明在市场买了茶。茶很好,小明很高兴!"
        assert model.memorize(memory, {"茶": text}).entries == len(text) + 1
        (tmp_path / "held.txt").write_text(text, encoding="utf-8")
        assert model.perplexity(tmp_path / "held.txt", memory) < model.perplexity(tmp_path / "held.txt")
        said = model.generate("小明在市场", memory, max_tokens=8)
        assert said.text == "小明在市场" + "".join(token.text for token in said.tokens), "no spaces"
        cited = [(token.text, place) for token in said.tokens for place in token.citations]
        assert cited
        assert all(text[place.start : place.end] == word for word, place in cited)


def test_the_same_text_in_jsonl_and_gz_trains_the_same_model(place, tmp_path):
    text = (place / "text.txt").read_text(encoding="utf-8")
    (tmp_path / "text.jsonl").write_text(json.dumps({"text": text}), encoding="utf-8")
    (tmp_path / "text.txt.gz").write_bytes(gzip.compress(text.encode()))
    expected = LanguageModel.load(place / "model").fingerprint
    for name in ("text.jsonl", "text.txt.gz"):
        assert LanguageModel.train(tmp_path / name, **SMALL).fingerprint == expected


def test_a_corpus_too_small_to_learn_from_is_refused(tmp_path):
    (tmp_path / "text.txt").write_text("Too little to learn from, and so refused.")
    with pytest.raises(CorpusError, match=r"too little text|too short"):
        LanguageModel.train(tmp_path / "text.txt", tmp_path / "m", **SMALL)
    assert not (tmp_path / "m").exists()
