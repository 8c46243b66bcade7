"""One sentence to translate: what model and memory say of each next word of its translation.

Knows: a model with an encoder, a memory. Does not know: how a translation is searched for, terms.

A stored pair is a record: its key is the sentence, its value the translation. The datastore is read as kNN-MT does
(Khandelwal et al. 2021), but only the entries of the pairs whose sentences are most like the one at hand, as the
memory's keyword index finds them (as in Meng et al. 2022); the mixture is that of `nn/mixture.py`, without caches.
Shapes: N places or hypotheses, A words before, V vocabulary, C candidate entries, K neighbours, E width of a state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from extmem.indexes.view import View
from extmem.lm.fitting import check_enough, fit_mixture
from extmem.lm.sources import Clock, Evidence, Neighbours, Said, block_evidence, neighbours_of, say, words_before
from extmem.memory import Memory
from extmem.nn.mixture import Mixture
from extmem.text.parallel import Pair

if TYPE_CHECKING:
    from extmem.lm.model import LanguageModel


class Sentence:
    """One sentence, read: what comes next in its translation, by model and memory."""

    def __init__(self, model: LanguageModel, memory: Memory | None, text: str, similar: int) -> None:
        self.model, self.memory, self.text, self.opening = model, memory, text, model.opening(text)
        self.mixture: Mixture = model.mixture_for(memory)
        self.view: View | None = None
        self.entries_C = np.empty(0, np.int64)
        if memory is not None and similar:
            self.view = model.datastore(memory).view()
            self.entries_C = self.view.of(similar_pairs(memory, text, similar))
        if self.view is not None and len(self.entries_C):
            self.keys_CE = torch.from_numpy(self.view.keys(self.entries_C)).to(model.device)

    def near(self, hidden_NE: Tensor, before_NA: Tensor) -> Neighbours | None:
        """The nearest of the candidates, None where there are none."""
        return None if (found := self._nearest(hidden_NE, before_NA)) is None else found[1]

    def said(self, hidden_NE: Tensor, before_NA: Tensor) -> Said:
        """What comes next, after these words, the last first."""
        logits_NV = self.model.network.logits(hidden_NE)
        found = self._nearest(hidden_NE, before_NA)
        if found is None:
            return Said.by_model(torch.softmax(logits_NV, dim=1))
        return say(logits_NV, *found, self.mixture, self.model.spread)

    def _nearest(self, hidden_NE: Tensor, before_NA: Tensor) -> tuple[Tensor, Neighbours] | None:
        if self.view is None or not len(self.entries_C):
            return None
        apart_NC = torch.cdist(hidden_NE, self.keys_CE, compute_mode="donot_use_mm_for_euclid_dist").square()
        near = apart_NC.topk(min(self.mixture.neighbours, len(self.entries_C)), largest=False)
        entries = self.entries_C[near.indices.cpu().numpy()]
        return torch.from_numpy(entries), neighbours_of(self.view, entries, near.values.cpu().numpy(), before_NA)


def similar_pairs(memory: Memory, text: str, count: int) -> list[int]:
    """The ids of the records that are most like a sentence by their words, the best first."""
    index = memory.derived.keyword
    index.catch_up()
    with memory.records.reading():
        found: list[int] = index.search(text).best(count)[0].tolist()
    return found


@torch.no_grad()
def read_pairs(model: LanguageModel, pairs: Iterable[Pair], memory: Memory, similar: int) -> Evidence:
    """What model and datastore say of every token of these translations, and what can be seen before it."""
    parts, features = [], []
    for source, target in pairs:
        sentence, ids = Sentence(model, memory, source, similar), model.encode(target)
        before = torch.cat([ids.new_tensor([model.vocabulary.eos]), ids[:-1]])
        hidden, _ = model.network.read(before, sentence.opening)
        near = sentence.near(hidden, words_before(ids, 0))
        logits_TV = model.network.logits(hidden)
        rows = slice(0, len(ids))
        one = block_evidence(logits_TV, hidden, ids, rows, near, sentence.mixture, model.spread, Clock())
        parts.append(one[0])
        features.append(one[1])
    return Evidence(torch.cat(parts), torch.cat(features), 0, searched=sum(map(len, parts)))


def fit_pairs(model: LanguageModel, memory: Memory, pairs: Sequence[Pair], similar: int) -> None:
    """Fits on pairs that are not in the memory how far its datastore is to be trusted; the memory keeps it. Raises
    InvalidInput for too few."""
    evidence, view = read_pairs(model, pairs, memory, similar), model.datastore(memory).view()
    check_enough(evidence.parts, f"what {len(pairs)} pairs come to")
    model.datastore(memory).keep_fit(fit_mixture(evidence, model.mixture).to_json(), view)
