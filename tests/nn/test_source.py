"""The reader of a source: it attends to all of it, a step at a time as to the whole, and smoothing is torch's."""

from __future__ import annotations

import pytest
import torch

from extmem.errors import InvalidInput
from extmem.lm.network import ModelConfig, Network
from extmem.nn.cross_entropy import chunked_cross_entropy
from extmem.nn.source import SourceReader

SIZES = ModelConfig(vocabulary=30, embedding=12, units=8, encoder=2, memory_layer=True, slots=2, capacity=5)


def test_every_place_attends_to_the_source_as_a_whole():
    torch.manual_seed(0)
    reader = SourceReader(6, 8, 2, "input", 0.0, 0.0)
    source, lower, upper = reader.encode(torch.randn(3, 5, 6))
    states, _, attended = reader(torch.randn(3, 4, 8), source, upper)
    assert states.shape == (3, 4, 8)
    assert lower[0].shape == (1, 3, 8)
    torch.testing.assert_close(attended.sum(2), torch.ones(3, 4))


@pytest.mark.parametrize("gates", ["cell", "input"])
def test_a_translation_read_step_by_step_is_the_one_read_at_once(gates):
    torch.manual_seed(0)
    network = Network(ModelConfig(**{**vars(SIZES), "gates": gates})).eval()
    source, target = torch.randint(0, 30, (2, 6)), torch.randint(0, 30, (2, 7))
    whole, _ = network(target, network.opening(source))
    state, steps = network.opening(source), []
    for token in target.T:
        hidden, state = network(token[:, None], state)
        steps.append(hidden)
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, atol=1e-5, rtol=1e-4)


def test_what_comes_next_depends_on_every_word_of_the_source_and_on_no_later_word_of_the_translation():
    torch.manual_seed(0)
    network = Network(SIZES).eval()
    source, target = torch.randint(0, 29, (1, 6)), torch.randint(0, 29, (1, 7))
    before, _ = network(target, network.opening(source))
    for place in range(6):
        other = source.clone()
        other[0, place] = 29
        assert not torch.equal(network(target, network.opening(other))[0][:, 0], before[:, 0])
    later = target.clone()
    later[0, 4] = 29
    torch.testing.assert_close(network(later, network.opening(source))[0][:, :4], before[:, :4])


def test_rows_of_a_state_go_on_as_they_would_alone():
    torch.manual_seed(0)
    network = Network(SIZES).eval()
    source, token = torch.randint(0, 30, (3, 4)), torch.randint(0, 30, (3, 2))
    _, state = network(token, network.opening(source))
    whole, _ = network(token[:, :1], state)
    some, _ = network(token[[2, 0], :1], state.rows(torch.tensor([2, 0])))
    torch.testing.assert_close(some, whole[[2, 0]])


def test_an_encoder_is_of_two_halves():
    with pytest.raises(InvalidInput, match="even number"):
        ModelConfig(units=7, encoder=1)


def test_smoothing_is_torchs_label_smoothing():
    torch.manual_seed(0)
    h, weight, bias = (torch.randn(*size, requires_grad=True) for size in ((300, 16), (50, 16), (50,)))
    target = torch.randint(0, 50, (300,))
    ours = chunked_cross_entropy(h, weight, bias, target, torch.float32, smoothing=0.1)
    theirs = torch.nn.functional.cross_entropy(h @ weight.T + bias, target, label_smoothing=0.1)
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(
        torch.autograd.grad(ours, [h, weight, bias]), torch.autograd.grad(theirs, [h, weight, bias]), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
