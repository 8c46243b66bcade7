"""SourceReader: what makes a decoder of a network: an encoder of the source, attention over it, a second LSTM.

Knows: tensors. Does not know: words, losses, memories.

The source is read by LSTMs in both directions. The decoder's lower LSTM asks, without waiting for any answer: so a
whole sentence is attended in one product, and both LSTMs run over whole sequences. The upper one reads what was asked
and what was found (as in Wu et al. 2016, without input feeding), and the state is of Luong et al. 2015, eq. 5:

    a_t = softmax_s(h_t W k_s / √H),  c_t = Σ_s a_ts v_s,  u_t = LSTM([h_t; c_t]),  state_t = tanh(W_o [u_t; c_t])

Shapes: B batch, S source tokens, T target tokens, E width of a word, H units, L layers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from extmem.nn.lstm import GatedLSTM, State, variational_dropout
from extmem.nn.memory_cell import Gates


class Source(NamedTuple):
    """A source that was read: what is attended to, (B, S, H), and by what it is asked for, (B, S, H)."""

    values: Tensor
    keys: Tensor


class SourceReader(nn.Module):
    """Reads sources once (`encode`), then gives every state of a decoder what it attends to (`forward`).

    Args:
        width, units: E and H; H is even, half of it for each direction. layers: of the encoder. gates, dropout and
        recurrent_dropout are GatedLSTM's.
    """

    def __init__(
        self, width: int, units: int, layers: int, gates: Gates, dropout: float, recurrent_dropout: float
    ) -> None:
        super().__init__()
        self.dropout = dropout
        widths = [width] + [units] * (layers - 1)
        self.forwards, self.backwards = (
            nn.ModuleList(
                GatedLSTM(one, units // 2, gates=gates, recurrent_dropout=recurrent_dropout) for one in widths
            )
            for _ in range(2)
        )
        self.key = nn.Linear(units, units, bias=False)
        self.upper = GatedLSTM(2 * units, units, gates=gates, recurrent_dropout=recurrent_dropout)
        self.begin = nn.Linear(units, 2 * units)
        self.out = nn.Linear(2 * units, units)

    def encode(self, words_BSE: Float[Tensor, "b s e"]) -> tuple[Source, State, State]:
        """The sources, all of one length, and the states that the lower and the upper LSTM begin with."""
        hidden = words_BSE
        for number, (onwards, back) in enumerate(zip(self.forwards, self.backwards, strict=True)):
            if number:
                hidden = variational_dropout(hidden, self.dropout, self.training)
            hidden = torch.cat([onwards(hidden)[0], back(hidden.flip(1))[0].flip(1)], dim=2)
        hidden = variational_dropout(hidden, self.dropout, self.training)
        begin = torch.tanh(self.begin(hidden.mean(1)))[None]
        lower, upper = ((half.contiguous(), torch.zeros_like(half)) for half in begin.chunk(2, dim=2))
        return Source(hidden, self.key(hidden)), lower, upper

    def forward(
        self, hidden_BTH: Float[Tensor, "b t h"], source: Source, state: State
    ) -> tuple[Float[Tensor, "b t h"], State, Float[Tensor, "b t s"]]:
        """The states that predict, the upper LSTM's state to go on from, and how much of each source token every place
        attended to; its rows sum to 1."""
        hidden = variational_dropout(hidden_BTH, self.dropout, self.training)
        attended = torch.softmax(hidden @ source.keys.transpose(1, 2) / math.sqrt(hidden.shape[2]), dim=2)
        found = attended @ source.values
        upper, state = self.upper(torch.cat([hidden, found], dim=2), state)
        upper = variational_dropout(upper, self.dropout, self.training)
        return torch.tanh(self.out(torch.cat([upper, found], dim=2))), state, attended
