"""Mixing what memories say of the next word with what the model says.

    p(w) = Σ_s λ_s(t) p_s(w)
    p_s(w) = Σ_j a_j [v_j = w] + (1 − Σ_j a_j) p_model(w),   a = softmax(−scale ‖q − k_j‖² / spread + bonus · n_j)

The sources s are the model itself, the continuous cache at several windows (Grave et al. 2017) and the datastore at
several scales (kNN-LM, Khandelwal et al. 2020, eq. 2-3); a source that has nothing to say says what the model says.
n_j counts the words before an entry that agree with those before the query, one after the other; `spread` is the mean
squared distance of a model's states from their mean, so that scales mean the same for every model. λ is a gate's
(`nn/gate.py`). Knows: keys, distances, probabilities. Does not know: where they are stored.
Shapes: T queries in reading order, N states of a text, J entries a source reads, K neighbours, D width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from extmem.nn.gate import Gate

AGREEING = 4  # words before an entry that are compared with those before the query
LOOKS = 5  # features of every reading
LEAST_P = 1e-4  # below this a probability is as good as none, where its logarithm is a feature


class Cache(NamedTuple):
    """One reading of the text itself: its last `window` tokens, at this scale."""

    window: int
    scale: float


class Near(NamedTuple):
    """One reading of the datastore's nearest entries: at this scale, with a bonus for each word before that agrees."""

    scale: float
    bonus: float


class Read(NamedTuple):
    """What a source reads at T places: the words (T, J) and how much each counts (T, J). A row sums to at most 1, the
    rest is the model's."""

    tokens: Tensor
    weights: Tensor

    def of(self, truth_T: Tensor, model_T: Tensor) -> Float[Tensor, "t"]:
        """The probability of one word at each place, to which the model gives model_T."""
        mine = (self.weights * (self.tokens == truth_T[:, None])).sum(1)
        return mine + (1 - self.weights.sum(1)) * model_T

    def looks(self, p_TV: Tensor, top_T: Tensor) -> Float[Tensor, "t 5"]:
        """What can be seen of it beside the model's distribution, whose likeliest words are top_T; logarithms of: the
        weight of its first word; the weight of the model's; what the model gives its first word, and all its words by
        weight; how few entries (words, of a cache) it comes from."""
        model = p_TV.gather(1, self.tokens)
        best = two_best(self.weights)[1][:, None]
        first = self.tokens.gather(1, best)
        sure = (self.weights * (self.tokens == first)).sum(1)
        same = (self.weights * (self.tokens == top_T[:, None])).sum(1)
        agree = (self.weights * model).sum(1)
        first_too = model.gather(1, best)[:, 0] * (sure > 0)  # what read nothing has no first word
        seen = [sure, same, first_too, agree, self.weights.square().sum(1)]
        return torch.stack(seen, dim=1).clamp_min(LEAST_P).log()


def two_best(numbers_TV: Float[Tensor, "t v"]) -> tuple[Float[Tensor, "t 2"], Int[Tensor, "t"]]:
    """The two highest of each row, and where the highest is; of one number, that one twice. Long rows are looked
    through in pieces, and then only the piece that has the highest: PyTorch finds where a maximum is twenty times as
    slowly as what it is."""
    rows, count = numbers_TV.shape
    size = math.isqrt(count) if rows * count > 1 << 16 else count
    padded = nn.functional.pad(numbers_TV, (0, -count % size), value=-torch.inf) if count % size else numbers_TV
    pieces_TPS = padded.unflatten(1, (-1, size))
    lead, piece = pieces_TPS.amax(2).topk(min(2, -(-count // size)), dim=1)
    inside_TS = pieces_TPS.gather(1, piece[:, :1, None].expand(-1, -1, size))[:, 0] if size < count else numbers_TV
    near, place = inside_TS.topk(min(2, size), dim=1)
    others = [one[:, 1] for one in (lead, near) if one.shape[1] > 1] or [near[:, 0]]
    return torch.stack([near[:, 0], torch.stack(others).amax(0)], dim=1), piece[:, 0] * size + place[:, 0]


ROWS = {"cache": (True, False), "datastore": (False, True), "memory": (True, True)}  # with caches, with a datastore


@dataclass(frozen=True)
class Mixture:
    """The sources, and a gate for each of `ROWS`: for the model with its caches, with a datastore, with both
    ("memory"). Its sources are the model, `caches`, `readings`. Where a gate is not fitted yet a datastore gets
    `unfitted`, a share for each of its readings, and the caches what is theirs of what that leaves."""

    caches: tuple[Cache, ...] = (Cache(100, 4.0), Cache(500, 5.0), Cache(2000, 8.0))
    readings: tuple[Near, ...] = (Near(8.0, 1.5), Near(64.0, 0.0))
    neighbours: int = 128
    unfitted: tuple[float, ...] = (0.15, 0.1)
    gates: Mapping[str, Gate] = field(default_factory=lambda: {"cache": Gate.fixed([0.85, 0.04, 0.05, 0.06, 0.0, 0.0])})

    @classmethod
    def without_caches(cls) -> Mixture:
        """For texts that are too short to be read again."""
        return cls(caches=(), gates={})

    @property
    def names(self) -> list[str]:
        """The sources, as they are shown."""
        near = [f"datastore {scale:g}" + (f"+{bonus:g}" if bonus else "") for scale, bonus in self.readings]
        return ["model", *(f"cache {window:,}" for window, _ in self.caches), *near]

    def shares(self, features_TF: Float[Tensor, "t f"], row: str) -> Float[Tensor, "t s"]:
        """λ of each source in a row; they sum to 1."""
        (cached, stored), first = ROWS[row], 1 + len(self.caches)
        gate = self.gates.get(row) or (self.gates.get("cache") if cached else None)
        shares = features_TF.new_zeros(len(features_TF), len(self.names)) if gate is None else gate(features_TF).clone()
        # What is not there says what the model says: its share is the model's.
        if not cached:
            shares[:, 1:first] = 0
        if not stored or row not in self.gates:
            shares[:, first:] = 0
        shares[:, 0] = 1 - shares[:, 1:].sum(1)
        if stored and row not in self.gates:
            given = shares.new_tensor(self.unfitted)
            shares *= 1 - given.sum()
            shares[:, first:] = given
        return shares

    def to_json(self) -> dict[str, Any]:
        """For model.json and the memory's ledger."""
        return {
            "caches": [list(cache) for cache in self.caches],
            "readings": [list(reading) for reading in self.readings],
            "neighbours": self.neighbours,
            "unfitted": list(self.unfitted),
            "gates": {row: gate.to_json() for row, gate in self.gates.items()},
        }

    @classmethod
    def from_json(cls, about: dict[str, Any]) -> Mixture | None:
        """The mixture that `to_json` made this of; None for one of an earlier form, that is to be fitted again."""
        if "gates" not in about:
            return None
        return cls(
            tuple(Cache(*cache) for cache in about["caches"]),
            tuple(Near(*reading) for reading in about["readings"]),
            about["neighbours"],
            tuple(about["unfitted"]),
            {row: Gate.from_json(gate) for row, gate in about["gates"].items()},
        )


def spread_of(states_ND: Float[Tensor, "n d"]) -> float:
    """The mean squared distance of states from their mean, which scales are measured by."""
    return float((states_ND - states_ND.mean(0)).square().sum(1).mean().clamp_min(1e-12))


def cache_reads(
    states_ND: Float[Tensor, "n d"], token_N: Int[Tensor, "n"], start: int, caches: Sequence[Cache], spread: float
) -> tuple[list[Read], Float[Tensor, "t c"]]:
    """What each cache reads at the places from `start` on, and how far its nearest state is (in spreads, at most 9).

    `states_ND[t]` is the state that predicts `token_N[t]`; the reading at t sees the pairs s < t alone. After n tokens
    a cache counts n / (n + 100): one of ten words would otherwise repeat them.
    """
    count = len(states_ND) - start
    if not caches:
        return [], states_ND.new_empty(count, 0)
    far = max(0, start - max(cache.window for cache in caches))
    keys, queries = states_ND[far:], states_ND[start:]
    apart = torch.addmm(keys.square().sum(1), queries, keys.T, alpha=-2).add_(queries.square().sum(1, keepdim=True))
    apart.div_(spread)
    _forbid(apart[:, start - far :], torch.triu, 0)  # what is not read yet
    now = torch.arange(start, len(states_ND), device=keys.device)[:, None]
    trust = now / (now + 100)
    reads, nearest = {}, {}
    for cache in sorted(set(caches), reverse=True):  # what a wide one cannot reach, a narrow one cannot either
        first = max(0, start - cache.window - far)
        near = apart[:, first:]
        _forbid(near[:, :count], torch.tril, start - cache.window - far - first - 1)
        weights = trust * torch.softmax(-cache.scale * near, dim=1).nan_to_num(0.0)
        words, place = token_N[far + first :].unique(return_inverse=True)
        each = weights.new_zeros(count, len(words)).index_add_(1, place, weights)
        reads[cache], nearest[cache] = Read(words.expand(count, -1), each), near.amin(1).clamp(0, 9)
    return [reads[cache] for cache in caches], torch.stack([nearest[cache] for cache in caches], dim=1)


def _forbid(apart_TJ: Tensor, side: Callable[[Tensor, int], Tensor], diagonal: int) -> None:
    """Makes what lies on one side of a diagonal, and on it, infinitely far."""
    if diagonal > -len(apart_TJ):
        apart_TJ.masked_fill_(side(torch.ones_like(apart_TJ, dtype=torch.bool), diagonal), torch.inf)


def datastore_reads(
    distances_TK: Float[Tensor, "t k"],
    token_TK: Int[Tensor, "t k"],
    agreeing_TK: Int[Tensor, "t k"],
    readings: Sequence[Near],
    spread: float,
) -> tuple[list[Read], Float[Tensor, "t 7"]]:
    """What each reading of the neighbours gives, the nearest first; and what can be seen of them: how far the first,
    the tenth and the last one is (in spreads, at most 9), and for 1 to 4 words how many (log) agree in so many
    before."""
    near = distances_TK / spread
    reads = [
        Read(token_TK, torch.softmax(bonus * agreeing_TK - scale * near, dim=1).nan_to_num(0.0))
        for scale, bonus in readings
    ]
    last = near.shape[1] - 1
    far = near[:, [0, min(9, last), last]].clamp(0, 9)
    agreeing = [(agreeing_TK >= count).sum(1).log1p() for count in range(1, AGREEING + 1)]
    return reads, torch.cat([far, torch.stack(agreeing, dim=1)], dim=1)
