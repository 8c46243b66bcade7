"""Mixing what a memory says of the next word with what the model says.

    p(w) = (1 - Σ λ) p_model(w) + λ_cache p_cache(w) + λ_near p_near(w) + λ_sharp p_sharp(w)
    p_memory(w) = Σ_j softmax(-β ‖q - k_j‖²) [v_j = w]

(kNN-LM, Khandelwal et al. 2020, eq. 2-3; the continuous cache, Grave et al. 2017, is the same over
the text being read.) The datastore is read at two β: the lower smooths over many neighbours, the
sharper one repeats what followed the nearest. How much each counts depends on how near the nearest
neighbour is: a λ for each range of distances, the plainest form of a λ predicted per token (He et al.
2021). Knows: keys, distances, probabilities. Does not know: where they are stored.
Shapes: T queries in reading order, N entries, K neighbours, D key width, R inverse temperatures β.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK = 256  # queries whose distances to the window are held at once


class Shares(NamedTuple):
    """What each memory gives of the probability; the rest is the model's."""

    cache: float
    near: float
    sharp: float


@dataclass(frozen=True)
class Mixture:
    """How much to trust each memory. β are 1 / squared distance; `shares` has a row for every range
    that `edges` (ascending squared distances of the nearest neighbour) cut, one more than edges."""

    cache_beta: float = 0.1
    window: int = 500
    near_beta: float = 0.1
    sharp_beta: float = 1.6
    neighbours: int = 512
    edges: tuple[float, ...] = ()
    shares: tuple[Shares, ...] = (Shares(0.1, 0.15, 0.1),)

    @classmethod
    def from_json(cls, about: dict[str, Any]) -> Mixture:
        """The mixture that `asdict` and JSON made this of."""
        shares = tuple(Shares(*row) for row in about["shares"])
        return cls(**{**about, "edges": tuple(about["edges"]), "shares": shares})

    def at(self, nearest: float) -> Shares:
        """The shares where the nearest neighbour is at this squared distance."""
        return self.shares[bisect.bisect_left(self.edges, nearest)]


def cache_probabilities(
    keys_TD: Float[Tensor, "t d"], token_T: Int[Tensor, "t"], betas: Sequence[float], window: int
) -> Float[Tensor, "r t"]:
    """The probability a cache of the last `window` (state, next token) pairs gives each true token.

    `keys_TD[t]` is the state that predicts `token_T[t]`; the reading at t sees pairs s < t alone, and
    gives 0 where there is none.
    """
    found = keys_TD.new_zeros(len(betas), len(token_T))
    norms = keys_TD.square().sum(1)
    for start in range(0, len(token_T), BLOCK):
        stop, first = min(start + BLOCK, len(token_T)), max(0, start - window)
        now = torch.arange(start, stop, device=keys_TD.device)[:, None]
        then = torch.arange(first, stop, device=keys_TD.device)[None, :]
        reach = (then < now) & (then >= now - window)
        # ‖q‖² is the same for every key of a query, and softmax does not see it.
        near = norms[first:stop] - 2 * keys_TD[start:stop] @ keys_TD[first:stop].T
        near = near.masked_fill(~reach, torch.inf)
        same = token_T[first:stop][None, :] == token_T[start:stop, None]
        for row, beta in enumerate(betas):
            weights = torch.softmax(-beta * near, dim=1).nan_to_num(0.0)
            found[row, start:stop] = (weights * same).sum(1)
    return found


def cache_trust(read_T: Int[Tensor, "t"]) -> Float[Tensor, "t"]:
    """How much of its share a cache gets that has seen so many tokens: n / (n + 100); the model gets
    the rest. A cache of ten words would otherwise repeat them."""
    return read_T / (read_T + 100)


def neighbour_weights(distances_TK: Float[Tensor, "t k"], beta: float) -> Float[Tensor, "t k"]:
    """softmax(-β d²) over the neighbours; a row without any (all inf) gets zeros."""
    return torch.softmax(-beta * distances_TK, dim=1).nan_to_num(0.0)


def neighbour_probabilities(
    distances_TK: Float[Tensor, "t k"],
    token_TK: Int[Tensor, "t k"],
    token_T: Int[Tensor, "t"],
    betas: Sequence[float],
) -> Float[Tensor, "r t"]:
    """The probability that a datastore's neighbours give each true token, for each β."""
    same = token_TK == token_T[:, None]
    return torch.stack([(neighbour_weights(distances_TK, beta) * same).sum(1) for beta in betas])


def fit_shares(parts_ST: Float[Tensor, "s t"], rounds: int = 100) -> list[float]:
    """The shares (they sum to 1) that explain the text best, by expectation maximisation: parts_ST[s, t]
    is the probability that source s gave the true token t. Every source starts with one token to its
    credit (a Dirichlet prior), so that none is trusted never or always on the word of a few."""
    parts = parts_ST.double().clamp_min(1e-30)
    shares = torch.full((len(parts),), 1 / len(parts), dtype=torch.double)
    for _ in range(rounds):
        blame = shares[:, None] * parts
        shares = ((blame / blame.sum(0)).sum(1) + 1) / (parts.shape[1] + len(parts))
    return [float(share) for share in shares]
