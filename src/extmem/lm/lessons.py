"""Lessons: what a network learns from, a step at a time: one long text, or pairs of sentences.

Knows: token numbers, how a network reads them. Does not know: losses, optimisers, words.

A lesson is what one step is taken on: the states that predict, and the tokens that came.
Shapes: B streams or sentences side by side, T time, S source tokens, N tokens, E width of a state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from extmem.errors import CorpusError
from extmem.lm.network import Network, NetworkState

if TYPE_CHECKING:
    from extmem.lm.train import TrainConfig

Lesson = tuple[Tensor, Tensor]  # (N, E) states, (N,) tokens
MEASURED = 64  # sentences that are measured together


class Stream:
    """One long text, cut into `batch` streams that are read side by side; the state is carried from segment to segment,
    and cut from the graph in between."""

    def __init__(self, token_N: Tensor) -> None:
        self.token_N = token_N

    def sizes(self, config: TrainConfig) -> tuple[int, int]:
        """How many tokens an epoch predicts, and in how many steps. Raises CorpusError for a text too short."""
        batch, steps = self._shape(config)
        if steps < 1:
            raise CorpusError(f"the corpus has {len(self.token_N)} tokens: give at least a few hundred.")
        return batch * steps, math.ceil(steps / config.sequence_length)

    def lessons(self, network: Network, config: TrainConfig, epoch: int) -> Iterator[Lesson]:
        """The text in reading order; the first segment is of another length in every epoch, so that the cuts fall
        elsewhere each time."""
        batch, steps = self._shape(config)
        inputs = self.token_N[: batch * steps].view(batch, steps)
        targets = self.token_N[1 : batch * steps + 1].view(batch, steps)
        length, state = config.sequence_length, NetworkState()
        start, stop = 0, length - (epoch * 37) % max(1, length // 2)
        while start < steps:
            hidden, state = network(inputs[:, start:stop], state.detach())
            yield hidden.flatten(0, 1), targets[:, start:stop].flatten()
            start, stop = stop, stop + length

    def read(self, network: Network) -> Iterator[Lesson]:
        """The text in one stream, to be measured."""
        hidden, _ = network.read(self.token_N[:-1])
        yield hidden, self.token_N[1:]

    def part(self, count: int) -> Stream:
        """The first so many tokens."""
        return Stream(self.token_N[:count])

    def content(self) -> list[list[int]]:
        """All that makes it another text."""
        return [self.token_N.tolist()]

    def _shape(self, config: TrainConfig) -> tuple[int, int]:
        batch = min(config.batch, max(1, len(self.token_N) // (2 * config.sequence_length)))
        return batch, (len(self.token_N) - 1) // batch


@dataclass(frozen=True)
class Pairs:
    """Sentences and their translations, as token numbers; each ends with `eos`. `batch` of them are read side by side,
    whose sources are of one length, so that nothing is padded that is read in both directions."""

    sources: Sequence[Sequence[int]]
    targets: Sequence[Sequence[int]]
    eos: int
    device: torch.device

    def sizes(self, config: TrainConfig) -> tuple[int, int]:
        """How many tokens an epoch predicts, and in how many steps. Raises CorpusError for no pairs."""
        if not self.sources:
            raise CorpusError("there are no pairs of sentences to learn from.")
        return sum(map(len, self.targets)), len(self._batches(config.batch, torch.arange(len(self.sources))))

    def lessons(self, network: Network, config: TrainConfig, epoch: int) -> Iterator[Lesson]:
        """The pairs, in an order of torch's choice."""
        batches = self._batches(config.batch, torch.randperm(len(self.sources)))
        for number in torch.randperm(len(batches)).tolist():
            yield self._lesson(network, batches[number])

    def read(self, network: Network) -> Iterator[Lesson]:
        """The pairs, to be measured."""
        network.eval()
        with torch.no_grad():
            for batch in self._batches(MEASURED, torch.arange(len(self.sources))):
                yield self._lesson(network, batch)

    def part(self, count: int) -> Pairs:
        """The first pairs, until there are so many tokens."""
        ends = np.cumsum([len(target) for target in self.targets])
        most = int(np.searchsorted(ends, count)) + 1
        return replace(self, sources=self.sources[:most], targets=self.targets[:most])

    def content(self) -> list[Sequence[Sequence[int]]]:
        """All that makes them other pairs."""
        return [self.sources, self.targets]

    def _batches(self, size: int, order: Tensor) -> list[list[int]]:
        by_length: dict[int, list[int]] = {}
        for number in order.tolist():
            by_length.setdefault(len(self.sources[number]), []).append(number)
        return [some[at : at + size] for some in by_length.values() for at in range(0, len(some), size)]

    def _lesson(self, network: Network, batch: Sequence[int]) -> Lesson:
        source_BS = torch.tensor([self.sources[number] for number in batch], device=self.device)
        longest = max(len(self.targets[number]) for number in batch)
        target_BT = torch.tensor(
            [[*self.targets[number], *[-1] * (longest - len(self.targets[number]))] for number in batch],
            device=self.device,
        )
        begin_B1 = target_BT.new_full((len(batch), 1), self.eos)
        hidden, _ = network(torch.cat([begin_B1, target_BT[:, :-1].clamp_min(0)], dim=1), network.opening(source_BS))
        there = target_BT >= 0
        return hidden[there], target_BT[there]


Text = Stream | Pairs
