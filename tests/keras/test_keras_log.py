"""MemoryLog: TensorBoard reads what the memory did, and it is what it did."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from extmem.errors import InvalidInput
from extmem.keras import ExternalMemoryLayer, MemoryLog

STEPS, SLOTS = 4, 2


def written(folder):
    """The scalars below a folder: name -> [(step, value)]."""
    events = EventAccumulator(str(folder)).Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_the_event_file_holds_reads_gate_and_entropy(tmp_path):
    words = np.array([[1, 2, 3, 4], [1, 2, 0, 0], [0, 0, 0, 0], [2, 2, 2, 2]])
    layer = ExternalMemoryLayer(slots=SLOTS, capacity=100, name="memory")
    model = keras.Sequential([keras.layers.Embedding(5, 3, mask_zero=True), layer, keras.layers.Dense(5)])
    model.build((None, STEPS))
    layer.query.kernel.assign(np.zeros((3, 3)))  # all that is in reach weighs the same
    layer.gate.kernel.assign(np.zeros((6, 3)))
    layer.gate.bias.assign(np.full(3, 1.0))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss)
    model.fit(words, words, batch_size=2, epochs=2, shuffle=False, verbose=0, validation_data=(words, words),
              callbacks=[MemoryLog(tmp_path / "epochs")])  # fmt: skip
    model.fit(words, words, batch_size=2, epochs=1, shuffle=False, verbose=0,
              callbacks=[MemoryLog(tmp_path / "batches", update_freq=1)])  # fmt: skip
    in_reach = [[SLOTS + step for step in range(count)] for count in (4, 2, 0, 4)]  # of each step that reads
    first, second = in_reach[0] + in_reach[1], in_reach[2] + in_reach[3]
    seen = {"epochs": [first + second] * 2, "batches": [first, second]}
    for folder, reads in seen.items():
        found = written(tmp_path / folder)
        assert sorted(found) == ["memory/entropy", "memory/gate", "memory/reads"]
        begin = 0 if folder == "epochs" else 1
        assert found["memory/reads"] == [(begin + n, len(each)) for n, each in enumerate(reads)]
        for n, each in enumerate(reads):
            assert found["memory/entropy"][n][1] == pytest.approx(np.mean(np.log(each)), rel=1e-5)
            assert found["memory/gate"][n][1] == pytest.approx(1 / (1 + math.exp(-1)), rel=1e-5)
    assert not layer.watched
    before = keras.ops.convert_to_numpy(layer.figures)
    model.fit(words, words, verbose=0)
    assert (keras.ops.convert_to_numpy(layer.figures) == before).all()


def test_a_log_of_nothing_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"^update_freq is 0: give 'epoch' or a number of batches\.$"):
        MemoryLog(tmp_path, update_freq=0)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(InvalidInput, match=r"^the model has no ExternalMemoryLayer"):
        model.fit(np.zeros((2, 3)), np.zeros((2, 1)), verbose=0, callbacks=[MemoryLog(tmp_path)])
