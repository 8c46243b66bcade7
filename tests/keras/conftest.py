"""What the tests of extmem.keras share: a backend, and what the layers of nn/ make of the same weights and inputs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The arrays that `twin.py` wrote: scripts/keras has it write them where torch is, before it goes where none is."""
    place = os.environ.get("EXTMEM_TWIN")
    if place is None:
        import twin

        place = str(tmp_path_factory.mktemp("twin") / "twin.npz")
        twin.write(Path(place))
    with np.load(place) as arrays:
        return dict(arrays)


@pytest.fixture(autouse=True)
def begins_alike() -> Iterator[None]:
    keras.utils.set_random_seed(0)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def compiled():
    """Of a layer that is built: itself, as one graph on JAX, which compiles every operation by itself otherwise."""
    if keras.backend.backend() != "jax":
        return lambda layer: layer
    import jax

    return lambda layer: jax.jit(lambda *tensors, **named: layer(*tensors, **named))
