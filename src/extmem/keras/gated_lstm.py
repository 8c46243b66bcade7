"""GatedLSTM in keras.ops: an LSTM layer whose output gate may see the new cell state.

Knows: the equations of one step. Does not know: how Keras runs a cell over time, masks, words, memories.

Shapes: B batch, D input width, H units. Gates in the order f, i, c̃, o.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from extmem.errors import InvalidInput

Tensor = Any
GATES = ("cell", "input")


@keras.saving.register_keras_serializable(package="extmem")
class GatedLSTMCell(keras.layers.Layer):
    """One step: (x_t, [h_{t-1}, c_{t-1}]) -> (h_t, [h_t, c_t]).

        f_t = σ(W_f [h_{t-1}, x_t] + b_f)      i_t = σ(W_i [h_{t-1}, x_t] + b_i)
        c̃_t = tanh(W_c [h_{t-1}, x_t] + b_c)   c_t = f_t ⊙ c_{t-1} + i_t ⊙ c̃_t
        o_t = σ(W_o [h_{t-1}, c_t] + b_o)      with gates="cell"
        o_t = σ(W_o [h_{t-1}, x_t] + b_o)      with gates="input", the textbook's
        h_t = o_t ⊙ tanh(c_t)

    Raises InvalidInput.
    """

    def __init__(self, units: int = 128, gates: str = "cell", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(units, int) or units < 1:
            raise InvalidInput(f"units is {units!r}: give a whole number, 1 or more.", units)
        if gates not in GATES:
            raise InvalidInput(f"gates is {gates!r}: give 'cell' or 'input'.", gates)
        self.units, self.gates = units, gates
        self.state_size, self.output_size = [units, units], units

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        reading = 3 if self.gates == "cell" else 4  # gates that read x_t
        self.kernel = self._weight("kernel", input_shape[-1], reading * self.units)
        self.recurrent_kernel = self._weight("recurrent_kernel", self.units, 4 * self.units)
        self.cell_kernel = self._weight("cell_kernel", self.units, self.units) if self.gates == "cell" else None
        self.bias = self._weight("bias", 4 * self.units)

    def call(self, x: Tensor, states: list[Tensor], training: bool | None = None) -> tuple[Tensor, list[Tensor]]:
        h, c = states
        read, recurrent = ops.matmul(x, self.kernel), ops.matmul(h, self.recurrent_kernel) + self.bias
        ahead = 3 * self.units
        f, i, candidate = ops.split(recurrent[:, :ahead] + read[:, :ahead], 3, axis=1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(candidate)
        seen = read[:, ahead:] if self.cell_kernel is None else ops.matmul(c, self.cell_kernel)
        h = ops.sigmoid(recurrent[:, ahead:] + seen) * ops.tanh(c)
        return h, [h, c]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "gates": self.gates}

    def _weight(self, name: str, *shape: int | None) -> Any:
        limit = self.units**-0.5
        return self.add_weight(name=name, shape=shape, initializer=keras.initializers.RandomUniform(-limit, limit))


@keras.saving.register_keras_serializable(package="extmem")
class GatedLSTM(keras.layers.RNN):
    """(batch, time, dim) -> (batch, units), or (batch, time, units) with `return_sequences`: keras.layers.LSTM with
    the gates of GatedLSTMCell, "cell" unless `gates` says "input".

    Everything else is as keras.layers.RNN has it: `return_state` adds h and c, each (batch, units), and a call takes
    them as `initial_state=[h, c]`; masked steps change nothing. A stack is one layer after another, with
    keras.layers.SpatialDropout1D between them for dropout that is the same at every step. Raises InvalidInput.
    """

    def __init__(
        self,
        units: int = 128,
        gates: str = "cell",
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        **kwargs: Any,
    ) -> None:
        cell = GatedLSTMCell(units, gates, dtype=kwargs.get("dtype"), name="cell")
        super().__init__(cell, return_sequences, return_state, go_backwards, stateful, unroll, **kwargs)

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "units": self.cell.units, "gates": self.cell.gates}
        del config["cell"]
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> GatedLSTM:
        return cls(**config)
