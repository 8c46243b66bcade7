"""Memorizing with a model of Hugging Face's: documents become records, and their tokens entries of its datastore.

Knows: tokenizers, how a long text is read in windows, how a mixture is fitted. Does not know: how a memory is attached.

A text is read alone, so that memorizing others never changes its entries; windows overlap by half, so that a token is
seen with at least so much of what comes before it. A model that writes a second text for a first one (T5, Marian)
memorizes pairs {source: target}: the source is the record's key and the target its value (kNN-MT, Khandelwal et al.
2021). Spread and quantiser of a model's states are learned from what it writes by itself, never from what is memorized.
Shapes: T tokens of a text, D width of a state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extmem.adapters.huggingface.attaching import DEFAULT, Opened, attachment_of, datastore_in, spread_of
from extmem.adapters.huggingface.drawn import drawn_states
from extmem.adapters.huggingface.hosted import Hosted, model_within, tokenizer_fingerprint
from extmem.errors import InvalidInput
from extmem.indexes.datastore import Datastore, Entries
from extmem.indexes.quantizer import Quantizer
from extmem.lm.fitting import check_enough, fit_mixture
from extmem.lm.memorize import Memorized
from extmem.lm.memorize import memorize as memorize_documents
from extmem.lm.sources import Clock, Evidence, block_evidence
from extmem.memory import Memory
from extmem.nn.mixture import spread_of as measured_spread
from extmem.text.documents import Source, documents_of

SPREAD = 32, 32  # texts, and tokens of each, that the spread of the states is measured on,
CODES = 64, 256  # and those that a quantiser is learned from

Array = NDArray[Any]


def memorize(
    model: Any,
    tokenizer: Any,
    memory: Memory,
    source: Source,
    *,
    preset: str | None = None,
    key: str | None = None,
    progress: Callable[[int, str], None] = lambda entries, key: None,
) -> Memorized:
    """Stores documents (a file, a folder, several of them, {key: text} or Documents) as records, and one entry per
    token; no training. Documents that are there already, unchanged, are passed over. A model with an encoder takes
    {source: target} alone. `preset` is "accurate" if not given, or "compact"; `key` as in `attach`, which an attached
    model goes by. Raises InvalidInput, CorpusError, ModelError, WrongModel."""
    reader = Reader(_hosted(model, key), tokenizer, memory)
    if reader.hosted.pairs and not isinstance(source, Mapping):
        raise InvalidInput("this model has an encoder: give it pairs, {source: target}.")
    found = memorize_documents(memory, reader.datastore, documents_of(source), reader.entries, progress, preset)
    if hasattr(reader.hosted.model, "_extmem"):
        attachment_of(reader.hosted.model).tokenizer = tokenizer
    return found


@torch.no_grad()
def fit(model: Any, tokenizer: Any, memory: Memory, held: Source, *, key: str | None = None) -> None:
    """Fits on held documents, which are not in the memory, how far it is to be trusted where; the memory keeps that
    until a record is forgotten that was there. Raises InvalidInput for too little, or where nothing is memorized."""
    reader = Reader(_hosted(model, key), tokenizer, memory)
    if reader.hosted.pairs and not isinstance(held, Mapping):
        raise InvalidInput("this model has an encoder: give it pairs, {source: target}.")
    view = reader.datastore.view()
    if not len(view):
        raise InvalidInput("nothing is memorized yet: memorize first, then fit.")
    opened = Opened(view, DEFAULT, spread_of(reader.datastore))
    parts, features = list[Tensor](), list[Tensor]()
    for document in documents_of(held):
        for logits, states, truth in reader.read(document.text, document.key):
            rows, near = slice(0, len(truth)), opened.near(states)[1]
            one = block_evidence(logits.float(), states, truth, rows, near, DEFAULT, opened.spread, Clock())
            parts.append(one[0])
            features.append(one[1])
    if not parts:
        raise InvalidInput("there are no words to fit on: give a text with some.")
    evidence = Evidence(torch.cat(parts), torch.cat(features), 0, searched=sum(map(len, parts)))
    check_enough(evidence.parts, "the held text")
    reader.datastore.keep_fit(fit_mixture(evidence, DEFAULT).to_json(), view)


class Reader:
    """Reads texts with a model and its tokenizer, for its datastore in a memory."""

    def __init__(self, hosted: Hosted, tokenizer: Any, memory: Memory) -> None:
        """Raises InvalidInput for a tokenizer that is not the one the memory was memorized with."""
        hosted.check(tokenizer)
        self.hosted, self.tokenizer, self.memory = hosted, tokenizer, memory
        fingerprint = hosted.fingerprint + tokenizer_fingerprint(tokenizer)
        there = datastore_in(memory, hosted)
        if there is not None and there.fingerprint != fingerprint:
            raise InvalidInput(
                "this memory was memorized by this model with another tokenizer, whose numbers mean other words: give "
                "that tokenizer, or memorize into another memory.",
                tokenizer,
            )
        self.datastore: Datastore = there or memory.datastore(fingerprint, self._width())
        self._read = len(self.datastore)

    def entries(self, text: str, key: str) -> Entries:
        """The entries of one text; their record id is not known yet, so it is 0."""
        ids, spans = self._tokens(text)
        states = list(self._states(ids, key))
        if not states:
            return Entries(0, np.empty((0, self.datastore.dim)), np.empty(0, np.int64), np.empty((0, 2), np.int64))
        keys = torch.cat(states).cpu().numpy()
        self._read += len(keys)
        coded = self.datastore.preset == "compact" or self._read > self.datastore.limits.exact
        codes = coded and self.datastore.quantizer is None
        if codes or self.datastore.spread is None:
            self._measure(codes)
        first = len(ids) - len(keys)  # of a model with no token to begin with, the first one is not predicted
        return Entries(0, keys, np.array(ids[first:], np.int64), spans[first:])

    def read(self, text: str, key: str) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Logits (T, V), states (T, D) and the tokens (T,) that came, window by window."""
        ids = self._tokens(text)[0]
        for inputs, new, truth in self._windows(ids, key):
            logits, states = self.hosted.read(**inputs)
            yield logits[0, new:], states[0, new:], truth

    def _states(self, ids: list[int], key: str) -> Iterator[Tensor]:
        for inputs, new, _ in self._windows(ids, key):
            yield self.hosted.states(**inputs)[0, new:]

    def _windows(self, ids: list[int], key: str) -> Iterator[tuple[dict[str, Tensor], int, Tensor]]:
        """What the model is to be run on, from which place on that is new, and the tokens that come there."""
        tensor = partial(torch.tensor, device=self.hosted.device)
        window = self.hosted.window
        if self.hosted.pairs:
            source = self.tokenizer(key, return_tensors="pt", verbose=False).to(self.hosted.device)
            if max(len(ids), source["input_ids"].shape[1]) > window:
                raise InvalidInput(f"a pair of more than {window} tokens ({key[:40]!r} …): cut it into sentences.", key)
            before = [self.hosted.model.config.decoder_start_token_id, *ids[:-1]]
            inputs = {"input_ids": source["input_ids"], "attention_mask": source["attention_mask"]}
            yield inputs | {"decoder_input_ids": tensor([before])}, 0, tensor(ids)
            return
        begin = self._begin()
        ids = ids if begin is None else [begin, *ids]
        done = 0
        while done < len(ids) - 1:
            start = max(0, done - window // 2)
            stop = min(len(ids) - 1, start + window)
            yield {"input_ids": tensor([ids[start:stop]])}, done - start, tensor(ids[done + 1 : stop + 1])
            done = stop

    def _tokens(self, text: str) -> tuple[list[int], Array]:
        """The tokens of a text, those of a target with its end; and where they stand in it, (T, 2) in characters."""
        given = {"text_target": text} if self.hosted.pairs else {"text": text, "add_special_tokens": False}
        fast = bool(getattr(self.tokenizer, "is_fast", False))
        found = self.tokenizer(**given, return_offsets_mapping=True, verbose=False) if fast else None
        ids: list[int] = list((found or self.tokenizer(**given, verbose=False))["input_ids"])
        spans = found["offset_mapping"] if found is not None else self._places(ids, text)
        return ids, np.array(spans, np.int64).reshape(-1, 2)

    def _places(self, ids: list[int], text: str) -> list[tuple[int, int]]:
        """Where tokens stand, of a tokenizer that does not say: each is looked for behind the one before it."""
        spans, at = list[tuple[int, int]](), 0
        for token in ids:
            piece = str(self.tokenizer.decode([token], skip_special_tokens=True)).strip()
            start = text.find(piece, at) if piece else -1
            at = max(at, start + len(piece))
            spans.append((max(start, at - len(piece)) if start >= 0 else at, at))
        return spans

    def _width(self) -> int:
        """D."""
        return next(self._states([1, 1], "a")).shape[1]

    def _measure(self, codes: bool) -> None:
        """Learns from what the model writes by itself how its states lie."""
        size = CODES if codes else SPREAD
        states = drawn_states(self.hosted, self.tokenizer, self._begin() or 0, *size).cpu()
        quantizer = Quantizer.train(states.numpy()) if codes else None
        with self.memory.transaction():
            self.datastore.keep_measures(self.datastore.spread or measured_spread(states), quantizer)

    def _begin(self) -> int | None:
        """The token that a text begins with, None where the tokenizer has none."""
        first: int | None = self.tokenizer.bos_token_id
        return self.tokenizer.eos_token_id if first is None else first


def _hosted(model: Any, key: str | None) -> Hosted:
    """The model as it is attached, or by itself."""
    attached = hasattr(model_within(model), "_extmem")
    return attachment_of(model).hosted if attached and key is None else Hosted(model, key)
