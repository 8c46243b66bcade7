"""View: all entries of a datastore at one moment, to be searched, read and cited. It never changes.

Knows: segments, a quantiser, how FAISS scans. Does not know: records, ledgers, files.

Few entries are searched exactly. Of many, FAISS scans the codes of the cells that lie nearest to the query, in all
segments by one call and where they lie mapped; the best of them are measured again by their 16-bit keys.
What is found is a function of the entries and their order and not of how they are cut into segments: candidates that
tie with the last one are left out, or taken in all of them, and equal distances go by the entries' order.
Shapes: N entries, Q queries, K neighbours, R candidates, D key width, C cells, S segments, P places of codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from extmem.errors import InvalidInput
from extmem.indexes.quantizer import Quantizer
from extmem.indexes.scanner import Scanner
from extmem.indexes.segment import Array, Segment, floats
from extmem.reading import Reading, Span

CHUNK = 4096  # queries that are scanned by one call, at most
LEAST_PART = 32  # queries that a thread of its own is worth
MEASURED = 1 << 19  # numbers that are gathered and measured together: they stay in the processor's cache
SPARE = 64  # candidates of a query beyond K, at least,
LEAST = 160  # and in all, where they are measured again

_distances: Callable[..., None] = vars(faiss)["fvec_L2sqr_ny"]  # of one vector to many; its stubs leave it out


class View:
    """The entries of these segments, one after the other: entry 0 is the first one's first."""

    def __init__(self, segments: Sequence[Segment], dim: int, quantizer: Quantizer | None, exact: int) -> None:
        self.segments, self.dim, self.quantizer = tuple(segments), dim, quantizer
        sizes = np.array([len(segment) for segment in segments], np.int64)
        self.ends = np.cumsum(sizes)
        self.starts = self.ends - sizes
        self.bytes = sum(segment.bytes for segment in segments)
        self.exact = quantizer is None or len(self) <= exact
        self.keeps_keys = all(segment.keys is not None for segment in segments)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def tokens(self, entries: Array | None = None) -> Array:
        """The token that these entries (or all) were followed by, as they are shaped; int64."""
        if entries is None:
            parts = [segment.tokens for segment in self.segments]
            return np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int64)
        return self._gathered(entries, np.int64, (), lambda segment, rows: segment.tokens[rows])

    def cite(self, entry: int) -> tuple[int, Span]:
        """The record id and the span of characters that an entry came from."""
        number = int(np.searchsorted(self.ends, entry, "right"))
        segment, row = self.segments[number], entry - int(self.starts[number])
        start, length = (int(column[row]) for column in segment.spans)
        return int(segment.run_ids[np.searchsorted(segment.run_ends, row, "right")]), Span(start, start + length)

    @property
    def sources(self) -> Array:
        """The ids of all records that entries came from."""
        return np.unique(self.runs[0])

    def records(self, entries: Array) -> Array:
        """The ids of the records that entries came from, as they are shaped; int64."""
        ids, ends = self.runs
        found: Array = ids[np.searchsorted(ends, entries, "right")]
        return found

    def of(self, record_ids: Sequence[int]) -> Array:
        """The entries of these records, in order."""
        ids, ends = self.runs
        runs = np.flatnonzero(np.isin(ids, record_ids))
        sizes = np.diff(ends, prepend=0)
        start, size = (ends - sizes)[runs], sizes[runs]
        last = np.cumsum(size)
        found: Array = np.arange(size.sum()) + np.repeat(start - (last - size), size)
        return found

    def following(self, entries: Array) -> Array:
        """The entry behind each of entries (E,) in its record; those at an end are left out."""
        later = entries[entries + 1 < len(self)] + 1
        same = self.records(later) == self.records(later - 1)
        found: Array = later[same]
        return found

    def agreeing(self, entries: Array, before: Array) -> NDArray[np.int8]:
        """How many of the words before each of entries (T, K) are those of its query, one after the other; before
        (T, C) are the query's, the last first. Words of another record do not count; -1 is no entry, and no word."""
        tokens, place = self._running
        agree, count = entries >= 0, np.zeros(entries.shape, np.int8)
        for back in range(before.shape[1]):
            at = entries - 1 - back
            agree &= (place[entries] > back) & (tokens[at.clip(0)] == before[:, back, None])
            count += agree
        return count

    @cached_property
    def runs(self) -> tuple[Array, Array]:
        """The record that each stretch of entries came from, and the entry it ends before, int64 each."""
        ends = [segment.run_ends + start for segment, start in zip(self.segments, self.starts, strict=True)]
        nothing = np.empty(0, np.int64)
        ids = np.concatenate([nothing, *(segment.run_ids for segment in self.segments)])
        return ids, np.concatenate([nothing, *ends])

    @cached_property
    def _running(self) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
        """Every entry's token, and how many entries of its record are before it (at most 127)."""
        tokens = self.tokens().astype(np.int32)
        ids = self.records(np.arange(len(tokens)))
        starts = np.flatnonzero(np.diff(ids, prepend=-1))
        place = np.arange(len(tokens)) - np.repeat(starts, np.diff(starts, append=len(tokens)))
        return tokens, place.clip(0, 127).astype(np.int8)

    def keys(self, entries: Array) -> NDArray[np.float32]:
        """The keys of entries (E,), (E, D); in a compact datastore what their codes stand for."""
        if self.keeps_keys:
            return floats(self._gathered(entries, np.float16, (self.dim,), _halves))
        return self._gathered(entries, np.float32, (self.dim,), self._decoded)

    def distances(self, query: NDArray[np.float32], entries: Array) -> NDArray[np.float32]:
        """Squared L2 distances of a query (D,) to entries (E,), (E,)."""
        apart = self.keys(entries) - query
        found: NDArray[np.float32] = np.einsum("ed,ed->e", apart, apart)
        return found

    def nearest(self, queries: NDArray[np.float32], k: int) -> Reading:
        """`search`, with the vectors found; satisfies `extmem.reading.Nearest`."""
        entries, distances = self.search(queries, min(k, len(self)))
        vectors = np.zeros((*entries.shape, self.dim), np.float32)
        vectors[entries >= 0] = self.keys(entries[entries >= 0])
        return Reading(entries, distances, vectors)

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The K entries nearest to each query, nearest first: entries and squared L2 distances, (Q, K) each;
        -1 and inf where there are fewer than K. Raises InvalidInput for queries of another width or with NaN,
        MemoryFormatError where what is read is damaged."""
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise InvalidInput(f"queries of shape {queries.shape}: give (queries, {self.dim}).", queries.shape)
        if not np.isfinite(queries).all():
            raise InvalidInput("a query holds NaN or Inf: check the model that made it.")
        entries = np.full((len(queries), k), -1, dtype=np.int64)
        distances = np.full((len(queries), k), np.inf, dtype=np.float32)
        found = min(k, len(self))
        if self.keeps_keys and not self.exact:
            wanted = max(LEAST, found + max(SPARE, found // 4))
        else:  # they are not measured again: only those that tie with the last one are left out
            wanted = found + max(SPARE // 2, found // 16)
        if not found:
            return entries, distances
        index = self._flat if self.exact else self._scanner  # made before several threads ask for it
        threads = 1 if faiss.get_num_gpus() else faiss.omp_get_max_threads()
        size = min(CHUNK, max(LEAST_PART, -(-len(queries) // threads)))

        def find(start: int) -> None:
            rows = slice(start, start + size)
            part = np.ascontiguousarray(queries[rows], dtype=np.float32)
            entries[rows, :found], distances[rows, :found] = self._found(index, part, found, wanted)

        _each(find, range(0, len(queries), size), threads)
        return entries, distances

    def recall(self, asked: int = 64, k: int = 32) -> float:
        """The part of the K nearest that `search` finds, measured on entries looked up as if they were not there."""
        queries = self.keys(np.linspace(0, len(self) - 1, min(asked, len(self))).astype(np.int64))
        best = np.full((len(queries), k + 1), np.inf, np.float32)
        at = np.full((len(queries), k + 1), -1, np.int64)
        for start in range(0, len(self), 65_536):
            rows = np.arange(start, min(start + 65_536, len(self)))
            near, which = faiss.knn(queries, self.keys(rows), min(k + 1, len(rows)))
            both, where = np.hstack([best, near]), np.hstack([at, which + start])
            order = np.argsort(both, axis=1, kind="stable")[:, : k + 1]
            best, at = np.take_along_axis(both, order, 1), np.take_along_axis(where, order, 1)
            self.let_go()
        found = self.search(queries, k + 1)[0]
        pairs = zip(at[:, 1:], found[:, 1:], strict=True)
        return float(np.mean([len(np.intersect1d(true, got)) / max(1, (true >= 0).sum()) for true, got in pairs]))

    @cached_property
    def measured_recall(self) -> float | None:
        """`recall`, measured once; None where it is searched exactly."""
        return None if self.exact else round(self.recall(), 4)

    def let_go(self) -> None:
        """Hands the memory that mapped files take back to the system."""
        for segment in self.segments:
            segment.let_go()

    @cached_property
    def _flat(self) -> faiss.Index:
        """All keys, to be searched exactly; by all GPUs, where FAISS was built for them."""
        index = faiss.IndexFlatL2(self.dim)
        for start in range(0, len(self), 65_536):
            index.add(self.keys(np.arange(start, min(start + 65_536, len(self)))))
            self.let_go()
        return faiss.index_cpu_to_all_gpus(index) if faiss.get_num_gpus() else index

    @cached_property
    def _scanner(self) -> Scanner:
        assert self.quantizer is not None
        return Scanner(self.segments, self.quantizer)

    def _found(self, index: Any, queries: NDArray[np.float32], k: int, wanted: int) -> tuple[Array, Array]:
        """Entries and distances, (Q, K) each, from so many candidates; from four times as many where those that
        tie with the last one leave too few."""
        wanted = min(wanted, len(self))
        near, entries = index.search(queries, wanted)
        cut = (entries[:, -1] >= 0) & (wanted < len(self))
        entries[cut[:, None] & (near >= near[:, -1:])] = -1
        short = np.flatnonzero(cut & ((entries >= 0).sum(axis=1) < k))
        if not self.exact and self.keeps_keys:
            near = self._measured(queries, entries)
        # Sorted by distance, then by entry: the bits of floats that are not negative are in the floats' order.
        near = np.where(entries < 0, np.inf, np.maximum(near, 0)).astype(np.float32)
        ranked = near.view(np.uint32).astype(np.uint64) << np.uint64(32) | entries.astype(np.uint32)
        ranked.sort(axis=1)
        entries = ranked[:, :k].astype(np.uint32).astype(np.int32).astype(np.int64)
        near = (ranked[:, :k] >> np.uint64(32)).astype(np.uint32).view(np.float32)
        if len(short):
            entries[short], near[short] = self._found(index, queries[short], k, 4 * wanted)
        return entries, near

    def _measured(self, queries: NDArray[np.float32], entries: Array) -> Array:
        """Sorts the entries (Q, R) of each query (Q, D); their distances by their keys."""
        near = np.empty(entries.shape, np.float32)
        together = max(1, MEASURED // (entries.shape[1] * self.dim))
        for start in range(0, len(queries), together):
            rows = slice(start, start + together)
            entries[rows].sort(axis=1)
            keys = self.keys(entries[rows].ravel()).reshape(*entries[rows].shape, self.dim)
            for one, query, given in zip(near[rows], queries[rows], keys, strict=True):
                _distances(*map(faiss.swig_ptr, (one, query, given)), self.dim, len(one))
        return near

    def _decoded(self, segment: Segment, rows: Array) -> NDArray[np.float32]:
        if segment.keys is not None:
            return floats(_halves(segment, rows))
        if self.quantizer is None:
            raise InvalidInput("this datastore is compact: only its model can read its keys; open it with that.")
        return self.quantizer.decode(segment.codes_of(rows))

    def _gathered(
        self, entries: Array, kind: Any, width: tuple[int, ...], ask: Callable[[Segment, Array], Array]
    ) -> Array:
        """What each entry's segment answers for its row there."""
        if len(self.segments) == 1:
            return ask(self.segments[0], entries).astype(kind, copy=False)
        flat = entries.ravel()
        order = np.argsort(flat, kind="stable") if (np.diff(flat) < 0).any() else None
        ranked = flat if order is None else flat[order]
        cuts = np.searchsorted(ranked, self.ends)
        counts = np.diff(cuts, prepend=0)
        numbers, rows = np.flatnonzero(counts), ranked - np.repeat(self.starts, counts)
        lasts = cuts[numbers].tolist()
        found = np.empty((len(flat), *width), kind)
        for number, first, last in zip(numbers.tolist(), [0, *lasts], lasts, strict=False):
            found[first:last] = ask(self.segments[number], rows[first:last])
        if order is not None:
            given, found = found, np.empty_like(found)
            found[order] = given
        return found.reshape(*entries.shape, *width)


def _each(find: Callable[[int], None], starts: range, threads: int) -> None:
    """Calls `find` for each start, on so many threads, FAISS's own in each of them one (a query alone may take more):
    where FAISS, NumPy and PyTorch each wait for threads of their own, they wait for each other's."""

    def alone(start: int) -> None:
        before = faiss.omp_get_max_threads()  # this thread's
        faiss.omp_set_num_threads(1)
        try:
            find(start)
        finally:
            faiss.omp_set_num_threads(before)

    if len(starts) > 1 and threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(alone, starts))
    else:
        for start in starts:
            alone(start)


def _halves(segment: Segment, rows: Array) -> NDArray[np.float16]:
    """The 16-bit keys of rows (E,) of a segment that has them, (E, D)."""
    assert segment.keys is not None
    segment.see_keys(rows)
    found: NDArray[np.float16] = np.take(segment.keys, rows, axis=0)
    return found
