"""The loss over a large vocabulary, without ever holding all its logits.

Knows: hidden states, an output embedding, targets. Does not know: models, text, memories.

A softmax over V = 10,000 words takes nine tenths of the training time of a small LSTM and most of its memory. Here
the states are taken a chunk at a time: logits, probabilities and gradients of one chunk stay in cache (the idea of
Liger Kernel's fused linear cross-entropy; Hsu et al. 2024). With `Sampled`, the sum over the words is taken over the
frequent ones and a few of the others, which stand for all of them (importance sampling; Bengio & Senécal 2003):
the gradient is nearly the same on average, for a fraction of the products.
Shapes: N tokens, D width, V vocabulary, M words that are summed over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from extmem.devices import fastest_dtype

CHUNK = 128  # tokens whose logits are held at once


class Sampled(NamedTuple):
    """Which words are summed over: the first `frequent` of the vocabulary, and so many of the `others`."""

    frequent: int
    others: int


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        h_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor,
        target_N: Tensor,
        dtype: torch.dtype,
        sampled: Sampled | None,
        smoothing: float,
    ) -> Tensor:
        words = _Words.drawn(bias_V, sampled or Sampled(len(bias_V), 0))
        count, width = len(target_N), words.count
        weight_MD, bias_M = words.of(weight_VD).to(dtype), (words.of(bias_V) + words.correction).to(dtype)
        own_ND = weight_VD[target_N]
        apart_N = words.column[target_N] >= words.frequent  # the target is no frequent word: it has a column of its own
        column_N = torch.where(apart_N, width, words.column[target_N])
        true_N = (h_ND * own_ND).sum(1) + bias_V[target_N]
        own_N = torch.where(apart_N, true_N, -math.inf).to(dtype)
        grad_h, p_N = torch.empty_like(h_ND), h_ND.new_empty(count)
        grad_weight, grad_bias = h_ND.new_zeros(weight_MD.shape), h_ND.new_zeros(width)
        logits = h_ND.new_empty(min(CHUNK, count), width + 1, dtype=dtype)
        for start in range(0, count, CHUNK):
            rows = slice(start, min(start + CHUNK, count))
            h, p = h_ND[rows].to(dtype), logits[: rows.stop - start]
            torch.addmm(bias_M, h, weight_MD.T, out=p[:, :width])
            p[:, width] = own_N[rows]
            words.leave_out(p, target_N[rows], apart_N[rows])
            torch.softmax(p, dim=1, out=p)
            p_N[rows] = p.gather(1, column_N[rows, None])[:, 0].to(h_ND.dtype)
            p = p[:, :width]
            grad_h[rows] = p @ weight_MD
            grad_weight += p.T @ h
            grad_bias += p.sum(0)
        # The gradient of the logits is p - (1 - smoothing) onehot(target) - smoothing / V; what the target's own word
        # has of it is added in float32.
        own = torch.where(apart_N, p_N, 0.0) - (1 - smoothing)
        grad_h.addcmul_(own[:, None], own_ND)
        grad_weight, grad_bias = words.spread(grad_weight), words.spread(grad_bias)
        grad_weight.index_add_(0, target_N, h_ND * own[:, None])
        grad_bias.index_add_(0, target_N, own)
        ctx.save_for_backward(grad_h, grad_weight, grad_bias)
        ctx.count = count
        loss = -p_N.clamp_min(1e-38).log().mean()
        if smoothing:
            mean_D, each = weight_VD.mean(0), smoothing / len(bias_V)
            grad_h -= smoothing * mean_D
            grad_weight -= each * h_ND.sum(0)
            grad_bias -= each * count
            loss += smoothing * (true_N - h_ND @ mean_D - bias_V.mean()).mean()
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad / ctx.count
        grad_h, grad_weight, grad_bias = ctx.saved_tensors
        return grad_h * scale, grad_weight * scale, grad_bias * scale, None, None, None, None


@dataclass(frozen=True)
class _Words:
    """The M words that are summed over: the first `frequent` of the vocabulary and the `others`. `column` (V,) says
    where each word stands among them, V for one that does not; `correction` (M,) is added to their logits, because
    each of the others stands for several."""

    column: Tensor
    frequent: int
    others: Tensor
    correction: Tensor

    @classmethod
    def drawn(cls, bias_V: Tensor, sampled: Sampled) -> _Words:
        size, device = len(bias_V), bias_V.device
        frequent = min(sampled.frequent, size)
        others = torch.randperm(size - frequent, device=device)[: sampled.others] + frequent
        column = torch.full((size,), size, device=device)
        column[:frequent] = torch.arange(frequent, device=device)
        column[others] = torch.arange(frequent, frequent + len(others), device=device)
        correction = bias_V.new_zeros(frequent + len(others))
        if len(others):
            correction[frequent:] = math.log((size - frequent) / len(others))
        return cls(column, frequent, others, correction)

    @property
    def count(self) -> int:
        return self.frequent + len(self.others)

    def of(self, all_V: Tensor) -> Tensor:
        """The rows of these words."""
        return torch.cat([all_V[: self.frequent], all_V[self.others]]) if len(self.others) else all_V[: self.frequent]

    def spread(self, some_M: Tensor) -> Tensor:
        """These rows in their places among all, zeros elsewhere."""
        if self.frequent == len(self.column):
            return some_M
        everyone = some_M.new_zeros(len(self.column), *some_M.shape[1:])
        everyone[: self.frequent] = some_M[: self.frequent]
        everyone[self.others] = some_M[self.frequent :]
        return everyone

    def leave_out(self, logits: Tensor, target: Tensor, apart: Tensor) -> None:
        """A target with a column of its own that was drawn as well counts once."""
        if len(self.others):
            rows = torch.nonzero(apart & (self.column[target] < self.count))[:, 0]
            logits[rows, self.column[target[rows]]] = -math.inf


def chunked_cross_entropy(
    h_ND: Float[Tensor, "n d"],
    weight_VD: Float[Tensor, "v d"],
    bias_V: Float[Tensor, "v"],
    target_N: Int[Tensor, "n"],
    dtype: torch.dtype | None = None,
    sampled: Sampled | None = None,
    smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats of softmax(h W^T + b) against the targets.

    The gradients are made in the same pass, so it serves training only. `dtype` is that of the three products and of
    the probabilities: bfloat16 where the processor multiplies it by itself, float32 elsewhere, if not given. With
    torch.float32 it equals torch.nn.functional.cross_entropy to rounding, up to 87 nats a token, where it stops
    counting. With `sampled`, the words beyond the first `frequent` are summed over by a sample that is drawn anew for
    every call from torch's generator, each standing for (V - frequent) / others; the target itself always counts.
    `smoothing` of each target's share is given to all words alike (label smoothing; Szegedy et al. 2016).
    """
    dtype = fastest_dtype(h_ND.device) if dtype is None else dtype
    loss: Tensor = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        h_ND, weight_VD, bias_V, target_N, dtype, sampled, smoothing
    )
    return loss
