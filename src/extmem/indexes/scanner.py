"""Scanner: FAISS's scan of four-bit codes over many mapped segments at once, where they lie.

Knows: how FAISS's inverted lists name their memory. Does not know: keys, tokens, records.

FAISS can keep inverted lists on a disk (OnDiskInvertedLists): for each list an offset, a size and a capacity, with
the codes at `offset` and the ids at `offset + code_size * capacity`. Here every cell of every segment is a list of
its own whose offset leads to the segment's mapped file; its capacity is such that the ids, the numbers of the
entries, are found in one array in RAM. So opening a segment moves no code, and one call of FAISS looks through all of
them.
Shapes: Q queries, R candidates, C cells, S segments.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from extmem.indexes.quantizer import Quantizer
from extmem.indexes.segment import Array, Segment

ONE = 11  # FAISS's way (`implem`) of scanning for one query: half the time of what it chooses by itself
PART = 4 << 20  # bytes of codes that a thread of its own is worth


class Scanner:
    """Over segments that hold codes of this quantiser."""

    def __init__(self, segments: Sequence[Segment], quantizer: Quantizer) -> None:
        self.segments, self.quantizer = segments, quantizer
        cells, begin, counted = len(quantizer.cells), 0, 0
        self._ids = _aligned(sum(int(segment.firsts[-1]) for segment in segments))
        lists = np.zeros((cells, len(segments), 3), np.uint64)  # size, capacity, offset: faiss::OnDiskOneList
        for number, segment in enumerate(segments):
            assert segment.codes is not None
            firsts = segment.firsts.astype(np.uint64)
            end = begin + int(firsts[-1])
            np.add(segment.order, counted, out=self._ids[begin:end])
            codes = np.uint64(segment.codes.ctypes.data) + firsts[:-1] * np.uint64(quantizer.code_size)
            ids = np.uint64(self._ids[begin:].ctypes.data) + firsts[:-1] * np.uint64(8)
            lists[:, number, 0] = np.diff(segment.ends, prepend=0)
            lists[:, number, 1] = _quotient(ids - codes, quantizer.code_size)
            lists[:, number, 2] = codes - np.uint64(self._ids.ctypes.data)
            begin, counted = end, counted + len(segment)
        self._lists: Any = faiss.OnDiskInvertedLists()
        self._lists.nlist, self._lists.code_size = cells * len(segments), quantizer.code_size
        self._lists.read_only, self._lists.prefetch_nthread = True, 0
        table: Any = self._lists.lists
        table.resize(cells * len(segments))
        ctypes.memmove(int(table.data().this), lists.ctypes.data, lists.nbytes)
        self._lists.ptr = faiss.swig_ptr(self._ids.view(np.uint8))
        weakref.finalize(self, _let_go, self._lists)
        self.probes = quantizer.probes_among(counted)
        wide = self.probes * len(segments)  # lists that a query looks through,
        looked = counted * quantizer.code_size * self.probes // cells  # and bytes, about
        self._threads = max(1, min(faiss.omp_get_max_threads(), looked // PART, wide))
        self._many = self._index(wide, counted)
        self._one = self._index(-(-wide // self._threads), counted, ONE)

    def search(self, queries: NDArray[np.float32], wanted: int) -> tuple[Array, Array]:
        """The distances (Q, R) of the codes nearest to each query, and their entries, -1 where there are fewer.
        Raises MemoryFormatError where what is looked at is damaged."""
        far, cells = self.quantizer.probed(queries, self.probes)
        for segment in self.segments:
            segment.see_cells(cells)
        count = len(self.segments)
        lists = (cells[:, :, None] * count + np.arange(count)).reshape(len(queries), -1)
        tables = self.quantizer.tables(queries, _reach(far))
        if len(queries) == 1 and self._threads > 1:
            near, entries = self._shared(tables, wanted, lists)
        else:
            near, entries = _scanned(self._one if len(queries) == 1 else self._many, tables, wanted, lists)
        return -near, entries

    def _shared(self, tables: NDArray[np.float32], wanted: int, lists: Array) -> tuple[Array, Array]:
        """One query, (1, R) each, by several threads: for FAISS as many queries, each with a part of the lists."""
        parts = np.full((self._threads, self._one.nprobe), -1, np.int64)
        parts.reshape(-1)[: lists.size] = lists[0]
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(self._threads)
        try:
            near, entries = _scanned(self._one, np.repeat(tables, self._threads, axis=0), wanted, parts)
        finally:
            faiss.omp_set_num_threads(before)
        best = np.lexsort((entries.ravel(), -near.ravel()))[None, :wanted]
        return near.ravel()[best], entries.ravel()[best]

    def _index(self, lists: int, counted: int, how: int = 0) -> Any:
        """FAISS's index of so many entries that looks through so many lists, in one of FAISS's ways."""
        index = self.quantizer.scanner(len(self.quantizer.cells) * len(self.segments))
        index.replace_invlists(self._lists, False)
        index.ntotal, index.nprobe, index.implem = counted, lists, how
        return index


def _scanned(index: Any, tables: NDArray[np.float32], wanted: int, lists: Array) -> tuple[Array, Array]:
    """What FAISS's index finds in these lists (Q, L) by tables (Q, 16 M), (Q, R) each: the higher, the nearer."""
    found: tuple[Array, Array] = index.search_preassigned(tables, wanted, lists, np.zeros(lists.shape, np.float32))
    return found


def _reach(far: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far from each query its neighbours are looked for, by how far the nearest cells (Q, P) are, (Q,); anywhere
    where there is one alone."""
    reach = far[:, :2].sum(axis=1) * (far.shape[1] > 1)
    found: NDArray[np.float32] = np.where(reach > 0, reach, np.float32(np.inf))
    return found


def _quotient(distances: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
    """The numbers that, times `size` and modulo 2**64, are these distances between addresses: multiples of the
    greatest power of two in `size`, which is divided by; the odd rest has an inverse."""
    even = size & -size
    assert not (distances % np.uint64(even)).any()
    return distances // np.uint64(even) * np.uint64(pow(size // even, -1, 2**64))


def _aligned(count: int) -> NDArray[np.int64]:
    """Room for so many numbers at an address that is a multiple of 256."""
    room = np.empty(count + 32, np.int64)
    start = -room.ctypes.data % 256 // 8
    return room[start : start + count]


def _let_go(lists: Any) -> None:
    """Its destructor unmaps what it thinks is its file."""
    lists.ptr = None
