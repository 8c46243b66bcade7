"""GatedLSTM against its equations, written out, and against torch."""

from __future__ import annotations

import math

import pytest
import torch

from extmem.nn.lstm import GatedLSTM
from extmem.nn.memory_cell import lstm_step


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("gates", ["cell", "input"])
def test_four_steps_equal_the_arithmetic_done_by_hand(gates):
    """x_1..x_4 -> h_4 with one unit, every product written in plain Python."""
    w = {"f": (0.5, -0.3, 0.1), "i": (0.2, 0.7, -0.2), "c": (-0.6, 0.4, 0.3), "o": (0.9, -0.5, 0.05)}
    h = c = 0.0
    for x in (1.0, -0.5, 0.25, 2.0):

        def pre(name, seen, h=h):
            return w[name][0] * h + w[name][1] * seen + w[name][2]

        f, i, candidate = sigmoid(pre("f", x)), sigmoid(pre("i", x)), math.tanh(pre("c", x))
        c = f * c + i * candidate
        o = sigmoid(pre("o", c if gates == "cell" else x))
        h = o * math.tanh(c)
    weights = {f"W_{n}": torch.tensor([[a, b]]) for n, (a, b, _) in w.items()}
    weights |= {f"b_{n}": torch.tensor([bias]) for n, (_, _, bias) in w.items()}
    h_t = c_t = torch.zeros(1, 1)
    for x in (1.0, -0.5, 0.25, 2.0):
        h_t, c_t = lstm_step(torch.tensor([[x]]), h_t, c_t, weights, gates)
    assert float(h_t) == pytest.approx(h, abs=1e-6)
    assert float(c_t) == pytest.approx(c, abs=1e-6)


def test_the_fast_path_equals_the_equations_step_by_step_and_in_its_gradients():
    torch.manual_seed(0)
    lstm = GatedLSTM(5, 7, gates="cell").double()
    x = torch.randn(3, 11, 5, dtype=torch.double)
    weights = lstm.layers[0].named_equations()
    h = c = torch.zeros(3, 7, dtype=torch.double)
    outputs = []
    for t in range(11):
        h, c = lstm_step(x[:, t], h, c, weights, "cell")
        outputs.append(h)
    expected = torch.stack(outputs, dim=1)
    found, (h_n, c_n) = lstm(x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close((h_n[0], c_n[0]), (h, c))
    target = torch.randn_like(expected)
    parameters = list(lstm.parameters())
    by_hand = torch.autograd.grad((expected * target).sum() + c.square().sum(), parameters)
    fast = torch.autograd.grad((found * target).sum() + c_n.square().sum(), parameters)
    for one, other in zip(fast, by_hand, strict=True):
        torch.testing.assert_close(one, other)


def test_the_textbook_form_equals_torch():
    torch.manual_seed(0)
    ours, theirs = GatedLSTM(6, 8, layers=2, gates="input"), torch.nn.LSTM(6, 8, num_layers=2, batch_first=True)
    for index, layer in enumerate(ours.layers):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(layer, f"{name}_l0").data.copy_(getattr(theirs, f"{name}_l{index}").data)
    x = torch.randn(4, 9, 6)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], atol=1e-6, rtol=0)
    # And the written equations are that form as well: torch's order is i, f, g, o.
    w, u = theirs.weight_hh_l0, theirs.weight_ih_l0
    b = theirs.bias_ih_l0 + theirs.bias_hh_l0
    rows = {"i": slice(0, 8), "f": slice(8, 16), "c": slice(16, 24), "o": slice(24, 32)}
    weights = {f"W_{n}": torch.cat([w[r], u[r]], dim=1) for n, r in rows.items()}
    weights |= {f"b_{n}": b[r] for n, r in rows.items()}
    h = c = torch.zeros(4, 8)
    for t in range(9):
        h, c = lstm_step(x[:, t], h, c, weights, "input")
    first, _ = torch.nn.LSTM.forward(ours.layers[0], x)
    torch.testing.assert_close(h, first[:, -1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("gates", ["cell", "input"])
def test_a_text_read_in_segments_equals_one_read_at_once(gates):
    torch.manual_seed(1)
    lstm = GatedLSTM(4, 6, layers=2, gates=gates)
    x = torch.randn(2, 20, 4)
    whole, last = lstm(x)
    first, state = lstm(x[:, :7])
    one, state = lstm(x[:, 7:8], state)
    second, end = lstm(x[:, 8:], state)
    torch.testing.assert_close(torch.cat([first, one, second], dim=1), whole)
    torch.testing.assert_close(end, last)


def test_variational_dropout_keeps_one_mask_for_all_steps():
    torch.manual_seed(2)
    from extmem.nn.lstm import variational_dropout

    dropped = variational_dropout(torch.ones(3, 50, 40), 0.5, training=True)
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert 0.3 < float((dropped == 0).float().mean()) < 0.7
    assert torch.equal(variational_dropout(torch.ones(3, 5, 4), 0.5, training=False), torch.ones(3, 5, 4))
