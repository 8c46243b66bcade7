"""Gate: how much each source of the next word is trusted, predicted for every token.

    shares_t = softmax(W_2 tanh(W_1 z_t + b_1) + b_2),   z = (features − mean) / deviation

The λ of kNN-LM (Khandelwal et al. 2020) made a function of what is seen before the word is (He et al. 2021; a mixture
of experts, Jacobs et al. 1991): it is fitted by the likelihood of held text and costs a thousandth of the model.
Knows: features, probabilities. Does not know: what the sources are, where they read.
Shapes: T tokens, F features, S sources, H hidden units.
"""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

HIDDEN = 32
LEAST = 2_000  # tokens that shares are predicted from; on fewer they are the same for all
LEAST_DEVIATION = 1e-3  # of a feature that is seen at all
FAR = 5.0  # deviations from the mean that a feature is cut at
BATCH = 512
ROUNDS = 30  # times the text is read
RATE, DECAY, DROPOUT = 3e-3, 1e-2, 0.2
FLOOR = 1e-12  # of a probability, where its logarithm is taken


class Gate(nn.Module):
    """(T, F) features -> (T, S) shares; rows sum to 1."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: int, sources: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.W_1 = nn.Parameter((2 * torch.rand(hidden, features) - 1) / math.sqrt(max(1, features)))
        self.b_1 = nn.Parameter(torch.zeros(hidden))
        self.W_2 = nn.Parameter(torch.zeros(sources, hidden))
        self.b_2 = nn.Parameter(torch.zeros(sources))

    @classmethod
    def fixed(cls, shares: list[float]) -> Gate:
        """The gate that always gives these shares; they sum to 1."""
        gate = cls(0, len(shares), 0)
        gate.b_2.data = torch.tensor(shares).log()
        return gate.eval().requires_grad_(False)

    def forward(self, features_TF: Float[Tensor, "t f"]) -> Float[Tensor, "t s"]:
        scores = self.b_2.expand(len(features_TF), -1)
        if len(self.b_1):
            z = ((features_TF - self.mean) / self.deviation).clamp(-FAR, FAR)
            inner = torch.tanh(nn.functional.linear(z, self.W_1, self.b_1))
            scores = scores + nn.functional.dropout(inner, DROPOUT, self.training) @ self.W_2.T
        return torch.softmax(scores, dim=1)

    def to_json(self) -> dict[str, Any]:
        """Its weights, each with its shape, as text."""
        return {name: [list(tensor.shape), _text(tensor)] for name, tensor in self.state_dict().items()}

    @classmethod
    def from_json(cls, about: dict[str, Any]) -> Gate:
        """The gate that `to_json` made this of."""
        tensors = {name: _tensor(text).reshape(shape) for name, (shape, text) in about.items()}
        hidden, features = tensors["W_1"].shape
        gate = cls(features, len(tensors["b_2"]), hidden)
        gate.load_state_dict(tensors)
        return gate.eval().requires_grad_(False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Gate) and self.to_json() == other.to_json()

    __hash__ = nn.Module.__hash__


def fit_gate(features_TF: Float[Tensor, "t f"], parts_TS: Float[Tensor, "t s"], seed: int = 0) -> Gate:
    """The gate that gives a text the highest likelihood: parts_TS[t, s] is the probability that source s gave the
    token that came. It starts from the best shares that are the same for all tokens; on fewer than `LEAST` tokens it
    stays with those."""
    shares = fit_shares(parts_TS.T)
    count, features = features_TF.shape
    if count < LEAST:
        return Gate.fixed(shares)
    with torch.random.fork_rng([]), torch.enable_grad():
        torch.default_generator.manual_seed(seed)
        gate = Gate(features, len(shares))
        gate.mean.copy_(features_TF.mean(0))
        gate.deviation.copy_(features_TF.std(0).clamp_min(LEAST_DEVIATION))
        gate.W_1.data[:, features_TF.std(0) < LEAST_DEVIATION] = 0  # nothing can be learned of what never changes
        gate.b_2.data = torch.tensor(shares).log()
        optimizer = torch.optim.AdamW(gate.parameters(), lr=RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ROUNDS * math.ceil(count / BATCH))
        for _ in range(ROUNDS):
            for rows in torch.randperm(count).split(BATCH):
                shares_TS = gate(features_TF[rows])
                loss = -((shares_TS * parts_TS[rows]).sum(1) + FLOOR).log().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return gate.eval().requires_grad_(False)


def fit_shares(parts_ST: Float[Tensor, "s t"], rounds: int = 100) -> list[float]:
    """The shares (they sum to 1) that explain the text best, by expectation maximisation: parts_ST[s, t]
    is the probability that source s gave the true token t. Every source starts with one token to its
    credit (a Dirichlet prior), so that none is trusted never or always on the word of a few."""
    parts = parts_ST.double().clamp_min(1e-30)
    shares = torch.full((len(parts),), 1 / len(parts), dtype=torch.double)
    for _ in range(rounds):
        blame = shares[:, None] * parts
        shares = ((blame / blame.sum(0)).sum(1) + 1) / (parts.shape[1] + len(parts))
    return [float(share) for share in shares]


def _text(tensor: Tensor) -> str:
    return base64.b64encode(tensor.detach().cpu().numpy().astype("<f4").tobytes()).decode()


def _tensor(text: str) -> Tensor:
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32))
