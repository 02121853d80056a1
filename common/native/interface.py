"""The arguments of the kernels: their types, and what they are structures of."""

import ctypes
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# The version of all that follows, as in ``kernels.h``: one more where it changes.
INTERFACE = 3
BAD_INDEX, CUT_OFF, NO_MEMORY = -1, -2, -3  # results
MOST_PARTS = 3

Bytes = NDArray[np.uint8]

# The arguments of each kernel: address, int64, float, double.
KINDS = {
    "a": ctypes.c_void_p,
    "i": ctypes.c_int64,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
}
SIGNATURES = {
    "fp_open_versioned": "",
    "fp_pairs": "aaaia",
    "fp_tally": "aaaia",
    "fp_push_run": "aiiaia",
    "fp_pop_run": "aaiaaiaa",
    "fp_scores": "aiaiaiaiai",
    "fp_column_counts": "aiaiai",
    "fp_columns": "aiaia",
    "fp_positions": "aia",
    "fp_gather_rows": "aiaiaa",
    "fp_spread_rows": "aiaiaaai",
    "fp_largest": "aiiaa",
    "fp_rate_step": "aaafiaa",
    "fp_add_sparse": "aiaaid",
    "fp_add_dense": "aaidd",
    "fp_log2_steps": "aiia",
    "fp_density_classes": "aaiia",
    "fp_float_classes": "aiaiiiia",
}


class PackedModel(ctypes.Structure):
    """A ``RunModel`` as the kernels read it."""

    _fields_ = (
        ("symbols", ctypes.c_int64),
        ("parts", ctypes.c_int64),
        ("sizes", ctypes.c_int64 * MOST_PARTS),
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


class Pool(NamedTuple):
    """Candidates for the entries that are sent, row by row; see ``methods/choice.py``.

    Attributes:
        bounds: Start of the candidates of each row, and the end, int64[rows + 1].
        energy: Squared value of each, float32[m].
        columns: Its column, uint32[m].
        chosen: 1 where it is sent, uint8[m]; replaced.
        scores: Room, float32[m].
    """

    bounds: NDArray[np.int64]
    energy: NDArray[np.float32]
    columns: NDArray[np.uint32]
    chosen: Bytes
    scores: NDArray[np.float32]


class PackedPool(ctypes.Structure):
    """A ``Pool`` as the kernels read it; room and arrays as addresses."""

    _fields_ = (
        ("num", ctypes.c_int64),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("bounds", ctypes.c_void_p),
        ("energy", ctypes.c_void_p),
        ("column", ctypes.c_void_p),
        ("chosen", ctypes.c_void_p),
        ("scores", ctypes.c_void_p),
    )
