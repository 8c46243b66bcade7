"""The chunked loss and the mixture, against torch's plain ones and against sums written out."""

from __future__ import annotations

import pytest
import torch

from extmem.devices import fastest_dtype
from extmem.nn.cross_entropy import CHUNK, Sampled, chunked_cross_entropy
from extmem.nn.gate import fit_shares
from extmem.nn.mixture import Cache, Near, Read, cache_reads, datastore_reads, two_best


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_chunked_loss_and_its_gradients_equal_torchs(dtype):
    torch.manual_seed(0)
    count = CHUNK + 37
    h, weight, bias = (torch.randn(*size, requires_grad=True) for size in ((count, 16), (50, 16), (50,)))
    target = torch.randint(0, 50, (count,))
    ours = chunked_cross_entropy(h, weight, bias, target, dtype)
    theirs = torch.nn.functional.cross_entropy(h @ weight.T + bias, target)
    close = {"atol": 1e-6, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 3e-4, "rtol": 3e-2}
    torch.testing.assert_close(ours, theirs, atol=close["atol"] * 10, rtol=close["rtol"])
    for one, other in zip(
        torch.autograd.grad(ours, [h, weight, bias]), torch.autograd.grad(theirs, [h, weight, bias]), strict=True
    ):
        torch.testing.assert_close(one, other, **close)


@pytest.mark.parametrize("sampled", [Sampled(10, 15), Sampled(0, 20), Sampled(49, 1), Sampled(10, 40), Sampled(80, 5)])
def test_a_sampled_loss_has_the_whole_ones_gradient_on_average(sampled):
    torch.manual_seed(0)
    h, weight, bias = (torch.randn(*size, requires_grad=True) for size in ((60, 6), (50, 6), (50,)))
    weight.data *= 0.3
    target = torch.randint(0, 50, (60,))
    whole = torch.nn.functional.cross_entropy(h @ weight.T + bias, target)
    expected = torch.autograd.grad(whole, [h, weight, bias])
    total, mean = [torch.zeros_like(one) for one in expected], 0.0
    for _ in range(2000):
        loss = chunked_cross_entropy(h, weight, bias, target, torch.float32, sampled)
        mean += float(loss.detach()) / 2000
        for sum_, one in zip(total, torch.autograd.grad(loss, [h, weight, bias]), strict=True):
            sum_ += one / 2000
    assert mean == pytest.approx(float(whole.detach()), rel=0.02)
    for sum_, one in zip(total, expected, strict=True):
        assert float((sum_ - one).norm() / one.norm()) < 0.12


def test_a_sample_of_all_words_is_the_whole_loss():
    torch.manual_seed(0)
    h, weight, bias = torch.randn(9, 4), torch.randn(30, 4), torch.randn(30)
    target = torch.randint(0, 30, (9,))
    found = chunked_cross_entropy(h, weight, bias, target, torch.float32, Sampled(7, 23))
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(h @ weight.T + bias, target))


def test_bfloat16_is_chosen_only_where_the_processor_has_it():
    native = torch.cpu._is_avx512_bf16_supported()
    assert fastest_dtype(torch.device("cpu")) == (torch.bfloat16 if native else torch.float32)


def test_a_cache_sees_the_window_before_each_token_and_nothing_else():
    torch.manual_seed(0)
    keys, tokens, scale, window, spread = torch.randn(700, 6), torch.randint(0, 5, (700,)), 0.7, 40, 2.0
    (read,), nearest = cache_reads(keys, tokens, 0, [Cache(window, scale)], spread)
    alone = torch.rand(700)
    found = read.of(tokens, alone)
    assert found[0] == alone[0], "there is nothing to read yet"
    for t in (1, 39, 40, 41, 255, 256, 257, 699):
        past = slice(max(0, t - window), t)
        apart = (keys[past] - keys[t]).square().sum(1) / spread
        weights = t / (t + 100) * torch.softmax(-scale * apart, dim=0)
        expected = float(weights[tokens[past] == tokens[t]].sum()) + (1 - t / (t + 100)) * float(alone[t])
        assert float(found[t]) == pytest.approx(expected, abs=1e-5)
        assert float(nearest[t, 0]) == pytest.approx(min(9.0, float(apart.min())), abs=1e-4)


def test_a_cache_read_from_the_middle_reads_what_it_reads_there_from_the_beginning():
    torch.manual_seed(0)
    keys, tokens = torch.randn(400, 6), torch.randint(0, 5, (400,))
    caches = [Cache(30, 0.5), Cache(1000, 2.0)]
    whole, later = (cache_reads(keys, tokens, start, caches, 2.0) for start in (0, 350))
    for one, other in zip(whole[0], later[0], strict=True):
        torch.testing.assert_close(one.of(tokens, torch.ones(400))[350:], other.of(tokens[350:], torch.ones(50)))
    torch.testing.assert_close(whole[1][350:], later[1])


@pytest.mark.parametrize("rows, count", [(1, 1), (1, 5), (300, 2), (300, 3), (300, 307), (9, 10_000), (70_000, 1)])
def test_the_two_best_are_those_of_topk(rows, count):
    torch.manual_seed(rows)
    numbers = torch.randint(0, 40, (rows, count)) / 7  # many are equal
    values, place = two_best(numbers)
    best = numbers.topk(min(2, count), dim=1).values
    torch.testing.assert_close(values, best if count > 1 else best.expand(-1, 2))
    torch.testing.assert_close(numbers.gather(1, place[:, None])[:, 0], best[:, 0])


def test_what_read_nothing_is_seen_the_same_whatever_it_could_have_read():
    p, top = torch.tensor([[0.1, 0.2, 0.7]]), torch.tensor([2])
    looks = [Read(torch.tensor([tokens]), torch.zeros(1, 3)).looks(p, top) for tokens in ([0, 1, 2], [2, 1, 0])]
    torch.testing.assert_close(*looks)


def test_neighbours_that_are_not_there_count_nothing():
    distances = torch.tensor([[0.0, 1.0, torch.inf], [torch.inf] * 3])
    tokens, agreeing = torch.tensor([[4, 5, 5], [5, 5, 5]]), torch.tensor([[0, 2, 4], [4, 4, 4]])
    (plain, bonus), _ = datastore_reads(distances, tokens, agreeing, [Near(1.0, 0.0), Near(1.0, 0.7)], 2.0)
    truth, alone = torch.tensor([5, 5]), torch.tensor([0.25, 0.25])
    second = float(torch.softmax(torch.tensor([0.0, -0.5]), 0)[1])
    torch.testing.assert_close(plain.of(truth, alone), torch.tensor([second, 0.25]))
    second = float(torch.softmax(torch.tensor([0.0, -0.5 + 1.4]), 0)[1])
    torch.testing.assert_close(bonus.of(truth, alone), torch.tensor([second, 0.25]))


def test_fitted_shares_are_those_of_the_highest_likelihood():
    torch.manual_seed(0)
    parts = torch.rand(2, 500)
    fitted = fit_shares(parts, rounds=2000)[1]
    grid = torch.linspace(0, 1, 1001)
    scores = torch.stack([((1 - s) * parts[0] + s * parts[1]).log().sum() for s in grid])
    assert fitted == pytest.approx(float(grid[scores.argmax()]), abs=2e-3)
