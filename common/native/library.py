"""The compiled kernels, as functions of numpy arrays.

Loaded from the folder of this package and nowhere else.  Arguments are checked here, as
a kernel reads and writes memory: an array of another type is converted where that loses
nothing and refused otherwise, one of another shape is refused, and so is one that is to
be written and is read-only or not contiguous.
"""

import ctypes
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedprune.common.errors import PayloadError, Reason
from fedprune.common.native.interface import (
    BAD_INDEX,
    CUT_OFF,
    INTERFACE,
    KINDS,
    MOST_PARTS,
    NO_MEMORY,
    SIGNATURES,
    Bytes,
    PackedModel,
    PackedPool,
    Pool,
    RunModel,
)

_TENSOR = 5  # numbers of a tensor in a table
_NOTHING = ctypes.c_char * 0
_Kind = TypeVar("_Kind", bound=np.generic)

Parts = Sequence[Bytes | None]
Table = NDArray[np.int64]


class Kernels:
    """The functions of a library.

    All raise TypeError and IndexError for arrays as the module docstring says.

    Args:
        path: The compiled library.

    Raises:
        OSError: If it cannot be loaded, or was compiled from other sources.
        AttributeError: If it lacks a function.
    """

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self._functions = {}
        for name, kinds in SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes = [KINDS[kind] for kind in kinds]
            function.restype = ctypes.c_int64
            self._functions[name] = function
        found = self._run("fp_open_versioned")
        if found != INTERFACE:
            msg = f"compiled from other sources: interface {found}; want {INTERFACE}"
            raise OSError(msg)

    def pairs(
        self, model: RunModel, parts: Parts, symbols: Bytes
    ) -> NDArray[np.uint32]:
        """Return (share << 16) + shares in front of each symbol, uint32[n].

        Raises:
            IndexError: If a symbol or a context is not one of the model.
        """
        out = np.empty(len(symbols), dtype=np.uint32)
        arrays = _parts(parts, model.sizes, len(symbols))
        symbols = _octets(symbols, len(symbols))
        spec = _packed(model)
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
        model = RunModel(symbols=shape[0], sizes=shape[1:], root=-1, lanes=1)
        spec = _packed(model)
        out = np.zeros((2, prod(shape[1:]), shape[0]), dtype=np.uint32)
        arrays = _parts(parts, shape[1:], len(symbols))
        symbols = _octets(symbols, len(symbols))
        of_symbols = (ctypes.byref(spec), _pointers(arrays), symbols, len(symbols))
        self._run("fp_tally", *of_symbols, out)
        found: NDArray[np.int64] = out[0].astype(np.int64)
        found += out[1]
        return found

    def push_run(
        self, pairs: NDArray[np.uint32], bits: int, states: NDArray[np.uint32]
    ) -> NDArray[np.uint16]:
        """Encode a run into the states, in place; return its words, uint16[m]."""
        room = np.empty(len(pairs), dtype=np.uint16)
        end = _address(room) + room.nbytes
        pairs = _read(pairs, np.uint32, len(pairs))
        states, lanes = _written(states, np.uint32, len(states)), len(states)
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
        arrays = _parts(parts, model.sizes, length)
        states = _written(states, np.uint32, model.lanes)
        words = _read(words, np.uint16, len(words))
        spec, at = _packed(model), ctypes.c_int64(next_word)
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
        rows, columns = _octets(rows, len(rows)), _octets(columns, len(columns))
        across = (columns if len(columns) else None, len(columns))
        of_rows = (*_table(tensors), rows, len(rows))
        self._run("fp_scores", *of_rows, *across, table, width, out, size)
        return out

    def column_counts(
        self, tensors: Table, positions: NDArray[np.int64], columns: int
    ) -> NDArray[np.int64]:
        """Return the number of rising positions in each column, int64[columns]."""
        out = np.zeros(columns, dtype=np.int64)
        found = _read(positions, np.int64, len(positions))
        tensors_ = _table(tensors)
        self._run("fp_column_counts", *tensors_, found, len(found), out, columns)
        return out

    def positions(self, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the positions that are True, int64[n], rising."""
        found = _read(mask, np.bool_, len(mask))
        out = np.empty(len(found), dtype=np.int64)
        count = self._run("fp_positions", found, len(found), out)
        return out[:count].copy()

    def gather_rows(
        self, values: Bytes, bounds: NDArray[np.int64], chosen: NDArray[np.bool_]
    ) -> Bytes:
        """Return the values of the chosen rows one after another, uint8[n]."""
        out, rows = np.empty(len(values), dtype=np.uint8), len(chosen)
        values = _octets(values, len(values))
        bounds = _read(bounds, np.int64, rows + 1)
        of_rows = (bounds, rows, _read(chosen, np.bool_, rows))
        count = self._run("fp_gather_rows", values, len(values), *of_rows, out)
        return out[:count]

    def spread_rows(
        self,
        values: Bytes,
        bounds: NDArray[np.int64],
        chosen: NDArray[np.bool_],
        fill: NDArray[np.bool_],
    ) -> Bytes:
        """Return the inverse of ``gather_rows``; other rows become their ``fill``."""
        out, rows = np.empty(int(bounds[-1]), dtype=np.uint8), len(chosen)
        values = _octets(values, len(values))
        bounds = _read(bounds, np.int64, rows + 1)
        given = (_read(chosen, np.bool_, rows), _read(fill, np.bool_, rows))
        of_values = (values, len(values), bounds, rows)
        self._run("fp_spread_rows", *of_values, *given, out, len(out))
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
        total = _written(total, np.int64, len(total))
        count = len(positions)
        arrays = _read(positions, np.int64, count), _read(values, np.float32, count)
        self._run("fp_add_sparse", total, len(total), *arrays, count, scale)

    def add_dense(
        self,
        total: NDArray[np.int64],
        values: NDArray[np.float32],
        scale: float,
        limit: float,
    ) -> bool:
        """Add ``rint(values * scale)`` everywhere, in place.

        Args:
            total: The sum, int64[n].
            values: float32[n].
            scale: What they are multiplied with.
            limit: Largest magnitude of a value.

        Returns:
            Whether it was added: not if a value is larger than the limit, or NaN.
        """
        found = _read(values, np.float32, len(total))
        total = _written(total, np.int64, len(total))
        return bool(self._run("fp_add_dense", total, found, len(total), scale, limit))

    def largest(
        self, values: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the rising positions of the largest magnitudes, and the values there.

        Returns:
            int64[count] and float32[count].
        """
        found = _read(values, np.float32, len(values))
        out = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.float32)
        self._run("fp_largest", found, len(found), count, *out)
        return out

    def columns(
        self, tensors: Table, positions: NDArray[np.int64]
    ) -> NDArray[np.uint32]:
        """Return the column of each rising position, uint32[n]."""
        found = _read(positions, np.int64, len(positions))
        out = np.empty(len(found), dtype=np.uint32)
        self._run("fp_columns", *_table(tensors), found, len(found), out)
        return out

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
        sizes = (len(pool.energy), len(row_bits), len(column_bits))
        num, rows, columns = sizes
        arrays = (
            _read(pool.bounds, np.int64, rows + 1),
            _read(pool.energy, np.float32, num),
            _read(pool.columns, np.uint32, num),
            _written(pool.chosen, np.uint8, num),
            _written(pool.scores, np.float32, num),
        )
        packed = PackedPool(*sizes, *[_address(one) for one in arrays])
        given = (
            _read(row_bits, np.float32, rows),
            _read(column_bits, np.float32, columns),
        )
        counts = np.zeros(rows, dtype=np.int64), np.zeros(columns, dtype=np.int64)
        settings = (ctypes.byref(packed), *given, value_bits, count)
        changed = self._run("fp_rate_step", *settings, *counts)
        return changed, counts

    def log2_steps(self, numbers: NDArray[np.integer], steps: int) -> NDArray[np.int64]:
        """Return ``floor(steps * log2(n))`` of n = 1..2**55."""
        found = _read(numbers.reshape(-1), np.int64, numbers.size)
        out = np.empty(numbers.shape, dtype=np.int64)
        self._run("fp_log2_steps", found, found.size, steps, out)
        return out

    def float_classes(
        self,
        values: NDArray[np.float32],
        bounds: NDArray[np.int64],
        shift: int,
        classes: int,
        sample: int,
    ) -> Bytes:
        """Return the class of each float of parts, uint8[n]; see ``float_classes``.

        Args:
            values: float32[n].
            bounds: Start of each part, and the end.
            shift: Bits of the pattern that are cut off, 16..23.
            classes: Number of classes, zero included, 2..256.
            sample: Floats of a part that its mean is computed from, >= 1.
        """
        out, count = np.empty(len(values), dtype=np.uint8), len(values)
        found = _read(values, np.float32, count)
        bounds = _read(bounds, np.int64, len(bounds))
        of_parts = (bounds, len(bounds) - 1, shift, classes, sample)
        self._run("fp_float_classes", found, count, *of_parts, out)
        return out

    def density_classes(
        self, counts: NDArray[np.int64], lengths: NDArray[np.int64], resolution: int
    ) -> Bytes:
        """Return the class of each row by its odds of an entry, uint8[rows]."""
        rows = len(counts)
        out = np.empty(rows, dtype=np.uint8)
        arrays = [_read(one, np.int64, rows) for one in (counts, lengths)]
        self._run("fp_density_classes", *arrays, rows, resolution, out)
        return out

    def _run(self, name: str, *arguments: object) -> int:
        given = [
            _address(one) if isinstance(one, np.ndarray) else one for one in arguments
        ]
        return _checked(self._functions[name](*given))


def _address(array: NDArray[np.generic]) -> int:
    """Return the address of the first value."""
    # ``ctypes.data`` takes three times as long.
    if array.flags.writeable:
        return ctypes.addressof(_NOTHING.from_buffer(array))  # type: ignore[arg-type]
    return int(array.ctypes.data)


def _read(array: NDArray[np.generic], kind: type[_Kind], *shape: int) -> NDArray[_Kind]:
    """Return an array as a contiguous one of this kind, without loss.

    Raises:
        TypeError: If not every value of its type is one of this kind.
        IndexError: If it has another shape.
    """
    if array.dtype != kind and not np.can_cast(array.dtype, kind, "safe"):
        msg = f"an array of {array.dtype}; want {np.dtype(kind)}"
        raise TypeError(msg)
    if array.shape != shape:
        msg = f"an array of {array.shape}; want {shape}"
        raise IndexError(msg)
    found = np.ascontiguousarray(array, dtype=kind)
    return found if found.flags.aligned else found.copy()


def _written(
    array: NDArray[np.generic], kind: type[_Kind], length: int
) -> NDArray[_Kind]:
    """Return an array that a kernel writes into.

    Raises:
        TypeError: If it is of another kind, or cannot be written in place.
        IndexError: If it has another length.
    """
    flags = array.flags
    if array.dtype != kind or not (flags.carray and flags.writeable):
        msg = f"want a contiguous array of {np.dtype(kind)} that may be written"
        raise TypeError(msg)
    return _read(array, kind, length)


def _octets(array: NDArray[np.generic], length: int) -> Bytes:
    """Return an array as contiguous bytes; raise as ``_read``."""
    return _read(array, np.uint8, length)


def _pointers(arrays: Sequence[Bytes | None]) -> object:
    """Return the addresses of arrays, as an array of C."""
    found = [None if array is None else _address(array) for array in arrays]
    return (ctypes.c_void_p * len(arrays))(*found)


def _packed(model: RunModel) -> PackedModel:
    """Return a model as the kernels read it."""
    sizes = (ctypes.c_int64 * MOST_PARTS)(*model.sizes)
    return PackedModel(model.symbols, len(model.sizes), sizes, model.root, model.lanes)


def _table(tensors: Table) -> tuple[Table, int]:
    """Return a table of tensors and their number."""
    count = len(tensors)
    return _read(tensors, np.int64, count, _TENSOR), count


def _parts(parts: Parts, sizes: tuple[int, ...], length: int) -> list[Bytes | None]:
    """Return the parts of the context of each symbol.

    Raises:
        IndexError: If there are not as many as sizes.
    """
    if len(parts) != len(sizes):
        msg = f"{len(parts)} parts of a context; want {len(sizes)}"
        raise IndexError(msg)
    return [None if part is None else _octets(part, length) for part in parts]


def _checked(result: int) -> int:
    """Return the result of a kernel.

    Raises:
        PayloadError: If the bytes of a message end too early.
        IndexError: If a context, symbol or position is out of range.
        MemoryError: If the kernel got no memory.
    """
    if result == CUT_OFF:
        raise PayloadError(Reason.BAD_SIZE, "delta.words", "cut off")
    if result == BAD_INDEX:
        msg = "a context, symbol or position is out of range"
        raise IndexError(msg)
    if result == NO_MEMORY:
        raise MemoryError
    return result
