"""Datastore: hidden state -> the token that came next, the record it came from and where in it.

Knows: vectors, token numbers, record ids, and the records whose ledger its files are entered in.
Does not know: words, models (a model is a fingerprint here), how a reading is mixed.

Entries lie in segments: files of arrays that are written once and never changed. A segment counts
only if the records' ledger names it, and the ledger changes in the records' own transaction: so a
record and its entries come and go together, whenever the process is killed. To forget is to write
the segments that hold the record again without it; the order of all other entries stays, so every
answer is, bit for bit, what it would have been had the record never been stored.

Up to EXACT_LIMIT entries are searched exactly. Beyond it, by an inverted file whose cells come
with the model, not from the entries: no entry leaves a trace in how the others are found.
Shapes: N entries, Q queries, K neighbours, D key width.
"""

from __future__ import annotations

import threading
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from extmem.errors import InvalidInput, MemoryFormatError
from extmem.indexes.base import Index
from extmem.reading import Reading, Span
from extmem.records.base import Record, Records

FORMAT = 1
EXACT_LIMIT = 200_000
SEGMENT_MINIMUM = 16_384  # a smaller segment at the end is merged with what comes next
PROBES = 32  # cells of the inverted file that one query scans

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Entries:
    """What one record adds: keys (N, D) float, tokens (N,) and spans (N, 2) in characters."""

    record_id: int
    keys: NDArray[np.floating]
    tokens: NDArray[np.integer]
    spans: NDArray[np.integer]


class Datastore(Index):
    """The entries of one model over the records of one namespace."""

    def __init__(self, records: Records, fingerprint: str, dim: int) -> None:
        self.records, self.fingerprint, self.dim = records, fingerprint, dim
        self.cells: NDArray[np.float32] | None = None
        self._kind = f"segments:{fingerprint}"
        self._folder = f"datastores/{fingerprint}"
        self._segments: dict[str, Arrays] = {}
        self._joined_from: list[str] = []
        self._arrays = self._nothing()
        self._index: faiss.Index | None = None
        self._quantizer: faiss.Index | None = None
        self._seen: object = None
        self._lock = threading.RLock()  # what was loaded and its index belong together

    def __len__(self) -> int:
        return len(self._load()["tokens"])

    @property
    def tokens(self) -> NDArray[np.int32]:
        """The token each entry was followed by, (N,)."""
        return self._load()["tokens"]

    def use_cells(self, cells: NDArray[np.float32]) -> None:
        """Takes the model's cells, when a datastore that was opened without the model meets it."""
        with self._lock:
            if self.cells is None:
                self.cells, self._index = cells, None

    def holds(self, record_id: int) -> bool:
        """Whether this record has entries here."""
        return bool((self._load()["records"] == record_id).any())

    def cite(self, entry: int) -> tuple[int, Span]:
        """The record id and the span of characters that an entry came from."""
        arrays = self._load()
        start, end = arrays["spans"][entry]
        return int(arrays["records"][entry]), Span(int(start), int(end))

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The K entries nearest to each query, nearest first: entries and squared L2 distances,
        (Q, K) each; -1 and inf where there are fewer than K. Raises InvalidInput for queries of
        another width or with NaN."""
        self._check(queries)
        return self._searched(queries, k)[:2]

    def _check(self, queries: NDArray[np.float32]) -> None:
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise InvalidInput(f"queries of shape {queries.shape}: give (queries, {self.dim}).", queries.shape)
        if not np.isfinite(queries).all():
            raise InvalidInput("a query holds NaN or Inf: check the model that made it.")

    def _searched(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32], Arrays]:
        """Entries, distances, and the arrays that the entries number."""
        with self._lock:
            index, arrays = self._ready(), self._arrays
        found = min(k, index.ntotal)
        entries = np.full((len(queries), k), -1, dtype=np.int64)
        distances = np.full((len(queries), k), np.inf, dtype=np.float32)
        if found and len(queries):
            near, which = index.search(np.ascontiguousarray(queries, dtype=np.float32), found)
            entries[:, :found], distances[:, :found] = which, np.where(which < 0, np.inf, near)
        return entries, distances, arrays

    def nearest(self, queries: NDArray[np.float32], k: int) -> Reading:
        """`search`, with the vectors found; satisfies `extmem.reading.Nearest`."""
        self._check(queries)
        entries, distances, arrays = self._searched(queries, min(k, len(self)))
        vectors = np.zeros((*entries.shape, self.dim), np.float32)
        vectors[entries >= 0] = arrays["keys"][entries[entries >= 0]]
        return Reading(entries, distances, vectors)

    def keep_fit(self, mixture: dict[str, Any]) -> None:
        """Keeps how this datastore is best read, until a record is dropped that had a part in it."""
        records = self._load()["records"]
        note = {"through": int(records.max(initial=0)), "mixture": mixture}
        with self.records.transaction():
            self.records.ledger_put("fit", self.fingerprint, note)

    def fit(self) -> dict[str, Any] | None:
        """What `keep_fit` kept, if it is still there."""
        note = self.records.ledger("fit").get(self.fingerprint)
        return None if note is None else note["mixture"]

    def append(self, entries: Sequence[Entries]) -> None:
        """Adds entries; call it inside the records' transaction, with the records they belong to."""
        added = [self._checked(part) for part in entries if len(part.tokens)]
        if not added:
            return
        ledger = self.records.ledger(self._kind)
        last = next(reversed(ledger), None)
        if last is not None and ledger[last]["entries"] < SEGMENT_MINIMUM:
            added.insert(0, self._read(last, ledger[last]))
            self._strike_out(last)
        self.records.ledger_put("datastore", self.fingerprint, {"dim": self.dim, "format": FORMAT})
        self._write(_joined(added))

    def discard(self, record: Record) -> None:
        """Drops every entry of this record; call it inside the records' transaction."""
        self.mend()
        ledger = self.records.ledger(self._kind)
        loaded = {name: self._read(name, note) for name, note in ledger.items()}
        hit = [name for name, arrays in loaded.items() if (arrays["records"] == record.id).any()]
        if not hit:
            return
        fit = self.records.ledger("fit").get(self.fingerprint)
        if fit is not None and record.id <= fit["through"]:
            self.records.ledger_remove("fit", self.fingerprint)
        # Segments keep their order in the ledger, so all from the first one hit are entered anew.
        for name in list(ledger)[list(ledger).index(hit[0]) :]:
            if name in hit:
                self._strike_out(name)
                kept = loaded[name]["records"] != record.id
                if kept.any():
                    self._write({part: array[kept] for part, array in loaded[name].items()})
            else:
                self.records.ledger_remove(self._kind, name)
                self.records.ledger_put(self._kind, name, ledger[name])
        if not self.records.ledger(self._kind):
            self.records.ledger_remove("datastore", self.fingerprint)

    def mend(self) -> None:
        """Strikes out segments that are missing or damaged; memorizing their documents again brings
        them back. Call it inside the records' transaction."""
        for name, note in self.records.ledger(self._kind).items():
            try:
                self._read(name, note)
            except MemoryFormatError:
                self._strike_out(name)

    def clear(self) -> None:
        """Drops every entry; call it inside the records' transaction."""
        for name in self.records.ledger(self._kind):
            self._strike_out(name)
        for kind in ("fit", "datastore"):
            self.records.ledger_remove(kind, self.fingerprint)

    def verify(self) -> list[str]:
        """What is wrong: a segment missing or damaged, entries of a record that is not there."""
        wrong: list[str] = []
        for name, note in self.records.ledger(self._kind).items():
            try:
                arrays = self._read(name, note, fresh=True)
            except MemoryFormatError as error:
                wrong.append(str(error))
                continue
            for record_id in np.unique(arrays["records"]):
                if self.records.by_id(int(record_id)) is None:
                    wrong.append(f"datastore {self.fingerprint}: entries of record {record_id}, which is gone")
        return wrong

    def stats(self) -> dict[str, Any]:
        """Figures for people: entries, bytes, and how they are searched."""
        arrays, cells = self._load(), 0 if self.cells is None else len(self.cells)
        return {
            "fingerprint": self.fingerprint,
            "entries": len(arrays["tokens"]),
            "dim": self.dim,
            "bytes": int(sum(array.nbytes for array in arrays.values())),
            "search": "exact" if self._exact() else f"inverted file, {PROBES} of {cells} cells",
        }

    def _strike_out(self, name: str) -> None:
        self.records.ledger_remove(self._kind, name)
        self.records.delete_file(f"{self._folder}/{name}")

    def _nothing(self) -> Arrays:
        return {
            "keys": np.empty((0, self.dim), np.float16),
            "tokens": np.empty(0, np.int32),
            "records": np.empty(0, np.int64),
            "spans": np.empty((0, 2), np.int32),
        }

    def _checked(self, part: Entries) -> Arrays:
        count = len(part.tokens)
        if part.keys.shape != (count, self.dim) or part.spans.shape != (count, 2):
            raise InvalidInput(
                f"keys {part.keys.shape} and spans {part.spans.shape} for {count} tokens: "
                f"give ({count}, {self.dim}) and ({count}, 2)."
            )
        if not np.isfinite(part.keys).all():
            raise InvalidInput("a key holds NaN or Inf: check the model that made it.")
        return {
            "keys": part.keys.astype(np.float16),
            "tokens": part.tokens.astype(np.int32),
            "records": np.full(count, part.record_id, np.int64),
            "spans": part.spans.astype(np.int32),
        }

    def _write(self, arrays: Arrays) -> None:
        name = f"{uuid.uuid4().hex}.safetensors"
        content = save(arrays, {"format": str(FORMAT), "fingerprint": self.fingerprint})
        self.records.write_file(f"{self._folder}/{name}", content)
        self.records.ledger_put(self._kind, name, {"entries": len(arrays["tokens"]), "crc32": zlib.crc32(content)})
        self._segments[name] = arrays

    def _read(self, name: str, note: dict[str, Any], fresh: bool = False) -> Arrays:
        if fresh or name not in self._segments:
            try:
                self._segments[name] = _arrays(self.records.read_file(f"{self._folder}/{name}"), note["crc32"])
            except (MemoryFormatError, SafetensorError) as error:
                place = f"{self._folder}/{name}"
                cure = "restore it, or run 'extmem verify --repair' and memorize its documents again"
                raise MemoryFormatError(f"{place}: {str(error).rstrip('.')}; {cure}.", place) from error
        return self._segments[name]

    def _load(self) -> Arrays:
        """The entries as the ledger has them now, whoever wrote them."""
        with self._lock:
            seen = self.records.generation()
            if seen != self._seen:
                ledger = self.records.ledger(self._kind)
                if list(ledger) != self._joined_from:
                    try:
                        parts = [self._read(name, note) for name, note in ledger.items()]
                    except MemoryFormatError:
                        if self.records.ledger(self._kind) == ledger:
                            raise
                        return self._load()  # another process has just written it anew
                    self._segments = dict(zip(ledger, parts, strict=True))
                    self._arrays = _joined([self._nothing(), *parts])
                    self._joined_from, self._index = list(ledger), None
                self._seen = seen
            return self._arrays

    def _exact(self) -> bool:
        return self.cells is None or len(self._arrays["tokens"]) <= EXACT_LIMIT

    def _ready(self) -> faiss.Index:
        keys = self._load()["keys"]
        if self._index is None:
            if self._exact():
                index: faiss.Index = faiss.IndexFlatL2(self.dim)
            else:
                assert self.cells is not None
                cells = faiss.IndexFlatL2(self.dim)
                cells.add(np.ascontiguousarray(self.cells, dtype=np.float32))
                index = faiss.IndexIVFScalarQuantizer(
                    cells, self.dim, cells.ntotal, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2, False
                )
                index.own_fields, index.is_trained = False, True
                self._quantizer = cells  # Python must not free it while the index lives
                index.nprobe = min(PROBES, cells.ntotal)
            for start in range(0, len(keys), 65_536):
                index.add(keys[start : start + 65_536].astype(np.float32))
            self._index = index
        return self._index


def _joined(parts: Sequence[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _arrays(content: bytes, crc32: int) -> Arrays:
    if zlib.crc32(content) != crc32:
        raise MemoryFormatError("it is damaged (its checksum differs)")
    arrays: Arrays = load(content)
    return arrays
