"""Segment: some hundred thousand entries of a datastore, as columns in RAM and as one file that is looked into where
it lies.

Knows: columns, their layout in a file (safetensors), checksums. Does not know: records, ledgers, searching.

The file is written once. Its codes come first, by cells, 32 together as FAISS's registers want them; all else lies
in the order in which the entries were added. A checksum for each 64 kB is compared when that part is read for the
first time, so that opening a segment reads next to nothing and a flipped bit is still never an answer.
Shapes: N entries, D key width, B bytes of a code, C cells, P places of codes (N, filled up to 32 in each cell), R runs.
"""

from __future__ import annotations

import json
import mmap
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from extmem.errors import MemoryFormatError
from extmem.records.base import Mapped

FORMAT = 2
BLOCK = 65_536  # bytes that one checksum stands for
TOGETHER = 32  # codes that FAISS scans at once
_ALIGNED = 256
_TYPES = {"U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "I32": np.int32, "I64": np.int64, "F16": np.float16}
_NAMES = {np.dtype(kind): name for name, kind in _TYPES.items()}

Array = NDArray[Any]


@dataclass(frozen=True)
class Columns:
    """Entries in RAM, in order: tokens (N,), starts and lengths (N,) of their spans, and which records they come from,
    run by run: ids (R,) and entries (R,). `keys` (N, D) float16 are None in a compact datastore; codes (N, B) and
    cells (N,) are None where no quantiser was at hand, else they are of the one that `quantizer` names, with so many
    cells."""

    keys: Array | None
    codes: Array | None
    cells: Array | None
    tokens: Array
    starts: Array
    lengths: Array
    run_ids: Array
    run_sizes: Array
    quantizer: str = ""
    cell_count: int = 0

    def __len__(self) -> int:
        return len(self.tokens)

    def part(self, start: int, stop: int) -> Columns:
        """The entries from `start` to before `stop`."""
        sizes = np.diff(np.clip(np.cumsum(self.run_sizes), start, stop), prepend=start)
        there = sizes > 0
        return self._of(slice(start, stop), run_ids=self.run_ids[there], run_sizes=sizes[there])

    def without(self, record_id: int) -> Columns:
        """The entries of all other records."""
        others = self.run_ids != record_id
        kept = np.repeat(others, self.run_sizes)
        return self._of(kept, run_ids=self.run_ids[others], run_sizes=self.run_sizes[others])

    def _of(self, which: Any, **changed: Any) -> Columns:
        for name in _PER_ENTRY:
            array = getattr(self, name)
            changed[name] = None if array is None else array[which]
        return replace(self, **changed)


_PER_ENTRY = ("keys", "codes", "cells", "tokens", "starts", "lengths")


def joined(parts: Sequence[Columns]) -> Columns:
    """The entries of all parts, in order; a column that one of them lacks is left out, and codes of several
    quantisers."""
    columns: dict[str, Any] = {}
    for name in (*_PER_ENTRY, "run_ids", "run_sizes"):
        arrays = [getattr(part, name) for part in parts]
        columns[name] = None if any(array is None for array in arrays) else np.concatenate(arrays)
    if len({(part.quantizer, part.cell_count) for part in parts}) > 1:
        return Columns(**columns | {"codes": None, "cells": None})
    return Columns(**columns, quantizer=parts[0].quantizer, cell_count=parts[0].cell_count)


def written(columns: Columns, about: dict[str, str]) -> tuple[bytes, dict[str, Any]]:
    """The file of these entries, and what the ledger is to note of it."""
    arrays: dict[str, Array] = {}
    if columns.codes is not None and columns.cells is not None:
        arrays["codes"], arrays["order"], arrays["ends"] = _laid(columns.codes, columns.cells, columns.cell_count)
    arrays |= {"run_ids": columns.run_ids.astype(np.int64), "run_sizes": columns.run_sizes.astype(np.uint32)}
    if columns.keys is not None:
        arrays["keys"] = columns.keys.astype(np.float16, copy=False)
    arrays |= {name: _narrow(getattr(columns, name)) for name in ("starts", "tokens", "lengths")}
    arrays = dict(sorted(arrays.items(), key=lambda item: -_width(item)))
    head, body = _head(arrays, about | {"format": str(FORMAT), "quantizer": columns.quantizer})
    pieces: list[Any] = [head, *(np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays.values())]
    sums = _sums(pieces).tobytes()
    note = {"entries": len(columns), "bytes": body + len(sums), "body": body, "crc32": zlib.crc32(sums)}
    return b"".join([*pieces, sums]), note


class Segment:
    """A segment's file, opened. Its columns are arrays that lie where the file lies. Raises MemoryFormatError for a
    file that was cut, changed, or is no segment, now or when a part of it is read for the first time."""

    def __init__(self, content: Mapped, note: dict[str, Any], place: str = "a segment") -> None:
        self.content, self.bytes, self.place = content, len(content), place
        if len(content) != note["bytes"]:
            raise damaged(place, f"it is cut short ({len(content):,} bytes of {note['bytes']:,})")
        self._advise("MADV_RANDOM")  # what is beside a key is no more likely to be wanted
        self._all = _aligned(content)
        self._sums = np.frombuffer(self._all[note["body"] :].tobytes(), np.uint32)
        if zlib.crc32(self._sums.tobytes()) != note["crc32"]:
            raise damaged(place, "it is damaged (its checksum differs)")
        self._body, self._read = note["body"], np.zeros(len(self._sums), bool)
        self._seen: set[str] = set()  # columns all of which was compared
        self._compare(0, 8)
        size = int(self._all[:8].view(np.uint64)[0])
        self._compare(8, min(8 + size, self._body))
        self._begin = 8 + size
        self._about: dict[str, Any] = json.loads(self._all[8 : 8 + size].tobytes())
        self.quantizer: str = self._about["__metadata__"].get("quantizer", "")
        runs = self._array("run_ids"), self._array("run_sizes")
        for name in ("run_ids", "run_sizes", *(("ends",) if "ends" in self._about else ())):
            self._compare(*self._place(name))
        self.run_ids, self.run_ends = runs[0], np.cumsum(runs[1], dtype=np.int64)
        self.codes = self._array("codes") if "codes" in self._about else None
        self.keys = self._array("keys") if "keys" in self._about else None

    def __len__(self) -> int:
        return int(self.run_ends[-1]) if len(self.run_ends) else 0

    @cached_property
    def ends(self) -> Array:
        """Entries in all cells up to and with each, (C,)."""
        return self._array("ends").astype(np.int64)

    @cached_property
    def firsts(self) -> Array:
        """The place of each cell's first code; and behind the last, how many places there are, (C + 1,)."""
        sizes = np.diff(self.ends, prepend=0)
        return np.concatenate([[0], np.cumsum(-(-sizes // TOGETHER) * TOGETHER)]).astype(np.int64)

    @cached_property
    def order(self) -> Array:
        """The entry at each place, (P,)."""
        return self._whole("order")

    @cached_property
    def places(self) -> Array:
        """The place of each entry's code, (N,)."""
        there = self.filled()
        places = np.empty(len(self), np.uint32)
        places[self.order[there]] = there
        return places

    @cached_property
    def tokens(self) -> Array:
        """The token each entry was followed by, (N,)."""
        return self._whole("tokens")

    @cached_property
    def spans(self) -> tuple[Array, Array]:
        """Where in its record each entry starts, and how long it is, (N,) each."""
        return self._whole("starts"), self._whole("lengths")

    def filled(self) -> Array:
        """The places that hold a code, (N,)."""
        sizes = np.diff(self.ends, prepend=0)
        return np.repeat(self.firsts[:-1] - (self.ends - sizes), sizes) + np.arange(len(self))

    def see_cells(self, cells: Array) -> None:
        """Compares the codes of these cells with their checksums, where that was not done yet."""
        assert self.codes is not None
        if "codes" in self._seen:
            return
        begin, width, cells = self._place("codes")[0], self.codes.shape[1], np.unique(cells)
        self._see("codes", begin + self.firsts[cells] * width, begin + self.firsts[cells + 1] * width)

    def _see_places(self, places: Array) -> None:
        assert self.codes is not None
        first = self._place("codes")[0] + places // TOGETHER * TOGETHER * self.codes.shape[1]
        self._see("codes", first, first + TOGETHER * self.codes.shape[1])

    def see_keys(self, entries: Array) -> None:
        """Compares the keys of these entries with their checksums, where that was not done yet."""
        assert self.keys is not None
        if "keys" in self._seen:
            return
        begin, width = self._place("keys")[0], self.keys.strides[0]
        self._see("keys", begin + entries * width, begin + (entries + 1) * width)

    def flat_codes(self) -> Array:
        """The codes in the entries' order, (N, B)."""
        assert self.codes is not None
        self._compare(*self._place("codes"))
        flat = np.empty_like(self.codes)
        packer = _packer(self.codes.shape[1])
        for first in range(0, len(flat), TOGETHER):
            packer.unpack_all(_pointer(self.codes, first), _pointer(flat, first))
        return flat[self.places]

    def codes_of(self, entries: Array) -> Array:
        """The codes of these entries (E,), (E, B)."""
        assert self.codes is not None
        if len(entries) > 4096:
            flat: Array = self.flat_codes()[entries]
            return flat
        found = np.empty((len(entries), self.codes.shape[1]), np.uint8)
        packer, places = _packer(self.codes.shape[1]), self.places[entries].astype(np.int64)
        self._see_places(places)
        for row, place in enumerate(places.tolist()):
            first = place - place % TOGETHER
            packer.unpack_1_c(_pointer(self.codes, first), place - first, faiss.swig_ptr(found[row]))
        return found

    def columns(self) -> Columns:
        """All of it in RAM, compared with its checksums."""
        self._compare(0, self._body)
        codes = cells = None
        if self.codes is not None:
            codes = self.flat_codes()
            cells = np.empty(len(self), np.uint16)
            cells[self.order[self.filled()]] = np.repeat(
                np.arange(len(self.ends), dtype=np.uint16), np.diff(self.ends, prepend=0)
            )
        keys = None if self.keys is None else np.array(self.keys)
        sizes = np.diff(self.run_ends, prepend=0)
        coded = ("", 0) if codes is None else (self.quantizer, len(self.ends))
        return Columns(keys, codes, cells, self.tokens, *self.spans, self.run_ids, sizes, *coded)

    def check(self) -> None:
        """Compares all of it with its checksums. Raises MemoryFormatError."""
        self._read[:] = False
        self._seen.clear()
        self._compare(0, self._body)
        self.let_go()

    def let_go(self) -> None:
        """Hands the memory it takes back to the system; what is looked at again is read again."""
        self._advise("MADV_DONTNEED")

    def _advise(self, how: str, *place: int) -> None:
        """Tells the system how the mapped file will be read, where it can be told."""
        if isinstance(self.content, mmap.mmap) and hasattr(mmap, how):
            self.content.madvise(getattr(mmap, how), *place)

    def _array(self, name: str) -> Array:
        start, stop = self._place(name)
        kind = np.dtype(_TYPES[self._about[name]["dtype"]])
        shape: list[int] = self._about[name]["shape"]
        array: Array = np.frombuffer(self._all[start:stop], kind).reshape(shape)
        return array

    def _place(self, name: str) -> tuple[int, int]:
        start, stop = self._about[name]["data_offsets"]
        return self._begin + start, self._begin + stop

    def _whole(self, name: str) -> Array:
        self._compare(*self._place(name))
        return self._array(name)

    def _see(self, column: str, starts: Array, stops: Array) -> None:
        """Compares all blocks of the file that these stretches of a column touch."""
        first, last = starts // BLOCK, (np.maximum(stops, starts + 1) - 1) // BLOCK
        if not (self._read[first].all() and self._read[last].all() and (last - first <= 1).all()):
            for start, stop in set(zip(first.ravel().tolist(), last.ravel().tolist(), strict=True)):
                self._compare(start * BLOCK, min((stop + 1) * BLOCK, self._body))
        begin, end = self._place(column)
        if self._read[begin // BLOCK : -(-end // BLOCK)].mean() > 0.5:
            self._compare(begin, end)  # the rest at once, and no more looking up
            self._seen.add(column)

    def _compare(self, start: int, stop: int) -> None:
        blocks = np.arange(start // BLOCK, -(-stop // BLOCK))
        blocks = blocks[~self._read[blocks]]
        if len(blocks):
            self._advise("MADV_WILLNEED", int(blocks[0]) * BLOCK, int(blocks[-1] + 1 - blocks[0]) * BLOCK)
        for block in blocks.tolist():
            part: Any = self._all[block * BLOCK : min((block + 1) * BLOCK, self._body)]
            if zlib.crc32(part) != self._sums[block]:
                raise damaged(self.place, "it is damaged (a checksum differs)")
            self._read[block] = True


def damaged(place: str, why: str) -> MemoryFormatError:
    """What to say of a segment that cannot be read."""
    cure = "restore it, or run 'extmem verify --repair' and memorize its documents again"
    return MemoryFormatError(f"{place}: {why.rstrip('.')}; {cure}.", place)


def floats(halves: NDArray[np.float16]) -> NDArray[np.float32]:
    """The same numbers as float32, faster than by NumPy: their exponents, shifted into place, lack 112."""
    wide = halves.view(np.int16).astype(np.int32)
    wide <<= 13
    wide &= np.int32(-0x70002000)
    numbers = wide.view(np.float32)
    numbers *= np.float32(2.0**112)
    return numbers


def _laid(codes: Array, cells: Array, count: int) -> tuple[Array, Array, Array]:
    """Codes by cells, the entry at each place, and the cells' ends. The codes of one cell keep the entries' order."""
    order = np.argsort(cells, kind="stable")
    sizes = np.bincount(cells, minlength=count)
    padded = -(-sizes // TOGETHER) * TOGETHER
    ends = np.cumsum(sizes)
    places = np.repeat(np.cumsum(padded) - padded - (ends - sizes), sizes) + np.arange(len(codes))
    flat = np.zeros((int(padded.sum()), codes.shape[1]), np.uint8)
    flat[places] = codes[order]
    packed, at = np.zeros_like(flat), np.zeros(len(flat), np.uint32)
    at[places] = order
    packer = _packer(codes.shape[1])
    for first in range(0, len(flat), TOGETHER):
        packer.pack_all(_pointer(flat, first), _pointer(packed, first))
    return packed, at, ends.astype(np.uint32)


def _packer(code_size: int) -> Any:
    """FAISS's way to lay 32 codes of so many bytes side by side."""
    index: Any = faiss.IndexPQFastScan(2 * code_size, 2 * code_size, 4)
    return index.get_CodePacker()


def _pointer(array: Array, row: int) -> Any:
    return faiss.swig_ptr(array[row : row + TOGETHER].reshape(-1))


def _head(arrays: dict[str, Array], about: dict[str, str]) -> tuple[bytes, int]:
    """A safetensors header filled up so that the arrays begin aligned; and where they end."""
    entries: dict[str, Any] = {"__metadata__": about}
    end = 0
    for name, array in arrays.items():
        entries[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [end, end + array.nbytes],
        }
        end += array.nbytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    size = -(-(8 + len(text)) // _ALIGNED) * _ALIGNED - 8
    return size.to_bytes(8, "little") + text.ljust(size), 8 + size + end


def _width(item: tuple[str, Array]) -> int:
    """Codes come first, then what is wide, so that all is aligned."""
    name, array = item
    return 100 if name == "codes" else array.itemsize


def _sums(pieces: Sequence[Any]) -> NDArray[np.uint32]:
    """The checksum of each block of what these pieces are together."""
    sums, sum_so_far, room = list[int](), 0, BLOCK
    for piece in pieces:
        at = 0
        while at < len(piece):
            part = piece[at : at + room]
            sum_so_far, at, room = zlib.crc32(part, sum_so_far), at + len(part), room - len(part)
            if not room:
                sums.append(sum_so_far)
                sum_so_far, room = 0, BLOCK
    return np.array([*sums, *([sum_so_far] if room < BLOCK else [])], np.uint32)


def _aligned(content: Mapped) -> NDArray[np.uint8]:
    """The bytes as an array that begins at a multiple of 256; a mapped file does."""
    array: NDArray[np.uint8] = np.frombuffer(content, np.uint8)
    if array.ctypes.data % _ALIGNED == 0:
        return array
    room = np.empty(len(array) + _ALIGNED, np.uint8)
    start = -room.ctypes.data % _ALIGNED
    room[start : start + len(array)] = array
    return room[start : start + len(array)]


def _narrow(array: Array) -> Array:
    """The same numbers in the fewest bytes that hold them all."""
    low, high = (int(array.min()), int(array.max())) if len(array) else (0, 0)
    for kind in (np.uint8, np.uint16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return array.astype(kind)
    return array.astype(np.int64)
