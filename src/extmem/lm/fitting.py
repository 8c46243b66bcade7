"""Fitting a mixture to a held text: how much each source is to be trusted where.

Knows: what every source gave each token (`lm/sources.py`). Does not know: models, memories, text.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from extmem.errors import InvalidInput
from extmem.lm.sources import Evidence
from extmem.nn.gate import FLOOR, fit_gate
from extmem.nn.mixture import ROWS, Mixture

LEAST = 400  # tokens that a text must have for a mixture to be fitted on it


def check_enough(ids: Tensor, held: object) -> None:
    """Raises InvalidInput for a held text of too few tokens to fit on."""
    if len(ids) < LEAST:
        raise InvalidInput(f"{held} has {len(ids)} tokens: give at least {LEAST} to fit on.", held)


def fit_mixture(evidence: Evidence, start: Mixture) -> Mixture:
    """The mixture whose gates give this text the highest likelihood: one for every row that there are sources for."""
    gates = dict(start.gates)
    for row in rows_of(evidence):
        seen = evidence.only(*ROWS[row])
        gates[row] = fit_gate(seen.features, seen.parts)
    return replace(start, gates=gates)


def rows_of(evidence: Evidence) -> list[str]:
    """The rows that there are sources for."""
    if evidence.searched is None:
        return ["cache"]
    return list(ROWS) if evidence.caches else ["datastore"]


def mixed(evidence: Evidence, row: str, mixture: Mixture) -> tuple[Tensor, Tensor]:
    """p of every token by the sources of a row, (T,) float64; and λ of each source, (T, S)."""
    seen = evidence.only(*ROWS[row])
    shares = mixture.shares(seen.features, row)
    return torch.einsum("ts,ts->t", shares.double(), seen.parts.double()).clamp_min(FLOOR), shares


def owned(shares_TS: Tensor, parts_TS: Tensor) -> Tensor:
    """How much of each word that came is each source's, λ_s p_s / Σ λ p, (T, S) float64."""
    given = shares_TS.double() * parts_TS.double()
    return given / given.sum(1, keepdim=True).clamp_min(FLOOR)


def reliability(share_T: Tensor, own_T: Tensor, bins: int = 10) -> list[tuple[float, float, int]]:
    """How much a source was trusted, beside how much was its: the tokens are cut into bins by λ, equally many in each;
    of every bin the mean λ, the mean of what it owned, its tokens. The two are the same where λ is calibrated."""
    order = torch.argsort(share_T)
    cut = zip(share_T[order].double().tensor_split(bins), own_T[order].tensor_split(bins), strict=True)
    return [(float(one.mean()), float(other.mean()), len(one)) for one, other in cut if len(one)]


def calibration(shares_TS: Tensor, parts_TS: Tensor, bins: int = 10) -> list[float]:
    """How far each λ is from the part of the words that came which is the source's: the distances of its `reliability`,
    averaged (expected calibration error, Guo et al. 2017, of the posterior instead of a class). 0 is perfect."""
    pairs = zip(shares_TS.T, owned(shares_TS, parts_TS).T, strict=True)
    found = (reliability(share, own, bins) for share, own in pairs)
    return [sum(size * abs(one - other) for one, other, size in bins) / max(1, len(shares_TS)) for bins in found]
