"""What a delta holds at its places: scales, levels and signs.

A level travels relative to what the shrink of the sparsifier would have made of it:
``rest = level * sign(weight) + shrink / scale``, rounded.  Its size is told by the
mean size in its row and by the classes of the weight and of what the weight did in
the round before; its sign by all of these.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.codec.adaptive import Model
from common.codec.alphabet import Alphabet
from common.codec.classes import (
    COARSE,
    SIZES,
    Class,
    float_classes,
)
from common.codec.coder import Coder
from common.codec.rans import WORD, Ints
from common.codec.recipe import Known, Recipe
from common.codec.shape import TENSORS
from common.errors import PayloadError, Reason
from common.messages import Indices, Vector

_HALVES = 22  # bits cut off a float, so that halves of an octave are left
_SAMPLE = 1 << 16  # entries that a median is taken of
_SIDES = 6
_OCTAVES = 8  # classes of a level's size that signs are told apart by

Levels = NDArray[np.int16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """The places of a delta, and what is known of each before its level is read.

    Attributes:
        rows: Its row, int64[count].
        tensors: Number of the tensor of every row of the network, uint8[rows].
        signs: 1, or -1 where the weight is negative, int16[count].
        shift: What the shrink made of a level, int16[count].
        contexts: Class by weight and last delta, int64[count].
        sizes: Sizes of the parts of these contexts.
        sides: Which side of zero the last delta was on, seen from the weight, 0..5.
    """

    rows: Ints
    tensors: Class
    signs: Levels
    shift: Levels
    contexts: Ints
    sizes: tuple[int, ...]
    sides: Ints


def look_up(
    recipe: Recipe, known: Known, indices: Indices, shift: Levels
) -> Entries:
    """Return what is known of the entries at ``indices``."""
    shape = known.shape
    inside = shape.row_counts(indices)
    rows = np.repeat(np.arange(len(inside)), inside)
    none = np.zeros(len(indices), dtype=np.int64)
    signs = np.ones(len(indices), dtype=np.int16)
    contexts, sizes, sides = none, (), none
    if recipe.base:
        weights = known.base[indices]
        signs = np.where(weights < 0, -1, 1).astype(np.int16)
        bounds = np.searchsorted(indices, shape.tensors)
        parts = float_classes(weights, bounds, shift=_HALVES, classes=COARSE)
        contexts, sizes, sides = parts.astype(np.int64), (COARSE,), none + (weights == 0)
        if recipe.last and known.last is not None:
            moved = _moves(weights, known.last[indices])
            bounds = np.searchsorted(indices, shape.bounds)
            moves = float_classes(moved, bounds, shift=_HALVES, classes=COARSE)
            contexts = (moves >> 1).astype(np.int64) * (COARSE // 2) + (parts >> 1)
            sizes = (COARSE // 2, COARSE // 2)
            sides = sides * 3 + np.sign(moved).astype(np.int64) + 1
    return Entries(
        rows=rows,
        tensors=shape.row_tensors,
        signs=signs,
        shift=shift * (known.base[indices] != 0) if recipe.base else shift,
        contexts=contexts,
        sizes=sizes,
        sides=sides,
    )


def _moves(weights: Vector, last: Vector) -> Vector:
    """Return the last delta, seen from the weight, less the median of all of them."""
    moves = last * np.where(weights < 0, np.float32(-1), np.float32(1))
    alive = (weights != 0) & (last != 0)
    moves[alive] -= median(moves[alive])
    return moves


def median(values: Vector) -> np.float32:
    """Return the upper median of at most 2**16 values, evenly taken; 0 of none."""
    sample = values[:: max(1, -(-len(values) // _SAMPLE))]
    if not len(sample):
        return np.float32(0)
    middle = len(sample) // 2
    return np.float32(np.partition(sample, middle)[middle])


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """Levels as symbols, before their raw bits are known.

    Attributes:
        symbols: Symbol of each size, uint8[count].
        negative: Sign bits that were coded: of the first entries that are not 0.
    """

    symbols: Class
    negative: Class


def code_levels(
    coder: Coder,
    recipe: Recipe,
    entries: Entries,
    alphabet: Alphabet,
    levels: Levels | None,
    probe: Callable[[str], None],
) -> Coded:
    """Write levels, or read what of them is not raw.

    Args:
        coder: Either end.
        recipe: Contexts to use.
        entries: What is known of each.
        alphabet: How a size becomes a symbol.
        levels: int16[count] to write, or None to read.
        probe: Called with the name of each part that has been coded.
    """
    rest = None if levels is None else levels * entries.signs + entries.shift
    symbols = None if rest is None else alphabet.split(np.abs(rest))
    symbols = _code_sizes(coder, recipe, entries, alphabet, symbols)
    probe("values")
    filled = np.flatnonzero(symbols)
    modelled = filled[: num_modelled(recipe, coder.lanes, symbols, alphabet)]
    bits = None if rest is None else (rest[modelled] < 0).view(np.uint8)
    octaves = np.minimum(alphabet.octaves(symbols[modelled]), _OCTAVES - 1)
    contexts = entries.sides[modelled] * _OCTAVES + octaves
    width = int(np.prod(entries.sizes, dtype=np.int64))
    contexts = contexts * width + entries.contexts[modelled]
    model = Model(2, (_SIDES, _OCTAVES, *entries.sizes))
    negative = coder.code(model, contexts, bits)
    probe("signs")
    return Coded(symbols=symbols, negative=negative)


def num_modelled(
    recipe: Recipe, lanes: int, symbols: Class, alphabet: Alphabet
) -> int:
    """Return how many signs are coded: none without context, else all but a few.

    The first states of the lanes hold bits for nothing, so as many of the last signs
    travel raw as are needed to fill them.
    """
    if not recipe.base:
        return 0
    raw = int(alphabet.raw[symbols].sum(dtype=np.int64))
    signs = int(np.count_nonzero(symbols))
    return signs - min(signs, max(WORD * lanes - raw, 0))


def _code_sizes(
    coder: Coder,
    recipe: Recipe,
    entries: Entries,
    alphabet: Alphabet,
    symbols: Class | None,
) -> Class:
    """Code the class of each row that has entries, then a symbol for each entry."""
    grain = 1 << recipe.size_grain
    of_rows = None
    counts = np.bincount(entries.rows, minlength=len(entries.tensors))
    filled = np.flatnonzero(counts)
    if symbols is not None:
        of_rows = alphabet.row_classes(symbols, entries.rows, counts, grain)[filled]
    of_rows = coder.code(Model(SIZES, (TENSORS,)), entries.tensors[filled], of_rows)
    classes = np.zeros(len(counts), dtype=np.int64)
    classes[filled] = of_rows
    rows = -(-SIZES // grain)
    contexts, sizes = classes[entries.rows] % rows, (rows,)
    if recipe.deep:
        width = int(np.prod(entries.sizes, dtype=np.int64))
        contexts = contexts * width + entries.contexts
        sizes = (rows, *entries.sizes)
    found = coder.code(Model(alphabet.symbols, sizes), contexts, symbols)
    wanted = alphabet.row_classes(found, entries.rows, counts, grain)[filled]
    if not np.array_equal(wanted, of_rows):
        detail = "the class of a row is not that of its levels"
        raise PayloadError(Reason.BAD_VALUE, "delta.values", detail)
    return found
