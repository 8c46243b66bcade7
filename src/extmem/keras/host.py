"""A function of NumPy arrays within a graph of any backend.

Knows: how TensorFlow, JAX and PyTorch call back to the host. Does not know: what is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from extmem.errors import InvalidInput

Host = Callable[[Any], tuple[np.ndarray, ...]]
Spec = tuple[tuple[Any, ...], str]  # shape and dtype of a result; None where the graph does not know a size yet


def on_host(function: Host, tensor: Any, specs: Sequence[Spec]) -> list[Any]:
    """What `function` makes of the tensor's values whenever the graph is run; no gradient passes through.

    Raises InvalidInput on another backend. XLA cannot compile it on TensorFlow, where a layer that calls this says so
    by `supports_jit`; torch.compile breaks the graph here.
    """
    name = keras.backend.backend()
    if name not in _BACKENDS:
        raise InvalidInput(f"a memory is not read on the {name} backend: use {', '.join(_BACKENDS)}.", name)
    found: list[Any] = _BACKENDS[name](function, keras.ops.stop_gradient(tensor), specs)
    return found


def _tensorflow(function: Host, tensor: Any, specs: Sequence[Spec]) -> list[Any]:
    import tensorflow as tf

    found = tf.numpy_function(function, [tensor], [tf.as_dtype(dtype) for _, dtype in specs])
    for result, (shape, _) in zip(found, specs, strict=True):
        result.set_shape(shape)
    return list(found)


def _jax(function: Host, tensor: Any, specs: Sequence[Spec]) -> list[Any]:
    import jax

    shapes = tuple(jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in specs)
    return list(jax.pure_callback(lambda values: function(np.asarray(values)), shapes, tensor))


def _torch(function: Host, tensor: Any, specs: Sequence[Spec]) -> list[Any]:
    import torch

    @torch.compiler.disable
    def call(values: torch.Tensor) -> list[torch.Tensor]:
        return [torch.as_tensor(array, device=values.device) for array in function(values.detach().cpu().numpy())]

    if tensor.device.type == "meta":  # Keras asks for shapes
        return [torch.empty(shape, dtype=getattr(torch, dtype), device="meta") for shape, dtype in specs]
    return list(call(tensor))


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
