"""The chunked loss and the mixture, against torch's plain ones and against sums written out."""

from __future__ import annotations

import pytest
import torch

from extmem.nn.cross_entropy import CHUNK, chunked_cross_entropy
from extmem.nn.mixture import cache_probabilities, fit_shares, neighbour_probabilities


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


def test_the_cache_sees_the_window_before_each_token_and_nothing_else():
    torch.manual_seed(0)
    keys, tokens, beta, window = torch.randn(700, 6), torch.randint(0, 5, (700,)), 0.7, 40
    found = cache_probabilities(keys, tokens, [beta], window)[0]
    assert found[0] == 0
    for t in (1, 39, 40, 41, 255, 256, 257, 699):
        past = slice(max(0, t - window), t)
        weights = torch.softmax(-beta * (keys[past] - keys[t]).square().sum(1), dim=0)
        assert float(found[t]) == pytest.approx(float(weights[tokens[past] == tokens[t]].sum()), abs=1e-5)


def test_neighbours_that_are_not_there_count_nothing():
    distances = torch.tensor([[0.0, 1.0, torch.inf], [torch.inf] * 3])
    tokens = torch.tensor([[4, 5, 5], [5, 5, 5]])
    found = neighbour_probabilities(distances, tokens, torch.tensor([5, 5]), [1.0])
    expected = torch.tensor([[float(torch.softmax(torch.tensor([0.0, -1.0]), 0)[1]), 0.0]])
    torch.testing.assert_close(found, expected)


def test_fitted_shares_are_those_of_the_highest_likelihood():
    torch.manual_seed(0)
    parts = torch.rand(2, 500)
    fitted = fit_shares(parts, rounds=2000)[1]
    grid = torch.linspace(0, 1, 1001)
    scores = torch.stack([((1 - s) * parts[0] + s * parts[1]).log().sum() for s in grid])
    assert fitted == pytest.approx(float(grid[scores.argmax()]), abs=2e-3)
