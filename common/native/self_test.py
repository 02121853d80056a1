"""The self-test of the kernels at every load: known inputs, known outputs."""

from collections.abc import Iterator
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from fedprune.common.native.interface import Pool, RunModel
from fedprune.common.native.library import Kernels

_LANES, _COUNT = 9, 1500
_BITS, _SYMBOLS = 15, 13
# Rows of columns of taps, then a vector: (start, row, rows, columns, depth).
_TENSORS = np.array([[0, 0, 30, 7, 7], [1470, 30, 1, 30, 1]], dtype=np.int64)
_KNOWN = 0xCC5EF297


def check(kernels: Kernels) -> None:
    """Refuse kernels that give other bits than numpy.

    Raises:
        RuntimeError: If an output is not the known one.
    """
    found = 0
    for output in outputs(kernels):
        found = crc32(np.ascontiguousarray(output).tobytes(), found)
    if found != _KNOWN:
        msg = f"the self-test gives {found:#010x}; want {_KNOWN:#010x}"
        raise RuntimeError(msg)


def outputs(kernels: Kernels) -> Iterator[NDArray[np.generic]]:
    """Yield what each kernel makes of the known inputs."""
    yield from _coder(kernels)
    yield from _layout(kernels)
    yield from _selection(kernels)
    numbers = 1 + _numbers(_COUNT, 1 << 20).astype(np.int64)
    yield kernels.log2_steps(numbers, 4)
    yield kernels.density_classes(numbers % 77, np.full(_COUNT, 77), 2)
    yield kernels.float_classes(_floats(), np.array([0, 700, 700, _COUNT]), 21, 32, 90)
    total = np.zeros(_COUNT, dtype=np.int64)
    kernels.add_dense(total, _floats(), 3.0 * 2**24, 1.0)
    kernels.add_sparse(total, np.arange(0, _COUNT, 3), _floats()[::3], 2.0**50)
    yield total


def _numbers(count: int, below: int, start: int = 1) -> NDArray[np.uint32]:
    """Return numbers of a linear congruential generator: the same everywhere."""
    places = np.arange(start, start + count, dtype=np.uint64)
    mixed = (places * np.uint64(2654435761) + np.uint64(12345)) % np.uint64(2**32)
    mixed = (mixed ^ (mixed >> np.uint64(15))) * np.uint64(2246822519)
    mixed %= np.uint64(2**32)
    return ((mixed >> np.uint64(7)) % np.uint64(below)).astype(np.uint32)


def _floats() -> NDArray[np.float32]:
    """Return floats of both signs, equal magnitudes among them, float32[n]."""
    numbers = _numbers(_COUNT, 4001, 99).astype(np.float32) - np.float32(2000)
    return numbers * np.float32(2.0**-12)


def _coder(kernels: Kernels) -> Iterator[NDArray[np.generic]]:
    first = _numbers(_COUNT, 3).astype(np.uint8)
    high = _numbers(_COUNT, 4, 7).astype(np.uint8)
    bits = (_numbers(_COUNT, 16, 5) < 3 + 4 * first).astype(np.uint8)
    symbols = np.minimum(_numbers(_COUNT, 64, 3) >> 1, 20).astype(np.uint8)
    of_bits = RunModel(symbols=2, sizes=(3, 4), root=1 << 22, lanes=_LANES)
    of_symbols = RunModel(symbols=21, sizes=(4,), root=-1, lanes=_LANES)
    runs = (
        (of_bits, (first, high), bits, _BITS),
        (of_symbols, (high,), symbols, _SYMBOLS),
    )
    states = np.full(_LANES, (1 << 16) + 77, dtype=np.uint32)
    words = []
    for model, parts, values, precision in reversed(runs):
        words.append(
            kernels.push_run(kernels.pairs(model, parts, values), precision, states)
        )
        yield kernels.tally((model.symbols, *model.sizes), parts, values)
    stream = np.concatenate(words[::-1])
    yield states.copy()
    yield stream
    at = 0
    for model, parts, _, _ in runs:
        found, at = kernels.pop_run(model, parts, states, stream, at)
        yield found


def _layout(kernels: Kernels) -> Iterator[NDArray[np.generic]]:
    mask = _numbers(_COUNT, 5) == 0
    rows = _numbers(31, 12).astype(np.uint8)
    columns = _numbers(37, 12, 40).astype(np.uint8)
    positions = kernels.positions(mask)
    yield positions
    yield kernels.column_counts(_TENSORS, positions, 37)
    yield kernels.columns(_TENSORS, positions)
    yield kernels.scores(_TENSORS, rows, columns[:0], _COUNT)
    scores = kernels.scores(_TENSORS, rows, columns, _COUNT)
    yield scores
    bounds = np.concatenate([np.arange(0, 1471, 49), [_COUNT]])
    chosen = rows % 3 > 0
    some = kernels.gather_rows(scores, bounds, chosen)
    yield some
    yield kernels.spread_rows(some, bounds, chosen, rows % 2 > 0)


def _selection(kernels: Kernels) -> Iterator[NDArray[np.generic]]:
    values = _floats()
    positions, found = kernels.largest(values, _COUNT // 3)
    yield positions
    yield found
    bounds = np.searchsorted(positions, [*range(0, 1471, 49), _COUNT])
    columns = kernels.columns(_TENSORS, positions)
    energy = found**2
    chosen = np.zeros(len(positions), dtype=np.uint8)
    pool = Pool(bounds, energy, columns, chosen, np.empty_like(energy))
    bits = (_numbers(68, 9).astype(np.float32) + 1) / np.float32(4)
    changed, counts = kernels.rate_step(pool, bits[:31], bits[31:], 1.0, 100)
    yield np.array([changed])
    yield chosen
    yield from counts
