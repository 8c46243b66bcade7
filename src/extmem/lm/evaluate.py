"""Perplexity of a text: by the model, and with what each memory adds.

Knows: a model, a memory, how to weigh them. Does not know: files, tables.

The gates are fitted on text that is not measured: `evaluate` cuts the text in two, fits on each half what it measures
on the other. Readings see nothing that comes after the token they predict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from extmem.errors import InvalidInput
from extmem.lm.fitting import LEAST, calibration, check_enough, fit_mixture, mixed, owned, reliability, rows_of
from extmem.lm.sources import Evidence, read_text
from extmem.memory import Memory
from extmem.nn.mixture import ROWS, Mixture

if TYPE_CHECKING:
    from extmem.lm.model import LanguageModel


@dataclass(frozen=True)
class Evaluation:
    """Perplexity of one text: `model` alone, with `cache`, with `datastore`, with both ("memory").

    A row is None where there is nothing to read. `seconds` is what each row took, the model's
    included; `mixtures` are those fitted, one a half; `shares` is the mean λ of each source in "memory", `calibration`
    how far off it is (`fitting.calibration`), `reliability` the pairs that this is of, for model, cache and datastore,
    each as one: λ and what was its. `searched` says for how many tokens the datastore was searched.
    """

    tokens: int
    characters: int
    nats: dict[str, float | None]
    seconds: dict[str, float | None]
    mixtures: list[Mixture]
    shares: dict[str, float]
    calibration: dict[str, float]
    reliability: dict[str, list[tuple[float, float]]]
    searched: int | None = None

    @property
    def perplexity(self) -> dict[str, float | None]:
        """exp(nats / tokens) a row."""
        return {row: None if nats is None else math.exp(nats / self.tokens) for row, nats in self.nats.items()}

    @property
    def bits_per_character(self) -> dict[str, float | None]:
        """Bits to write the text down, by its characters."""
        scale = math.log(2) * self.characters
        return {row: None if nats is None else nats / scale for row, nats in self.nats.items()}

    @property
    def reduction_percent(self) -> dict[str, float | None]:
        """How much lower the perplexity is than the model's alone."""
        alone = self.perplexity["model"]
        assert alone is not None
        return {row: None if p is None else 100 * (1 - p / alone) for row, p in self.perplexity.items()}

    def to_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {
            "tokens": self.tokens,
            "characters": self.characters,
            "perplexity": self.perplexity,
            "bits_per_character": self.bits_per_character,
            "reduction_percent": self.reduction_percent,
            "seconds": self.seconds,
            "shares": self.shares,
            "calibration": self.calibration,
            "reliability": self.reliability,
            "searched": self.searched,
        }


def evaluate(
    model: LanguageModel,
    texts: Sequence[str],
    memory: Memory | None = None,
    follow: int = 0,
    fit_on: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Measures texts, read one after the other and cross-fitted, or fitted on other texts where those are given; texts
    under 400 tokens together are measured with the mixture the model or the memory came with. With `follow`, the
    datastore is searched only where fewer entries than that can be followed (`lm/following.py`). Raises InvalidInput
    for texts without words and for less than 400 tokens to fit on, WrongModel where the memory was written by another
    model."""
    ids = model.encode(*texts)
    if len(ids) < 2:
        raise InvalidInput("there are no words to measure: give a text with some.")
    view = None if memory is None else model.datastore(memory).view()
    start = model.mixture_for(memory)
    evidence = read_text(model, ids, view, start, follow, progress)
    half = len(ids) // 2
    halves = [evidence.part(slice(0, half)), evidence.part(slice(half, len(ids)))]
    if fit_on:
        taught = model.encode(*fit_on)
        check_enough(taught, "the text to fit on")
        mixtures = [fit_mixture(read_text(model, taught, view, start, follow), start)] * 2
    else:
        mixtures = [fit_mixture(other, start) if len(ids) >= LEAST else start for other in reversed(halves)]
    nats: dict[str, float | None] = {"model": -float(evidence.parts[:, 0].double().log().sum())}
    nats |= dict.fromkeys(ROWS)
    for row in rows_of(evidence):
        p, shares = zip(*(mixed(part, row, one) for part, one in zip(halves, mixtures, strict=True)), strict=True)
        nats[row] = -float(torch.cat(p).log().sum())
    nats["memory"] = nats["cache"] if evidence.searched is None else nats["memory"]
    given, names = torch.cat(shares), mixtures[0].names  # of the last row, where all that is there is mixed
    return Evaluation(
        len(ids),
        sum(map(len, texts)),
        nats,
        _seconds(evidence),
        mixtures,
        dict(zip(names, given.mean(0).tolist(), strict=True)),
        dict(zip(names, calibration(given, evidence.parts), strict=True)),
        _reliability(given, evidence),
        evidence.searched,
    )


def _reliability(shares_TS: Tensor, evidence: Evidence) -> dict[str, list[tuple[float, float]]]:
    """Of the model, all caches and all readings of the datastore, as far as they are there."""
    first = 1 + evidence.caches
    groups = {"model": slice(0, 1)}
    groups |= {"cache": slice(1, first)} if evidence.caches else {}
    groups |= {"datastore": slice(first, None)} if evidence.searched is not None else {}
    own_TS, found = owned(shares_TS, evidence.parts), {}
    for name, sources in groups.items():
        bins = reliability(shares_TS[:, sources].sum(1), own_TS[:, sources].sum(1))
        found[name] = [(share, own) for share, own, _ in bins]
    return found


def _seconds(evidence: Evidence) -> dict[str, float | None]:
    """What each row took: its sources, and the model's own reading."""
    alone, cache, near = evidence.seconds
    seconds: dict[str, float | None] = {
        "model": alone,
        "cache": alone + cache,
        "datastore": None,
        "memory": alone + cache,
    }
    if evidence.searched is not None:
        seconds |= {"datastore": alone + near, "memory": alone + cache + near}
    return seconds
