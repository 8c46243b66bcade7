"""ExternalMemoryLayer: a layer that remembers what it has read and reads it by attention.

Knows: hidden states, its own state (a value handed in and out), and `Nearest`, which its caller
may hand it. Does not know: words, losses, where a datastore lives.

Shapes: B batch, T time, H hidden width, S pairs carried in the state, M learned slots,
J = M + S + T pairs in reach, N = B·T queries, K nearest entries of a datastore.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from extmem.reading import Nearest


@dataclass(frozen=True)
class MemoryState:
    """The pairs stored so far, oldest first: keys and values, each (batch, pairs, width)."""

    keys: Float[Tensor, "b s h"]
    values: Float[Tensor, "b s h"]

    def __len__(self) -> int:
        return self.keys.shape[1]

    def detach(self) -> MemoryState:
        """The same pairs, cut from the graph that made them (truncated back-propagation)."""
        return MemoryState(self.keys.detach(), self.values.detach())


@dataclass(frozen=True)
class MemoryRead:
    """What one call of `retrieve` read, and from where.

    `weights` is (batch, time, J): columns are the slots, then the pairs of the state, oldest first,
    then `nearest`'s K entries, whose ids stand in `entries` (batch, time, K). Rows sum to 1, or to
    0 where there was nothing to read.
    """

    values: Float[Tensor, "b t h"]
    weights: Float[Tensor, "b t j"]
    entries: Int[Tensor, "b t k"]


class ExternalMemoryLayer(nn.Module):
    """(batch, time, dim) -> (batch, time, dim), with a memory carried from call to call.

        q_t = W_q h_t,   r_t = Σ_j softmax(q_t · k_j / √d) v_j,   out_t = h_t + σ(W_g [h_t; r_t]) ⊙ W_o r_t

    where j runs over (a) the pairs (W_k h_s, W_v h_s) of the last `capacity` steps s < t, (b) `slots`
    learned pairs and (c), if a `nearest` is handed in, its `neighbours` nearest entries, projected
    in the same way and not differentiated. Output t never depends on an input after t. After
    product-key and memorizing transformers (Lample et al. 2019; Wu et al. 2022), for a recurrent
    network.

    `forward` is the fast path; `retrieve`, `store`, `update` and `erase` do the same by hand on a
    state, and return a new one.
    """

    def __init__(self, dim: int = 128, slots: int = 32, capacity: int = 100, neighbours: int = 8) -> None:
        super().__init__()
        if dim < 1 or slots < 0 or capacity < 0:
            raise ValueError(f"dim {dim}, slots {slots}, capacity {capacity}: give dim >= 1, the others >= 0.")
        self.dim, self.capacity, self.neighbours = dim, capacity, neighbours
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)
        self.gate = nn.Linear(2 * dim, dim)
        self.slot_keys = nn.Parameter(torch.randn(slots, dim) / math.sqrt(dim))
        self.slot_values = nn.Parameter(torch.randn(slots, dim) / math.sqrt(dim))

    def empty(self, batch: int) -> MemoryState:
        """A state with nothing in it."""
        nothing = self.slot_keys.new_empty(batch, 0, self.dim)
        return MemoryState(nothing, nothing)

    def forward(
        self,
        hidden_BTH: Float[Tensor, "b t h"],
        state: MemoryState | None = None,
        nearest: Nearest | None = None,
    ) -> tuple[Float[Tensor, "b t h"], MemoryState]:
        """Reads and stores every step in order; returns the outputs and the new state."""
        batch, steps, _ = hidden_BTH.shape
        state = self.empty(batch) if state is None else state
        grown = self._append(state, hidden_BTH)
        seen = _window(steps, len(state), self.capacity, hidden_BTH.device)
        read = self._attend(hidden_BTH, grown, seen, nearest)
        gate = torch.sigmoid(self.gate(torch.cat([hidden_BTH, read.values], dim=2)))
        return hidden_BTH + gate * self.output(read.values), self._trim(grown)

    def retrieve(
        self, state: MemoryState, hidden_BTH: Float[Tensor, "b t h"], nearest: Nearest | None = None
    ) -> MemoryRead:
        """Reads with each of T states from the same memory, storing nothing."""
        everything = torch.ones(hidden_BTH.shape[1], len(state), dtype=torch.bool, device=hidden_BTH.device)
        return self._attend(hidden_BTH, state, everything, nearest)

    def store(self, state: MemoryState, hidden_BTH: Float[Tensor, "b t h"]) -> MemoryState:
        """The state with T more pairs, the oldest dropped beyond `capacity`."""
        return self._trim(self._append(state, hidden_BTH))

    def update(self, state: MemoryState, index: int, hidden_BH: Float[Tensor, "b h"]) -> MemoryState:
        """The state with pair `index` (0 is the oldest) written anew. Raises IndexError."""
        keys, values = state.keys.clone(), state.values.clone()
        keys[:, index], values[:, index] = self.key(hidden_BH), self.value(hidden_BH)
        return MemoryState(keys, values)

    def erase(self, state: MemoryState, index: int) -> MemoryState:
        """The state without pair `index` (0 is the oldest). Raises IndexError."""
        kept = list(range(len(state)))
        del kept[index]
        return MemoryState(state.keys[:, kept], state.values[:, kept])

    def _append(self, state: MemoryState, hidden_BTH: Tensor) -> MemoryState:
        return MemoryState(
            torch.cat([state.keys, self.key(hidden_BTH)], dim=1),
            torch.cat([state.values, self.value(hidden_BTH)], dim=1),
        )

    def _trim(self, state: MemoryState) -> MemoryState:
        first = max(0, len(state) - self.capacity)
        return MemoryState(state.keys[:, first:], state.values[:, first:])

    def _attend(
        self, hidden_BTH: Tensor, state: MemoryState, seen_TS: Bool[Tensor, "t s"], nearest: Nearest | None
    ) -> MemoryRead:
        batch, steps, width = hidden_BTH.shape
        slots = self.slot_keys.shape[0]
        keys = torch.cat([self.slot_keys.expand(batch, -1, -1), state.keys], dim=1)
        values = torch.cat([self.slot_values.expand(batch, -1, -1), state.values], dim=1)
        reach_TJ = torch.cat([seen_TS.new_ones(steps, slots), seen_TS], dim=1)
        q_BTH = self.query(hidden_BTH) / math.sqrt(width)
        scores = torch.baddbmm(_additive(reach_TJ, q_BTH.dtype), q_BTH, keys.transpose(1, 2))
        if nearest is None:
            weights = _softmax(scores, reach_TJ)
            return MemoryRead(weights @ values, weights, torch.empty(batch, steps, 0, dtype=torch.long))
        found = nearest.nearest(hidden_BTH.detach().flatten(0, 1).cpu().numpy(), self.neighbours)
        vectors = torch.as_tensor(found.vectors, dtype=hidden_BTH.dtype, device=hidden_BTH.device)
        vectors = vectors.unflatten(0, (batch, steps))
        entries = torch.as_tensor(found.entries, device=hidden_BTH.device).unflatten(0, (batch, steps))
        near = torch.einsum("bth,btkh->btk", q_BTH, self.key(vectors)).masked_fill(entries < 0, -math.inf)
        reach_TJ = torch.cat([reach_TJ, reach_TJ.new_ones(steps, near.shape[2])], dim=1)
        weights = _softmax(torch.cat([scores, near], dim=2), reach_TJ).nan_to_num(0.0)
        own, others = weights.split([scores.shape[2], near.shape[2]], dim=2)
        read = own @ values + torch.einsum("btk,btkh->bth", others, self.value(vectors))
        return MemoryRead(read, weights, entries)


def _window(steps: int, carried: int, capacity: int, device: torch.device) -> Bool[Tensor, "t s"]:
    """Which of `carried` + `steps` pairs each step sees: those of the `capacity` steps before it."""
    now = torch.arange(steps, device=device)[:, None]
    then = torch.arange(-carried, steps, device=device)[None, :]
    return (then < now) & (then >= now - capacity)


def _additive(reach_TJ: Bool[Tensor, "t j"], dtype: torch.dtype) -> Float[Tensor, "1 t j"]:
    return torch.zeros(reach_TJ.shape, dtype=dtype, device=reach_TJ.device).masked_fill(~reach_TJ, -math.inf)[None]


def _softmax(scores_BTJ: Tensor, reach_TJ: Tensor) -> Tensor:
    """Softmax over the pairs in reach; a row with none gets zeros, not NaN."""
    nothing_T = ~reach_TJ.any(dim=1)
    if not nothing_T.any():
        return torch.softmax(scores_BTJ, dim=2)
    scores = scores_BTJ.masked_fill(nothing_T[None, :, None], 0.0)
    return torch.softmax(scores, dim=2).masked_fill(nothing_T[None, :, None], 0.0)
