"""Perplexity of a text: by the model, and with what each memory adds.

Knows: a model, a memory, how to weigh them. Does not know: files, tables.

λ, β and the window are fitted on text that is not measured: `evaluate` cuts the text in two, fits on
each half what it measures on the other. Readings see nothing that comes after the token they predict.
Shapes: T tokens, K neighbours, R inverse temperatures β.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from extmem.errors import InvalidInput
from extmem.lm.fitting import LEAST, ROWS, Probabilities, fit_mixtures, only
from extmem.lm.following import read_along
from extmem.lm.train import true_log_probabilities
from extmem.memory import Memory
from extmem.nn.mixture import Mixture, cache_probabilities, cache_trust, neighbour_probabilities

if TYPE_CHECKING:
    from extmem.lm.model import LanguageModel

SCALES = tuple(2.0**power for power in range(-1, 11))  # β times the spread of the model's states
WINDOWS = (100, 500, 2000)


@dataclass(frozen=True)
class Evaluation:
    """Perplexity of one text: `model` alone, with `cache`, with `datastore`, with both ("memory").

    A row is None where there is nothing to read. `seconds` is what each row took, the model's
    included; `mixtures` are those fitted, one a half; `searched` says for how many tokens the datastore was searched.
    """

    tokens: int
    characters: int
    nats: dict[str, float | None]
    seconds: dict[str, float | None]
    mixtures: list[Mixture]
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
            "mixtures": [asdict(mixture) for mixture in self.mixtures],
            "searched": self.searched,
        }


def evaluate(model: LanguageModel, texts: Sequence[str], memory: Memory | None = None, follow: int = 0) -> Evaluation:
    """Measures texts, read one after the other and cross-fitted; those under 400 tokens together are
    measured with the mixture the model or the memory came with. With `follow`, the datastore is searched only
    where fewer entries than that can be followed (`lm/following.py`). Raises InvalidInput for texts without
    words, WrongModel where the memory was written by another model."""
    ids = model.encode(*texts)
    if len(ids) < 2:
        raise InvalidInput("there are no words to measure: give a text with some.")
    given, seconds = probabilities(model, ids, memory, follow)
    half = len(ids) // 2
    halves = [slice(0, half), slice(half, len(ids))]
    if len(ids) < LEAST:
        given_mixture = model.mixture_for(memory)
        fitted = [{row: only(given_mixture, kinds) for row, kinds in ROWS.items()}] * 2
    else:
        fitted = [fit_mixtures(given.part(where), model.mixture) for where in reversed(halves)]
    nats: dict[str, float | None] = {}
    for row, kinds in ROWS.items():
        if "near" in kinds and given.datastore is None:
            nats[row] = None
            continue
        mixed = torch.cat([given.part(where).mixed(fit[row]) for where, fit in zip(halves, fitted, strict=True)])
        nats[row] = float(-mixed.clamp_min(1e-30).log().sum())
    if nats["memory"] is None:
        nats["memory"], seconds["memory"] = nats["cache"], seconds["cache"]
    return Evaluation(
        len(ids), sum(map(len, texts)), nats, seconds, [mixtures["memory"] for mixtures in fitted], given.searched
    )


@torch.no_grad()
def probabilities(
    model: LanguageModel, ids: Tensor, memory: Memory | None, follow: int = 0
) -> tuple[Probabilities, dict[str, float | None]]:
    """Reads the text once with every source; the seconds each row of the table needs."""
    began = time.perf_counter()
    before = torch.cat([ids.new_tensor([model.vocabulary.eos]), ids[:-1]])
    states, _ = model.network.read(before)
    alone = true_log_probabilities(model.network, states, ids).exp()
    read = time.perf_counter()
    betas = tuple(scale / model.spread for scale in SCALES)
    trust = cache_trust(torch.arange(len(ids), device=ids.device))
    cache = {
        window: trust * cache_probabilities(states, ids, betas, window) + (1 - trust) * alone for window in WINDOWS
    }
    cached = time.perf_counter()
    near = _datastore_probabilities(model, states, ids, betas, memory, follow)
    done = time.perf_counter()
    base = read - began
    seconds: dict[str, float | None] = {"model": base, "cache": base + cached - read}
    seconds["datastore"] = None if near[0] is None else base + done - cached
    seconds["memory"] = None if near[0] is None else done - began
    return Probabilities(betas, alone.cpu(), {w: p.cpu() for w, p in cache.items()}, *near), seconds


def _datastore_probabilities(
    model: LanguageModel, states: Tensor, ids: Tensor, betas: tuple[float, ...], memory: Memory | None, follow: int
) -> tuple[Tensor, Tensor, int] | tuple[None, None, None]:
    """The probability of each true token at each β, the distance of the nearest entry, and for how many tokens it
    was searched."""
    view = None if memory is None else model.datastore(memory).view()
    if view is None or not len(view):
        return None, None, None
    found, nearest, k, searched = [], [], min(model.mixture.neighbours, len(view)), 0
    for queries, truth in zip(states.split(4096), ids.split(4096), strict=True):
        if follow:
            entries, distances, count = read_along(view, queries.cpu().numpy(), truth.cpu().numpy(), k, follow)
        else:
            (entries, distances), count = view.search(queries.cpu().numpy(), k), len(queries)
        tokens = torch.from_numpy(view.tokens(entries.clip(0))).to(ids.device)
        near = torch.from_numpy(distances).to(ids.device)
        found.append(neighbour_probabilities(near, tokens, truth, betas))
        nearest.append(near[:, 0])
        searched += count
    return torch.cat(found, dim=1).cpu(), torch.cat(nearest).cpu(), searched
