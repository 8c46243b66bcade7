"""Perplexity of a text: by the model, and with what each memory adds.

Knows: a model, a memory, how to weigh them. Does not know: files, tables.

λ, β and the window are fitted on text that is not measured: `evaluate` cuts the text in two, fits on
each half what it measures on the other. Readings see nothing that comes after the token they predict.
Shapes: T tokens, K neighbours, R inverse temperatures β.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from extmem.errors import InvalidInput
from extmem.lm.train import true_log_probabilities
from extmem.memory import Memory
from extmem.nn.mixture import Mixture, cache_probabilities, cache_trust, fit_shares, neighbour_probabilities

if TYPE_CHECKING:
    from extmem.lm.model import LanguageModel

SCALES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # β times the mean squared spread of the states
WINDOWS = (100, 500, 2000)
LEAST = 400  # tokens that a text must have for λ and β to be fitted on it
ROWS = {
    "model": ("model",),
    "cache": ("model", "cache"),
    "datastore": ("model", "datastore"),
    "memory": ("model", "cache", "datastore"),
}


@dataclass(frozen=True)
class Evaluation:
    """Perplexity of one text: `model` alone, with `cache`, with `datastore`, with both ("memory").

    A row is None where there is nothing to read. `seconds` is what each row took, the model's
    included; `mixtures` are those fitted, one a half.
    """

    tokens: int
    characters: int
    nats: dict[str, float | None]
    seconds: dict[str, float | None]
    mixtures: list[Mixture]

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
        }


@dataclass(frozen=True)
class Probabilities:
    """What every source gives each true token: model (T,), cache {window: (R, T)}, datastore (R, T)."""

    betas: tuple[float, ...]
    model: Tensor
    cache: dict[int, Tensor]
    datastore: Tensor | None

    def sources(self, mixture: Mixture) -> dict[str, Tensor]:
        """The rows that this mixture's windows and β choose."""
        chosen = {"model": self.model, "cache": self.cache[mixture.window][self._row(mixture.cache_beta)]}
        if self.datastore is not None:
            chosen["datastore"] = self.datastore[self._row(mixture.datastore_beta)]
        return chosen

    def _row(self, beta: float) -> int:
        return min(range(len(self.betas)), key=lambda row: abs(math.log(self.betas[row] / beta)))

    def part(self, where: slice) -> Probabilities:
        """The same for some of the tokens."""
        cache = {window: p[:, where] for window, p in self.cache.items()}
        near = None if self.datastore is None else self.datastore[:, where]
        return Probabilities(self.betas, self.model[where], cache, near)


def evaluate(model: LanguageModel, text: str, memory: Memory | None = None) -> Evaluation:
    """Measures `text`, cross-fitted; a text under 400 tokens is measured with the mixture the model
    or the memory came with. Raises InvalidInput for a text without words, WrongModel where the memory
    was written by another model."""
    ids = model.encode(text)
    if len(ids) < 2:
        raise InvalidInput("there are no words to measure: give a text with some.")
    given, seconds = probabilities(model, ids, memory)
    half = len(ids) // 2
    halves = [slice(0, half), slice(half, len(ids))]
    if len(ids) < LEAST:
        fitted = [dict.fromkeys(ROWS, model.mixture_for(memory))] * 2
    else:
        fitted = [fit_mixtures(given.part(where), model.mixture) for where in reversed(halves)]
    nats: dict[str, float | None] = {}
    for row, kinds in ROWS.items():
        if "datastore" in kinds and given.datastore is None:
            nats[row] = None
            continue
        measured = zip(halves, fitted, strict=True)
        nats[row] = sum(_nats(given.part(where), mixtures[row], kinds) for where, mixtures in measured)
    if nats["memory"] is None:
        nats["memory"], seconds["memory"] = nats["cache"], seconds["cache"]
    return Evaluation(len(ids), len(text), nats, seconds, [mixtures["memory"] for mixtures in fitted])


@torch.no_grad()
def probabilities(
    model: LanguageModel, ids: Tensor, memory: Memory | None
) -> tuple[Probabilities, dict[str, float | None]]:
    """Reads the text once with every source; the seconds each row of the table needs."""
    began = time.perf_counter()
    before = torch.cat([ids.new_tensor([model.vocabulary.eos]), ids[:-1]])
    states, _ = model.network.read(before)
    alone = true_log_probabilities(model.network, states, ids).exp()
    read = time.perf_counter()
    spread = float((states - states.mean(0)).square().sum(1).mean()) + 1e-12
    betas = tuple(scale / spread for scale in SCALES)
    trust = cache_trust(torch.arange(len(ids), device=ids.device))
    cache = {
        window: trust * cache_probabilities(states, ids, betas, window) + (1 - trust) * alone for window in WINDOWS
    }
    cached = time.perf_counter()
    near = _datastore_probabilities(model, states, ids, betas, memory)
    done = time.perf_counter()
    base = read - began
    seconds: dict[str, float | None] = {"model": base, "cache": base + cached - read}
    seconds["datastore"] = None if near is None else base + done - cached
    seconds["memory"] = None if near is None else done - began
    return Probabilities(betas, alone, cache, near), seconds


def _datastore_probabilities(
    model: LanguageModel, states: Tensor, ids: Tensor, betas: tuple[float, ...], memory: Memory | None
) -> Tensor | None:
    if memory is None:
        return None
    datastore = model.datastore(memory)
    if not len(datastore):
        return None
    found, k = [], min(model.mixture.neighbours, len(datastore))
    for queries, truth in zip(states.split(4096), ids.split(4096), strict=True):
        entries, distances = datastore.search(queries.cpu().numpy(), k)
        tokens = torch.from_numpy(datastore.tokens[entries]).to(ids.device, torch.long)
        near = torch.from_numpy(distances).to(ids.device)
        found.append(neighbour_probabilities(near, tokens, truth, betas))
    return torch.cat(found, dim=1)


def fit_mixtures(given: Probabilities, start: Mixture) -> dict[str, Mixture]:
    """The mixture of each row that gives this text the highest likelihood: β and window of each
    memory by itself, then the shares of the row's sources together."""
    _, window, beta = max(
        (_shares([given.model, p])[1], window, beta)
        for window, rows in given.cache.items()
        for beta, p in zip(given.betas, rows, strict=True)
    )
    chosen = replace(start, window=window, cache_beta=beta)
    if given.datastore is not None:
        _, beta = max(
            (_shares([given.model, p])[1], beta) for beta, p in zip(given.betas, given.datastore, strict=True)
        )
        chosen = replace(chosen, datastore_beta=beta)
    sources, fitted = given.sources(chosen), {}
    for row, kinds in ROWS.items():
        there = [kind for kind in kinds if kind in sources]
        shares, _ = _shares([sources[kind] for kind in there])
        lam = {f"{kind}_lam": share for kind, share in zip(there, shares, strict=True) if kind != "model"}
        fitted[row] = replace(chosen, **lam)  # type: ignore[arg-type]
    return fitted


def _shares(sources: list[Tensor]) -> tuple[list[float], float]:
    """The best shares, and the log-likelihood they reach."""
    parts = torch.stack(sources)
    shares = fit_shares(parts)
    mixed = torch.tensor(shares, dtype=torch.double, device=parts.device) @ parts.double()
    return shares, float(mixed.clamp_min(1e-30).log().sum())


def _nats(given: Probabilities, mixture: Mixture, kinds: tuple[str, ...]) -> float:
    sources = {kind: p for kind, p in given.sources(mixture).items() if kind in kinds}
    lam = {"cache": mixture.cache_lam, "datastore": mixture.datastore_lam}
    rest = 1 - sum(lam[kind] for kind in sources if kind != "model")
    mixed = rest * sources["model"].double()
    for kind in sources:
        if kind != "model":
            mixed = mixed + lam[kind] * sources[kind].double()
    return float(-mixed.clamp_min(1e-30).log().sum())
