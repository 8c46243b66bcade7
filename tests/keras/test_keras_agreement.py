"""The Keras layers and those of nn/: with the same weights and the same inputs they say the same."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from twin import LSTMS, MEMORIES, NEIGHBOURS, Exact

from extmem.keras import ExternalMemoryLayer, GatedLSTM


def assert_close(found, expected):
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected, atol=1e-5, rtol=0)


@pytest.fixture(params=MEMORIES)
def memory(request, twin):
    """A layer with the twin's weights, and the twin's arrays."""
    case = MEMORIES[request.param]
    arrays = {name.partition("/")[2]: array for name, array in twin.items() if name.startswith(f"{request.param}/")}
    layer = ExternalMemoryLayer(case.slots, case.capacity, NEIGHBOURS, return_state=True)
    layer.build((None, None, case.dim))
    for own, name in (("query", "query"), ("key", "key"), ("value", "value"), ("out", "output")):
        getattr(layer, own).set_weights([arrays[name]])
    layer.gate.set_weights([arrays["gate"], arrays["bias"]])
    if case.slots:
        layer.slot_keys.assign(arrays["slot_keys"])
        layer.slot_values.assign(arrays["slot_values"])
    return layer, arrays


def test_the_memory_layer_says_what_its_twin_says(memory, compiled):
    layer, expected = memory
    output, (keys, values, stored) = compiled(layer)(expected["hidden"])
    assert_close(output, expected["out"])
    count = expected["keys"].shape[1]
    assert keras.ops.convert_to_numpy(stored).sum(1).tolist() == [count] * len(expected["hidden"])
    assert_close(keys[:, layer.capacity - count :], expected["keys"])
    assert_close(values[:, layer.capacity - count :], expected["values"])
    alone = ExternalMemoryLayer.from_config({**layer.get_config(), "return_state": False})
    alone.build((None, None, layer.dim))
    alone.set_weights(layer.get_weights())
    assert_close(compiled(alone)(expected["hidden"]), expected["out"])


def test_a_state_carries_it_over_segments(memory, compiled):
    layer, expected = memory
    cut, run = expected["first"].shape[1], compiled(layer)
    first, state = run(expected["hidden"][:, :cut])
    second, (keys, _, _) = run(expected["hidden"][:, cut:], state=state)
    assert_close(first, expected["first"])
    assert_close(second, expected["second"])
    assert_close(keys[:, layer.capacity - expected["keys"].shape[1] :], expected["keys"])


def test_what_is_masked_out_might_as_well_not_be_there(memory, compiled):
    layer, expected = memory
    hidden, mask, run = expected["hidden"], expected["mask"], compiled(layer)
    assert_close(run(hidden, mask=mask)[0], expected["masked"])
    cut = hidden.shape[1] // 2
    first, state = run(hidden[:, :cut], mask=mask[:, :cut])
    second, end = run(hidden[:, cut:], state=state, mask=mask[:, cut:])
    assert_close(keras.ops.concatenate([first, second], axis=1), expected["masked"])
    noise = np.where(mask[..., None], hidden, 7.0).astype(np.float32)
    for one, other in zip(run(noise, mask=mask)[1], end, strict=True):
        assert_close(one, keras.ops.convert_to_numpy(other))


def test_a_datastores_nearest_entries_are_read_as_its_twin_reads_them(memory, compiled):
    layer, expected = memory
    layer.memory = Exact(expected["vectors"])
    assert_close(compiled(layer)(expected["hidden"])[0], expected["near"])
    assert np.abs(expected["near"] - expected["out"]).max() > 1e-3


@pytest.mark.parametrize("gates", ["cell", "input"])
@pytest.mark.parametrize("case", LSTMS)
def test_the_gated_lstm_says_what_its_twin_says(case, gates, twin, compiled):
    expected = {name.partition("/")[2]: array for name, array in twin.items() if name.startswith(f"{gates}-{case}/")}
    layer = GatedLSTM(LSTMS[case].units, gates, return_sequences=True, return_state=True)
    x, cut = expected["x"], expected["x"].shape[1] // 3
    layer.build(x.shape)
    kernels = [expected[name] for name in ("kernel", "recurrent", "cell") if name in expected]
    layer.set_weights([*kernels, expected["bias"]])
    run = compiled(layer)
    for found, name in zip(run(x), ("out", "h", "c"), strict=True):
        assert_close(found, expected[name])
    first, *state = run(x[:, :cut])
    assert_close(state[0], expected["middle_h"])
    assert_close(state[1], expected["middle_c"])
    second, *_ = run(x[:, cut:], initial_state=state)
    assert_close(keras.ops.concatenate([first, second], axis=1), expected["out"])
    padded = np.concatenate([np.full_like(x, 9.0), x], axis=1)
    mask = np.arange(padded.shape[1]) >= x.shape[1]
    last = run(padded, mask=np.tile(mask, (len(x), 1)))[0][:, x.shape[1] :]
    assert_close(last, expected["out"])
