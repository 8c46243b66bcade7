"""The Keras layers in models: trained, compiled, in half precision, saved and loaded; and what they refuse."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from extmem.errors import InvalidInput
from extmem.keras import ExternalMemoryLayer, GatedLSTM

WORDS, STEPS = 11, 7
BACKEND = keras.backend.backend()
XLA = BACKEND != "torch"  # torch.compile takes a minute


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def texts():
    words = np.random.default_rng(0).integers(1, WORDS, (8, STEPS))
    words[::2, 5:] = 0
    return words


def ready(model, **options):
    model.compile(keras.optimizers.SGD(0.5), keras.losses.SparseCategoricalCrossentropy(from_logits=True), **options)
    return model


def test_a_functional_model_is_compiled_trained_saved_and_loaded(tmp_path):
    words = texts()
    given = keras.Input((STEPS,))
    embedded = keras.layers.Embedding(WORDS, 8, mask_zero=True)(given)
    read = ExternalMemoryLayer(slots=2, capacity=3)(GatedLSTM(8, return_sequences=True)(embedded))
    model = ready(keras.Model(given, keras.layers.Dense(WORDS)(read)), jit_compile=XLA)
    losses = model.fit(words, words, epochs=8, batch_size=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    said = model.predict(words, verbose=0)
    np.testing.assert_allclose(array(model(words)), said, atol=1e-5)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert [layer.get_config() for layer in again.layers] == [layer.get_config() for layer in model.layers]
    np.testing.assert_array_equal(array(again(words)), array(model(words)))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_subclassed_model_is_trained_in_half_precision(policy):
    class Reader(keras.Model):
        def __init__(self):
            super().__init__()
            self.embedding, self.out = keras.layers.Embedding(WORDS, 8, mask_zero=True), keras.layers.Dense(WORDS)
            self.memory = ExternalMemoryLayer(slots=2, capacity=3, return_state=True)

        def call(self, words):
            read, state = self.memory(self.embedding(words))
            read, _ = self.memory(read, state=state)
            return self.out(read)

    keras.config.set_dtype_policy(policy)
    model, words = Reader(), texts()
    words[3] = 0  # nothing to read at all
    ready(model, jit_compile=XLA and policy == "mixed_float16")
    losses = model.fit(words, words, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert keras.backend.standardize_dtype(model(words).dtype) == policy.removeprefix("mixed_")
    assert model.memory.query.kernel.dtype == "float32"


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_says_nearly_what_full_precision_says(policy, compiled):
    hidden, mask = np.random.default_rng(0).normal(size=(2, 6, 8)).astype(np.float32), np.zeros((2, 6), bool)
    mask[0, 2:] = True
    full, half = (ExternalMemoryLayer(2, 3, dtype=dtype) for dtype in ("float32", policy))
    for layer in (full, half):
        layer.build(hidden.shape)
    half.set_weights(full.get_weights())
    found = array(compiled(half)(hidden, mask=mask)).astype(np.float32)
    np.testing.assert_allclose(found, array(compiled(full)(hidden, mask=mask)), atol=0.05)


def test_an_output_never_depends_on_a_later_input(compiled):
    layer, hidden = ExternalMemoryLayer(slots=2, capacity=3), np.random.default_rng(0).normal(size=(1, 6, 4))
    layer.build(hidden.shape)
    run = compiled(layer)
    before = array(run(hidden))
    after = array(run(hidden + (np.arange(6) >= 3)[:, None]))
    np.testing.assert_array_equal(after[:, :3], before[:, :3])
    assert (np.abs(after[:, 3:] - before[:, 3:]).max(axis=2) > 0).all()


def test_a_state_goes_into_and_out_of_a_functional_model_and_a_mask_beside_it():
    layer = ExternalMemoryLayer(slots=1, capacity=4, return_state=True)
    tensor, words, pairs = keras.ops.convert_to_tensor, keras.Input((3,)), ((4, 5), (4, 5))
    state = (*(keras.Input(shape) for shape in pairs), keras.Input((4,), dtype="bool"))
    embedding = keras.layers.Embedding(WORDS, 5, mask_zero=True)
    output, after = layer(embedding(words), state=state)
    model = keras.Model([words, *state], [output, *after])
    said, *carried = model([tensor([[3, 0, 4]]), *layer.empty(1)])
    assert array(carried[2]).tolist() == [[False, False, True, True]]
    again, *carried = model([tensor([[5, 6, 7]]), *carried])
    assert array(carried[2]).all()
    whole, _ = layer(embedding(np.array([[3, 4, 5, 6, 7]])))
    np.testing.assert_allclose(array(said)[:, [0, 2]], array(whole)[:, :2], atol=1e-6)
    np.testing.assert_allclose(array(again), array(whole)[:, 2:], atol=1e-6)


def test_a_stateful_lstm_goes_on_where_it_was():
    layer = GatedLSTM(3, return_sequences=True, stateful=True)
    x = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    whole = array(layer(x))
    layer.reset_state()
    np.testing.assert_allclose(np.concatenate([array(layer(x[:, :2])), array(layer(x[:, 2:]))], 1), whole, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: ExternalMemoryLayer(slots=-1), "slots is -1: give a whole number, 0 or more."),
        (lambda: ExternalMemoryLayer(capacity=2.5), "capacity is 2.5: give a whole number, 0 or more."),
        (lambda: ExternalMemoryLayer(neighbours=0), "neighbours is 0: give a whole number, 1 or more."),
        (lambda: ExternalMemoryLayer(memory="notes.mem"), "memory is 'notes.mem': give a Memory, or anything"),
        (lambda: ExternalMemoryLayer().build((None, 8)), r"hidden states of shape \(None, 8\): give \(batch, time"),
        (lambda: ExternalMemoryLayer().empty(2), "this layer has no width yet: call it, or build"),
        (lambda: GatedLSTM(0), "units is 0: give a whole number, 1 or more."),
        (lambda: GatedLSTM(4, gates="output"), "gates is 'output': give 'cell' or 'input'."),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(wrong, said):
    with pytest.raises(InvalidInput, match=f"^{said}.*$"):
        wrong()


def test_hidden_states_of_another_width_and_a_state_of_another_batch_are_refused():
    layer = ExternalMemoryLayer(slots=1, capacity=2)
    layer.build((None, None, 8))
    with pytest.raises(ValueError, match=r"expected axis -1 of input shape to have value 8, but received"):
        layer(np.zeros((2, 5, 7), np.float32))
    with pytest.raises(InvalidInput, match=r"the state has shapes .*: give \(keys, values, stored\) of \(2, 2, 8\)"):
        layer(np.zeros((2, 5, 8), np.float32), state=layer.empty(3))


REFUSED = {
    "extmem.keras needs keras: pip install 'extmem[keras]'": ("sys.modules['keras'] = None", BACKEND),
    "Keras has no backend 'abacus': set KERAS_BACKEND to tensorflow, jax or torch": ("", "abacus"),
    "Keras needs jax, which is not installed: install it, or set KERAS_BACKEND": ("sys.modules['jax'] = None", "jax"),
    "extmem.keras needs Keras 3, this is 2.15.0: pip install": (
        "from types import ModuleType; sys.modules['keras'] = m = ModuleType('keras'); m.__version__ = '2.15.0'",
        BACKEND,
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_without_a_keras_that_can_be_used_the_import_says_what_to_do(said):
    before, backend = REFUSED[said]
    code = f"import sys; {before}\ntry: import extmem.keras\nexcept ImportError as error: print(error)"
    env = {**os.environ, "KERAS_BACKEND": backend}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert ran.stdout.startswith(said)
    assert ran.stdout.count("\n") == 1
