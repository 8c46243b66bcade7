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


def calibration(shares_TS: Tensor, parts_TS: Tensor, bins: int = 10) -> list[float]:
    """How well each λ says how much of the words that came is the source's: the tokens are cut into bins by λ, equally
    many in each; of every bin, the mean λ is held against the mean of λ_s p_s / Σ λ p, and the distances are averaged
    (expected calibration error, Guo et al. 2017, of the posterior instead of a class). 0 is perfect."""
    given = shares_TS.double() * parts_TS.double()
    owned = given / given.sum(1, keepdim=True).clamp_min(FLOOR)
    found = []
    for share, own in zip(shares_TS.double().T, owned.T, strict=True):
        order = torch.argsort(share)
        pairs = zip(share[order].tensor_split(bins), own[order].tensor_split(bins), strict=True)
        found.append(sum(abs(float((one - other).sum())) for one, other in pairs) / max(1, len(share)))
    return found
