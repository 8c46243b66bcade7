"""Datastore: hidden state -> the token that came next, the record it came from and where in it.

Knows: which segments there are (the ledger), and when they are written, joined and struck out. Does not know: words,
models (a model is a fingerprint and a quantiser here), how a file is laid out (`segment.py`) or searched (`view.py`).

Entries lie in segments: files that are written once and never changed. A segment counts only if the records' ledger
names it, and the ledger changes in the records' own transaction: so a record and its entries come and go together,
whenever the process is killed. To forget is to write the segments that hold the record again without it; the order of
all other entries stays, and no entry has a part in how the others are found: so every answer is, bit for bit,
what it would have been had the record never been stored.
Shapes: N entries, Q queries, K neighbours, D key width.
"""

from __future__ import annotations

import threading
import uuid
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extmem.errors import InvalidInput, MemoryFormatError
from extmem.indexes.base import Index, is_embeddings
from extmem.indexes.first_format import first_format
from extmem.indexes.quantizer import RECALL, Quantizer, unit_width
from extmem.indexes.segment import Columns, Segment, damaged, floats, joined, written
from extmem.indexes.view import View
from extmem.reading import Reading, Span
from extmem.records.base import Record, Records

PRESETS = ("accurate", "compact")


@dataclass(frozen=True)
class Limits:
    """Up to `exact` entries are searched exactly. A segment has up to `segment` entries; a new one is joined with
    those before it that are smaller than `minimum`, or than twice itself."""

    exact: int = 32_768
    segment: int = 524_288
    minimum: int = 16_384


@dataclass(frozen=True)
class Entries:
    """What one record adds: keys (N, D) float, tokens (N,) and spans (N, 2) in characters."""

    record_id: int
    keys: NDArray[np.floating]
    tokens: NDArray[np.integer]
    spans: NDArray[np.integer]


class Datastore(Index):
    """The entries of one model over the records of one namespace."""

    def __init__(
        self,
        records: Records,
        fingerprint: str,
        dim: int,
        quantizer: Quantizer | None = None,
        limits: Limits = Limits(),
    ) -> None:
        self.records, self.fingerprint, self.dim = records, fingerprint, dim
        self.quantizer, self.limits = quantizer, limits
        self._kind = f"segments:{fingerprint}"
        self._folder = f"datastores/{fingerprint}"
        self._own = f"{self._folder}/quantizer.safetensors"  # where no model brings one
        self._opened: dict[str, Segment] = {}
        self._view = View((), dim, quantizer, limits.exact)
        self._names: list[str] = []
        self._seen: object = None
        self._lock = threading.RLock()  # a view and the names of its segments belong together
        self._mine = threading.local()  # what a thread looked at last, when that was, while anyone holds it

    def __len__(self) -> int:
        return len(self.view())

    @property
    def tokens(self) -> NDArray[np.int64]:
        """The token each entry was followed by, (N,)."""
        return self.view().tokens()

    @property
    def preset(self) -> str:
        """ "accurate": keys of 16 bits a number; "compact": keys as codes of two bits a number, or one."""
        return str(self._about().get("preset", PRESETS[0]))

    def use(self, quantizer: Quantizer) -> None:
        """Takes the model's quantiser, when a datastore that was opened without the model meets it."""
        with self._lock:
            if self.quantizer is None:
                self.quantizer, self._seen, self._names, self._mine = quantizer, None, [], threading.local()

    def keep_quantizer(self, quantizer: Quantizer) -> None:
        """Keeps a quantiser, that no entry may have a part in, with the entries; call it inside the records'
        transaction."""
        self.records.write_file(self._own, quantizer.to_bytes())
        self.use(quantizer)
        about = {"dim": self.dim, "preset": PRESETS[0], **self._about(), "quantizer": quantizer.name}
        self.records.ledger_put("datastore", self.fingerprint, about)

    def keep_measures(self, spread: float, quantizer: Quantizer | None = None) -> None:
        """Keeps, for a model that cannot bring them, the spread of its states and a quantiser learned from them, both
        from a text of its own and from none that is memorized; call it inside the records' transaction."""
        if quantizer is not None:
            self.keep_quantizer(quantizer)
        about = {"dim": self.dim, "preset": PRESETS[0], **self._about(), "spread": spread}
        self.records.ledger_put("datastore", self.fingerprint, about)

    @property
    def spread(self) -> float | None:
        """What `keep_measures` kept."""
        return self._about().get("spread")

    def choose(self, preset: str) -> None:
        """How the entries of a datastore that has none yet are to be kept; call it inside the records' transaction.
        Raises InvalidInput for a preset that there is not, or for another one than the entries have."""
        if preset not in PRESETS:
            raise InvalidInput(f"there is no preset {preset!r}: choose from {', '.join(PRESETS)}.", preset)
        about = self._about()
        if about and self.preset != preset:
            cure = "go on with that, or memorize into another memory"
            raise InvalidInput(f"this datastore is {self.preset}, not {preset}: {cure}.", preset)
        if not about:
            self.records.ledger_put("datastore", self.fingerprint, {"dim": self.dim, "preset": preset})

    def view(self) -> View:
        """All entries as the ledger has them now, whoever wrote them; the view stays as it is, and inside a reading it
        is the same one as long as it is held, though its files may be gone. Raises MemoryFormatError where a segment is
        missing or damaged."""
        seen = self.records.generation()
        last: tuple[object, Callable[[], View | None]] = getattr(self._mine, "last", (None, lambda: None))
        if last[0] == seen and (view := last[1]()) is not None:
            return view
        with self._lock:
            if seen != self._seen:
                self._meet_own()
                ledger = self.records.ledger(self._kind)
                if list(ledger) != self._names:
                    try:
                        opened = {name: self._open(name, note) for name, note in ledger.items()}
                    except MemoryFormatError:
                        if self.records.ledger(self._kind) == ledger:
                            raise
                        return self.view()  # another process has just written it anew
                    count = sum(len(segment) for segment in opened.values())
                    if self.quantizer is not None and count > self.limits.exact:
                        opened = {name: self._searchable(segment) for name, segment in opened.items()}
                    self._opened, self._names = opened, list(ledger)
                    self._view = View(list(opened.values()), self.dim, self.quantizer, self.limits.exact)
                self._seen = seen
            self._mine.last = seen, weakref.ref(self._view)
            return self._view

    def holds(self, record_id: int) -> bool:
        """Whether this record has entries here."""
        return any((segment.run_ids == record_id).any() for segment in self.view().segments)

    def cite(self, entry: int) -> tuple[int, Span]:
        """`View.cite` of what is there now."""
        return self.view().cite(entry)

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """`View.search` of what is there now. What the entries are is to be asked of the same view."""
        return self.view().search(queries, k)

    def nearest(self, queries: NDArray[np.float32], k: int) -> Reading:
        """`View.nearest` of what is there now; satisfies `extmem.reading.Nearest`."""
        return self.view().nearest(queries, k)

    def keep_fit(self, mixture: dict[str, Any], view: View) -> None:
        """Keeps how this datastore is best read, as found with a view of it, until a record is dropped that had a part
        in it; not at all where one of them is gone already."""
        seen = view.sources
        with self.records.transaction():
            if np.isin(seen, self.view().sources).all():
                last = int(seen.max(initial=0))
                self.records.ledger_put("fit", self.fingerprint, {"through": last, "mixture": mixture})

    def fit(self) -> dict[str, Any] | None:
        """What `keep_fit` kept, if it is still there."""
        note = self.records.ledger("fit").get(self.fingerprint)
        return None if note is None else note["mixture"]

    def append(self, entries: Sequence[Entries]) -> None:
        """Adds entries; call it inside the records' transaction, with the records they belong to. Embeddings, vectors
        of length 1, get a quantiser of which nothing was learned as soon as they are many. Raises
        InvalidInput for keys of another width or with NaN, and where a compact datastore has no quantiser."""
        self._meet_own()
        new = [self._columns(part) for part in entries if len(part.tokens)]
        if not new:
            return
        if not self._about():
            self.choose(PRESETS[0])
        ledger, count = self.records.ledger(self._kind), sum(map(len, new))
        many = sum(note["entries"] for note in ledger.values()) + count > self.limits.exact
        unkept = many and is_embeddings(self.fingerprint) and not self._about().get("quantizer")
        if unkept and unit_width(self.dim) <= 16:
            self.keep_quantizer(self.quantizer or Quantizer.of_units(self.dim))
        parts = [self._coded(joined(new))]  # coded together: many records of one entry each are one call of FAISS
        if self.preset == "compact":
            parts[0] = replace(parts[0], keys=None)
        for name in reversed(ledger):
            there = ledger[name]["entries"]
            if there + count > self.limits.segment or there >= max(self.limits.minimum, 2 * count):
                break
            parts.insert(0, self._coded(self._open(name, ledger[name]).columns()))
            self._strike_out(name)
            count += there
        self._write(joined(parts))

    def discard(self, record: Record) -> None:
        """Drops every entry of this record, and what is damaged; call it inside the records' transaction."""
        ledger = self.records.ledger(self._kind)
        left: dict[str, Columns | None] = {}  # of the segments that hold the record, or are damaged
        dropped = False
        for name, note in ledger.items():
            try:
                segment = self._open(name, note)
                if (segment.run_ids == record.id).any():
                    dropped, left[name] = True, segment.columns().without(record.id)
            except MemoryFormatError:
                left[name] = None
        fit = self.records.ledger("fit").get(self.fingerprint)
        if dropped and fit is not None and record.id <= fit["through"]:
            self.records.ledger_remove("fit", self.fingerprint)
        # Segments keep their order in the ledger, so all from the first one hit are entered anew.
        for name in list(ledger)[list(ledger).index(next(iter(left))) :] if left else ():
            if name in left:
                self._strike_out(name)
                columns = left[name]
                if columns is not None and len(columns):
                    self._write(columns)
            else:
                self.records.ledger_remove(self._kind, name)
                self.records.ledger_put(self._kind, name, ledger[name])
        if left and not self.records.ledger(self._kind):
            self._end()

    def mend(self) -> None:
        """Strikes out segments that are missing or damaged; memorizing their documents again brings
        them back. Call it inside the records' transaction."""
        try:
            self._read_own()
        except MemoryFormatError:
            if self.preset == "compact":  # its keys were codes
                return self.clear()
            self.records.ledger_put("datastore", self.fingerprint, self._about() | {"quantizer": None})
            self.records.delete_file(self._own)
        for name, note in self.records.ledger(self._kind).items():
            try:
                self._open(name, note, fresh=True).columns()
            except MemoryFormatError:
                self._strike_out(name)

    def clear(self) -> None:
        """Drops every entry; call it inside the records' transaction."""
        for name in self.records.ledger(self._kind):
            self._strike_out(name)
        self.records.ledger_remove("fit", self.fingerprint)
        self._end()

    def verify(self) -> list[str]:
        """What is wrong: a segment missing or damaged, entries of a record that is not there."""
        wrong: list[str] = []
        try:
            self._read_own()
        except MemoryFormatError as error:
            wrong.append(str(error))
        for name, note in self.records.ledger(self._kind).items():
            try:
                segment = self._open(name, note, fresh=True)
                segment.check()
            except MemoryFormatError as error:
                wrong.append(str(error))
                continue
            for record_id in np.unique(segment.run_ids).tolist():
                if self.records.by_id(record_id) is None:
                    wrong.append(f"datastore {self.fingerprint}: entries of record {record_id}, which is gone")
        return wrong

    def stats(self) -> dict[str, Any]:
        """Figures for people: entries, bytes, how they are searched, and what part of the 32 nearest that finds, as
        measured on entries of its own (None where it is searched exactly)."""
        view = self.view()
        search = "exact" if len(view) <= self.limits.exact else "by cells, with its model"
        if not view.exact and self.quantizer is not None:
            probes, cells = self.quantizer.probes_among(len(view)), len(self.quantizer.cells)
            search = f"{probes} of {cells} cells, for recall {RECALL}" if cells > 1 else "all codes"
        return {
            "fingerprint": self.fingerprint,
            "entries": len(view),
            "dim": self.dim,
            "preset": self.preset,
            "bytes": view.bytes,
            "segments": len(view.segments),
            "search": search,
            "recall": view.measured_recall,
        }

    def _meet_own(self) -> None:
        """Takes the quantiser that is kept with the entries."""
        if self.quantizer is None and (own := self._read_own()) is not None:
            self.use(own)

    def _read_own(self) -> Quantizer | None:
        """The quantiser that is kept with the entries, None where none is. Raises MemoryFormatError where it is
        missing or damaged."""
        name = self._about().get("quantizer")
        if name is None:
            return None
        found = Quantizer.from_bytes(self.records.read_file(self._own))
        if found.name != name:
            raise damaged(self._own, "its numbers are not those that were written")
        return found

    def _about(self) -> dict[str, Any]:
        return self.records.ledger("datastore").get(self.fingerprint, {})

    def _end(self) -> None:
        """Nothing is left of the datastore."""
        if self._about().get("quantizer"):
            self.records.delete_file(self._own)
        self.records.ledger_remove("datastore", self.fingerprint)

    def _strike_out(self, name: str) -> None:
        self.records.ledger_remove(self._kind, name)
        self.records.delete_file(f"{self._folder}/{name}")

    def _columns(self, part: Entries) -> Columns:
        count = len(part.tokens)
        if part.keys.shape != (count, self.dim) or part.spans.shape != (count, 2):
            raise InvalidInput(
                f"keys {part.keys.shape} and spans {part.spans.shape} for {count} tokens: "
                f"give ({count}, {self.dim}) and ({count}, 2)."
            )
        with np.errstate(over="ignore"):
            keys = part.keys.astype(np.float16)
        if not np.isfinite(keys).all():
            raise InvalidInput("a key holds NaN, Inf or a number beyond 65,504: check the model that made it.")
        spans, run = np.asarray(part.spans), (np.array([part.record_id], np.int64), np.array([count], np.int64))
        if self.preset == "compact" and self.quantizer is None:
            raise InvalidInput("this datastore is compact: only its model can add to it.")
        return Columns(keys, None, None, np.asarray(part.tokens), spans[:, 0], spans[:, 1] - spans[:, 0], *run)

    def _coded(self, columns: Columns) -> Columns:
        """The same entries with codes of the quantiser at hand, if there is one and their keys are."""
        quantizer = self.quantizer
        if (
            quantizer is None
            or columns.keys is None
            or (columns.codes is not None and columns.quantizer == quantizer.name)
        ):
            return columns
        coded = [quantizer.encode(floats(columns.keys[at : at + 65_536])) for at in range(0, len(columns), 65_536)]
        cells, codes = (np.concatenate(arrays) for arrays in zip(*coded, strict=True))
        return replace(columns, codes=codes, cells=cells, quantizer=quantizer.name, cell_count=len(quantizer.cells))

    def _write(self, columns: Columns) -> None:
        for start in range(0, len(columns), self.limits.segment):
            content, note = self._file(columns.part(start, min(start + self.limits.segment, len(columns))))
            name = f"{uuid.uuid4().hex}.safetensors"
            self.records.write_file(f"{self._folder}/{name}", content)
            self.records.ledger_put(self._kind, name, note)

    def _file(self, columns: Columns) -> tuple[bytes, dict[str, Any]]:
        return written(self._coded(columns), {"fingerprint": self.fingerprint})

    def _open(self, name: str, note: dict[str, Any], fresh: bool = False) -> Segment:
        """A segment as it lies on the disk; one of the first format is laid out anew in RAM. Raises
        MemoryFormatError."""
        if not fresh and name in self._opened:
            return self._opened[name]
        place = f"{self._folder}/{name}"
        try:
            content = self.records.map_file(place) if "bytes" in note else self.records.read_file(place)
        except MemoryFormatError as error:
            raise damaged(place, str(error)) from error
        if "bytes" in note:
            return Segment(content, note, place)
        return Segment(*self._file(first_format(bytes(content), note, place)), place)

    def _searchable(self, segment: Segment) -> Segment:
        """The segment with codes of the quantiser at hand: laid out anew in RAM where its file has none."""
        assert self.quantizer is not None
        if segment.codes is not None and segment.quantizer == self.quantizer.name:
            return segment
        if segment.keys is None:
            raise damaged(segment.place, "its codes are of another model")
        return Segment(*self._file(segment.columns()), segment.place)
