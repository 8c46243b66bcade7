"""VectorIndex: a vector -> the records whose passages are nearest in meaning.

Knows: an encoder, and the datastore that its vectors lie in: an entry a passage, token 0. Does not know:
words, how its ranking is joined with another's.

It is derived: `catch_up` embeds what was stored since the last time, a batch of records at a time. The
slow part, encoding, is done outside the write transaction; inside it what was read is compared with what is
there by then. How far it came stands in the ledger and changes in that same transaction, so an interruption
loses a batch at most and nothing is embedded twice. What is forgotten leaves with its record, as from
every datastore. The embeddings of another encoder are dropped before the first of this one are added.
For unit vectors |q - p|² = 2 - 2 cos(q, p), so the nearest is the most similar.
Shapes: D width of a vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from extmem.indexes.base import EMBEDDED, EMBEDDINGS, Index, text_of
from extmem.indexes.datastore import Datastore, Entries, Limits
from extmem.indexes.quantizer import Quantizer
from extmem.indexes.view import View
from extmem.reading import Span
from extmem.records.base import Record, Records
from extmem.text.encoder import Encoder
from extmem.text.passages import passages

FORMAT = 2  # of what is embedded of a record: embeddings of another one are made anew
HEAD = 45  # words that a record begins with are embedded by themselves: they tell most of what it is about
BEGINS = 0.75  # of a record's similarity is that of its beginning
TOGETHER = 256  # records in one transaction


class _Rows(NamedTuple):
    """For every record its id, ascending, and its first entry and how many they are."""

    ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def find(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Where records (N,) stand, (N,), and which of them do."""
        at = np.minimum(np.searchsorted(self.ids, ids), max(len(self.ids) - 1, 0))
        return at, self.ids[at] == ids if len(self.ids) else np.zeros(len(ids), bool)


class VectorIndex(Index):
    """The embeddings of the records of one namespace by one encoder; `datastore` gives the one of a fingerprint and
    a width."""

    def __init__(self, records: Records, encoder: Encoder, datastore: Callable[[str, int], Datastore]) -> None:
        self.records, self.encoder = records, encoder
        self.datastore = datastore(name_of(encoder), encoder.dim)
        self._placed: tuple[View, _Rows] | None = None

    def catch_up(self, progress: Callable[[int, int], None] = lambda done, total: None) -> int:
        """Embeds what was stored since the last time; how many records were added. `progress(done, total)` in
        records. Can be interrupted, and be called by several processes at once. Raises as `Encoder.encode`,
        and StorageError."""
        self._drop_others()
        done, total, added = 0, self.waiting(), 0
        self._take_old()
        while batch := self.records.since(self._through(), TOGETHER):
            held = self._held([record.id for record in batch])
            new = [record for record in batch if record.id not in held]
            placed = self._encoded(new)
            with self.records.transaction():
                added += self._enter(placed, batch[-1].id)
            done += len(batch)
            progress(done, max(done, total))
        return added

    def _take_old(self) -> None:
        """Takes the quantiser that a version before learned for embeddings that are many already."""
        if len(self.datastore) > self.datastore.limits.exact and self.datastore.quantizer is None:
            learned = f"{QUANTIZERS}/{self.encoder.fingerprint}.safetensors"
            if learned in self.records.files(QUANTIZERS):
                self.datastore.use(Quantizer.from_bytes(self.records.read_file(learned)))

    def waiting(self) -> int:
        """How many records were stored since the last `catch_up`."""
        through = self._through()
        if not self.records.since(through, 1):
            return 0
        return sum(number > through for number in self.records.ids())

    def nearest(self, vector: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """The ids of the k records that have the nearest passages, nearest first, each once. Records that were not
        embedded yet are not found. Raises InvalidInput for a vector of another width or with NaN."""
        view, query = self.datastore.view(), np.asarray(vector, np.float32)[None]
        each = len(view) / max(1, len(view.runs[0]))  # passages of a record
        wanted = math.ceil(k * min(2.0, 1.25 * each))
        while True:
            entries, _ = view.search(query, min(wanted, len(view)))
            ids = view.records(entries[0][entries[0] >= 0])
            _, first = np.unique(ids, return_index=True)
            if len(first) >= k or wanted >= len(view):
                found: NDArray[np.int64] = ids[np.sort(first)][:k]
                return found
            wanted *= 4

    def similarity(self, ids: NDArray[np.int64], queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """(Q, N): how alike in meaning queries (Q, D) and records are: BEGINS of the cosine of how the record begins,
        and the rest of that of its best passage; 0 for what is not embedded. Raises as `nearest`."""
        view, rows = self.datastore.view(), self._rows()
        at, there = rows.find(ids)
        alike = np.zeros((len(queries), len(ids)), np.float32)
        if not there.any():
            return alike
        starts, sizes = rows.starts[at[there]], rows.sizes[at[there]]
        firsts = np.cumsum(sizes) - sizes  # of each record, among the entries that are read
        entries = np.repeat(starts - firsts, sizes) + np.arange(int(sizes.sum()))
        cosines = np.asarray(queries, np.float32) @ view.keys(entries).T
        best = np.maximum.reduceat(cosines, firsts, axis=1)
        alike[:, there] = BEGINS * cosines[:, firsts] + (1 - BEGINS) * best
        return alike

    def beginnings(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """(N, D): the vectors of how records begin; zeros for what is not embedded."""
        view, rows = self.datastore.view(), self._rows()
        at, there = rows.find(ids)
        found = np.zeros((len(ids), self.encoder.dim), np.float32)
        found[there] = view.keys(rows.starts[at[there]])
        return found

    def passages(self, ids: Sequence[int], vector: NDArray[np.float32]) -> dict[int, Span]:
        """For each of these records that is embedded, where in `text_of` the passage is that is nearest."""
        view, rows, wanted = self.datastore.view(), self._rows(), np.array(ids, np.int64)
        at, there = rows.find(wanted)
        if not there.any():
            return {}
        starts, sizes = rows.starts[at[there]], rows.sizes[at[there]]
        ends = np.cumsum(sizes)
        entries = np.repeat(starts - (ends - sizes), sizes) + np.arange(int(ends[-1]))
        alike = np.split(view.keys(entries) @ vector, ends[:-1])
        best = (starts + [int(np.argmax(one)) for one in alike]).tolist()
        return {number: view.cite(entry)[1] for number, entry in zip(wanted[there].tolist(), best, strict=True)}

    def discard(self, record: Record) -> None:
        """Drops a record's passages; call it inside the records' transaction."""
        self.datastore.discard(record)
        if self.datastore.fingerprint not in self.records.ledger("datastore"):  # that was the last one
            self.records.ledger_remove(EMBEDDED, self.encoder.fingerprint)

    def clear(self) -> None:
        """Drops everything; call it inside the records' transaction."""
        self.datastore.clear()
        self.records.ledger_remove(EMBEDDED, self.encoder.fingerprint)

    def mend(self) -> None:
        """Strikes out what is damaged, which the next `catch_up` embeds again; call it inside the records'
        transaction."""
        self.datastore.mend()
        self.records.ledger_remove(EMBEDDED, self.encoder.fingerprint)

    def verify(self) -> list[str]:
        """What is wrong with the datastore, and which records should be in it and are not."""
        with self.records.reading():
            wrong, through = self.datastore.verify(), self._through()
            if wrong:
                return wrong
            held = {self.datastore.cite(entry)[0] for entry in range(len(self.datastore))}
            missing = (r for r in self.records.iterate() if r.id <= through and r.id not in held)
            return [f"embeddings: record {record.id} is not embedded" for record in missing if parts(record)]

    def _rows(self) -> _Rows:
        """Where each record's entries are, of the view that is there now."""
        view, placed = self.datastore.view(), self._placed  # which other threads set as well
        if placed is None or placed[0] is not view:
            ids, ends = view.runs
            counts = np.diff(ends, prepend=0)
            order = np.argsort(ids, kind="stable")
            placed = self._placed = view, _Rows(ids[order], (ends - counts)[order], counts[order])
        return placed[1]

    def _encoded(self, records: Sequence[Record]) -> list[tuple[Record, Entries]]:
        """The records that have text, and their entries."""
        cut = [(record, found) for record in records if (found := parts(record))]
        vectors = self.encoder.encode([text for _, found in cut for text, _ in found])
        placed, start = [], 0
        for record, found in cut:
            keys = vectors[start : start + len(found)]
            spans = np.array([span for _, span in found])
            placed.append((record, Entries(record.id, keys, np.zeros(len(found), np.int32), spans)))
            start += len(found)
        return placed

    def _enter(self, placed: Sequence[tuple[Record, Entries]], through: int) -> int:
        """Adds, inside a transaction, the entries of records that are still as they were and not there yet."""
        ids = [record.id for record, _ in placed]
        there, held = self.records.by_ids(ids), self._held(ids)
        fresh = [
            entries
            for record, entries in placed
            if (now := there.get(record.id)) is not None and text_of(now) == text_of(record) and record.id not in held
        ]
        self.datastore.append(fresh)
        note = {"through": max(through, self._through()), "format": FORMAT}
        self.records.ledger_put(EMBEDDED, self.encoder.fingerprint, note)
        return len(fresh)

    def _held(self, ids: Sequence[int]) -> set[int]:
        """Those of these records that have entries."""
        wanted = np.array(ids, np.int64)
        return set(wanted[self._rows().find(wanted)[1]].tolist())

    def _through(self) -> int:
        """The id of the last record that was looked at; 0 where that was by another version of extmem."""
        note = self.records.ledger(EMBEDDED).get(self.encoder.fingerprint)
        return 0 if note is None or note["format"] != FORMAT else int(note["through"])

    def _others(self) -> list[str]:
        """The datastores of embeddings that are not this encoder's, or were made of other text."""
        note = self.records.ledger(EMBEDDED).get(self.encoder.fingerprint)
        old = note is not None and note["format"] != FORMAT
        mine = "" if old else self.datastore.fingerprint
        return [name for name in self.records.ledger("datastore") if name.startswith(EMBEDDINGS) and name != mine]

    def _drop_others(self) -> None:
        if not self._others():
            return
        with self.records.transaction():
            dims = {name: note["dim"] for name, note in self.records.ledger("datastore").items()}
            for name in self._others():
                Datastore(self.records, name, dims[name]).clear()
                self.records.ledger_remove(EMBEDDED, name.removeprefix(EMBEDDINGS))
                self.records.delete_file(f"{QUANTIZERS}/{name.removeprefix(EMBEDDINGS)}.safetensors")


LIMITS = Limits(exact=16_384, segment=8_192, minimum=256)  # small: to forget a record is to write a segment anew
QUANTIZERS = "datastores/quantizers"  # files that were learned from encoders' vocabularies, by versions before


def name_of(encoder: Encoder) -> str:
    """The fingerprint of the datastore that holds an encoder's vectors."""
    return f"{EMBEDDINGS}{encoder.fingerprint}"


def parts(record: Record) -> list[tuple[str, Span]]:
    """What is embedded of a record: how it begins, and where that is not all of it its passages; each with where
    it stands in `text_of`."""
    text = text_of(record)
    head = passages(text, HEAD)[:1]
    spans = head if not head or head[0].end == len(text.rstrip()) else [*head, *passages(text)]
    return [(text[start:end], Span(start, end)) for start, end in spans]
