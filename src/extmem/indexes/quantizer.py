"""Quantizer: a vector as a cell and a short code, both of them functions of the vector and of nothing else.

Knows: vectors. Does not know: entries, records, files, how codes are scanned.

Vectors are turned to their principal axes first. The cells are centres of the first three eighths of these (a large
datastore looks into a few cells only); where such cells do not do, of as many as have most of the variance. The code
is a product quantiser's (Jégou et al. 2011) with sixteen centres a piece, so that a piece takes four bits and is
scanned in the processor's registers (André et al. 2015); each piece holds an axis along which vectors differ much and
one along which they differ little. Codes are of the vector itself and not of what is left of it beside its cell: a
query needs one table of distances, not one for each cell.

A quantiser is learned from a model's training states and belongs to the model, or from nothing at all (`of_units`). No
entry of a datastore leaves a trace in it, so none has to be taken out of it when the entry is forgotten.
Shapes: N vectors, D width, C cells, E width of a cell, M pieces of a code, Q queries.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from extmem.errors import MemoryFormatError

CELLS = 1024  # at most, or twice as many where these do not do
SAMPLE = 65_536  # vectors that a quantiser is learned from
PER_CELL, PER_MORE = 39, 32  # vectors that a cell is learned from, at least
MOST = 128  # cells that a query may look into, or twice as many,
PROBES = sorted({round(4 * 2 ** (step / 6)) for step in range(37)})  # of these numbers
RECALL = 0.99  # the part of the 32 nearest that a search is to find
_CELLS_FIND = 0.9925  # the part of them that lies in the cells looked into: the codes miss some more
_TELL = 0.9  # the part of the variance that the axes of the cells have then
CUT = 2.0  # standard deviations (docs/log.md)
_WIDEST = 256  # pieces: their distances are added up in 16 bits
_HALVED = 64  # width from which codes of fewer pieces are tried,
_FEW = 0.9  # where a sixteenth of the axes has this part of the variance,
_WORSE = 0.01  # and how much less of the nearest they may find


@dataclass(frozen=True, eq=False)
class Quantizer:
    """`axes` (D, D) float32, a row each, the principal one first where they were learned; `cells` (C, E) and
    `codebook` (M, 16, D / M) float32; among SAMPLE entries a query looks into `probes` cells."""

    axes: NDArray[np.float32]
    cells: NDArray[np.float32]
    codebook: NDArray[np.float32]
    probes: int = 32

    @classmethod
    def train(cls, vectors: NDArray[np.float32]) -> Quantizer:
        """Learned from vectors (N, D): as few cells as will do, and so many looked into that 0.9925 of the 32 nearest
        of vectors kept aside lie in them; codes of as few pieces as tell these as well as more would."""
        axes = _axes(vectors)
        turned = np.ascontiguousarray(vectors @ axes.T, dtype=np.float32)
        narrow = np.ascontiguousarray(turned[:, : _least_width(len(axes))])
        asked, found = _aside(vectors)
        cells = _cells(narrow, max(1, min(CELLS, len(vectors) // PER_CELL)))
        probes, do = _probes(narrow[asked], narrow[~asked], found, cells, MOST)
        if not do:
            wide = np.ascontiguousarray(turned[:, : _telling_width(turned.var(axis=0))])
            more = 1 + (len(vectors) >= 2 * CELLS * PER_MORE)
            cells = _cells(wide, more * len(cells))
            probes, _ = _probes(wide[asked], wide[~asked], found, cells, more * MOST)
        return cls(axes, cells, _fewest(turned, asked, found), probes)

    @classmethod
    def of_units(cls, dim: int) -> Quantizer:
        """For vectors of length 1 and this width of which nothing is known, and which may lie anywhere, as embeddings
        of a domain's texts do: one cell, and codes of two numbers a piece, more where they are wide, along axes drawn
        at random, where all of them are nearly normal with a variance of 1 / D, whatever the vectors are (Gao and Long
        2024, section 3.1)."""
        draw = np.random.default_rng(0)
        axes = np.linalg.qr(draw.standard_normal((dim, dim)))[0].astype(np.float32)
        width = unit_width(dim)
        piece = _codebook(draw.standard_normal((32_768, width)).astype(np.float32) / np.float32(math.sqrt(dim)), 1)
        return cls(axes, np.zeros((1, _least_width(dim)), np.float32), np.repeat(piece, dim // width, axis=0), 1)

    @classmethod
    def of_cells(cls, cells: NDArray[np.float32]) -> Quantizer:
        """For a model that was saved with cells (C, D) alone: the axes and the codes are learned from these."""
        axes = _axes(cells)
        turned = np.ascontiguousarray(cells @ axes.T, dtype=np.float32)
        narrow = np.ascontiguousarray(turned[:, : _least_width(len(axes))])
        return cls(axes, narrow, _codebook(turned, pieces(len(axes))[-1]), min(32, len(cells)))

    def to_bytes(self) -> bytes:
        """For a file."""
        parts = {"axes": self.axes, "cells": self.cells, "codebook": self.codebook, "probes": np.array([self.probes])}
        return save({name: np.ascontiguousarray(part) for name, part in parts.items()})

    @classmethod
    def from_bytes(cls, content: bytes) -> Quantizer:
        """What `to_bytes` made this of. Raises MemoryFormatError."""
        try:
            parts = load(content)
            return cls(parts["axes"], parts["cells"], parts["codebook"], int(parts["probes"][0]))
        except (SafetensorError, KeyError) as error:
            cure = "extmem verify --repair strikes it out; then memorize again"
            raise MemoryFormatError(f"a datastore's quantiser is damaged ({error}): {cure}.") from error

    @property
    def dim(self) -> int:
        """The width of the vectors."""
        return len(self.axes)

    @property
    def code_size(self) -> int:
        """Bytes of a code."""
        return (len(self.codebook) + 1) // 2

    @cached_property
    def name(self) -> str:
        """8 hex digits that stand for it: codes of another one mean nothing to this one."""
        digest = 0
        for part in (self.axes, self.cells, self.codebook):
            digest = zlib.crc32(np.ascontiguousarray(part, np.float32).tobytes(), digest)
        return f"{digest:08x}"

    @cached_property
    def _product(self) -> Any:
        return _coder(self.codebook)

    @cached_property
    def _centres(self) -> faiss.IndexFlatL2:
        return _flat(self.cells)

    @cached_property
    def _coded_axes(self) -> NDArray[np.float32]:
        """The axes in the codes' order, a row each."""
        return np.ascontiguousarray(self.axes[_order(self.dim, len(self.codebook))])

    @cached_property
    def _turns(self) -> tuple[Any, Any]:
        """Vectors to the axes in the codes' order, and to those of the cells: by FAISS, as NumPy's own threads would
        wait for FAISS's."""
        return tuple(_turn(axes) for axes in (self._coded_axes, self.axes[: self.cells.shape[1]]))

    def turned(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors (N, D) along the axes, these in the codes' order, (N, D)."""
        found: NDArray[np.float32] = self._turns[0].apply(vectors)
        return found

    def encode(self, vectors: NDArray[np.float32]) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
        """The cell (N,) and the code (N, bytes) of each vector (N, D)."""
        cells = self.probed(vectors, 1)[1][:, 0].astype(np.uint16)
        return cells, self._product.compute_codes(self.turned(vectors))

    def decode(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The vectors (N, D) that codes (N, bytes) stand for."""
        count = len(self.codebook)
        numbers = np.stack([codes & 15, codes >> 4], axis=2).reshape(len(codes), -1)[:, :count]
        turned = self.codebook[np.arange(count), numbers].reshape(len(codes), self.dim)
        return np.asarray(turned @ self._coded_axes, np.float32)

    def probed(self, queries: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The cells nearest to queries (Q, D), the nearest first: squared distances and cells, (Q, count) each."""
        near, cells = self._centres.search(self._turns[1].apply(queries), count)
        return near, cells

    def tables(self, queries: NDArray[np.float32], reach: NDArray[np.float32]) -> NDArray[np.float32]:
        """How far each piece of queries (Q, D) is from each of its centres, squared and less than nothing: what
        `scanner` is asked with, (Q, 16 M). The scan has 8 bits for a distance: they are spent on those up to
        `reach` (Q,) above the least of a piece, and what is farther counts as much as that."""
        far = np.empty((len(queries), len(self.codebook), 16), np.float32)
        turned = self.turned(queries)
        self._product.compute_distance_tables(len(queries), faiss.swig_ptr(turned), faiss.swig_ptr(far))
        most = far.min(axis=2, keepdims=True) + reach[:, None, None]
        np.negative(np.minimum(far, most, out=far), out=far)
        return far.reshape(len(queries), -1)

    def probes_among(self, entries: int) -> int:
        """Cells that a query looks into among so many entries: the more there are, the nearer lie the nearest. Half as
        many for sixty-four times SAMPLE entries."""
        probes: float = self.probes * min(1.0, (SAMPLE / max(1, entries)) ** (1 / 6))
        return min(len(self.cells), max(math.ceil(probes), min(self.probes, PROBES[0])))

    def scanner(self, lists: int) -> Any:
        """FAISS's scanner of these codes over so many lists of its caller's. It is asked with `tables`: its own way to
        them is an inner product with 16 unit vectors a piece."""
        pieces = len(self.codebook)
        unused = faiss.IndexFlatIP(16 * pieces)  # FAISS's own choice of lists
        scanner: Any = faiss.IndexIVFPQFastScan(
            unused, 16 * pieces, lists, pieces, 4, faiss.METRIC_INNER_PRODUCT, 32, False
        )
        scanner.by_residual, scanner.own_fields, scanner.is_trained = False, False, True
        units = np.tile(np.eye(16, dtype=np.float32).ravel(), pieces)
        faiss.copy_array_to_vector(units, scanner.pq.centroids)
        return scanner


def _axes(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The principal axes of vectors (N, D), a row each, the one along which they differ most first."""
    centred = (vectors - vectors.mean(axis=0)).astype(np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    return np.ascontiguousarray(axes[:, ::-1].T, dtype=np.float32)


def _turn(axes: NDArray[np.float32]) -> Any:
    """FAISS's product of vectors (N, D) with axes (E, D), (N, E)."""
    turn: Any = faiss.LinearTransform(axes.shape[1], len(axes), False)
    faiss.copy_array_to_vector(np.ascontiguousarray(axes, np.float32).ravel(), turn.A)
    turn.is_trained = True
    return turn


def _coder(codebook: NDArray[np.float32]) -> Any:
    """FAISS's product quantiser with these centres (M, 16, D / M)."""
    count, _, width = codebook.shape
    coder: Any = faiss.ProductQuantizer(count * width, count, 4)
    faiss.copy_array_to_vector(np.ascontiguousarray(codebook, np.float32).ravel(), coder.centroids)
    return coder


def _order(dim: int, count: int) -> NDArray[np.int64]:
    """The axes piece by piece, strong and weak ones together: there and back again over the pieces."""
    rows = np.arange(dim).reshape(-1, count)
    rows[1::2] = rows[1::2, ::-1]
    return rows.T.ravel()


def _least_width(dim: int) -> int:
    return max(min(dim, 8), dim * 3 // 8)


def _telling_width(varied: NDArray[np.float32]) -> int:
    """How many of the axes, by the variances along them (D,), tell most of vectors apart."""
    telling = int(np.searchsorted(np.cumsum(varied), _TELL * varied.sum())) + 1
    return min(len(varied), max(_least_width(len(varied)), telling))


def _flat(vectors: NDArray[np.float32]) -> faiss.IndexFlatL2:
    """FAISS's index of vectors that are all compared."""
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, np.float32))
    return index


def _cells(narrow: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """So many centres of vectors (N, E), (C, E)."""
    kmeans: Any = faiss.Kmeans(
        narrow.shape[1], count, niter=8, seed=1, min_points_per_centroid=1, max_points_per_centroid=2 * PER_CELL
    )
    kmeans.train(narrow)
    centres: NDArray[np.float32] = kmeans.centroids
    return centres


def unit_width(dim: int) -> int:
    """How many numbers a piece of a code `of_units` has: more than 16 tell nothing apart (a prime number of them)."""
    return next(size for size in range(min(2, dim), dim + 1) if dim % size == 0 and dim // size <= _WIDEST)


def pieces(dim: int) -> list[int]:
    """How many pieces a code of vectors of this width may have, the fewest first: of two dimensions each or more, of
    four where they are wide; before that half as many."""
    least = 4 if dim >= 512 else 2
    sizes = [size for size in range(1, dim + 1) if dim % size == 0 and dim // size <= _WIDEST]
    size = next((size for size in sizes if size >= least and dim // size > 1), sizes[0])
    return [dim // (2 * size), dim // size] if dim % (2 * size) == 0 and dim >= _HALVED else [dim // size]


def _aside(vectors: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Some of vectors (N, D) to be looked up, (N,), and their 32 nearest among the others, (A, 32)."""
    asked = np.zeros(len(vectors), bool)
    asked[:: max(2, len(vectors) // 512)] = True
    others = np.ascontiguousarray(vectors[~asked], np.float32)
    return asked, faiss.knn(np.ascontiguousarray(vectors[asked], np.float32), others, min(32, len(others)))[1]


def _fewest(turned: NDArray[np.float32], asked: NDArray[np.bool_], found: NDArray[np.int64]) -> NDArray[np.float32]:
    """The codebook with the fewest pieces by which nearly as many of the nearest are found as with the most. Fewer can
    do where vectors differ along a few axes only."""
    dim, most = turned.shape[1], _codebook(turned, pieces(turned.shape[1])[-1])
    varied = turned.var(axis=0)
    if varied[: dim // 16].sum() < _FEW * varied.sum():
        return most
    books, recalls = [_codebook(turned, count) for count in pieces(dim)[:-1]] + [most], []
    for book in books:
        coder = _coder(book)
        ordered = np.ascontiguousarray(turned[:, _order(dim, len(book))])
        coded = coder.decode(coder.compute_codes(ordered[~asked]))
        near = faiss.knn(ordered[asked], coded, found.shape[1])[1]
        recalls.append((found[:, :, None] == near[:, None, :]).any(axis=2).mean())
    return next(book for book, recall in zip(books, recalls, strict=True) if recall >= recalls[-1] - _WORSE)


def _codebook(turned: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Sixteen centres for each of so many pieces of turned vectors (N, D), (M, 16, D / M).

    The scan has 8 bits for a distance in a piece, of which the farthest centre takes the largest: so they are learned
    from numbers cut at CUT deviations, and near ones are told apart the better."""
    dim = turned.shape[1]
    product = faiss.ProductQuantizer(dim, count, 4)
    product.cp.min_points_per_centroid, product.cp.niter = 1, 25
    sample = turned[:: max(1, len(turned) // 32_768), _order(dim, count)]
    centre, most = sample.mean(axis=0), CUT * sample.std(axis=0)
    sample = sample.clip(centre - most, centre + most)
    product.train(np.ascontiguousarray(np.resize(sample, (max(16, len(sample)), dim)), np.float32))
    return np.asarray(faiss.vector_to_array(product.centroids).reshape(count, 16, dim // count), np.float32)


def _probes(
    asked: NDArray[np.float32],
    others: NDArray[np.float32],
    found: NDArray[np.int64],
    cells: NDArray[np.float32],
    most: int,
) -> tuple[int, bool]:
    """The fewest cells, and no more than `most`, that hold enough of the nearest (A, 32) of those asked for, and
    whether they do; of all vectors the first axes."""
    centres = _flat(cells)
    home = centres.search(others, 1)[1][:, 0][found]
    order = centres.search(asked, min(most, len(cells)))[1]
    for count in PROBES:
        if (home[:, :, None] == order[:, None, :count]).any(axis=2).mean() >= _CELLS_FIND:
            return min(count, len(cells)), True
        if count >= most:
            break
    return min(most, len(cells)), False
