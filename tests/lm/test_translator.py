"""A translator is a model like the others: trained and resumed, memorized into, its entries each alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import small_language
from extmem import LanguageModel, Memory
from extmem.errors import CorpusError, InvalidInput
from extmem.lm.corpus import split_pairs
from extmem.lm.lessons import Pairs
from extmem.lm.memorize import read_entries
from extmem.lm.network import ModelConfig, Network
from extmem.lm.sentence import Sentence
from extmem.lm.train import Progress, TrainConfig
from extmem.lm.translate import Decoding, translate

TINY = {"units": 8, "embedding": 8, "epochs": 3, "batch": 16, "gates": "input", "memory_layer": False, "smoothing": 0.1}


class Stop(Exception):
    """What the test stops a training with."""


def test_a_training_on_pairs_that_was_stopped_ends_with_the_same_weights(tmp_path):
    source, target = small_language.write(tmp_path)

    def stop(now: Progress) -> None:
        if now.epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        LanguageModel.train(target, tmp_path / "m", source=source, tokenizer="words", progress=stop, **TINY)
    resumed = LanguageModel.train(target, tmp_path / "m", source=source, tokenizer="words", **TINY)
    whole = LanguageModel.train(target, source=source, tokenizer="words", **TINY)
    assert resumed.fingerprint == whole.fingerprint
    assert len(resumed.checkpoint.history) == 3


def test_an_epoch_reads_every_pair_once_and_no_padding():
    sources = [[1, 2, 0], [3, 0], [4, 0], [5, 6, 0], [7, 0]]
    targets = [[2, 1, 3, 0], [3, 0], [4, 4, 0], [6, 5, 0], [7, 0]]
    text = Pairs(sources, targets, 0, torch.device("cpu"))
    network = Network(ModelConfig(vocabulary=8, embedding=4, units=4, encoder=1, memory_layer=False))
    config = TrainConfig(batch=2)
    tokens, steps = text.sizes(config)
    lessons = list(text.lessons(network, config, 0))
    assert len(lessons) == steps == 3
    assert sorted(torch.cat([token for _, token in lessons]).tolist()) == sorted(
        token for target in targets for token in target
    )
    assert all(hidden.shape == (len(token), 4) for hidden, token in lessons)
    assert tokens == sum(map(len, targets))
    assert text.part(5).sources == sources[:2]


def test_pairs_that_are_held_out_are_one_in_twenty_and_never_more_than_a_thousand():
    few, many = (split_pairs([small_language.pairs()[0]] * count) for count in (100, 50_000))
    assert (len(few[0]), len(few[1])) == (95, 5)
    assert (len(many[0]), len(many[1])) == (49_000, 1_000)
    with pytest.raises(CorpusError, match="too few"):
        split_pairs(small_language.pairs()[:19])


def test_a_pairs_entries_are_its_own_and_depend_on_its_source(translating):
    source, target = small_language.pairs()[3]
    with Memory() as memory:
        translating.memorize(memory, dict(small_language.pairs()[:9]))
        view = translating.datastore(memory).view()
        record = memory.record(source)
        entries = view.of([record.id])
        alone = read_entries(translating, target, source)
        assert view.tokens(entries).tolist() == alone.tokens.tolist()
        np.testing.assert_array_equal(view.keys(entries), alone.keys.astype(np.float16).astype(np.float32))
        assert set(view.records(entries).tolist()) == {record.id}
    other = read_entries(translating, target, small_language.pairs()[40].source)
    assert not np.array_equal(other.keys, alone.keys)


def test_the_entries_of_records_are_found_in_every_segment(translating):
    pairs = small_language.pairs()
    with Memory() as memory:
        for start in (0, 10, 20):
            translating.memorize(memory, dict(pairs[start : start + 10]))
        view = translating.datastore(memory).view()
        ids = [memory.record(pairs[number].source).id for number in (25, 3, 12)]
        found = view.of(ids)
        expected = [at for at, number in enumerate(view.records(np.arange(len(view))).tolist()) if number in ids]
        assert found.tolist() == expected
        assert view.of([]).tolist() == []


def test_what_is_said_next_is_a_distribution_with_a_memory_and_without(translating):
    source, target = small_language.pairs()[3]
    ids = translating.encode(target)
    hidden, _ = translating.network.read(ids, translating.opening(source))
    before = torch.full((len(ids), 4), -1)
    with Memory() as memory:
        translating.memorize(memory, dict(small_language.pairs()[::2]))
        for place in (None, memory):
            said = Sentence(translating, place, source, 16).said(hidden, before)
            torch.testing.assert_close(said.p_NV.sum(1), torch.ones(len(ids)), atol=1e-4, rtol=0)
            assert (said.weights_NK.shape[1] > 0) == (place is not None)


def test_more_beams_find_what_is_at_least_as_likely(translating):
    def score(beams: int) -> float:
        found = translate(translating, "A quick farmer sees the old cat.", None, (), Decoding(beams=beams, length=0.0))
        return float(np.sum(np.log([token.probability for token in found.tokens])))

    assert score(8) >= score(1) - 1e-6
    short = translate(translating, "A small dog sees the cat.", None, (), Decoding(max_tokens=2))
    assert len(short.tokens) <= 2


def test_a_translator_says_so_where_another_model_is_wanted(translating, corpus):
    for use in (lambda: translating.generate("The dog"), lambda: translating.evaluate(corpus.parent / "held-out.txt")):
        with pytest.raises(InvalidInput, match="use extmem translate"):
            use()


@pytest.mark.parametrize("options", [{"beams": 0}, {"similar": -1}, {"max_tokens": 0}])
def test_decoding_that_makes_no_sense_is_refused(options):
    with pytest.raises(InvalidInput):
        Decoding(**options)


def test_a_folder_with_a_translator_is_loaded_by_its_name(translating, tmp_path: Path):
    translating.save(tmp_path / "m")
    assert LanguageModel.load(tmp_path / "m").unseen("The old zebra.") == (["zebra"], 3)
