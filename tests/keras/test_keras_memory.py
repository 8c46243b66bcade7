"""A Keras layer's memory: what is stored is read, and what is forgotten might as well never have been there."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from twin import Exact

from extmem import Memory
from extmem.errors import InvalidInput
from extmem.keras import ExternalMemoryLayer

DIM = 6


def vectors(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float16).astype(np.float32)


def model_with(memory, **options):
    given = keras.Input((4, DIM))
    layer = ExternalMemoryLayer(slots=2, capacity=3, neighbours=3, memory=memory, name="memory")
    model = keras.Model(given, keras.layers.Dense(2)(layer(given)))
    model.compile("adam", "mse", **options)
    return model


@pytest.mark.parametrize("place", ["in RAM", "on disk"])
def test_store_retrieve_and_forget_work_on_the_memory(place, tmp_path):
    with Memory(tmp_path / "notes.mem" if place == "on disk" else None) as memory:
        layer = ExternalMemoryLayer(memory=memory)
        apple, pear = vectors(3, DIM), vectors(2, DIM, seed=1)
        assert layer.store("apple", "A fruit", apple) == 1
        layer.store("pear", {"colour": "green"}, keras.ops.convert_to_tensor(pear))
        assert memory.retrieve("pear") == {"colour": "green"}
        reading = layer.retrieve(apple[1], k=2)
        assert reading.keys[0][0] == "apple"
        assert reading.distances[0, 0] == 0
        np.testing.assert_array_equal(reading.vectors[0, 0], apple[1])
        assert layer.retrieve(vectors(2, 4, DIM), k=9).keys == layer.retrieve(vectors(8, DIM), k=9).keys
        layer.store("apple", "A fruit", apple[:1])  # other vectors: the key's old ones are dropped
        assert sorted(layer.retrieve(apple[1], k=9).keys[0]) == ["apple", "pear", "pear"]
        assert layer.forget("apple")
        assert not layer.forget("apple")
        assert memory.retrieve("apple") is None
        assert layer.retrieve(apple[1], k=9).keys == (("pear", "pear"),)
        assert memory.verify() == []


def test_a_record_is_stored_with_its_vectors_or_not_at_all():
    memory = Memory()
    layer = ExternalMemoryLayer(memory=memory)
    with pytest.raises(InvalidInput, match="a key holds NaN"):
        layer.store("apple", "A fruit", np.full((2, DIM), np.nan))
    assert memory.retrieve("apple") is None
    assert layer.retrieve(np.zeros(DIM)).keys == ((),)


def test_a_compiled_model_reads_what_is_stored_and_forgets_what_is_forgotten():
    memory, x = Memory(), vectors(5, 4, DIM, seed=2)
    model = model_with(memory)
    layer = model.get_layer("memory")
    layer.store("pear", "green", vectors(5, DIM, seed=1))
    never = model.predict(x, verbose=0)
    layer.store("apple", "red", vectors(5, DIM))
    assert np.abs(model.predict(x, verbose=0) - never).max() > 1e-4
    layer.forget("apple")
    np.testing.assert_array_equal(model.predict(x, verbose=0), never)
    other = Memory().namespace("alone")
    ExternalMemoryLayer(memory=other).store("pear", "green", vectors(5, DIM, seed=1))
    layer.memory = other
    np.testing.assert_array_equal(model.predict(x, verbose=0), never)
    before = layer.key.get_weights()[0]
    history = model.fit(x, vectors(5, 4, 2), epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert (layer.key.get_weights()[0] != before).any()


def test_a_memory_is_attached_after_loading(tmp_path):
    memory, x = Memory(), vectors(2, 4, DIM)
    model = model_with(memory)
    model.get_layer("memory").store("apple", "red", vectors(5, DIM))
    said = model(x)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert again.get_layer("memory").memory is None
    assert np.abs(keras.ops.convert_to_numpy(again(x) - said)).max() > 1e-4
    again.get_layer("memory").memory = memory
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(again(x)), keras.ops.convert_to_numpy(said))


def test_xla_is_left_out_where_it_cannot_call_back_to_the_memory():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = model_with(Memory(), jit_compile=True)
    if keras.backend.backend() == "tensorflow":
        assert not model.jit_compile
        assert any("doesn't support `jit_compile=True`" in str(warning.message) for warning in said)
    else:
        assert model.jit_compile


def test_an_empty_memory_is_as_none_and_one_of_few_entries_is_read_to_its_end():
    layer, hidden = ExternalMemoryLayer(slots=2, capacity=3, neighbours=8), vectors(2, 4, DIM)
    alone = keras.ops.convert_to_numpy(layer(hidden))
    layer.memory = Memory()
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(hidden)), alone, atol=1e-6)
    layer.store("apple", "red", vectors(1, DIM))
    assert np.abs(keras.ops.convert_to_numpy(layer(hidden)) - alone).max() > 1e-4


def test_a_large_batch_is_read():
    layer = ExternalMemoryLayer(slots=0, capacity=0, neighbours=8, memory=Exact(vectors(20, 64)))
    assert layer(vectors(64, 32, 64)).shape == (64, 32, 64)


def test_what_cannot_be_read_or_written_is_refused_in_one_line():
    with pytest.raises(InvalidInput, match=r"^the memory holds vectors of 7 numbers, this layer reads 6: give another"):
        model_with(Exact(vectors(3, 7)))
    layer = ExternalMemoryLayer(memory=Exact(vectors(3, DIM)))
    assert layer.retrieve(np.zeros(DIM), k=2).keys == ((None, None),)
    for wrong in (lambda: layer.store("apple", "red", vectors(1, DIM)), lambda: layer.forget("apple")):
        with pytest.raises(InvalidInput, match=r"^this layer has no Memory to write to: set layer.memory = Memory"):
            wrong()
    with pytest.raises(InvalidInput, match=r"^memory is None: give a Memory"):
        ExternalMemoryLayer().retrieve(np.zeros(DIM))
    layer.build((None, None, DIM))
    with pytest.raises(InvalidInput, match=r"^hidden states of shape \(2, 5\): give \(…, 6\)\.$"):
        layer.retrieve(np.zeros((2, 5)))
