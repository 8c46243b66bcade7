"""A gate trusts each source where it is right; it is fitted the same way every time, and survives JSON."""

from __future__ import annotations

import json

import pytest
import torch

from extmem.nn.gate import LEAST, Gate, fit_gate
from extmem.nn.mixture import Mixture


def right_by_turns(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three features and two sources; the first source is right where the first feature is positive."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(count, 3, generator=generator)
    right = features[:, 0] > 0
    return features, torch.stack([torch.where(right, 0.9, 0.01), torch.where(right, 0.01, 0.9)], dim=1)


def test_a_gate_trusts_each_source_where_it_is_right():
    features, parts = right_by_turns(2 * LEAST)
    gate = fit_gate(features[:LEAST], parts[:LEAST])
    p = (gate(features[LEAST:]) * parts[LEAST:]).sum(1)
    assert float(-p.log().mean()) < 0.3, "the best shares that are the same for all give 0.79"
    shares = gate(features)
    torch.testing.assert_close(shares.sum(1), torch.ones(2 * LEAST))
    assert float(shares[features[:, 0] > 0.5, 0].mean()) > 0.9


def test_few_tokens_give_the_same_shares_to_all():
    features, parts = right_by_turns(LEAST - 1)
    shares = fit_gate(features, parts)(features)
    assert float(shares.std(0).max()) == 0
    assert shares[0].tolist() == pytest.approx([0.5, 0.5], abs=0.05)


def test_fitting_is_repeatable_and_leaves_the_random_numbers_of_others_alone():
    features, parts = right_by_turns(LEAST)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = fit_gate(features, parts)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert fit_gate(features, parts) == one != fit_gate(features, parts, seed=1)


def test_a_feature_that_never_changed_counts_for_nothing_when_it_does():
    features, parts = right_by_turns(LEAST)
    gate = fit_gate(torch.cat([features, torch.zeros(LEAST, 2)], dim=1), parts)
    changed = torch.cat([features, torch.randn(LEAST, 2)], dim=1)
    torch.testing.assert_close(gate(changed), gate(torch.cat([features, torch.zeros(LEAST, 2)], dim=1)))


def test_what_is_not_there_has_no_share():
    names = len(Mixture().names)
    fitted = Mixture(gates={"cache": Gate.fixed([1 / names] * names), "datastore": Gate.fixed([1 / names] * names)})
    cache, near = (fitted.shares(torch.zeros(1, 0), row)[0] for row in ("cache", "datastore"))
    assert cache[-2:].tolist() == [0, 0] and near[1:-2].tolist() == [0, 0, 0]
    assert cache[0].item() == pytest.approx(3 / names) and near[0].item() == pytest.approx(4 / names)


def test_a_mixture_survives_json():
    features, parts = right_by_turns(LEAST)
    mixture = Mixture(gates={"cache": Gate.fixed([0.5] + [0.1] * 5), "memory": fit_gate(features, parts)})
    again = Mixture.from_json(json.loads(json.dumps(mixture.to_json())))
    assert again == mixture
    torch.testing.assert_close(again.gates["memory"](features), mixture.gates["memory"](features))
    assert Mixture.from_json({"edges": [], "shares": []}) is None, "one of an earlier form is fitted again"


def test_a_datastore_that_nothing_was_fitted_to_gets_a_fixed_share():
    mixture, seen = Mixture(), torch.zeros(2, 0)
    cache, both, near = (mixture.shares(seen, row) for row in ("cache", "memory", "datastore"))
    for shares in (cache, both, near):
        torch.testing.assert_close(shares.sum(1), torch.ones(2))
    assert both[0, -2:].tolist() == near[0, -2:].tolist() == pytest.approx(mixture.unfitted)
    assert near[0, 1:-2].abs().sum() == 0
    torch.testing.assert_close(both[:, 1:-2], cache[:, 1:-2] * (1 - sum(mixture.unfitted)))
