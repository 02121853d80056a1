"""The compiled kernels, as functions of numpy arrays.

Loaded from the folder of this package and nowhere else.  Arguments are checked here:
a kernel reads and writes memory.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedprune.common.errors import PayloadError, Reason

_BAD_INDEX, _CUT_OFF, _NO_MEMORY = -1, -2, -3
_MOST_PARTS = 3

Bytes = NDArray[np.uint8]
Parts = Sequence[Bytes | None]
Table = NDArray[np.int64]


class _ModelSpec(ctypes.Structure):
    _fields_ = (
        ("symbols", ctypes.c_int64),
        ("parts", ctypes.c_int64),
        ("sizes", ctypes.c_int64 * _MOST_PARTS),
        ("root", ctypes.c_int64),
        ("lanes", ctypes.c_int64),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunModel:
    """The adaptive model of a run of symbols; see ``entropy/models.py``.

    Attributes:
        symbols: Size of the alphabet, 2..256.
        sizes: Values of each part of a context, 1..3 parts.
        root: Expected share of a one, in 2**-24, of bits; -1 of symbols.
        lanes: Lanes of the message.
    """

    symbols: int
    sizes: tuple[int, ...]
    root: int
    lanes: int

    def packed(self) -> _ModelSpec:
        """Return the model as the kernels read it."""
        sizes = (ctypes.c_int64 * _MOST_PARTS)(*self.sizes)
        return _ModelSpec(self.symbols, len(self.sizes), sizes, self.root, self.lanes)


class Pool(NamedTuple):
    """Candidates for the entries that are sent; see ``methods/choice.py``.

    Attributes:
        energy: Squared value of each, float32[m].
        rows: Its row, uint32[m].
        columns: Its column, uint32[m].
        chosen: 1 where it is sent, uint8[m]; replaced.
        scores: Room, float32[m].
    """

    energy: NDArray[np.float32]
    rows: NDArray[np.uint32]
    columns: NDArray[np.uint32]
    chosen: Bytes
    scores: NDArray[np.float32]


class _Pool(ctypes.Structure):
    _fields_ = (
        ("num", ctypes.c_int64),
        ("energy", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("columns", ctypes.c_void_p),
        ("chosen", ctypes.c_void_p),
        ("scores", ctypes.c_void_p),
    )


class Kernels:
    """The functions of a library.

    Args:
        path: The compiled library.

    Raises:
        OSError: If it cannot be loaded.
    """

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.fp_open()

    def pairs(
        self, model: RunModel, parts: Parts, symbols: Bytes
    ) -> NDArray[np.uint32]:
        """Return (share << 16) + shares in front of each symbol, uint32[n].

        Raises:
            IndexError: If a symbol or a context is not one of the model.
        """
        out = np.empty(len(symbols), dtype=np.uint32)
        arrays = _parts(parts, len(symbols))
        symbols = _bytes(symbols, len(symbols))
        spec = model.packed()
        of_symbols = (ctypes.byref(spec), _pointers(arrays), symbols, len(symbols))
        self._run("fp_pairs", *of_symbols, out)
        return out

    def tally(
        self, shape: tuple[int, ...], parts: Parts, symbols: Bytes
    ) -> NDArray[np.int64]:
        """Return how often each symbol stands in each context.

        Args:
            shape: Symbols, then the values of each part of a context.
            parts: The parts, uint8[n]; None = 0 everywhere.
            symbols: uint8[n].

        Raises:
            IndexError: If a symbol or a context is not one of the shape.
        """
        spec = RunModel(symbols=shape[0], sizes=shape[1:], root=-1, lanes=1).packed()
        out = np.zeros((2, prod(shape[1:]), shape[0]), dtype=np.int64)
        arrays = _parts(parts, len(symbols))
        symbols = _bytes(symbols, len(symbols))
        of_symbols = (ctypes.byref(spec), _pointers(arrays), symbols, len(symbols))
        self._run("fp_tally", *of_symbols, out)
        both: NDArray[np.int64] = out[0] + out[1]
        return both

    def push_run(
        self, pairs: NDArray[np.uint32], bits: int, states: NDArray[np.uint32]
    ) -> NDArray[np.uint16]:
        """Encode a run into the states, in place; return its words, uint16[m]."""
        room = np.empty(len(pairs), dtype=np.uint16)
        end = ctypes.c_void_p(room.ctypes.data + room.nbytes)
        lanes = len(states)
        count = self._run("fp_push_run", pairs, len(pairs), bits, states, lanes, end)
        return room[len(room) - count :]

    def pop_run(
        self,
        model: RunModel,
        parts: Parts,
        states: NDArray[np.uint32],
        words: NDArray[np.uint16],
        next_word: int,
    ) -> tuple[Bytes, int]:
        """Decode a symbol for each context; return them, and the next word.

        Raises:
            PayloadError: If the words end before the symbols.
        """
        length = next(len(part) for part in parts if part is not None)
        out = np.empty(length, dtype=np.uint8)
        arrays = _parts(parts, length)
        spec, at = model.packed(), ctypes.c_int64(next_word)
        of_contexts = (ctypes.byref(spec), _pointers(arrays), length)
        stream = (states, words, len(words), ctypes.byref(at))
        self._run("fp_pop_run", *of_contexts, *stream, out)
        return out, at.value

    def scores(self, tensors: Table, rows: Bytes, columns: Bytes, size: int) -> Bytes:
        """Return the score of each position, uint8[size]; see ``scores_of``.

        Args:
            tensors: (start, row, rows, columns, depth) of each, int64[n, 5].
            rows: Class of each row, uint8[rows].
            columns: Class of each column, or none.
            size: Number of positions.
        """
        out = np.empty(size, dtype=np.uint8)
        width = int(tensors[:, 3].max(initial=1)) if len(columns) else 1
        table = np.empty(256 * width, dtype=np.uint8)
        across = columns if len(columns) else None
        self._run("fp_scores", tensors, len(tensors), rows, across, table, width, out)
        return out

    def column_counts(
        self, tensors: Table, positions: NDArray[np.int64], columns: int
    ) -> NDArray[np.int64]:
        """Return the number of rising positions in each column, int64[columns]."""
        out = np.zeros(columns, dtype=np.int64)
        found = np.ascontiguousarray(positions, dtype=np.int64)
        self._run("fp_column_counts", tensors, len(tensors), found, len(found), out)
        return out

    def positions(self, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the positions that are True, int64[n], rising."""
        found = np.ascontiguousarray(mask, dtype=np.bool_)
        out = np.empty(len(found), dtype=np.int64)
        count = self._run("fp_positions", found, len(found), out)
        return out[:count].copy()

    def gather_rows(
        self, values: Bytes, bounds: NDArray[np.int64], chosen: NDArray[np.bool_]
    ) -> Bytes:
        """Return the values of the chosen rows one after another, uint8[n]."""
        out = np.empty(len(values), dtype=np.uint8)
        count = self._run("fp_gather_rows", values, bounds, len(chosen), chosen, out)
        return out[:count]

    def spread_rows(
        self,
        values: Bytes,
        bounds: NDArray[np.int64],
        chosen: NDArray[np.bool_],
        fill: NDArray[np.bool_],
    ) -> Bytes:
        """Return the inverse of ``gather_rows``; other rows become their ``fill``."""
        out = np.empty(int(bounds[-1]), dtype=np.uint8)
        self._run("fp_spread_rows", values, bounds, len(chosen), chosen, fill, out)
        return out

    def add_sparse(
        self,
        total: NDArray[np.int64],
        positions: NDArray[np.int64],
        values: NDArray[np.float32],
        scale: float,
    ) -> None:
        """Add ``rint(values * scale)`` at these positions, in place.

        Raises:
            IndexError: If a position is not one of ``total``; nothing was added then.
        """
        arrays = np.ascontiguousarray(positions, dtype=np.int64), _floats(values)
        count = len(arrays[0])
        scale_ = ctypes.c_double(scale)
        self._run("fp_add_sparse", total, len(total), *arrays, count, scale_)

    def add_dense(
        self, total: NDArray[np.int64], values: NDArray[np.float32], scale: float
    ) -> None:
        """Add ``rint(values * scale)`` everywhere, in place."""
        found = _floats(values)
        if len(found) != len(total):
            msg = f"{len(found)} values; want {len(total)}"
            raise IndexError(msg)
        self._run("fp_add_dense", total, found, len(total), ctypes.c_double(scale))

    def largest(self, values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Return the rising positions of the largest magnitudes, int64[count]."""
        found = np.ascontiguousarray(values, dtype=np.float32)
        out = np.empty(count, dtype=np.int64)
        self._run("fp_largest", found, len(found), count, out)
        return out

    def places(
        self, tensors: Table, positions: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Return the row and the column of each rising position, uint32[n] each."""
        found = np.ascontiguousarray(positions, dtype=np.int64)
        rows, columns = np.empty((2, len(found)), dtype=np.uint32)
        self._run("fp_places", tensors, len(tensors), found, len(found), rows, columns)
        return rows, columns

    def rate_step(
        self,
        pool: Pool,
        row_bits: NDArray[np.float32],
        column_bits: NDArray[np.float32],
        value_bits: float,
        count: int,
    ) -> tuple[int, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Choose the ``count`` candidates of the most energy for their bits.

        Returns:
            How many changed, and the chosen of each row and column, int64.
        """
        rows = np.zeros(len(row_bits), dtype=np.int64)
        columns = np.zeros(len(column_bits), dtype=np.int64)
        packed = _Pool(len(pool.energy), *[one.ctypes.data for one in pool])
        changed = self._run(
            "fp_rate_step",
            ctypes.byref(packed),
            row_bits,
            column_bits,
            ctypes.c_float(value_bits),
            count,
            rows,
            columns,
        )
        return changed, (rows, columns)

    def log2_steps(self, numbers: NDArray[np.integer], steps: int) -> NDArray[np.int64]:
        """Return ``floor(steps * log2(n))`` of n = 1..2**55."""
        found = np.ascontiguousarray(numbers, dtype=np.int64)
        out = np.empty(found.shape, dtype=np.int64)
        self._run("fp_log2_steps", found, found.size, steps, out)
        return out

    def density_classes(
        self, counts: NDArray[np.int64], lengths: NDArray[np.int64], resolution: int
    ) -> Bytes:
        """Return the class of each row by its odds of an entry, uint8[rows]."""
        out = np.empty(len(counts), dtype=np.uint8)
        arrays = [
            np.ascontiguousarray(one, dtype=np.int64) for one in (counts, lengths)
        ]
        if len(arrays[0]) != len(arrays[1]):
            msg = f"{len(counts)} counts of {len(lengths)} rows"
            raise IndexError(msg)
        self._run("fp_density_classes", *arrays, len(counts), resolution, out)
        return out

    def _run(self, name: str, *arguments: object) -> int:
        function = getattr(self._library, name)
        function.restype = ctypes.c_int64
        return _checked(int(function(*[_argument(one) for one in arguments])))


def _argument(value: object) -> object:
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    if isinstance(value, int):
        return ctypes.c_int64(value)
    return value


def _bytes(array: NDArray[np.generic], length: int) -> Bytes:
    """Return an array as contiguous bytes of this length."""
    found = np.ascontiguousarray(array, dtype=np.uint8)
    if found.shape != (length,):
        msg = f"an array of {found.shape}; want ({length},)"
        raise IndexError(msg)
    return found


def _floats(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, dtype=np.float32)


def _parts(parts: Parts, length: int) -> list[Bytes | None]:
    return [None if part is None else _bytes(part, length) for part in parts]


def _pointers(arrays: Sequence[Bytes | None]) -> object:
    found = [None if array is None else array.ctypes.data for array in arrays]
    return (ctypes.c_void_p * len(arrays))(*found)


def _checked(result: int) -> int:
    """Return the result of a kernel.

    Raises:
        PayloadError: If the bytes of a message end too early.
        IndexError: If a context, symbol or position is out of range.
        MemoryError: If the kernel got no memory.
    """
    if result == _CUT_OFF:
        raise PayloadError(Reason.BAD_SIZE, "delta.words", "cut off")
    if result == _BAD_INDEX:
        msg = "a context, symbol or position is out of range"
        raise IndexError(msg)
    if result == _NO_MEMORY:
        raise MemoryError
    return result
