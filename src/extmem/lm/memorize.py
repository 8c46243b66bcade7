"""Memorizing: a document becomes a record, and every token of it an entry of the datastore.

Knows: a memory, whoever reads a text. Does not know: files, how a reading is mixed.

Each document is read alone, from the beginning: its entries depend on nothing but itself and the
model, so that memorizing others, or forgetting them, never changes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from extmem.indexes.datastore import Datastore, Entries
from extmem.memory import Memory
from extmem.records.base import Record
from extmem.text.documents import Document
from extmem.text.normalise import normalise

if TYPE_CHECKING:
    from extmem.lm.model import LanguageModel

TOGETHER = 65_536  # entries that are committed in one transaction


@dataclass(frozen=True)
class Memorized:
    """What one call of `memorize` added; documents that were there already are not counted."""

    documents: int
    entries: int


def memorize(
    memory: Memory,
    datastore: Datastore,
    documents: Iterable[Document],
    read: Callable[[str, str], Entries],
    progress: Callable[[int, str], None] = lambda entries, key: None,
    preset: str | None = None,
    versions: Mapping[str, int] | None = None,
) -> Memorized:
    """Stores each document as a record and one (state, next token) entry per token, kept as `preset` says; `read` gives
    the entries of a text and its key. What else is said of a record that was there stays. With `versions` only records
    are read that are still of the version given: what was forgotten meanwhile stays forgotten.

    What was committed stays when it is interrupted; running it again skips it.
    """
    if preset is not None:
        with memory.transaction():
            datastore.choose(preset)
    waiting: list[tuple[Document, Entries]] = []
    count = Memorized(0, 0)
    for document in documents:
        text = normalise(document.text)
        known, blank = memory.record(document.key), not text.strip()
        if known is None and blank:
            continue
        if known is not None and known.value == text and (blank or datastore.holds(known.id)):
            continue
        entries = read(text, document.key)
        waiting.append((Document(document.key, text), entries))
        count = Memorized(count.documents + 1, count.entries + len(entries.tokens))
        progress(count.entries, document.key)
        if sum(len(part.tokens) for _, part in waiting) >= TOGETHER:
            _commit(memory, datastore, waiting, versions)
            waiting = []
    _commit(memory, datastore, waiting, versions)
    return count


def read_entries(model: LanguageModel, text: str, key: str) -> Entries:
    """The entries of one text, none for a blank one; their record id is not known yet, so it is 0. To a translator the
    text is the translation of its key."""
    tokens = model.tokenizer.encode(text)
    count = len(tokens.words) if text.strip() else 0
    ids = torch.tensor(model.vocabulary.ids(tokens.words[:count]), dtype=torch.long, device=model.device)
    before = torch.cat([ids.new_tensor([model.vocabulary.eos]), ids])[:count]
    states, _ = model.network.read(before, model.opening(key) if count else None)
    spans = np.stack([tokens.starts[:count], tokens.ends[:count]], axis=1)
    return Entries(0, states.cpu().numpy(), ids.cpu().numpy(), spans)


def memorize_records(model: LanguageModel, memory: Memory, keys: Iterable[str] | None = None) -> Memorized:
    """Has the model read texts that are records already, those of these keys or all."""
    found = memory.scan() if keys is None else filter(None, map(memory.record, keys))
    records = [record for record in found if isinstance(record.value, str)]
    documents = (Document(record.key, str(record.value)) for record in records)
    versions = {record.key: record.version for record in records}
    return memorize(memory, model.datastore(memory), documents, partial(read_entries, model), versions=versions)


def _commit(
    memory: Memory,
    datastore: Datastore,
    waiting: list[tuple[Document, Entries]],
    versions: Mapping[str, int] | None,
) -> None:
    """Records and entries of these documents, in one transaction."""
    if not waiting:
        return
    latest = {document.key: (document, entries) for document, entries in waiting}
    with memory.transaction():
        placed = []
        for document, entries in latest.values():
            known = memory.record(document.key)
            if versions is not None and (known is None or known.version != versions[document.key]):
                continue
            if known is None:
                memory.store(document.key, document.text)
            elif known.value != document.text:
                memory.store(document.key, document.text, **_said(known))
            record = memory.record(document.key)
            assert record is not None
            if not datastore.holds(record.id):
                placed.append(Entries(record.id, entries.keys, entries.tokens, entries.spans))
        datastore.append(placed)


def _said(known: Record) -> dict[str, Any]:
    """What is said of a record beside its value."""
    said = {name: getattr(known, name) for name in ("metadata", "author", "trust", "valid_from", "valid_to")}
    if known.expires is not None:
        said["ttl"] = max(known.expires - time.time(), 1e-3)
    return {name: one for name, one in said.items() if one is not None}
