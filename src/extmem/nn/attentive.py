"""AttentiveClassifier: a small trained head over what a frozen encoder makes of a text's word pieces.

Knows: states, labels as numbers. Does not know: encoders, texts, where weights are kept.

    z_t = gelu(W x_t + b),   a = softmax_t(u·z_t),   log p = log softmax(V Σ_t a_t z_t + c)

(attention pooling, Lin et al. 2017, equation 5, with one head). Trained with AdamW, dropout, and batches of texts of
like length.
Shapes: N texts, B of a batch, T word pieces, W width of a state, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu, layer_norm, nll_loss

HIDDEN, DROPOUT = 256, 0.3
EPOCHS, BATCH, RATE, DECAY = 5, 32, 1e-3, 0.01
LIKE = 20  # batches' worth of texts that are sorted by length
WARM = 0.1  # of all updates

States = Sequence[NDArray[np.float16]]


class AttentiveClassifier(nn.Module):
    """From states to the logarithms of the classes' probabilities."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.read, self.ask, self.say = nn.Linear(width, HIDDEN), nn.Linear(HIDDEN, 1), nn.Linear(HIDDEN, classes)

    def forward(self, states: Float[Tensor, "B T W"], there: Bool[Tensor, "B T"]) -> Float[Tensor, "B C"]:
        """Log-probabilities; what is not `there` is padding."""
        x = dropout(layer_norm(states, states.shape[-1:]), DROPOUT, self.training)
        z = dropout(gelu(self.read(x)), DROPOUT, self.training)
        weights = self.ask(z).masked_fill(~there[..., None], -1e4).softmax(1)
        said: Tensor = self.say(dropout((weights * z).sum(1), DROPOUT, self.training)).log_softmax(1)
        return said


def fit_attentive(
    states_N: States,
    label_N: NDArray[np.int64],
    classes: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    seed: int = 0,
) -> AttentiveClassifier:
    """A head trained on texts; `progress(done, total)` counts updates. The same seed gives the same head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        draw, head = np.random.default_rng(seed), AttentiveClassifier(states_N[0].shape[1], classes)
        lengths = np.array([len(states) for states in states_N])
        target = torch.from_numpy(label_N)
        total = EPOCHS * -(-len(states_N) // BATCH)
        optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=DECAY)
        rate = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min(1.0, (step + 1) / (WARM * total)) * max(0.01, 1 - step / total)
        )
        head.train()
        done = 0
        for _ in range(EPOCHS):
            for rows in _batches(lengths, draw):
                loss = nll_loss(head(*_padded([states_N[row] for row in rows])), target[rows])
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(head.parameters(), 1.0)
                optimizer.step()
                rate.step()
                done += 1
                progress(min(done, total), total)
    return head.eval()


def log_probabilities(head: AttentiveClassifier, states_N: States) -> NDArray[np.float32]:
    """(N, C)."""
    order = np.argsort([len(states) for states in states_N], kind="stable")
    found = np.empty((len(states_N), head.say.out_features), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            found[rows] = head(*_padded([states_N[row] for row in rows])).numpy()
    return found


def _batches(lengths: NDArray[np.int64], draw: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """The rows of batches, texts of like length together, in no order."""
    shuffled, found = draw.permutation(len(lengths)), list[NDArray[np.int64]]()
    for start in range(0, len(shuffled), BATCH * LIKE):
        some = shuffled[start : start + BATCH * LIKE]
        some = some[np.argsort(lengths[some], kind="stable")]
        found += [some[first : first + BATCH] for first in range(0, len(some), BATCH)]
    yield from (found[number] for number in draw.permutation(len(found)))


def _padded(states_B: States) -> tuple[Float[Tensor, "B T W"], Bool[Tensor, "B T"]]:
    """The states of a batch, and where they are."""
    length = torch.tensor([len(states) for states in states_B])
    padded = torch.zeros(len(states_B), int(length.max()), states_B[0].shape[1])
    for row, states in zip(padded, states_B, strict=True):
        row[: len(states)] = torch.from_numpy(states.astype(np.float32))
    return padded, torch.arange(padded.shape[1]) < length[:, None]
