"""ExternalMemoryLayer in keras.ops: a layer that remembers what it has read and reads it by attention.

Knows: hidden states, masks, its own state (a value handed in and out). Does not know: words, losses, what a memory is
(`attached.py`), how a graph asks it (`host.py`).

All shapes are known from those of the inputs, so XLA compiles it.
Shapes: B batch (b: B, or 1 where it is the same for all), T time, H hidden width, C capacity, S pairs at hand (T, or
C + T with a state), M learned slots, K nearest entries of a memory.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from extmem.errors import InvalidInput
from extmem.keras import attached
from extmem.keras.attached import RecordReading
from extmem.keras.host import on_host

Tensor = Any
State = tuple[Tensor, Tensor, Tensor]

OUT_OF_REACH = -1e9  # a score in float32, of which the softmax is 0


@keras.saving.register_keras_serializable(package="extmem")
class ExternalMemoryLayer(keras.layers.Layer):
    """(batch, time, dim) -> (batch, time, dim), with a memory that can be carried from call to call.

        q_t = W_q h_t,   r_t = Σ_j softmax(q_t · k_j / √d) v_j,   out_t = h_t + σ(W_g [h_t; r_t]) ⊙ W_o r_t

    where j runs over (a) the pairs (W_k h_s, W_v h_s) of the last `capacity` steps s < t, (b) `slots` learned pairs and
    (c) the `neighbours` entries of `memory` nearest to h_t, projected in the same way and not differentiated. Output t
    never depends on an input after t.

    Args:
        slots, capacity, neighbours: M, C and K.
        return_state: whether a call returns `(output, state)`. A state is `(keys, values, stored)`, of shapes
            (B, C, H), (B, C, H) and (B, C): the last C pairs, oldest first, and which of them there are. Hand it to
            the next call as `state=`.
        memory: an extmem Memory, or anything with `nearest(queries, k)`, as `extmem.reading.Nearest`. It is no part of
            the model that is saved: set `layer.memory` after loading, and before `compile`.

    A step that is masked out is neither stored nor reads: its output is its input. Raises InvalidInput, a ValueError.
    """

    def __init__(
        self,
        slots: int = 32,
        capacity: int = 100,
        neighbours: int = 8,
        return_state: bool = False,
        memory: object = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, size, least in (("slots", slots, 0), ("capacity", capacity, 0), ("neighbours", neighbours, 1)):
            if not isinstance(size, int) or size < least:
                raise InvalidInput(f"{name} is {size!r}: give a whole number, {least} or more.", size)
        self.slots, self.capacity, self.neighbours, self.return_state = slots, capacity, neighbours, return_state
        self.supports_masking = True
        self.watched = False  # whether training adds to `figures`
        self.dim: int | None = None
        self.memory = memory

    @property
    def memory(self) -> Any:
        """What is read beside the layer's own pairs; None is nothing."""
        return self._memory

    @memory.setter
    def memory(self, memory: object) -> None:
        if memory is not None:
            attached.datastore_of(memory, self.dim)
        self._memory = memory
        # XLA on TensorFlow cannot call back to where the memory is; Keras asks this at `compile`.
        self.supports_jit = memory is None or keras.backend.backend() != "tensorflow"

    def build(self, hidden_shape: tuple[int | None, ...]) -> None:
        if len(hidden_shape) != 3 or hidden_shape[-1] is None:
            raise InvalidInput(f"hidden states of shape {hidden_shape}: give (batch, time, dim), dim known.")
        self.dim = dim = hidden_shape[-1]
        if self.memory is not None:
            attached.datastore_of(self.memory, dim)
        self.query, self.key, self.value, self.out = (
            keras.layers.Dense(
                dim, use_bias=False, kernel_initializer=_uniform(dim), dtype=self.dtype_policy, name=name
            )
            for name in ("query", "key", "value", "out")
        )
        self.gate = keras.layers.Dense(
            dim, "sigmoid", kernel_initializer=_uniform(2 * dim), bias_initializer=_uniform(2 * dim),
            dtype=self.dtype_policy, name="gate",
        )  # fmt: skip
        for layer in (self.query, self.key, self.value, self.out):
            layer.build((None, None, dim))
        self.gate.build((None, None, 2 * dim))
        self.slot_keys, self.slot_values = (
            self.add_weight(
                name=name, shape=(self.slots, dim), initializer=keras.initializers.RandomNormal(stddev=dim**-0.5)
            )
            if self.slots
            else None
            for name in ("slot_keys", "slot_values")
        )
        # Reads, and the sums over them of the mean gate and of the attention's entropy; see `MemoryLog`.
        self.figures = self.add_weight(
            name="figures", shape=(3,), initializer="zeros", dtype="float32", trainable=False, autocast=False
        )
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: dim})

    def call(
        self,
        hidden: Tensor,
        state: State | None = None,
        mask: Tensor = None,
        hidden_mask: Tensor = None,  # under this name Keras hands the mask over where a state is given as well
        training: bool | None = None,
    ) -> Any:
        """Reads and stores every step in order."""
        mask = hidden_mask if mask is None else mask
        mask = None if mask is None else ops.cast(mask, "bool")
        if state is not None:
            self._check(state, hidden)
        elif self.return_state:
            state = self.empty(ops.shape(hidden)[0])
        keys, values, stored = self._with_state(state, hidden, mask)
        reach = _window(stored, 0 if state is None else self.capacity, self.capacity)
        read, weights = self._attend(hidden, keys, values, reach, mask)
        gate = self.gate(ops.concatenate([hidden, read], axis=-1))
        output = hidden + gate * self.out(read)
        if self.watched and training:
            self._note(gate, weights)
        if not self.return_state:
            return output
        return output, _last(keys, values, stored, ops.shape(hidden)[1], packed=mask is None)

    def compute_output_spec(
        self, hidden: Tensor, state: Any = None, mask: Any = None, hidden_mask: Any = None, training: Any = None
    ) -> Any:
        output = keras.KerasTensor(hidden.shape, self.compute_dtype)
        if not self.return_state:
            return output
        pairs = (hidden.shape[0], self.capacity, hidden.shape[2])
        keys, values = (keras.KerasTensor(pairs, self.compute_dtype) for _ in range(2))
        return output, (keys, values, keras.KerasTensor(pairs[:2], "bool"))

    def empty(self, batch: int) -> State:
        """A state with nothing in it. Raises InvalidInput while the width is not known."""
        if self.dim is None:
            raise InvalidInput("this layer has no width yet: call it, or build((None, None, dim)), first.")
        keys, values = (ops.zeros((batch, self.capacity, self.dim), self.compute_dtype) for _ in range(2))
        return keys, values, ops.zeros((batch, self.capacity), "bool")

    def get_config(self) -> dict[str, Any]:
        """All but the memory."""
        own = {name: getattr(self, name) for name in ("slots", "capacity", "neighbours", "return_state")}
        return {**super().get_config(), **own}

    # The memory

    def store(self, key: str, value: object, hidden: Any) -> int:
        """Gives `key` this value in the memory, to be read where hidden states are like these (…, dim); the record's
        version. Both or neither are stored. Raises InvalidInput."""
        return attached.store(attached.keeper_of(self.memory), key, value, self._vectors(hidden))

    def retrieve(self, hidden: Any, k: int | None = None) -> RecordReading:
        """The entries of the memory nearest to each of hidden states (…, dim), and the keys of their records.
        Raises InvalidInput."""
        return attached.retrieve(self.memory, self._vectors(hidden), self.neighbours if k is None else k)

    def forget(self, key: str) -> bool:
        """Erases `key` and its entries from the memory; False if it was not there. Raises InvalidInput."""
        return attached.keeper_of(self.memory).forget(key)

    # Within

    def _vectors(self, hidden: Any) -> np.ndarray:
        vectors = np.asarray(ops.convert_to_numpy(hidden), np.float32)
        if vectors.ndim < 1 or vectors.shape[-1] != (self.dim or vectors.shape[-1]):
            raise InvalidInput(f"hidden states of shape {vectors.shape}: give (…, {self.dim}).", vectors.shape)
        return vectors.reshape(-1, vectors.shape[-1])

    def _check(self, state: State, hidden: Tensor) -> None:
        """Raises InvalidInput for what is no state of these hidden states."""
        pairs = (hidden.shape[0], self.capacity, self.dim)
        shapes = [tuple(part.shape) for part in state] if isinstance(state, tuple | list) else []
        wanted = [pairs, pairs, pairs[:2]]
        sizes = [*zip(sum(shapes, ()), sum(wanted, ()), strict=False)]
        if [*map(len, shapes)] != [3, 3, 2] or any(None not in both and both[0] != both[1] for both in sizes):
            raise InvalidInput(
                f"the state has shapes {shapes}: give (keys, values, stored) of {pairs} and {pairs[:2]}."
            )

    def _with_state(self, state: State | None, hidden: Tensor, mask: Tensor) -> State:
        """Keys and values (B, S, H) of the state, then of these steps; which are stored (b, S), int32."""
        keys, values = self.key(hidden), self.value(hidden)
        if mask is not None:
            stored = ops.cast(mask, "int32")
        else:
            stored = ops.ones_like((hidden if state is not None else hidden[:1])[..., 0], dtype="int32")
        if state is None:
            return keys, values, stored
        return (
            ops.concatenate([ops.cast(state[0], keys.dtype), keys], axis=1),
            ops.concatenate([ops.cast(state[1], values.dtype), values], axis=1),
            ops.concatenate([ops.cast(state[2], "int32"), stored], axis=1),
        )

    def _attend(
        self, hidden: Tensor, keys: Tensor, values: Tensor, reach: Tensor, mask: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """What each step reads (B, T, H), and its weights, in parts: the slots, the memory, the pairs. They sum to 1,
        or to 0 where there is nothing to read."""
        reads = None if mask is None else mask[:, :, None]
        query = self.query(hidden) * hidden.shape[-1] ** -0.5
        parts = []  # scores, which of them are in reach, and what of the values is read by given weights
        if self.slots:
            scores = ops.matmul(query, ops.transpose(self.slot_keys))
            parts.append((scores, None, lambda weights: ops.matmul(weights, self.slot_values)))
        if self.memory is not None:
            there, vectors = self._nearest(hidden)
            near_values = self.value(vectors)
            scores = ops.einsum("bth,btkh->btk", query, self.key(vectors))
            parts.append((scores, there, lambda weights: ops.einsum("btk,btkh->bth", weights, near_values)))
        scores = ops.matmul(query, ops.transpose(keys, (0, 2, 1)))
        parts.append((scores, reach, lambda weights: ops.matmul(weights, values)))
        limits = [_both(limit, reads) for _, limit, _ in parts]
        wide = keras.backend.result_type(self.compute_dtype, "float32")
        shown = [
            _where(limit, ops.cast(part[0], wide), OUT_OF_REACH) for part, limit in zip(parts, limits, strict=True)
        ]
        every = _softmax(ops.concatenate(shown, axis=-1))
        starts = np.cumsum([0, *(part[0].shape[-1] for part in parts[:-1])]).tolist()
        ends = [*starts[1:], None]
        weights = [
            _where(limit, every[..., start:end], 0.0) for limit, start, end in zip(limits, starts, ends, strict=True)
        ]
        read = sum(part[2](ops.cast(some, self.compute_dtype)) for part, some in zip(parts, weights, strict=True))
        return read, weights

    def _nearest(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Which entries of the memory there are (B, T, K), and their vectors (B, T, K, H)."""
        shape = (*hidden.shape[:2], self.neighbours)
        there, vectors = on_host(
            lambda values: attached.read(self.memory, values, self.neighbours),
            ops.cast(hidden, "float32"),
            [(shape, "bool"), ((*shape, self.dim), "float32")],
        )
        return there, ops.cast(vectors, self.compute_dtype)

    def _note(self, gate: Tensor, weights: list[Tensor]) -> None:
        """Adds what this call read to the figures."""
        parts = [ops.cast(part, "float32") for part in weights]
        reads = ops.cast(sum(ops.sum(part, axis=-1) for part in parts) > 0.5, "float32")
        entropy = sum(-ops.sum(part * ops.log(ops.maximum(part, 1e-30)), axis=-1) for part in parts)
        open_BT = ops.mean(ops.cast(gate, "float32"), axis=-1)
        sums = ops.stack([ops.sum(reads), ops.sum(reads * open_BT), ops.sum(reads * entropy)])
        self.figures.assign_add(ops.stop_gradient(sums))


def _uniform(inputs: int) -> Any:
    """As torch.nn.Linear begins: even between ±1/√inputs."""
    return keras.initializers.RandomUniform(-(inputs**-0.5), inputs**-0.5)


def _window(stored: Tensor, before: int, capacity: int) -> Tensor:
    """Which of the pairs each step sees, (b, T, S): of those stored (b, S), the last `capacity` that came earlier.
    The first `before` pairs are no steps."""
    number = ops.cumsum(stored, axis=1)
    earlier = (number - stored)[:, before:, None]
    number = number[:, None, :]
    return (stored[:, None, :] > 0) & (number <= earlier) & (number > earlier - capacity)


def _last(keys: Tensor, values: Tensor, stored: Tensor, steps: int, packed: bool) -> State:
    """The state without what its first `steps` pairs were, those that were not stored going first; `packed` says
    that none lies behind one that is stored."""
    if not packed:
        place = ops.cumsum(ops.ones_like(stored), axis=1)
        order = ops.argsort(ops.where(stored > 0, place, place - keys.shape[1] - 1), axis=1)
        stored = ops.take_along_axis(stored, order, axis=1)
        there = ops.cast(stored, keys.dtype)[:, :, None]
        keys, values = (ops.take_along_axis(part, order[:, :, None], axis=1) * there for part in (keys, values))
    return keys[:, steps:], values[:, steps:], ops.cast(stored[:, steps:], "bool")


def _softmax(scores: Tensor) -> Tensor:
    """As ops.softmax, which warns of a single score."""
    powers = ops.exp(scores - ops.stop_gradient(ops.max(scores, axis=-1, keepdims=True)))
    return powers / ops.sum(powers, axis=-1, keepdims=True)


def _both(one: Tensor, other: Tensor) -> Tensor:
    return other if one is None else one if other is None else one & other


def _where(condition: Tensor, found: Tensor, otherwise: float) -> Tensor:
    return found if condition is None else ops.where(condition, found, ops.cast(otherwise, found.dtype))
