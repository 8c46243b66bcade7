"""Classify: a text's label, by the labelled texts of a memory that are nearest, mixed with a small trained classifier.

Knows: Memory, features of texts, the trained parts. Does not know: how anything is embedded, stored, shown.

An example is a record whose metadata has "label". Of a text x, with p_n of its n-grams (logistic regression), p_h of a
head over the encoder's states, and p_k of the nearest examples,

    p(c | x) = 0.7 softmax(log p_h + ½ log p_n) + 0.3 p_k

without p_h where there are few examples, or no encoder that reads them; where nothing is trained, what can be learned
on the spot. What is stored after training counts at once, among the nearest, and a class that is new by where its
examples lie (`nn/examples.py`). What was trained goes with the first example that had a part in it and is forgotten.
Shapes: N examples, C classes.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from extmem.errors import InvalidInput
from extmem.indexes.trained import Learned, Trained
from extmem.memory import Memory
from extmem.nn.examples import Array, nearest, newness, unit
from extmem.reading import Citation
from extmem.records.base import Record
from extmem.records.values import check_key
from extmem.tasks.learning import ENOUGH, Learning, Progress, learn
from extmem.text.encoder import DEFAULT, Encoder, encoder_named

LABEL = "label"
NEIGHBOURS = 0.3
BATCH = 4_096  # records read at once


@dataclass(frozen=True)
class Classified:
    """`label` is the most probable one; `probabilities` of all, the most probable first; `citations` the nearest
    examples and what each counts among them."""

    label: str
    probabilities: dict[str, float]
    citations: tuple[Citation, ...]


@dataclass(frozen=True)
class _Examples:
    """All examples: keys, lengths of their texts, labels, vectors (N, W); which labels were learned, the means of
    their vectors (C, W), and of each label that was not, its vectors."""

    keys: list[str]
    lengths: list[int]
    labels: list[str]
    vector_NW: Array
    mean_CW: Array
    new: dict[str, Array]


class Classifier:
    """The labels of one memory; sees what is stored and forgotten meanwhile. `encoder` is the name of an embedding
    model (`text/encoder.py`), if not given the memory's own or the default one; "" is none: n-grams alone."""

    def __init__(self, memory: Memory, encoder: str | None = None) -> None:
        """Raises InvalidInput, ModelError, ImportError for an encoder that was named and cannot be had."""
        self.memory, self.encoder = memory, _encoder(memory, encoder)
        self._seen: tuple[object, Learning, _Examples] | None = None

    def remember(self, examples: Iterable[tuple[str, str]]) -> int:
        """Stores pairs (text, label), each under a key made of its text, so that a text has one label, the last that it
        is given; how many texts. Raises InvalidInput."""
        records = {record.key: record for record in (_example(text, label) for text, label in examples)}
        self.memory.store_many(records.values())
        return len(records)

    def train(self, progress: Progress = lambda part, done, total: None) -> dict[str, int]:
        """Trains on all examples, and has the memory keep that; how many there are of each class.
        `progress(part, done, total)`. Raises InvalidInput where there are none, or of one class alone."""
        self.memory.timeline.settle()
        records = self._records(0)
        learning = _learn(records, self.encoder, progress)
        arrays, about = learning.to_arrays()
        about["with"] = self._fingerprint
        kept = Learned(arrays, about, max(record.id for record in records))
        if not self._trained.keep(LABEL, kept, {record.id for record in records}):
            raise InvalidInput("an example was forgotten while it was learned from: train again.")
        return dict(Counter(map(_label, records)))

    def classify(self, text: str) -> Classified:
        """The label of a text. Raises InvalidInput where the memory has no examples, or of one class alone."""
        return self.classify_many([text])[0]

    def classify_many(self, texts: Sequence[str]) -> list[Classified]:
        """The labels of several texts, faster than one by one. Raises as `classify`."""
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise InvalidInput(f"{text!r} is nothing to classify: give text.", text)
        if not texts:
            return []
        learning, examples = self._ready()
        said = learning.say(texts, self.encoder)
        return [_classified(learning, examples, p_C, v_W) for p_C, v_W in zip(*said, strict=True)]

    @property
    def _fingerprint(self) -> str | None:
        return None if self.encoder is None else self.encoder.fingerprint

    @property
    def _trained(self) -> Trained:
        return self.memory.derived.trained("classifier")

    def _ready(self) -> tuple[Learning, _Examples]:
        """What was learned, and all examples as they are now; kept but inside a transaction, which may be undone."""
        self.memory.timeline.settle()
        if self.memory.records.in_transaction:
            learning, late = self._learning()
            return learning, self._examples(learning, late)
        trained = self._trained.note()
        state = self.memory.records.last_id(), len(self.memory.records), trained and trained["through"]
        if self._seen is None or self._seen[0] != state:
            learning, late = self._learning()
            self._seen = state, learning, self._examples(learning, late)
        return self._seen[1:]

    def _learning(self) -> tuple[Learning, list[Record]]:
        """What was trained and is still there, and the examples that came later; where it is not, what can be learned
        on the spot."""
        kept = self._trained.load()
        if kept is not None and kept.about["with"] == self._fingerprint:
            return Learning.from_arrays(kept.arrays, kept.about), self._records(kept.through)
        records = self._records(0)
        if len(records) >= ENOUGH and self.encoder is not None:
            warnings.warn(
                "not trained, or an example was forgotten since: by n-grams alone until train().", stacklevel=5
            )
        return _learn(records, self.encoder if len(records) < ENOUGH else None), []

    def _examples(self, learning: Learning, late: Sequence[Record]) -> _Examples:
        there = self.memory.records.by_ids(learning.id_N.tolist())
        kept = [place for place, number in enumerate(learning.id_N.tolist()) if number in there]  # the others just left
        records = [there[number] for number in learning.id_N[kept].tolist()]
        labels = [learning.classes[label] for label in learning.label_N[kept].tolist()]
        vector_NW = learning.vector_NW[kept]
        if late:
            vector_NW = np.vstack([vector_NW, learning.say([str(one.value) for one in late], self.encoder).vector_NW])
            records, labels = records + list(late), labels + list(map(_label, late))
        means = [unit(learning.vector_NW[learning.label_N == n].mean(0)) for n in range(len(learning.classes))]
        named = np.array(labels)
        new = {label: vector_NW[named == label] for label in dict.fromkeys(labels) if label not in learning.classes}
        lengths = [len(str(record.value)) for record in records]
        return _Examples([record.key for record in records], lengths, labels, vector_NW, np.stack(means), new)

    def _records(self, after: int) -> list[Record]:
        """The examples with greater ids, by id."""
        found: list[Record] = []
        while batch := self.memory.records.since(after, BATCH):
            found += [one for one in batch if _is_example(one)]
            after = batch[-1].id
        return found


def _learn(
    records: Sequence[Record], encoder: Encoder | None, progress: Progress = lambda part, done, total: None
) -> Learning:
    classes = sorted(set(map(_label, records)))
    if not records:
        raise InvalidInput('no record has a label: store examples with metadata {"label": …}.')
    if len(classes) < 2:
        raise InvalidInput(f"all examples are labelled {classes[0]!r}: store some of another class.", classes[0])
    label_N = np.array([classes.index(_label(record)) for record in records])
    id_N = np.array([record.id for record in records])
    return learn([str(record.value) for record in records], label_N, classes, id_N, encoder, progress)


def _classified(learning: Learning, examples: _Examples, p_C: Array, vector_W: Array) -> Classified:
    near, weights = nearest(vector_W, examples.vector_NW)
    votes: Counter[str] = Counter()
    for number, weight in zip(near.tolist(), weights.tolist(), strict=True):
        votes[examples.labels[number]] += weight
    known = sum(votes[label] for label in learning.classes)
    share = NEIGHBOURS if known else 0.0  # where all neighbours are of new classes, they say nothing of the others
    p = {
        label: (1 - share) * own + share * votes[label] / (known or 1.0)
        for label, own in zip(learning.classes, p_C.tolist(), strict=True)
    }
    mixed_C = np.array([p[label] for label in learning.classes], np.float32)
    odds = {label: newness(vector_W, some, mixed_C, examples.mean_CW) for label, some in examples.new.items()}
    whole = 1 + sum(odds.values())
    p = {label: own / whole for label, own in p.items()} | {label: one / whole for label, one in odds.items()}
    ranked = dict(sorted(p.items(), key=lambda item: -item[1]))
    citations = [
        Citation(examples.keys[number], 0, examples.lengths[number], weight)
        for number, weight in zip(near.tolist(), weights.tolist(), strict=True)
    ]
    return Classified(next(iter(ranked)), ranked, tuple(citations))


def _example(text: str, label: str) -> Record:
    if not isinstance(text, str) or not isinstance(label, str) or not text.strip() or not label:
        raise InvalidInput(f"{(text, label)!r} is no example: give (text, label).", text)
    check_key(text + label)
    return Record(f"example/{hashlib.sha256(text.encode()).hexdigest()[:16]}", text, metadata={LABEL: label})


def _is_example(record: Record) -> bool:
    label = (record.metadata or {}).get(LABEL)
    return isinstance(record.value, str) and bool(record.value.strip()) and isinstance(label, str) and bool(label)


def _label(record: Record) -> str:
    return str((record.metadata or {})[LABEL])


def _encoder(memory: Memory, name: str | None) -> Encoder | None:
    """The encoder of this name; None for "", or where none was named and the package of the default is missing."""
    if name == "":
        return None
    try:
        return encoder_named(name or memory.derived.model() or DEFAULT)
    except ImportError:
        if name:
            raise
        return None
