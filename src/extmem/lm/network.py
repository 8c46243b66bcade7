"""The network: embedding -> GatedLSTM -> (projection to the embedding's width) -> ExternalMemoryLayer -> softmax.

Knows: token numbers and tensors. Does not know: words, files, datastores.

With an encoder it is a translator: the state that it begins with holds the source, which it attends to (`nn/source.py`)
between LSTM and projection. All else is the same.
Shapes: B batch, T time, S source tokens, E embedding and output width, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from extmem.errors import InvalidInput
from extmem.nn.lstm import GatedLSTM, State, variational_dropout
from extmem.nn.memory_cell import Gates
from extmem.nn.memory_layer import ExternalMemoryLayer, MemoryState
from extmem.nn.source import Source, SourceReader


@dataclass(frozen=True)
class ModelConfig:
    """The sizes of a model. `slots` and `capacity` are ExternalMemoryLayer's; memory_layer=False leaves the layer out.
    `encoder` is how many layers read a source; 0 for a model that has none.

    `dropout` is of features, the same at every step: of the words' vectors, between layers, of the states;
    `word_dropout` of whole words (Gal & Ghahramani 2016); `recurrent_dropout` of the LSTM's weights from step to step
    (Merity et al. 2018)."""

    vocabulary: int = 10_000
    embedding: int = 128
    units: int = 128
    layers: int = 1
    gates: Gates = "cell"
    memory_layer: bool = True
    slots: int = 32
    capacity: int = 100
    dropout: float = 0.25
    word_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    encoder: int = 0

    def __post_init__(self) -> None:
        for name in ("vocabulary", "embedding", "units", "layers"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} is {getattr(self, name)}: give at least 1.", name)
        for name in ("slots", "capacity", "encoder"):
            if getattr(self, name) < 0:
                raise InvalidInput(f"{name} is {getattr(self, name)}: give at least 0.", name)
        if self.encoder and self.units % 2:
            raise InvalidInput(f"units is {self.units}: give an even number, half for each direction.", "units")
        if self.gates not in ("cell", "input"):
            raise InvalidInput(f"gates is {self.gates!r}: give 'cell' or 'input'.", "gates")
        for name in ("dropout", "word_dropout", "recurrent_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InvalidInput(
                    f"{name} is {getattr(self, name)}: give a rate from 0 up to, not including, 1.", name
                )


class NetworkState(NamedTuple):
    """What is carried from one segment of a text to the next; of a translation, what it is of as well, and how
    much of each source token every place attended to (B, T, S)."""

    lstm: State | None = None
    memory: MemoryState | None = None
    source: Source | None = None
    upper: State | None = None
    attended: Tensor | None = None

    def rows(self, row_N: Int[Tensor, "n"]) -> NetworkState:
        """The state of these of the texts that were read side by side."""
        lstm, upper = (None if one is None else (one[0][:, row_N], one[1][:, row_N]) for one in (self.lstm, self.upper))
        memory = None if self.memory is None else MemoryState(self.memory.keys[row_N], self.memory.values[row_N])
        source = None if self.source is None else Source(*(one[row_N] for one in self.source))
        return NetworkState(lstm, memory, source, upper, None if self.attended is None else self.attended[row_N])

    def detach(self) -> NetworkState:
        """The same values, cut from the graph that made them (truncated back-propagation)."""
        lstm = None if self.lstm is None else (self.lstm[0].detach(), self.lstm[1].detach())
        return self._replace(lstm=lstm, memory=None if self.memory is None else self.memory.detach())


class Network(nn.Module):
    """(batch, time) token numbers -> (batch, time, embedding) states; the output weights are the
    embedding's (Press & Wolf 2017), so p(w) = softmax(state · embedding^T + bias), and as inputs they
    are scaled by √embedding (Vaswani et al. 2017, 3.4)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config, self.scale = config, math.sqrt(config.embedding)
        self.embedding = nn.Embedding(config.vocabulary, config.embedding)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))
        self.lstm = GatedLSTM(
            config.embedding, config.units, config.layers, config.gates, config.dropout, config.recurrent_dropout
        )
        self.reader = (
            SourceReader(
                config.embedding, config.units, config.encoder, config.gates, config.dropout, config.recurrent_dropout
            )
            if config.encoder
            else None
        )
        self.project = nn.Linear(config.units, config.embedding) if config.units != config.embedding else nn.Identity()
        width = config.embedding
        self.memory = ExternalMemoryLayer(width, config.slots, config.capacity) if config.memory_layer else None

    def forward(
        self, token_BT: Int[Tensor, "b t"], state: NetworkState | None = None
    ) -> tuple[Float[Tensor, "b t e"], NetworkState]:
        """The states that predict what follows each token, and the state to go on from."""
        state = NetworkState() if state is None else state
        hidden, lstm = self.lstm(self._words(token_BT), state.lstm)
        upper, memory, attended = state.upper, state.memory, None
        if self.reader is not None:
            if state.source is None or upper is None:
                raise InvalidInput("this model is a translator, it writes of a source alone: use extmem translate.")
            hidden, upper, attended = self.reader(hidden, state.source, upper)
        hidden = self.project(hidden)
        if self.memory is not None:
            hidden, memory = self.memory(hidden, memory)
        hidden = variational_dropout(hidden, self.config.dropout, self.training)
        return hidden, NetworkState(lstm, memory, state.source, upper, attended)

    def opening(self, source_BS: Int[Tensor, "b s"]) -> NetworkState:
        """The state that translations of these sources, all of one length, begin with."""
        assert self.reader is not None
        source, lower, upper = self.reader.encode(self._words(source_BS))
        layers = self.config.layers
        lower = (lower[0].repeat(layers, 1, 1), lower[1].repeat(layers, 1, 1))
        return NetworkState(lower, None, source, upper)

    def _words(self, token_BT: Int[Tensor, "b t"]) -> Float[Tensor, "b t e"]:
        words = self.embedding(token_BT) * self.scale
        if self.training and self.config.word_dropout:
            words = words * self._kept()[token_BT]
        return variational_dropout(words, self.config.dropout, self.training)

    def _kept(self) -> Float[Tensor, "v 1"]:
        """0 for the words that are left out this time, wherever they stand."""
        kept = 1.0 - self.config.word_dropout
        return self.bias.new_empty(len(self.bias), 1).bernoulli_(kept) / kept

    def logits(self, hidden_NE: Float[Tensor, "n e"]) -> Float[Tensor, "n v"]:
        """What p(w | state) is the softmax of."""
        return nn.functional.linear(hidden_NE, self.embedding.weight, self.bias)

    def log_probabilities(self, hidden_NE: Float[Tensor, "n e"]) -> Float[Tensor, "n v"]:
        """log p(w | state) of every word."""
        return torch.log_softmax(self.logits(hidden_NE), dim=1)

    @torch.no_grad()
    def read(
        self, token_T: Int[Tensor, "t"], state: NetworkState | None = None, segment: int = 512
    ) -> tuple[Float[Tensor, "t e"], NetworkState]:
        """Reads one text without learning: its states and where it stands at the end."""
        self.eval()
        parts = []
        for start in range(0, len(token_T), segment):
            hidden, state = self(token_T[None, start : start + segment], state)
            parts.append(hidden[0])
        empty = self.bias.new_empty(0, self.config.embedding)
        return torch.cat(parts) if parts else empty, state or NetworkState()
