"""ExternalMemoryLayer: causal, equal to its equations, and its memory can be worked on by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from extmem.nn.memory_cell import memory_step
from extmem.nn.memory_layer import ExternalMemoryLayer
from extmem.reading import Reading


def layer(**options):
    torch.manual_seed(0)
    return ExternalMemoryLayer(dim=8, **options).double()


def states(batch=2, steps=12):
    torch.manual_seed(1)
    return torch.randn(batch, steps, 8, dtype=torch.double)


def test_with_no_arguments_it_works():
    output, state = ExternalMemoryLayer()(torch.randn(2, 5, 128))
    assert output.shape == (2, 5, 128)
    assert len(state) == 5


@pytest.mark.parametrize("slots", [0, 3])
@pytest.mark.parametrize("capacity", [0, 4, 100])
def test_it_equals_its_equations_step_by_step(slots, capacity):
    memory, h = layer(slots=slots, capacity=capacity), states()
    weights = {"W_q": memory.query.weight, "W_o": memory.output.weight, "W_g": memory.gate.weight}
    weights["b_g"] = memory.gate.bias
    found, _ = memory(h)
    for t in range(h.shape[1]):
        past = h[:, max(0, t - capacity) : t]
        keys = torch.cat([memory.slot_keys.expand(2, -1, -1), memory.key(past)], dim=1)
        values = torch.cat([memory.slot_values.expand(2, -1, -1), memory.value(past)], dim=1)
        torch.testing.assert_close(found[:, t], memory_step(h[:, t], keys, values, weights))


def test_an_output_never_depends_on_a_later_input():
    memory, h = layer(slots=2, capacity=5), states()
    before, _ = memory(h)
    for t in range(h.shape[1]):
        changed = h.clone()
        changed[:, t:] += 1
        after, _ = memory(changed)
        assert torch.equal(after[:, :t], before[:, :t])
        assert not torch.equal(after[:, t], before[:, t])


def test_what_is_read_does_not_depend_on_where_the_segments_are_cut():
    memory, h = layer(slots=2, capacity=5), states()
    whole, end = memory(h)
    first, state = memory(h[:, :3])
    second, other_end = memory(h[:, 3:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close((other_end.keys, other_end.values), (end.keys, end.values))
    assert len(end) == 5


def test_store_retrieve_update_and_erase_work_on_the_state():
    memory, h = layer(slots=0, capacity=3), states(steps=4)
    state = memory.store(memory.empty(2), h)
    assert len(state) == 3, "the oldest is dropped beyond capacity"
    torch.testing.assert_close(state.keys, memory.key(h[:, 1:]))
    read = memory.retrieve(state, h[:, :1])
    torch.testing.assert_close(read.weights.sum(2), torch.ones(2, 1, dtype=torch.double))
    updated = memory.update(state, 1, h[:, 0])
    torch.testing.assert_close(updated.values[:, 1], memory.value(h[:, 0]))
    torch.testing.assert_close(updated.values[:, 0], state.values[:, 0])
    erased = memory.erase(updated, 1)
    direct = memory.store(memory.empty(2), h[:, [1, 3]])
    torch.testing.assert_close(erased.keys, direct.keys)
    with pytest.raises(IndexError):
        memory.erase(state, 3)


def test_reading_an_empty_memory_gives_zeros_and_finite_gradients():
    memory = layer(slots=0, capacity=4)
    read = memory.retrieve(memory.empty(2), states(steps=2))
    assert torch.equal(read.values, torch.zeros(2, 2, 8, dtype=torch.double))
    output, _ = memory(states())
    output.sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in memory.parameters())


class Stored:
    """Two vectors that are always nearest; what the layer asks of a datastore."""

    def __init__(self, vectors):
        self.vectors = vectors

    def nearest(self, queries, k):
        assert queries.ndim == 2
        count = len(queries)
        vectors = np.repeat(self.vectors[None], count, axis=0)
        return Reading(np.tile([7, 9], (count, 1)), np.zeros((count, 2), np.float32), vectors)


def test_a_datastores_nearest_entries_are_read_and_named():
    memory, h = layer(slots=0, capacity=0), states()
    vectors = np.random.default_rng(0).normal(size=(2, 8))
    read = memory.retrieve(memory.empty(2), h, Stored(vectors))
    assert read.entries.tolist() == [[[7, 9]] * 12] * 2
    values = memory.value(torch.tensor(vectors))
    torch.testing.assert_close(read.values, read.weights @ values)
    assert not torch.equal(memory(h, None, Stored(vectors))[0], memory(h)[0])
