"""What is measured is what plain arithmetic gives; nothing sees the future; memorizing is exact and repeatable."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest
import torch

import extmem.lm.memorize
from extmem import LanguageModel, Memory
from extmem.errors import InvalidInput, WrongModel
from extmem.lm.fitting import calibration, mixed
from extmem.lm.generate import Generator
from extmem.lm.sampling import Sampling
from extmem.lm.sources import read_text
from extmem.text.normalise import normalise

SMALL = {"units": 16, "embedding": 16, "batch": 4, "slots": 2, "capacity": 20, "sequence_length": 50, "epochs": 2}
MANUAL = {name: topics[name][:1500] for name in ("with", "del", "assert", "pass")}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """text.txt to learn from, long.txt and short.txt to measure (over and under 400 tokens)."""
    folder = tmp_path_factory.mktemp("evaluate")
    (folder / "text.txt").write_text(topics["while"] + "\n\n" + topics["try"], encoding="utf-8")
    (folder / "long.txt").write_text(topics["with"][:5000], encoding="utf-8")
    (folder / "short.txt").write_text(topics["with"][200:900], encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def small(place: Path) -> LanguageModel:
    return LanguageModel.train(place / "text.txt", place / "model", learning_rate=0.02, warmup=1, **SMALL)


def entries(model: LanguageModel, memory: Memory) -> list[tuple]:
    """Every entry: its key's bytes, its word, the record it cites and where."""
    datastore = model.datastore(memory)
    reading = datastore.nearest(np.zeros((1, 16), np.float32), len(datastore))
    found = []
    for row in np.argsort(reading.entries[0]):
        number = int(reading.entries[0, row])
        record_id, span = datastore.cite(number)
        word, key = int(datastore.tokens[number]), memory.records.by_id(record_id).key
        found.append((reading.vectors[0, row].tobytes(), word, key, tuple(span)))
    return found


def test_the_models_row_is_the_cross_entropy_of_its_network(small, place):
    text = (place / "long.txt").read_text(encoding="utf-8")
    found = small.evaluate(place / "long.txt")
    ids = torch.tensor([small.vocabulary.id(word) for word in small.tokenizer.encode(normalise(text)).words])
    with torch.no_grad():
        states, _ = small.network(torch.cat([torch.tensor([small.vocabulary.eos]), ids[:-1]])[None])
        logits = states[0] @ small.network.embedding.weight.T + small.network.bias
    loss = float(torch.nn.functional.cross_entropy(logits, ids))
    assert found.tokens == len(ids)
    assert found.perplexity["model"] == pytest.approx(math.exp(loss), rel=1e-4)
    assert found.bits_per_character["model"] == pytest.approx(loss * len(ids) / len(text) / math.log(2), rel=1e-3)
    assert small.perplexity(place / "long.txt") == found.perplexity["model"]


def test_the_rows_are_the_model_and_what_each_memory_adds(small, place):
    without = small.evaluate(place / "long.txt")
    assert list(without.perplexity) == ["model", "cache", "datastore", "memory"]
    assert without.perplexity["datastore"] is None
    assert without.perplexity["memory"] == without.perplexity["cache"] < without.perplexity["model"]
    with Memory() as memory:
        assert small.evaluate(place / "long.txt", memory).perplexity == without.perplexity, (
            "an empty memory adds nothing"
        )
        small.memorize(memory, {"with": (place / "long.txt").read_text(encoding="utf-8")})
        found = small.evaluate(place / "long.txt", memory)
        for row in ("model", "cache"):
            assert found.perplexity[row] == pytest.approx(without.perplexity[row])
        assert found.perplexity["datastore"] < found.perplexity["cache"], "it has read this very text"
        assert found.reduction_percent["model"] == 0
        ratio = found.perplexity["memory"] / found.perplexity["model"]
        assert found.reduction_percent["memory"] == pytest.approx(100 * (1 - ratio))
        assert small.perplexity(place / "long.txt", memory) == found.perplexity["memory"]
        assert found.to_json()["perplexity"] == found.perplexity


def test_each_half_is_measured_with_what_the_other_half_taught(small, place):
    with Memory() as memory:
        small.memorize(memory, MANUAL)
        found = small.evaluate(place / "long.txt", memory)
        ids = small.encode((place / "long.txt").read_text(encoding="utf-8"))
        evidence = read_text(small, ids, small.datastore(memory).view(), small.mixture)
        half = len(ids) // 2
        parts = [evidence.part(slice(0, half)), evidence.part(slice(half, len(ids)))]
        assert found.mixtures[0] != found.mixtures[1]

        def nats(mixtures) -> float:
            pairs = zip(parts, mixtures, strict=True)
            return -sum(float(mixed(part, "memory", mixture)[0].log().sum()) for part, mixture in pairs)

        crossed, own = nats(found.mixtures), nats(reversed(found.mixtures))
        assert found.nats["memory"] == pytest.approx(crossed, rel=1e-9)
        assert own < crossed, "a mixture fitted on the very text would look better"
        assert sum(found.shares.values()) == pytest.approx(1, abs=1e-5)
        assert found.reliability.keys() == {"model", "cache", "datastore"}
        for name, bins in found.reliability.items():  # of as many tokens each
            share = sum(share for source, share in found.shares.items() if source.split()[0] == name)
            assert sum(pair[0] for pair in bins) / len(bins) == pytest.approx(share, abs=0.01)
            assert [pair[0] for pair in bins] == sorted(pair[0] for pair in bins)
            assert all(0 <= own <= 1 for _, own in bins)


def test_calibration_is_nothing_for_a_true_gate_and_what_it_is_off_for_another():
    generator = torch.Generator().manual_seed(0)
    true = torch.rand(20_000, generator=generator)
    first = torch.rand(20_000, generator=generator) < true  # the word comes from the first source so often
    parts = torch.stack([first.float(), 1 - first.float()], dim=1)
    assert max(calibration(torch.stack([true, 1 - true], dim=1), parts)) < 0.02
    boasts = (true + 0.2).clamp(max=1)
    assert calibration(torch.stack([boasts, 1 - boasts], dim=1), parts)[0] == pytest.approx(0.18, abs=0.02)


def test_a_text_that_is_given_is_measured_as_its_file_is_and_says_how_far_it_got(small, place):
    text, seen = (place / "long.txt").read_text(encoding="utf-8"), []
    found = small.evaluate({"": text}, progress=lambda done, total: seen.append((done, total)))
    assert found.perplexity == small.evaluate(place / "long.txt").perplexity
    assert seen == sorted(seen)
    assert seen[-1] == (found.tokens, found.tokens)


def test_a_text_can_be_measured_with_what_another_one_taught(small, place):
    with Memory() as memory:
        small.memorize(memory, MANUAL)
        held = place / "held.txt"
        held.write_text(topics["del"] + topics["try"], encoding="utf-8")
        found = small.evaluate(place / "long.txt", memory, fit_on=held)
        fitted = small.fit(memory, held)
        assert found.mixtures == [fitted] * 2
        evidence = read_text(
            small,
            small.encode((place / "long.txt").read_text(encoding="utf-8")),
            small.datastore(memory).view(),
            fitted,
        )
        for row in ("cache", "datastore", "memory"):
            expected = -float(mixed(evidence, row, fitted)[0].log().sum())
            assert found.nats[row] == pytest.approx(expected, rel=1e-6)


def test_a_short_text_is_measured_with_the_mixture_of_the_memory_or_the_model(small, place):
    with Memory() as memory:
        small.memorize(memory, MANUAL)
        assert small.evaluate(place / "short.txt", memory).mixtures == [small.mixture] * 2
        fitted = small.fit(memory, place / "long.txt")
        assert small.mixture_for(memory) == fitted != small.mixture
        found = small.evaluate(place / "short.txt", memory)
        assert found.mixtures == [fitted] * 2
        assert found.tokens < 400
        with pytest.raises(InvalidInput, match="at least 400"):
            small.fit(memory, place / "short.txt")
        with pytest.raises(InvalidInput, match="at least 400"):
            small.evaluate(place / "long.txt", memory, fit_on=place / "short.txt")


def test_the_mixture_at_generation_is_a_distribution_over_all_words(small, place):
    with Memory() as memory:
        small.memorize(memory, MANUAL)
        small.fit(memory, place / "long.txt")
        for prompt in ("The", "The with statement is used to wrap the execution of a block with"):
            generator = Generator(small, memory, Sampling())
            p_V = generator._read(generator.start(prompt, allow_unknown=True)).p_V
            assert p_V.shape == (len(small.vocabulary),)
            assert float(p_V.min()) >= 0
            assert float(p_V.double().sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("cut", [1, 150, 300, 599])
def test_what_comes_after_a_token_does_not_change_what_was_predicted_before(small, cut):
    ids = small.encode(topics["with"])[:600]
    other = torch.cat([ids[:cut], (ids[cut:] + 7) % len(small.vocabulary)])
    with Memory() as memory:
        small.memorize(memory, MANUAL)
        view = small.datastore(memory).view()
        one, two = (read_text(small, text, view, small.mixture) for text in (ids, other))
        torch.testing.assert_close(one.parts[:cut], two.parts[:cut], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(one.features[: cut + 1], two.features[: cut + 1], rtol=1e-3, atol=1e-3)
        assert not torch.allclose(one.parts[cut:], two.parts[cut:]), "the text did change"


def test_words_that_agree_before_an_entry_are_counted_within_its_record(small):
    with Memory() as memory:
        small.memorize(memory, {"a": "with the statement is the", "b": "the statement is"})
        view = small.datastore(memory).view()
        tokens = view.tokens().tolist()
        starts = np.searchsorted(view.records(np.arange(len(tokens))), view.records(np.arange(len(tokens))))
        for entry, before in itertools.product(range(len(tokens)), ([5, 6, 7, 8], [*tokens[2::-1], -1], tokens[3::-1])):
            expected = 0
            while (
                expected < 4
                and entry - 1 - expected >= starts[entry]
                and tokens[entry - 1 - expected] == before[expected]
            ):
                expected += 1
            assert int(view.agreeing(np.array([[entry]]), np.array([before]))[0, 0]) == expected
        assert view.agreeing(np.array([[3]]), np.array([tokens[2::-1]])).item() == 3
        assert view.agreeing(np.array([[-1]]), np.array([tokens[:4]])).item() == 0


def test_a_memory_of_two_words_is_read(small, place):
    with Memory() as memory:
        small.memorize(memory, {"said": "Yes"})
        assert len(small.datastore(memory)) < 4
        assert small.evaluate(place / "short.txt", memory).perplexity["memory"] is not None
        assert small.generate("The", memory, max_tokens=3, min_tokens=3).tokens


def test_a_fit_is_not_kept_where_a_record_it_saw_was_forgotten_meanwhile(small, place):
    with Memory() as memory:
        small.memorize(memory, MANUAL)
        datastore = small.datastore(memory)
        view, mixture = datastore.view(), small.mixture.to_json()
        memory.forget("del")
        datastore.keep_fit(mixture, view)
        assert datastore.fit() is None
        datastore.keep_fit(mixture, datastore.view())
        assert datastore.fit() == mixture


def test_a_datastore_of_another_model_is_refused_by_every_verb(small, place):
    other = LanguageModel.train(place / "text.txt", seed=9, **SMALL)
    with Memory() as memory:
        other.memorize(memory, {"with": MANUAL["with"]})
        for use in (
            lambda: small.evaluate(place / "long.txt", memory),
            lambda: small.memorize(memory, MANUAL),
            lambda: small.generate("The", memory),
            lambda: small.fit(memory, place / "long.txt"),
        ):
            with pytest.raises(WrongModel, match="memorized by another model") as refused:
                use()
            assert refused.value.subject == other.fingerprint
        assert list(memory.keys()) == ["with"], "nothing was stored"


def test_memorizing_twice_adds_nothing_and_a_changed_document_replaces_its_entries(small, tmp_path):
    with Memory(tmp_path / "m") as memory, Memory() as fresh:
        first = small.memorize(memory, MANUAL)
        assert (first.documents, first.entries) == (4, len(small.datastore(memory)))
        before = entries(small, memory)
        again = small.memorize(memory, MANUAL)
        assert (again.documents, again.entries) == (0, 0)
        assert entries(small, memory) == before
        changed = {**MANUAL, "del": "Deletion is recursively defined, as assignment is."}
        third = small.memorize(memory, changed)
        assert (third.documents, third.entries) == (1, 10)
        small.memorize(fresh, changed)
        assert sorted(entries(small, memory)) == sorted(entries(small, fresh))
        assert memory.verify() == []


@pytest.mark.parametrize(("together", "kept"), [(1, 3), (65_536, 0)])
def test_memorizing_interrupted_and_called_again_gives_the_same_datastore(small, tmp_path, monkeypatch, together, kept):
    monkeypatch.setattr(extmem.lm.memorize, "TOGETHER", together)
    with Memory() as whole, Memory(tmp_path / "m") as memory:
        small.memorize(whole, MANUAL)

        def stop(count: int, key: str) -> None:
            if key == "pass":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            small.memorize(memory, MANUAL, stop)
        assert len(memory) == kept, "what was committed stays"
        assert memory.verify() == []
        small.memorize(memory, MANUAL)
        assert entries(small, memory) == entries(small, whole)
        assert list(memory.items()) == list(whole.items())


def test_a_text_without_words_is_refused(small, tmp_path):
    (tmp_path / "blank.txt").write_text(" \n \n")
    with pytest.raises(InvalidInput, match="empty"):
        small.evaluate(tmp_path / "blank.txt")
