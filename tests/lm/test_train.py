"""Training stopped anywhere and started again ends with the same weights; what diverges says so; logs and traces."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from pydoc_data.topics import topics

import pytest
import torch
from safetensors.torch import load_file

from extmem import LanguageModel
from extmem.errors import InvalidInput, ModelError, TrainingDiverged
from extmem.lm.network import ModelConfig, Network
from extmem.lm.recipes import RECIPES
from extmem.lm.train import Progress, TrainConfig, perplexity, train
from extmem.nn.lstm import GatedLSTM

SMALL = {"units": 16, "embedding": 16, "batch": 4, "slots": 2, "capacity": 20, "sequence_length": 50}
TINY = ModelConfig(vocabulary=20, units=16, embedding=16, slots=2, capacity=10)


class Stop(Exception):
    """What the tests stop a training with."""


def stop_at(epoch: int, done: int | None):
    """A progress that stops in this epoch after `done` tokens, or at its end if that is None."""

    def progress(now: Progress) -> None:
        at_end = now.validation is not None
        if now.epoch == epoch and (at_end if done is None else not at_end and now.done >= done):
            raise Stop

    return progress


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("train") / "text.txt"
    path.write_text(topics["with"] + "\n\n" + topics["while"], encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def whole(text: Path) -> LanguageModel:
    """The training that nothing stopped."""
    return LanguageModel.train(text, text.parent / "whole", epochs=3, **SMALL)


def assert_same(one: LanguageModel, other: LanguageModel) -> None:
    assert one.checkpoint.tensors.keys() == other.checkpoint.tensors.keys()
    for name, tensor in one.checkpoint.tensors.items():
        assert torch.equal(tensor, other.checkpoint.tensors[name]), name
    figures = [
        [(line["train_perplexity"], line["validation_perplexity"]) for line in model.checkpoint.history]
        for model in (one, other)
    ]
    assert figures[0] == figures[1]
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize(
    ("epoch", "done"), [(1, None), (2, 1), (2, None), (3, None)], ids=["after 1", "within 2", "after 2", "after 3"]
)
def test_a_training_stopped_and_started_again_ends_with_the_same_weights(tmp_path, text, whole, epoch, done):
    with pytest.raises(Stop):
        LanguageModel.train(text, tmp_path / "m", epochs=3, progress=stop_at(epoch, done), **SMALL)
    kept = json.loads((tmp_path / "m" / "checkpoint.json").read_text())["epoch"]
    assert kept == (epoch if done is None else epoch - 1)
    seen = []
    resumed = LanguageModel.train(text, tmp_path / "m", epochs=3, progress=seen.append, **SMALL)
    assert_same(resumed, whole)
    assert {now.epoch for now in seen} == set(range(kept + 1, 4)), "no epoch is done twice"
    assert_same(LanguageModel.load(tmp_path / "m"), whole)
    assert not list((tmp_path / "m").glob("checkpoint*"))


KILLED = """
import sys, torch
from extmem import LanguageModel
torch.set_num_threads(1)
def wait_in_epoch_2(now):
    if now.epoch == 2:
        print("epoch 2", flush=True)
        sys.stdin.read()
LanguageModel.train(sys.argv[1], sys.argv[2], epochs=3, progress=wait_in_epoch_2, **eval(sys.argv[3]))
"""


EVERYTHING = {
    "gates": "input",
    "sampled": 20,
    "frequent": 10,
    "average": 20,
    "word_dropout": 0.1,
    "recurrent_dropout": 0.2,
}


def test_so_does_one_with_all_that_a_recipe_uses(tmp_path, text):
    options = {**SMALL, **EVERYTHING, "epochs": 3}
    with pytest.raises(Stop):
        LanguageModel.train(text, tmp_path / "m", progress=stop_at(2, 1), **options)
    assert_same(LanguageModel.train(text, tmp_path / "m", **options), LanguageModel.train(text, **options))


def test_the_weights_that_are_kept_are_the_average_of_the_last_ones(tmp_path):
    token_N = torch.randint(20, (600,), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    network, seen = Network(TINY), []

    def note(now: Progress) -> None:
        if now.validation is None:
            seen.append(network.embedding.weight.detach().clone())

    config = TrainConfig(epochs=1, batch=2, sequence_length=50, average=1000)
    (line,) = train(network, token_N, token_N[:200], config, tmp_path, note)
    assert len(seen) > 4
    torch.testing.assert_close(network.embedding.weight.detach(), torch.stack(seen).mean(0))
    assert perplexity(network, token_N[:200]) == pytest.approx(line["validation_perplexity"], rel=1e-6)


def test_a_recipe_gives_the_options_that_are_not_given(text):
    model = LanguageModel.train(text, recipe="ptb-small", epochs=1, **SMALL)
    config, recipe = model.network.config, RECIPES["ptb-small"]
    assert (config.units, config.gates, config.word_dropout) == (16, recipe["gates"], recipe["word_dropout"])
    with pytest.raises(InvalidInput, match=r"no recipe 'ptb': choose from .*ptb-small"):
        LanguageModel.train(text, recipe="ptb")


@pytest.mark.parametrize("gates", ["cell", "input"])
def test_dropped_weights_are_others_in_every_call_and_none_when_not_training(gates):
    torch.manual_seed(0)
    lstm, x = GatedLSTM(4, 6, gates=gates, recurrent_dropout=0.5), torch.randn(2, 5, 4)
    one, other = lstm(x)[0], lstm(x)[0]
    torch.testing.assert_close(one[:, 0], other[:, 0], msg="the first step has no state to read")
    assert not torch.allclose(one[:, 1:], other[:, 1:])
    one.sum().backward()
    assert all(parameter.grad is not None for parameter in lstm.parameters())
    lstm.eval()
    torch.testing.assert_close(lstm(x)[0], lstm(x)[0])


def test_a_training_killed_in_its_second_epoch_ends_with_the_same_weights(tmp_path, text, whole):
    words = [sys.executable, "-c", KILLED, str(text), str(tmp_path / "m"), repr(SMALL)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"epoch 2\n"
        assert (tmp_path / "m" / "checkpoint.json").exists()
        process.kill()
    assert process.returncode < 0
    assert not (tmp_path / "m" / "model.json").exists()
    assert_same(LanguageModel.train(text, tmp_path / "m", epochs=3, **SMALL), whole)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(text, whole):
    torch.manual_seed(1234)  # what came before does not matter
    assert_same(LanguageModel.train(text, epochs=3, **SMALL), whole)
    other = LanguageModel.train(text, epochs=3, seed=1, **SMALL)
    assert other.fingerprint != whole.fingerprint
    assert not torch.equal(other.network.embedding.weight, whole.network.embedding.weight)


def test_another_corpus_or_other_options_are_refused_and_the_training_can_still_be_finished(tmp_path, text, whole):
    with pytest.raises(Stop):
        LanguageModel.train(text, tmp_path / "m", epochs=3, progress=stop_at(1, None), **SMALL)
    (tmp_path / "other.txt").write_text(topics["try"], encoding="utf-8")
    with pytest.raises(ModelError, match="another corpus or other options"):
        LanguageModel.train(tmp_path / "other.txt", tmp_path / "m", epochs=3, **SMALL)
    for option, value in {"units": 17, "learning_rate": 1e-3, "seed": 5, "epochs": 4, "dropout": 0.1}.items():
        with pytest.raises(ModelError, match="another corpus or other options") as refused:
            LanguageModel.train(text, tmp_path / "m", **{"epochs": 3, **SMALL, option: value})
        assert refused.value.subject == tmp_path / "m"
    assert_same(LanguageModel.train(text, tmp_path / "m", epochs=3, **SMALL), whole)


def test_a_folder_with_a_model_or_other_files_is_left_alone(tmp_path, text, whole):
    (tmp_path / "notes.md").write_text("mine")
    with pytest.raises(ModelError, match="holds other files"):
        LanguageModel.train(text, tmp_path, epochs=1, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.md"]
    with pytest.raises(ModelError, match="holds a trained model"):
        LanguageModel.train(text, text.parent / "whole", epochs=3, **SMALL)
    assert_same(LanguageModel.load(text.parent / "whole"), whole)


def test_the_training_perplexity_falls(text, whole):
    quick = {"learning_rate": 0.02, "warmup": 1, "dropout": 0.0}
    lines = LanguageModel.train(text, epochs=6, **quick, **SMALL).checkpoint.history
    perplexities = [line["train_perplexity"] for line in lines]
    assert perplexities == sorted(perplexities, reverse=True)
    assert perplexities[-1] < perplexities[0] / 2


def test_patience_ends_the_training(text):
    """A learning rate that moves no weight: the first epoch stays the best."""
    model = LanguageModel.train(text, epochs=9, patience=2, learning_rate=1e-30, **SMALL)
    assert len(model.checkpoint.history) == 3


def test_the_weights_are_those_of_the_best_epoch(tmp_path):
    """Learning a text by heart makes another text less likely; the last epochs are not the best."""
    generator = torch.Generator().manual_seed(0)
    learnt, held = (torch.randint(20, (count,), generator=generator) for count in (400, 300))
    torch.manual_seed(0)
    network = Network(TINY)
    config = TrainConfig(epochs=12, patience=3, batch=2, sequence_length=50, learning_rate=0.02, warmup=1)
    history = train(network, learnt, held, config, tmp_path)
    validations = [line["validation_perplexity"] for line in history]
    best = validations.index(min(validations))
    assert best < len(validations) - 1, "the last epoch is not the best, or this test says nothing"
    assert len(validations) == min(best + 1 + 3, 12)
    assert perplexity(network, held) == pytest.approx(min(validations), rel=1e-6)


def test_log_writes_the_figures_of_every_epoch_for_tensorboard(tmp_path, text):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = LanguageModel.train(text, epochs=2, log=tmp_path / "log", **SMALL)
    assert len(list((tmp_path / "log").glob("events.out.tfevents.*"))) == 1
    events = EventAccumulator(str(tmp_path / "log"))
    events.Reload()
    for name in ("validation_perplexity", "train_perplexity"):
        written = events.Scalars(name)
        assert [event.step for event in written] == [1, 2]
        assert [event.value for event in written] == pytest.approx([line[name] for line in model.checkpoint.history])


def test_profile_writes_a_trace(tmp_path, text, whole):
    profiled = LanguageModel.train(text, epochs=3, profile=tmp_path / "trace", **SMALL)
    (trace,) = (tmp_path / "trace").glob("*.pt.trace.json")
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert "aten::baddbmm" in names, "the memory layer's reading is in it"
    assert_same(profiled, whole)


def test_a_learning_rate_far_too_high_is_named_with_its_step(tmp_path, text):
    with pytest.raises(TrainingDiverged, match=r"NaN or Inf at step (\d+) \(epoch 1\); none was kept yet") as failed:
        LanguageModel.train(text, tmp_path / "m", epochs=3, learning_rate=1e6, **SMALL)
    message = str(failed.value)
    assert f"step {failed.value.subject} " in message
    assert "lower learning rate" in message
    assert "\n" not in message
    assert not (tmp_path / "m" / "model.json").exists()


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_after_the_first_epoch_the_last_good_checkpoint_is_named_and_can_be_loaded(tmp_path, value):
    token_N = torch.arange(1000) % 20
    torch.manual_seed(0)
    network = Network(TINY)
    config = TrainConfig(epochs=3, batch=2, sequence_length=50)
    steps: list[Progress] = []

    def poison(now: Progress) -> None:
        steps.append(now)
        if now.epoch == 2 and now.validation is None:
            network.embedding.weight.data[3] = value

    with pytest.raises(TrainingDiverged) as failed:
        train(network, token_N, token_N[:200], config, tmp_path, poison)
    updates = sum(now.validation is None for now in steps) + 1
    assert failed.value.subject == updates
    assert f"at step {updates} (epoch 2)" in str(failed.value)
    named = re.search(r"the last good checkpoint is (\S+);?\. ", str(failed.value))
    assert named is not None
    tensors = load_file(named[1])
    kept = Network(TINY)
    kept.load_state_dict({n.removeprefix("network."): t for n, t in tensors.items() if n.startswith("network.")})
    (after_one,) = [now.validation for now in steps if now.validation is not None]
    assert perplexity(kept, token_N[:200]) == pytest.approx(after_one, rel=1e-6)


@pytest.mark.parametrize(
    "options", [{"epochs": 0}, {"batch": 0}, {"learning_rate": 0.0}, {"learning_rate": math.nan}, {"patience": 0}]
)
def test_options_that_cannot_train_are_refused(tmp_path, text, options):
    with pytest.raises(InvalidInput, match=next(iter(options))):
        LanguageModel.train(text, tmp_path / "m", **options)
    assert not (tmp_path / "m").exists()
