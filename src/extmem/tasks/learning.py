"""Learning: what is learned of labelled texts, as arrays that can be kept, and what it says of others.

Knows: n-grams, an encoder's states, the trained parts. Does not know: memories, records; PyTorch, unless there is a
head over states.
Shapes: N examples or texts, C classes, F n-grams, W width of a vector.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from extmem.nn.examples import WIDTH, Array, Space
from extmem.text.encoder import Encoder
from extmem.text.ngrams import Ngrams

if TYPE_CHECKING:
    from extmem.nn.attentive import AttentiveClassifier

ENOUGH = 1_000  # examples to train a head on
MOST = 64  # word pieces of a text whose states are looked at
TOGETHER = 256  # texts whose states are made at once
STRENGTH = 10.0  # C of the logistic regression
SHARE = 0.5  # of the logarithm of what n-grams say, beside a head's

Progress = Callable[[str, int, int], None]
States = list[NDArray[np.float16]]


class Said(NamedTuple):
    """Of texts, what the trained parts say, p (N, C), and where they lie among the examples, (N, W)."""

    p_NC: Array
    vector_NW: Array


@dataclass(frozen=True)
class Learning:
    """`classes` in order; the n-grams and their logistic regression (F, C), (C,); from what vectors are made, the
    encoder's states where it reads the examples, else n-grams through `down` (F, W), and the space they are placed in;
    a head over states, if there are enough examples; of every example its vector (N, W), label (N,) and id (N,)."""

    classes: list[str]
    ngrams: Ngrams
    weight_FC: Array
    bias_C: Array
    space: Space
    down_FW: Array | None
    head: AttentiveClassifier | None
    vector_NW: Array
    label_N: NDArray[np.int64]
    id_N: NDArray[np.int64]
    encoder: str | None  # its fingerprint; None where its states are not used

    def say(self, texts: Sequence[str], encoder: Encoder | None) -> Said:
        """What it says of texts. The encoder is the one that it was learned with."""
        grams = self.ngrams.of(texts)
        log_NC: Array = log_softmax(grams @ self.weight_FC + self.bias_C, axis=1)
        if self.down_FW is not None:
            return Said(np.exp(log_NC), self.space.of(grams @ self.down_FW))
        assert encoder is not None
        states = _states(encoder, texts)
        if self.head is not None:
            from extmem.nn.attentive import log_probabilities

            log_NC = log_softmax(log_probabilities(self.head, states) + SHARE * log_NC, axis=1)
        return Said(np.exp(log_NC), self.space.of(_pooled(states)))

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays by name, and plain values."""
        space = {name: getattr(self.space, name) for name in ("shift", "scale", "turn", "centre")}
        arrays = {
            "kept": self.ngrams.kept, "idf": self.ngrams.idf, "weight": self.weight_FC, "bias": self.bias_C,
            "vectors": self.vector_NW.astype(np.float16), "labels": self.label_N, "ids": self.id_N, **space,
        }  # fmt: skip
        if self.down_FW is not None:
            arrays["down"] = self.down_FW
        if self.head is not None:
            arrays |= {f"head.{name}": tensor.numpy() for name, tensor in self.head.state_dict().items()}
        return arrays, {"classes": self.classes, "encoder": self.encoder}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], about: dict[str, Any]) -> Learning:
        """What `to_arrays` gave."""
        head = None
        named = {name.removeprefix("head."): a for name, a in arrays.items() if name.startswith("head.")}
        if named:
            import torch

            from extmem.nn.attentive import AttentiveClassifier

            head = AttentiveClassifier(named["read.weight"].shape[1], len(about["classes"])).eval()
            head.load_state_dict({name: torch.from_numpy(array) for name, array in named.items()})
        return cls(
            about["classes"], Ngrams(arrays["kept"], arrays["idf"]), arrays["weight"], arrays["bias"],
            Space(*(arrays[name] for name in ("shift", "scale", "turn", "centre"))), arrays.get("down"), head,
            arrays["vectors"].astype(np.float32), arrays["labels"], arrays["ids"], about["encoder"],
        )  # fmt: skip


def learn(
    texts: Sequence[str],
    label_N: NDArray[np.int64],
    classes: list[str],
    id_N: NDArray[np.int64],
    encoder: Encoder | None,
    progress: Progress = lambda part, done, total: None,
) -> Learning:
    """Learns from texts, at least one of every class, of at least two; `progress(part, done, total)`. Without an
    encoder, or where it does not read most of them or does not show its states, from n-grams alone."""
    progress("counting n-grams", 0, 1)
    ngrams = Ngrams.count(texts)
    grams = ngrams.of(texts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nearly there is near enough
        linear = LogisticRegression(C=STRENGTH, max_iter=300, tol=1e-3).fit(grams, label_N)
    weight, bias = linear.coef_.T.astype(np.float32), linear.intercept_.astype(np.float32)
    if len(classes) == 2:  # it gives the second class alone
        weight, bias = np.hstack([np.zeros_like(weight), weight]), np.append(np.float32(0), bias)
    states = None if encoder is None or not _reads(encoder, texts) else _states(encoder, texts, progress)
    down, head = None, None
    if states is None:
        width = max(1, min(WIDTH, len(texts) - 1, grams.shape[1] - 1))
        with np.errstate(divide="ignore", invalid="ignore"):  # its share of a variance that may be 0, which none asks
            down = TruncatedSVD(width, n_iter=2, random_state=0).fit(grams).components_.T.astype(np.float32)
        raw: Array = grams @ down
    else:
        raw = _pooled(states)
        if len(texts) >= ENOUGH:
            from extmem.nn.attentive import fit_attentive

            head = fit_attentive(states, label_N, len(classes), lambda done, total: progress("training", done, total))
    space = Space.fit(raw, label_N, standardise=states is not None)
    used = None if encoder is None or states is None else encoder.fingerprint
    return Learning(classes, ngrams, weight, bias, space, down, head, space.of(raw), label_N, id_N, used)


def _reads(encoder: Encoder, texts: Sequence[str]) -> bool:
    """Whether the encoder reads most of the texts, and shows its states."""
    some = texts[:: max(1, len(texts) // 100)]
    return 2 * sum(map(encoder.reads, some)) > len(some) and encoder.states(some[:1], MOST) is not None


def _states(encoder: Encoder, texts: Sequence[str], progress: Progress = lambda part, done, total: None) -> States:
    found: States = []
    for start in range(0, len(texts), TOGETHER):
        progress("reading", start, len(texts))
        some = encoder.states(texts[start : start + TOGETHER], MOST)
        assert some is not None, "an encoder that shows its states shows them of every text"
        found += some
    return found


def _pooled(states: States) -> Array:
    """(N, 3 W): of a text's states the mean, the first, and the second: that of its first word."""
    rows = [np.concatenate([one.astype(np.float32).mean(0), one[0], one[min(1, len(one) - 1)]]) for one in states]
    return np.stack(rows).astype(np.float32)
