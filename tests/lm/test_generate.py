"""Generation: each way of choosing does what it says, and each token says truly where it came from."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from pydoc_data.topics import topics

import pytest
import torch

from extmem import LanguageModel, Memory
from extmem.errors import InvalidInput
from extmem.lm.generate import GeneratedToken, Generation
from extmem.nn.gate import Gate
from extmem.nn.mixture import Mixture, Near

SMALL = {"units": 16, "embedding": 16, "batch": 4, "slots": 2, "capacity": 20, "sequence_length": 50, "epochs": 3}
TOLD = {"told": "The quokka sleeps while the wombat digs. The wombat digs while the quokka sleeps."}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generate")
    (folder / "text.txt").write_text(topics["with"] + "\n\n" + topics["while"], encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def small(place: Path) -> LanguageModel:
    return LanguageModel.train(place / "text.txt", learning_rate=0.02, warmup=1, **SMALL)


@pytest.fixture(scope="module")
def plain(place: Path) -> LanguageModel:
    """Thirty words, and no cache: what it says next is what its network says."""
    model = LanguageModel.train(place / "text.txt", vocabulary=30, learning_rate=0.02, warmup=1, **SMALL)
    alone = Mixture(gates={"cache": Gate.fixed([1.0] + [0.0] * 5)})
    return LanguageModel(replace(model.checkpoint, mixture=alone))


@pytest.fixture(scope="module")
def memory(small: LanguageModel) -> Memory:
    held = Memory()
    small.memorize(held, {"try": topics["try"][:2500], "with": topics["with"][:2500]})
    return held


def words(generation: Generation) -> list[str]:
    return [token.text for token in generation.tokens]


def next_words(model: LanguageModel, *said: list[int]) -> torch.Tensor:
    """log p of each next word after each of these texts, by the network alone; <unk> is never said."""
    with torch.no_grad():
        states, _ = model.network(torch.tensor([[model.vocabulary.eos, *ids] for ids in said]))
        log_p = model.network.log_probabilities(states[:, -1])
    log_p[:, model.vocabulary.unknown] = -math.inf
    return log_p


FREE = {"repetition": 1.0, "no_repeat": 0}


def test_greedy_takes_the_likeliest_word_each_time_and_always_the_same(plain):
    ids = plain.vocabulary.ids(["the"])
    expected = []
    for _ in range(12):
        ids.append(int(next_words(plain, ids)[0].argmax()))
        expected.append(plain.vocabulary.word(ids[-1]))
    expected = list(itertools.takewhile(lambda word: word != "<eos>", expected))
    for seed in (0, 1):
        found = plain.generate("the", max_tokens=12, seed=seed, **FREE)
        assert words(found) == expected
        assert found.text == plain.tokenizer.join(["the", *expected])
    first = float(next_words(plain, plain.vocabulary.ids(["the"]))[0].max().exp())
    assert found.tokens[0].probability == pytest.approx(first, rel=1e-5)


def test_greedy_equals_the_top_one_of_any_sampling(small, memory):
    greedy = small.generate("The statement", memory)
    for seed in range(3):
        assert small.generate("The statement", memory, temperature=1.0, top_k=1, seed=seed) == greedy
    assert small.generate("The statement", memory, temperature=1.0, top_p=1e-9) == greedy


def test_the_seed_decides_the_text(small, memory):
    one, again, other = (small.generate("The statement", memory, temperature=1.0, seed=seed) for seed in (3, 3, 4))
    assert one == again
    assert words(one) != words(other)


def counted(model: LanguageModel, **sampling) -> dict[str, float]:
    """How often each word comes after "the", over 300 seeds."""
    said = [model.generate("the", max_tokens=1, seed=seed, **sampling, **FREE) for seed in range(300)]
    first = [words(generation)[0] if generation.tokens else "<eos>" for generation in said]
    return {word: first.count(word) / len(first) for word in set(first)}


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_words_come_as_often_as_their_probability_says(plain, temperature):
    p_V = torch.softmax(next_words(plain, plain.vocabulary.ids(["the"]))[0] / temperature, dim=0)
    found = counted(plain, temperature=temperature)
    for number, word in enumerate(plain.vocabulary):
        share = float(p_V[number])
        assert abs(found.get(word, 0) - share) <= 4 * math.sqrt(share * (1 - share) / 300) + 1e-3, word


def test_top_k_and_top_p_say_only_the_words_they_allow_and_all_of_them(plain):
    p_V = torch.softmax(next_words(plain, plain.vocabulary.ids(["the"]))[0], dim=0)
    order = torch.argsort(p_V, descending=True)
    assert set(counted(plain, temperature=1.0, top_k=3)) == set(plain.vocabulary.words(order[:3].tolist()))
    for top_p in (0.1, 0.5):
        reached = int((p_V[order].cumsum(0) < top_p).sum()) + 1  # the fewest words that sum to top_p
        allowed = set(plain.vocabulary.words(order[:reached].tolist()))
        found = set(counted(plain, temperature=1.0, top_p=top_p))
        assert found <= allowed
        assert {word for word in allowed if float(p_V[plain.vocabulary.id(word)]) > 0.03} <= found


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_no_run_of_so_many_words_comes_twice(plain, size, temperature):
    sampling = {"max_tokens": 80, "min_tokens": 20, "temperature": temperature, "repetition": 1.0}
    said = ["the", *words(plain.generate("the", no_repeat=size, **sampling))]
    runs = [tuple(said[start : start + size]) for start in range(len(said) - size + 1)]
    assert len(runs) > 5
    assert len(set(runs)) == len(runs)


def test_repetition_above_one_lowers_repetition(small):
    def distinct(repetition: float) -> float:
        said = small.generate("The statement", max_tokens=60, no_repeat=0, repetition=repetition)
        return len(set(words(said))) / len(said.tokens)

    assert distinct(1.0) < distinct(1.5) < distinct(4.0)


def mean_log_probability(tokens: tuple[GeneratedToken, ...]) -> float:
    return sum(math.log(token.probability) for token in tokens) / len(tokens)


def test_beams_as_many_as_words_find_the_likeliest_text_of_two_words(plain):
    eos, start = plain.vocabulary.eos, plain.vocabulary.ids(["the"])
    first_V = next_words(plain, start)[0]
    then_VV = next_words(plain, *([*start, word] for word in range(len(plain.vocabulary))))
    scores = {(word, then): float(first_V[word] + then_VV[word, then]) / 2
              for word in range(len(first_V)) for then in range(len(first_V)) if word != eos}  # fmt: skip
    scores[(eos,)] = float(first_V[eos])
    best = max(scores, key=scores.__getitem__)
    found = plain.generate("the", beams=len(plain.vocabulary), max_tokens=2, **FREE)
    assert words(found) == [word for word in plain.vocabulary.words(best) if word != "<eos>"]


@pytest.mark.parametrize("prompt", ["the", "a", "with the"])
def test_one_beam_is_greedy_and_more_beams_find_no_less_likely_a_text(plain, prompt):
    greedy = plain.generate(prompt, max_tokens=2, **FREE)
    assert plain.generate(prompt, beams=1, max_tokens=2, **FREE) == greedy
    found = plain.generate(prompt, beams=len(plain.vocabulary), max_tokens=2, **FREE)
    assert len(greedy.tokens) == len(found.tokens) == 2, "neither ended, so their scores are those of their words"
    assert mean_log_probability(found.tokens) >= mean_log_probability(greedy.tokens) - 1e-6


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.9, "seed": 5, "top_k": 20, "min_tokens": 8}])
def test_stream_gives_the_tokens_of_generate_one_by_one(small, memory, sampling):
    seen: list[GeneratedToken] = []
    whole = small.generate("The statement", memory, on_token=seen.append, **sampling)
    assert tuple(small.stream("The statement", memory, **sampling)) == whole.tokens == tuple(seen)
    assert len(seen) > 5
    with pytest.raises(InvalidInput, match="empty"):
        small.stream("")


def test_each_citation_points_at_the_very_word_in_its_record(small, memory):
    cited = 0
    for seed in range(4):
        for token in small.generate("The statement", memory, temperature=0.8, seed=seed).tokens:
            places = token.citations if token.text in small.vocabulary else token.citations[:1]
            for place in places:
                assert str(memory.retrieve(place.key))[place.start : place.end] == token.text
                cited += 1
    assert cited > 100


def test_weights_are_what_the_datastore_gave_and_shares_are_parts_of_one(small, memory):
    for seed in range(3):
        for number, token in enumerate(small.generate("The", memory, temperature=1.0, seed=seed).tokens):
            weights = [place.weight for place in token.citations]
            assert weights == sorted(weights, reverse=True)
            assert len(weights) <= 3
            assert 0 <= token.cache_share <= token.memory_share <= 1 + 1e-6
            given = token.memory_share - token.cache_share
            assert sum(weights) <= given + 1e-6
            if len(weights) < 3 and token.text in small.vocabulary:  # <unk> is cited where it is spelled so
                assert sum(weights) == pytest.approx(given, abs=1e-6), "these are all the places"
            assert 0 < token.probability <= 1 + 1e-6
            assert number > 1 or token.cache_share < 0.6, "a cache of two words is hardly trusted"


def test_without_a_memory_nothing_is_cited_and_only_the_cache_shares(small, plain):
    for token in small.generate("The statement").tokens:
        assert token.citations == ()
        assert token.memory_share == pytest.approx(token.cache_share)
    assert {token.memory_share for token in plain.generate("the").tokens} == {0.0}


def test_what_was_memorized_is_recited_and_forgotten_is_said_no_more(small):
    trusting = Mixture(readings=(Near(8.0, 0.0), Near(1e5, 0.0)), unfitted=(0.0, 0.99))
    reciter = LanguageModel(replace(small.checkpoint, mixture=trusting))
    with Memory() as memory:
        reciter.memorize(memory, TOLD)
        assert str(reciter.generate("The quokka", memory, **FREE)) == TOLD["told"]
        memory.forget("told")
        assert reciter.generate("The statement", memory) == reciter.generate("The statement")
        with pytest.raises(InvalidInput, match="'quokka'"):
            reciter.generate("The quokka", memory)


def test_prompts_without_words_or_with_unknown_words_are_refused(small):
    for prompt in ("", "  \n\n ", "\u200b"):
        with pytest.raises(InvalidInput, match="the prompt is empty"):
            small.generate(prompt, allow_unknown=True)
    with pytest.raises(InvalidInput, match="knows 'quokka', 'wombat'") as refused:
        small.generate("The quokka and the wombat and the quokka")
    assert refused.value.subject == ["quokka", "wombat"]
    assert small.generate("The quokka", allow_unknown=True, max_tokens=3).text.startswith("The quokka")
    with Memory() as memory:
        memory.store("animal", "A quokka is small.")
        assert small.generate("The quokka", memory, max_tokens=3).text.startswith("The quokka ")
        with pytest.raises(InvalidInput, match="knows 'wombat'"):
            small.generate("The wombat", memory)


@pytest.mark.parametrize(
    "sampling",
    [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"repetition": 0.5}, {"max_tokens": 0}, {"beams": 0}],
)
def test_ways_of_choosing_that_mean_nothing_are_refused(small, sampling):
    with pytest.raises(InvalidInput, match=next(iter(sampling))):
        small.generate("The", **sampling)


def test_a_token_says_what_model_and_memory_found_likeliest_where_that_is_asked_for(small, memory):
    said = {"max_tokens": 6, "repetition": 1.0, "no_repeat": 0}
    asked, plain = (small.generate("The with statement", memory, top=top, **said) for top in (3, 0))
    assert [replace(token, model_words=(), memory_words=()) for token in asked.tokens] == list(plain.tokens)
    assert not {"model_words", "memory_words"} & plain.tokens[0].to_json().keys()
    ids = small.vocabulary.ids(small.tokenizer.encode("The with statement").words)
    ids = [number for number in ids if number != small.vocabulary.eos]
    for token in asked.tokens:
        with torch.no_grad():
            states, _ = small.network(torch.tensor([[small.vocabulary.eos, *ids]]))
            p_V = small.network.log_probabilities(states[0, -1:]).exp()[0]
        p_V[small.vocabulary.unknown] = 0.0
        best = p_V.topk(3)
        assert [word for word, _ in token.model_words] == small.vocabulary.words(best.indices.tolist())
        assert [p for _, p in token.model_words] == pytest.approx(best.values.tolist(), rel=1e-3)
        assert 0 < len(token.memory_words) <= 3
        assert sum(p for _, p in token.memory_words) <= 1 + 1e-5
        ids = [*ids, small.vocabulary.id(token.text)]
    assert any(token.text in dict(token.memory_words) for token in asked.tokens)
    assert not small.generate("The with statement", top=3, **said).tokens[0].memory_words


def test_a_word_that_the_model_has_no_number_for_is_among_the_memorys_as_it_is_spelled(small):
    with Memory() as told:
        small.memorize(told, TOLD)
        token = small.generate("The", told, max_tokens=1, top=3, allow_unknown=True).tokens[0]
    assert {"quokka", "wombat"} & dict(token.memory_words).keys()
    assert "<unk>" not in dict(token.memory_words + token.model_words)
