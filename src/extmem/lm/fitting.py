"""Fitting a mixture to a held text: how much each source is to be trusted where.

Knows: what every source gave each token (`lm/sources.py`). Does not know: models, memories, text.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from extmem.lm.sources import Evidence
from extmem.nn.gate import FLOOR, fit_gate
from extmem.nn.mixture import ROWS, Mixture

LEAST = 400  # tokens that a text must have for a mixture to be fitted on it


def fit_mixture(evidence: Evidence, start: Mixture) -> Mixture:
    """The mixture whose gates give this text the highest likelihood: one for every row that there are sources for."""
    gates = dict(start.gates)
    for row in rows_of(evidence):
        seen = evidence.only(*ROWS[row])
        gates[row] = fit_gate(seen.features, seen.parts)
    return replace(start, gates=gates)


def rows_of(evidence: Evidence) -> list[str]:
    """The rows that there are sources for."""
    return list(ROWS) if evidence.searched is not None else ["cache"]


def mixed(evidence: Evidence, row: str, mixture: Mixture) -> Tensor:
    """p of every token by the sources of a row, (T,) float64."""
    seen = evidence.only(*ROWS[row])
    shares = mixture.shares(seen.features, row)
    return torch.einsum("ts,ts->t", shares.double(), seen.parts.double()).clamp_min(FLOOR)
