"""The memory layer for Keras 3, on TensorFlow, JAX and PyTorch.

Knows: the public names, and whether Keras can be used here. Does not know: nn/, whose mathematics is written here
a second time, in keras.ops; a test holds the two equal.
"""

from __future__ import annotations

import os


def _check_keras() -> None:
    """Raises ImportError, in one line, where there is no Keras 3 with a backend."""
    chosen = "set KERAS_BACKEND to tensorflow, jax or torch before Keras is first imported"
    try:
        import keras
    except ModuleNotFoundError as error:
        if error.name == "keras":
            raise ImportError("extmem.keras needs keras: pip install 'extmem[keras]'") from error
        raise ImportError(f"Keras needs {error.name}, which is not installed: install it, or {chosen}.") from error
    except ValueError as error:
        raise ImportError(f"Keras has no backend {os.environ.get('KERAS_BACKEND')!r}: {chosen}.") from error
    if int(keras.__version__.partition(".")[0]) < 3:
        raise ImportError(f"extmem.keras needs Keras 3, this is {keras.__version__}: pip install 'extmem[keras]'")


_check_keras()

from extmem.keras.gated_lstm import GatedLSTM, GatedLSTMCell  # noqa: E402
from extmem.keras.memory_layer import ExternalMemoryLayer  # noqa: E402
from extmem.keras.memory_log import MemoryLog  # noqa: E402

__all__ = ["ExternalMemoryLayer", "GatedLSTM", "GatedLSTMCell", "MemoryLog"]
