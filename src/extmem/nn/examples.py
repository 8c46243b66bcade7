"""Examples: a space of labelled vectors in which those of one class lie close, to find the nearest of a new one.

Knows: arrays. Does not know: what a vector is of, records.

A vector is standardised, taken to its WIDTH main directions, centred between the classes' means, whitened half way
within the classes, and of length 1. A class that came later, of which only examples are known, is told from the others
by where it lies: with s the cosine to the mean of its examples less what the others' means would let expect,
p(new) = σ(s / WARMTH).
Shapes: N vectors, D their width, W = WIDTH or less, C classes, K neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

WIDTH = 128
NEAREST, WARMTH = 10, 0.1
SHRUNK = 0.1  # of the variances within classes that is their mean; more where there are few examples

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Space:
    """From vectors (…, D) to (…, W)."""

    shift: Array  # (D,)
    scale: Array  # (D,)
    turn: Array  # (D, W)
    centre: Array  # (W,)

    @classmethod
    def fit(cls, vector_ND: Array, label_N: NDArray[np.int64], standardise: bool = True) -> Space:
        """The space of labelled vectors, at least one of every label 0, 1, …; `standardise` where the widths of their
        dimensions say nothing."""
        shift = vector_ND.mean(0)
        scale = vector_ND.std(0) + np.float32(1e-6) if standardise else np.ones_like(shift)
        width = min(WIDTH, *vector_ND.shape)
        with np.errstate(divide="ignore", invalid="ignore"):  # its share of a variance that may be 0, which none asks
            main = PCA(width, svd_solver="randomized", random_state=0).fit((vector_ND - shift) / scale)
        axes_DW = main.components_.T.astype(np.float32)
        near_NW = (vector_ND - shift) / scale @ axes_DW
        mean_CW = np.stack([near_NW[label_N == label].mean(0) for label in range(int(label_N.max()) + 1)])
        values, turned = np.linalg.eigh(np.cov((near_NW - mean_CW[label_N]).T).reshape(width, width))
        shrunk = min(1.0, max(SHRUNK, width / len(vector_ND)))
        values = (1 - shrunk) * values + shrunk * values.mean() + 1e-9
        turn_WW = (turned * values**-0.25).astype(np.float32)
        return cls(shift, scale, axes_DW @ turn_WW, mean_CW.mean(0) @ turn_WW)

    def of(self, vector_ND: Array) -> Array:
        """(N, W), of length 1."""
        placed = (vector_ND - self.shift) / self.scale @ self.turn - self.centre
        return unit(placed.astype(np.float32))


def unit(vector: Array) -> Array:
    """Vectors (…, W) of length 1."""
    found: Array = vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-9)
    return found


def nearest(query_W: Array, example_NW: Array) -> tuple[NDArray[np.int64], Array]:
    """The numbers (K,) of the nearest examples, the nearest first, and what each counts, (K,), together 1."""
    cosine_N = example_NW @ query_W
    near = np.argsort(-cosine_N, kind="stable")[:NEAREST]
    weight = np.exp((cosine_N[near] - cosine_N[near[0]]) / WARMTH)
    return near, (weight / weight.sum()).astype(np.float32)


def newness(query_W: Array, examples_NW: Array, p_C: Array, mean_CW: Array) -> float:
    """The odds p / (1 − p) that a vector is of a new class, of which these are examples, rather than of the classes
    that `mean_CW` are the means of and `p_C` the probabilities."""
    score = float(query_W @ unit(examples_NW.mean(0)) - p_C @ (mean_CW @ query_W))
    return float(np.exp(np.clip(score / WARMTH, -50, 50)))
