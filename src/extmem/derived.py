"""Derived: everything that is derived from the records of one namespace, to be made, searched, checked and erased.

Knows: every index there is, which embedding model a memory keeps. Does not know: the map, versions, namespaces.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from extmem.errors import ExtmemError, InvalidInput
from extmem.indexes.base import EMBEDDED, EMBEDDINGS, TRAINED, Index, is_embeddings
from extmem.records.base import Record, Records

if TYPE_CHECKING:
    from extmem.indexes.datastore import Datastore
    from extmem.indexes.keyword import KeywordIndex
    from extmem.indexes.trained import Trained
    from extmem.indexes.vectors import VectorIndex
    from extmem.search.searching import Search
    from extmem.text.encoder import Encoder

Progress = Callable[[int, int], None]


class Derived:
    """The indexes of one namespace. `above` are those of the namespace it lies in, whose embedding model it takes."""

    def __init__(self, records: Records, above: Derived | None = None) -> None:
        self.records, self._above = records, above
        self._encoders: dict[str, Encoder | None] = {} if above is None else above._encoders
        self._loading: threading.Lock = threading.Lock() if above is None else above._loading
        self._datastores: dict[str, Datastore] = {}
        self._vectors: VectorIndex | None = None

    @cached_property
    def keyword(self) -> KeywordIndex:
        """The index of words."""
        from extmem.indexes.keyword import KeywordIndex

        return KeywordIndex(self.records)

    def datastore(self, fingerprint: str, dim: int) -> Datastore:
        """The datastore of this fingerprint, there or not yet."""
        from extmem.indexes.datastore import Datastore, Limits
        from extmem.indexes.vectors import LIMITS

        if fingerprint not in self._datastores:
            limits = LIMITS if is_embeddings(fingerprint) else Limits()
            self._datastores[fingerprint] = Datastore(self.records, fingerprint, dim, limits=limits)
        return self._datastores[fingerprint]

    def datastores(self) -> list[Datastore]:
        """Those that hold anything, embeddings among them."""
        return [self.datastore(name, note["dim"]) for name, note in self.records.ledger("datastore").items()]

    def embeddings(self) -> dict[str, Any] | None:
        """Figures of the embeddings, or of the vectors that a program gave, for people; None where there are none."""
        found = {one.fingerprint: one for one in self.datastores() if is_embeddings(one.fingerprint)}
        if not found:
            return None
        name = min(found)  # embeddings, where there are both
        return {"model": self.model() if name.startswith(EMBEDDINGS) else "a program's", **found[name].stats()}

    def trained(self, name: str) -> Trained:
        """What the task of this name learned of the records, there or not yet."""
        from extmem.indexes.trained import Trained

        return Trained(self.records, name)

    def every(self) -> list[Index]:
        """All indexes that hold anything; embeddings are a datastore among the others."""
        return [self.keyword, *self.datastores(), *map(self.trained, self.records.ledger(TRAINED))]

    def discard(self, record: Record) -> None:
        """Drops what came from a record; inside the records' transaction."""
        for index in self.every():
            index.discard(record)
        left = self.records.ledger("datastore")
        for name in self.records.ledger(EMBEDDED):  # of embeddings of which that was the last
            if f"{EMBEDDINGS}{name}" not in left:
                self.records.ledger_remove(EMBEDDED, name)

    def mend(self) -> None:
        """Strikes out what is damaged; inside the records' transaction."""
        for datastore in self.datastores():
            datastore.mend()
        self.keyword.clear()
        for name in self.records.ledger(TRAINED):
            self.trained(name).clear()
        for name in self.records.ledger(EMBEDDED):  # what was struck out is embedded again
            self.records.ledger_remove(EMBEDDED, name)

    def search(self, by: str) -> Search:
        """What searches "all" of them, or "words" alone. Raises InvalidInput."""
        from extmem.search.searching import Search

        if by not in ("all", "words"):
            raise InvalidInput(f"by is {by!r}: give 'all' or 'words'.", by)
        return Search(self.records, self.keyword, self.vectors() if by == "all" else None)

    # Embeddings

    def model(self) -> str | None:
        """The name of the embedding model that is kept for this namespace, or for one it lies in."""
        note = self.records.ledger("settings").get("encoder")
        if note is not None:
            return str(note["name"])
        return None if self._above is None else self._above.model()

    def embed(self, model: str | Encoder | None, progress: Progress) -> int:
        """Keeps the name of an embedding model (None: the one that is kept, or else the default one) and embeds what
        is not embedded yet with it; how many records that were."""
        from extmem.text.encoder import DEFAULT, Encoder, encoder_named

        name = model.name if isinstance(model, Encoder) else model or self.model() or DEFAULT
        encoder = model if isinstance(model, Encoder) else self._encoders.get(name) or encoder_named(name)
        self._encoders[name] = encoder
        if self.model() != name:
            with self.records.transaction():
                self.records.ledger_put("settings", "encoder", {"name": name})
        return self._index(encoder).catch_up(progress)

    def vectors(self) -> VectorIndex | None:
        """The index of embeddings; None where no model is kept, or where it cannot be had here, which is said once."""
        name = self.model()
        if name is None:
            return None
        if name not in self._encoders:
            with self._loading:  # who searches meanwhile waits for it: by words alone it would find other records
                if name not in self._encoders:
                    self._encoders[name] = _loaded(name)
        encoder = self._encoders[name]
        return None if encoder is None else self._index(encoder)

    def _index(self, encoder: Encoder) -> VectorIndex:
        from extmem.indexes.vectors import VectorIndex

        if self._vectors is None or self._vectors.encoder is not encoder:
            self._vectors = VectorIndex(self.records, encoder, self.datastore)
        return self._vectors


def _loaded(name: str) -> Encoder | None:
    """The encoder of this name; None where it cannot be had here, which is said."""
    from extmem.text.encoder import encoder_named

    try:
        return encoder_named(name)
    except (ExtmemError, ImportError) as error:
        warnings.warn(f"searching by words alone: {error}", stacklevel=5)
        return None
