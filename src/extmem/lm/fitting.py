"""Fitting a mixture: which β, which window, and how much to trust each memory at which distance.

Knows: the probability each source gave each true token. Does not know: models, memories, text.
Shapes: T tokens, R inverse temperatures β.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from extmem.nn.mixture import Mixture, Shares, fit_shares

QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75)  # of the nearest neighbour's distance: the ranges' edges
SHARPER = 16  # the sharp β is so many times the other
LEAST = 400  # tokens that a text must have for a mixture to be fitted on it
ROWS = {
    "model": (),
    "cache": ("cache",),
    "datastore": ("near", "sharp"),
    "memory": ("cache", "near", "sharp"),
}


@dataclass(frozen=True)
class Probabilities:
    """What every source gives each true token, on the CPU: model (T,), cache {window: (R, T)}, datastore (R, T) or
    None; `nearest` (T,) is the squared distance of the datastore's nearest entry; `searched` says for how many of a
    text's tokens the datastore was searched."""

    betas: tuple[float, ...]
    model: Tensor
    cache: dict[int, Tensor]
    datastore: Tensor | None
    nearest: Tensor | None
    searched: int | None = None

    def part(self, where: slice | Tensor) -> Probabilities:
        """The same for some of the tokens."""
        cache = {window: p[:, where] for window, p in self.cache.items()}
        near = None if self.datastore is None else self.datastore[:, where]
        nearest = None if self.nearest is None else self.nearest[where]
        return Probabilities(self.betas, self.model[where], cache, near, nearest)

    def sources(self, mixture: Mixture) -> dict[str, Tensor]:
        """The rows that this mixture's window and β choose, nearest β where it is not among them."""
        chosen = {"cache": self.cache[mixture.window][self._row(mixture.cache_beta)]}
        if self.datastore is not None:
            chosen["near"] = self.datastore[self._row(mixture.near_beta)]
            chosen["sharp"] = self.datastore[self._row(mixture.sharp_beta)]
        return chosen

    def mixed(self, mixture: Mixture) -> Tensor:
        """p of every true token in the mixture, (T,) float64."""
        shares = torch.tensor(mixture.shares, dtype=torch.double)
        if self.nearest is None or not mixture.edges:
            of_T = shares[:1].expand(len(self.model), -1)
        else:
            edges = torch.tensor(mixture.edges, dtype=torch.double)
            of_T = shares[torch.bucketize(self.nearest.double(), edges)]
        p, rest = torch.zeros_like(self.model, dtype=torch.double), torch.ones_like(of_T[:, 0])
        for kind, source in self.sources(mixture).items():
            share = of_T[:, Shares._fields.index(kind)]
            p, rest = p + share * source, rest - share
        return p + rest * self.model

    def _row(self, beta: float) -> int:
        return min(range(len(self.betas)), key=lambda row: abs(math.log(self.betas[row] / beta)))


def fit_mixtures(given: Probabilities, start: Mixture) -> dict[str, Mixture]:
    """The mixture of each row that gives this text the highest likelihood: β and window of each
    memory by itself, then the shares of the row's sources together, range by range."""
    window, beta = max(
        ((window, beta) for window in given.cache for beta in given.betas),
        key=lambda choice: _score(given.model, given.cache[choice[0]][given.betas.index(choice[1])]),
    )
    chosen = replace(start, window=window, cache_beta=beta, edges=(), shares=(Shares(0, 0, 0),))
    if given.datastore is not None and given.nearest is not None:
        scores = [_score(given.model, p) for p in given.datastore]
        near = max(range(len(scores)), key=scores.__getitem__)
        sharp = min(given.betas[near] * SHARPER, given.betas[-1])
        edges = torch.quantile(given.nearest.double(), torch.tensor(QUANTILES, dtype=torch.double))
        chosen = replace(chosen, near_beta=given.betas[near], sharp_beta=sharp, edges=tuple(edges.tolist()))
    fitted = {}
    for row, kinds in ROWS.items():
        by_distance = "near" in kinds and given.nearest is not None
        mixture = chosen if by_distance else replace(chosen, edges=())
        fitted[row] = replace(mixture, shares=_fit_ranges(given, mixture, kinds))
    return fitted


def only(mixture: Mixture, kinds: tuple[str, ...]) -> Mixture:
    """The mixture with no share for any other kind of source."""
    rows = (row._asdict().items() for row in mixture.shares)
    kept = (Shares(**{kind: share if kind in kinds else 0.0 for kind, share in row}) for row in rows)
    return replace(mixture, shares=tuple(kept))


def _fit_ranges(given: Probabilities, mixture: Mixture, kinds: tuple[str, ...]) -> tuple[Shares, ...]:
    """The best shares in every range of distances."""
    which = torch.zeros(len(given.model), dtype=torch.long)
    if mixture.edges and given.nearest is not None:
        which = torch.bucketize(given.nearest.double(), torch.tensor(mixture.edges, dtype=torch.double))
    sources = {kind: p for kind, p in given.sources(mixture).items() if kind in kinds}
    parts = torch.stack([given.model, *sources.values()])
    rows = []
    for number in range(len(mixture.edges) + 1):
        tokens = which == number
        found = fit_shares(parts[:, tokens]) if int(tokens.sum()) else [1.0] + [0.0] * len(sources)
        rows.append(Shares(**{**dict.fromkeys(Shares._fields, 0.0), **dict(zip(sources, found[1:], strict=True))}))
    return tuple(rows)


def _score(model: Tensor, p: Tensor) -> float:
    """The log-likelihood of the best mixture of two."""
    parts = torch.stack([model, p]).double()
    shares = torch.tensor(fit_shares(parts, rounds=20), dtype=torch.double)
    return float((shares @ parts).clamp_min(1e-30).log().sum())
