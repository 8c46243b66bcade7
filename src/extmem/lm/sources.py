"""What every source says of the words of a text, and what can be seen before each of them.

Knows: a model, a view of a datastore, a mixture's readings. Does not know: how they are weighed, files.
Shapes: T tokens of a text, S sources (model, caches, readings of the datastore), F features, K neighbours, V words.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from extmem.indexes.view import View
from extmem.lm.following import read_along
from extmem.nn.mixture import AGREEING, LOOKS, Mixture, Read, cache_reads, datastore_reads, two_best

if TYPE_CHECKING:
    from extmem.lm.model import LanguageModel

BLOCK = 256  # tokens whose distributions are held at once
SEARCHED = 4096  # tokens whose neighbours are searched together
MODEL_LOOKS, NEAR_LOOKS = 3, 3 + AGREEING


@dataclass(frozen=True)
class Evidence:
    """`parts` (T, S): the probability that each source gave the token that came, the model's first, then each cache's
    and each reading's of the datastore. `features` (T, F): what could be seen before. `caches` of the sources are
    caches. `seconds` is what model, caches and datastore took; `searched` says for how many tokens the datastore was
    searched, None where there is none."""

    parts: Tensor
    features: Tensor
    caches: int
    seconds: tuple[float, ...] = (0.0, 0.0, 0.0)
    searched: int | None = None

    def part(self, where: slice) -> Evidence:
        """The same for some of the tokens."""
        return replace(self, parts=self.parts[where], features=self.features[where])

    def only(self, cache: bool, datastore: bool) -> Evidence:
        """The same without caches, or without the datastore: they say what the model says, and are not seen."""
        parts, features = self.parts.clone(), self.features.clone()
        first = 1 + self.caches
        seen = MODEL_LOOKS + self.caches * (LOOKS + 1)
        if not cache:
            parts[:, 1:first] = parts[:, :1]
            features[:, MODEL_LOOKS:seen] = 0
        if not datastore:
            parts[:, first:] = parts[:, :1]
            features[:, seen:] = 0
        return replace(self, parts=parts, features=features)


Readings = tuple[Sequence[Read], Tensor]  # and what can be seen beside them


def model_looks(logits_TV: Tensor, p_TV: Tensor) -> tuple[Tensor, Tensor]:
    """What can be seen of the model's distributions p = softmax(logits): their entropies, and the logarithms of the two
    highest probabilities, (T, 3); and the likeliest words, (T,)."""
    best, top_T = two_best(p_TV)
    log_sum = logits_TV.gather(1, top_T[:, None]) - best[:, :1].log()
    entropy = log_sum - (p_TV * logits_TV).sum(1, keepdim=True)
    return torch.cat([entropy, best.clamp_min(1e-9).log()], dim=1), top_T


def features_of(logits_TV: Tensor, p_TV: Tensor, caches: Readings, near: Readings | None, readings: int) -> Tensor:
    """All that can be seen before each token, (T, F): of the model's distributions p = softmax(logits); of each cache
    and how far its nearest state is; of each reading of the datastore and of its neighbours (zeros without one). On
    the CPU, where the gates are. Not the state: it would be learned by heart (docs/results.md)."""
    seen, top_T = model_looks(logits_TV, p_TV)
    columns = [seen, *(read.looks(p_TV, top_T) for read in caches[0]), caches[1]]
    if near is None:
        columns.append(seen.new_zeros(len(seen), readings * LOOKS + NEAR_LOOKS))
    else:
        columns += [*(read.looks(p_TV, top_T) for read in near[0]), near[1]]
    return torch.cat(columns, dim=1).cpu()


@dataclass(frozen=True)
class Neighbours:
    """The nearest entries of each query, (T, K): distances (inf: none), words, and how many words before agree."""

    distances: Tensor
    tokens: Tensor
    agreeing: Tensor

    def part(self, where: slice) -> Neighbours:
        """The same for some of the queries."""
        return Neighbours(self.distances[where], self.tokens[where], self.agreeing[where])


def neighbours_of(view: View, entries: np.ndarray, distances: np.ndarray, before_TC: Tensor) -> Neighbours:
    """What these entries (T, K) say; before_TC are the words before each query, the last first."""
    tokens = torch.from_numpy(view.tokens(entries.clip(0)))
    agreeing = torch.from_numpy(view.agreeing(entries, before_TC.cpu().numpy()))
    return Neighbours(*(part.to(before_TC.device) for part in (torch.from_numpy(distances), tokens, agreeing)))


def words_before(ids_N: Tensor, start: int) -> Tensor:
    """The `AGREEING` words before each place from `start` on, the last first, -1 where the text has none, (T, C)."""
    padded = torch.cat([ids_N.new_full((AGREEING,), -1), ids_N])
    return torch.stack([padded[start + AGREEING - back : len(padded) - back] for back in range(1, AGREEING + 1)], dim=1)


class Said(NamedTuple):
    """What is known of the next token at N places, without caches: the mixed distributions (N, V), λ of each source
    (N, S), and the neighbours (N, K), each with the weight that it gives its token."""

    p_NV: Tensor
    shares_NS: Tensor
    entries_NK: Tensor
    tokens_NK: Tensor
    weights_NK: Tensor

    @classmethod
    def by_model(cls, p_NV: Tensor) -> Said:
        """Where there is nothing else to read."""
        none = p_NV.new_empty(len(p_NV), 0)
        return cls(p_NV, p_NV.new_ones(len(p_NV), 1), none.long(), none.long(), none)


def say(logits_NV: Tensor, entries_NK: Tensor, near: Neighbours, mixture: Mixture, spread: float) -> Said:
    """Mixes the model's distributions, softmax(logits), with what these neighbours give. The mixture has no caches."""
    p_NV = torch.softmax(logits_NV, dim=1)
    read = datastore_reads(near.distances, near.tokens, near.agreeing, mixture.readings, spread)
    features = torch.empty(len(p_NV), 0)  # fixed shares go by nothing that is seen
    if "datastore" in mixture.gates:
        features = features_of(logits_NV, p_NV, ([], p_NV.new_empty(len(p_NV), 0)), read, len(mixture.readings))
    shares_NS = mixture.shares(features, "datastore").to(p_NV.device)
    given = torch.stack([one.weights for one in read[0]], dim=1)  # (N, S - 1, K)
    weights_NK = torch.einsum("ns,nsk->nk", shares_NS[:, 1:], given)
    p_NV.mul_(1 - weights_NK.sum(1, keepdim=True)).scatter_add_(1, near.tokens, weights_NK)
    return Said(p_NV, shares_NS, entries_NK, near.tokens, weights_NK)


@torch.no_grad()
def read_text(
    model: LanguageModel,
    ids: Tensor,
    view: View | None,
    mixture: Mixture,
    follow: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evidence:
    """Reads a text once, with every source. With `follow`, the datastore is searched only where fewer entries than
    that can be followed (`lm/following.py`). `progress` is told how many tokens were read, and of how many."""
    clock = Clock()
    before = torch.cat([ids.new_tensor([model.vocabulary.eos]), ids[:-1]])
    states, _ = model.network.read(before)
    clock.lap(0)
    if view is not None and not len(view):
        view = None
    parts, features, searched = [], [], 0
    for at in range(0, len(ids), SEARCHED):
        stop, near = min(at + SEARCHED, len(ids)), None
        if view is not None:
            found = _search(view, states[at:stop], ids[at:stop], mixture.neighbours, follow)
            near = neighbours_of(view, *found[:2], words_before(ids[:stop], at))
            searched += found[2]
            clock.lap(2)
        for start in range(at, stop, BLOCK):
            rows = slice(start, min(start + BLOCK, stop))
            given = None if near is None else near.part(slice(rows.start - at, rows.stop - at))
            logits_TV = model.network.logits(states[rows])
            one = block_evidence(logits_TV, states, ids, rows, given, mixture, model.spread, clock)
            parts.append(one[0])
            features.append(one[1])
            progress(rows.stop, len(ids))
    return Evidence(
        torch.cat(parts),
        torch.cat(features),
        len(mixture.caches),
        (*clock.seconds,),
        None if view is None else searched,
    )


def block_evidence(
    logits_TV: Tensor,
    states: Tensor,
    ids: Tensor,
    rows: slice,
    near: Neighbours | None,
    mixture: Mixture,
    spread: float,
    clock: Clock,
) -> tuple[Tensor, Tensor]:
    """Parts and features of the tokens in `rows`, for which the model's distributions are softmax(logits)."""
    truth = ids[rows]
    p_TV = torch.softmax(logits_TV, dim=1)
    alone = p_TV.gather(1, truth[:, None])[:, 0]
    clock.lap(0)
    caches = cache_reads(states[: rows.stop], ids[: rows.stop], rows.start, mixture.caches, spread)
    parts = [alone, *(read.of(truth, alone) for read in caches[0])]
    clock.lap(1)
    read = None
    if near is None:
        parts += [alone] * len(mixture.readings)
    else:
        read = datastore_reads(near.distances, near.tokens, near.agreeing, mixture.readings, spread)
        parts += [one.of(truth, alone) for one in read[0]]
        clock.lap(2)
    features = features_of(logits_TV, p_TV, caches, read, len(mixture.readings))
    clock.lap(1 if read is None else 2)  # nearly all of them are looks at what the memories read
    return torch.stack(parts, dim=1).cpu(), features


def _search(view: View, states: Tensor, truth: Tensor, k: int, follow: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Entries and distances (T, K), and for how many tokens it searched."""
    queries, k = states.cpu().numpy(), min(k, len(view))
    if follow:
        return read_along(view, queries, truth.cpu().numpy(), k, follow)
    return *view.search(queries, k), len(queries)


class Clock:
    """Seconds that model, caches and datastore took, lap by lap."""

    def __init__(self) -> None:
        self.seconds, self._last = [0.0, 0.0, 0.0], time.perf_counter()

    def lap(self, kind: int) -> None:
        now = time.perf_counter()
        self.seconds[kind] += now - self._last
        self._last = now
