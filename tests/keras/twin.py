"""What the layers of nn/ make of weights and inputs drawn at random, as arrays for the Keras layers to agree with.

Knows: the cases, and nn/, which is only imported to write. Does not know: Keras.

Names are "case/what"; weights lie as Keras has them, (inputs, outputs).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from extmem.reading import Reading


class Remembering(NamedTuple):
    """A case of ExternalMemoryLayer."""

    batch: int
    steps: int
    dim: int
    slots: int
    capacity: int


class Gated(NamedTuple):
    """A case of GatedLSTM."""

    batch: int
    steps: int
    width: int
    units: int


MEMORIES = {
    "all": Remembering(2, 12, 8, 3, 100),
    "short": Remembering(3, 11, 6, 2, 4),
    "no-slots": Remembering(2, 7, 5, 0, 3),
    "no-capacity": Remembering(1, 6, 4, 5, 0),
    "nothing": Remembering(2, 4, 3, 0, 0),
    "wide": Remembering(2, 20, 32, 32, 10),
}
LSTMS = {"small": Gated(2, 9, 5, 7), "wide": Gated(4, 15, 24, 16)}
NEIGHBOURS = 3


class Exact:
    """A datastore of vectors (N, H), searched by measuring all of them."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors, self.dim = vectors, vectors.shape[1]

    def nearest(self, queries: np.ndarray, k: int) -> Reading:
        apart = ((queries[:, None] - self.vectors[None]) ** 2).sum(2)
        entries = np.argsort(apart, axis=1, kind="stable")[:, :k]
        return Reading(entries, np.take_along_axis(apart, entries, 1), self.vectors[entries])


def write(place: Path) -> None:
    """Has nn/ compute all of it."""
    import torch

    torch.manual_seed(0)
    arrays: dict[str, np.ndarray] = {}
    with torch.no_grad():
        for name, case in MEMORIES.items():
            arrays |= {f"{name}/{what}": tensor.numpy() for what, tensor in _remembered(case).items()}
        for name, shape in LSTMS.items():
            for gates in ("cell", "input"):
                arrays |= {f"{gates}-{name}/{what}": tensor.numpy() for what, tensor in _gated(shape, gates).items()}
    np.savez(place, **arrays)


def _remembered(case: Remembering) -> dict:
    import torch

    from extmem.nn.memory_layer import ExternalMemoryLayer

    layer = ExternalMemoryLayer(case.dim, case.slots, case.capacity, NEIGHBOURS)
    h, vectors = torch.randn(case.batch, case.steps, case.dim), torch.randn(9, case.dim)
    cut = case.steps // 3
    mask = torch.rand(case.batch, case.steps) < 0.6
    mask[0, 0] = True
    first, middle = layer(h[:, :cut])
    second, end = layer(h[:, cut:], middle)
    masked = h.clone()  # each row by itself, as if what is masked out had never been there
    for row, real in zip(range(case.batch), mask, strict=True):
        masked[row, real] = layer(h[row : row + 1, real])[0][0]
    return {
        **{name: getattr(layer, name).weight.T for name in ("query", "key", "value", "output", "gate")},
        "bias": layer.gate.bias, "slot_keys": layer.slot_keys, "slot_values": layer.slot_values,
        "hidden": h, "out": layer(h)[0], "first": first, "second": second, "keys": end.keys, "values": end.values,
        "mask": mask, "masked": masked,
        "vectors": vectors, "near": layer(h, None, Exact(vectors.numpy()))[0],
    }  # fmt: skip


def _gated(case: Gated, gates: str) -> dict:
    import torch

    from extmem.nn.lstm import GatedLSTM

    lstm, x = GatedLSTM(case.width, case.units, gates=gates), torch.randn(case.batch, case.steps, case.width)
    layer, cut = lstm.layers[0], case.steps // 3
    out, (h, c) = lstm(x)
    _, (middle_h, middle_c) = lstm(x[:, :cut])
    if gates == "cell":
        weights = {"kernel": layer.weight_x.T, "recurrent": layer.weight_h.T, "bias": layer.bias}
        weights["cell"] = layer.weight_c.T
    else:
        i, f, candidate, o = torch.arange(4 * case.units).split(case.units)  # torch's order
        rows = torch.cat([f, i, candidate, o])
        weights = {"kernel": layer.weight_ih_l0[rows].T, "recurrent": layer.weight_hh_l0[rows].T}
        weights["bias"] = (layer.bias_ih_l0 + layer.bias_hh_l0)[rows]
    return {**weights, "x": x, "out": out, "h": h[0], "c": c[0], "middle_h": middle_h[0], "middle_c": middle_c[0]}


if __name__ == "__main__":
    write(Path(sys.argv[1]))
