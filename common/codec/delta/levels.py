"""Scales, levels and signs of a delta, coded at its positions.

A level is coded relative to the level that the shrink of a penalty would have caused:
``rest = level * sign(weight) + shrink / scale``, rounded.  The context of its size is
the mean size in its row or the score of its position, and the class of the weight; that
of its sign is the weight and the size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedprune.common.codec.delta.options import CodingFlags
from fedprune.common.codec.delta.positions import SCORES
from fedprune.common.codec.delta.quantise import LADDER, VALUE_FORMATS
from fedprune.common.codec.delta.side_information import SideInformation
from fedprune.common.codec.delta.symbols import Alphabet, integers
from fedprune.common.codec.entropy.coder import Coder
from fedprune.common.codec.entropy.contexts import COARSE, SIZES, Class, float_classes
from fedprune.common.codec.entropy.models import Contexts, Model, bit_model
from fedprune.common.codec.entropy.rans import WORD, Ints
from fedprune.common.codec.layout import TENSORS
from fedprune.common.errors import PayloadError, Reason
from fedprune.common.spec import Indices

_HALVES = 22  # bits cut off a float, which leaves halves of an octave
SIDES = 2  # the weight is alive or 0
_HIGH, _LOW = 32, 8  # a code is an octave and an eighth of it
_LOW_BITS = 3
OCTAVES = 8  # classes of a level's size as a context of its sign

Levels = NDArray[np.int16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """The positions of a delta, with the context of each level.

    Attributes:
        counts: Entries of every row of the network, int64[rows].
        tensors: Number of the tensor of every row, uint8[rows].
        scores: Score of its position, uint8[count].
        signs: 1, or -1 where the weight is negative, int16[count].
        alive: Whether the weight is other than 0, bool[count].
        contexts: Class of its weight, uint8[count]; 0 without weights.
    """

    counts: Ints
    tensors: Class
    scores: Class
    signs: Levels
    alive: NDArray[np.bool_]
    contexts: Class


def look_up(
    flags: CodingFlags,
    side_info: SideInformation,
    indices: Indices,
    scores: Class | None,
) -> Entries:
    """Return the contexts of the entries at ``indices``.

    Args:
        flags: Contexts to use.
        side_info: Side information of both ends.
        indices: Positions of the entries.
        scores: Score of each position of the network; None = 0 everywhere.
    """
    shape = side_info.layout
    if scores is None:
        chosen = np.zeros(len(indices), dtype=np.uint8)
    else:
        chosen = scores[indices]
    weights = weight_contexts(flags, side_info, indices)
    return Entries(
        counts=shape.row_counts(indices),
        tensors=shape.row_tensors,
        scores=chosen,
        signs=weights.signs,
        alive=weights.alive,
        contexts=weights.contexts,
    )


class WeightContexts(NamedTuple):
    """The weights at the positions of a delta; the fields are those of ``Entries``."""

    signs: Levels
    alive: NDArray[np.bool_]
    contexts: Class


def weight_contexts(
    flags: CodingFlags, side_info: SideInformation, indices: Indices
) -> WeightContexts:
    """Return the contexts of entries by their weights, if they are context at all."""
    signs = np.ones(len(indices), dtype=np.int16)
    if not flags.base:
        contexts = np.zeros(len(indices), dtype=np.uint8)
        return WeightContexts(signs, np.zeros(len(indices), dtype=bool), contexts)
    weights = side_info.base[indices]
    signs[weights < 0] = -1
    bounds = np.searchsorted(indices, side_info.layout.tensors)
    contexts = float_classes(weights, bounds, shift=_HALVES, classes=COARSE)
    return WeightContexts(signs, weights != 0, contexts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """Levels as symbols, before their raw bits are known.

    Attributes:
        symbols: Symbol of each size, uint8[count].
        negative: Sign bits that were coded: of the first entries that are not 0.
    """

    symbols: Class
    negative: Class


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The map from levels to symbols.

    Attributes:
        alphabet: Symbols of sizes.
        shift: The shrink of each entry in levels, int16[count].
    """

    alphabet: Alphabet
    shift: Levels


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Levels as a writer encodes them.

    Attributes:
        rest: Each relative to the shrink, int16[count].
        symbols: Symbol of each size, uint8[count].
    """

    rest: Levels
    symbols: Class

    @staticmethod
    def of(levels: Levels, entries: Entries, scale: Scale) -> "Sizes":
        """Return levels, int16[count], under a scale."""
        rest = levels * entries.signs + scale.shift
        return Sizes(rest=rest, symbols=scale.alphabet.split(np.abs(rest)))


def code_levels(
    coder: Coder,
    flags: CodingFlags,
    entries: Entries,
    scale: Scale,
    sizes: Sizes | None,
    observer: Callable[[str], None] = lambda part: None,
) -> Coded:
    """Encode or decode levels, except their raw bits.

    Args:
        coder: Either end.
        flags: Contexts to use.
        entries: Context of each.
        scale: The map from levels to symbols.
        sizes: The levels to write, or None to read.
        observer: Called with the name of each part that has been coded.
    """
    alphabet = scale.alphabet
    symbols = None if sizes is None else sizes.symbols
    symbols = _code_sizes(coder, flags, entries, alphabet, symbols)
    observer("values")
    modelled = np.zeros(0, dtype=np.int64)
    if flags.base:
        most = num_modelled(flags, coder.lanes, symbols, alphabet)
        modelled = np.flatnonzero(symbols)[:most]
    bits = None if sizes is None else (sizes.rest[modelled] < 0).view(np.uint8)
    model = bit_model((SIDES, OCTAVES, COARSE))
    octaves = alphabet.octaves(symbols[modelled])
    contexts = sign_contexts(entries, octaves, modelled)
    negative = coder.code(model, contexts, bits)
    observer("signs")
    return Coded(symbols=symbols, negative=negative)


def sign_contexts(entries: Entries, octaves: Class, chosen: Indices) -> Contexts:
    """Return the context of each sign: weight other than 0, size, class of weight.

    Args:
        entries: Contexts of all entries.
        octaves: Size class of those whose sign is coded.
        chosen: Their numbers.
    """
    dead = (~entries.alive[chosen]).view(np.uint8)
    return dead, np.minimum(octaves, OCTAVES - 1), entries.contexts[chosen]


def num_modelled(
    flags: CodingFlags, lanes: int, symbols: Class, alphabet: Alphabet
) -> int:
    """Return the number of signs that are coded: none without context, else nearly all.

    The first states of the lanes have room for raw bits at no cost, so as many of the
    last signs are raw as fill them.
    """
    if not flags.base:
        return 0
    raw = int(alphabet.raw[symbols].sum(dtype=np.int64))
    signs = int(np.count_nonzero(symbols))
    return signs - min(signs, max(WORD * lanes - raw, 0))


def _code_sizes(
    coder: Coder,
    flags: CodingFlags,
    entries: Entries,
    alphabet: Alphabet,
    symbols: Class | None,
) -> Class:
    """Code a symbol for each entry, after the classes of rows if the flags say so."""
    if flags.row_sizes:
        counts = entries.counts
        filled = np.flatnonzero(counts)
        of_rows = None
        if symbols is not None:
            of_rows = alphabet.row_classes(symbols, counts)[filled]
        model = Model(SIZES, (TENSORS,))
        of_rows = coder.code(model, (entries.tensors[filled],), of_rows)
        classes = np.repeat(of_rows, counts[filled])
        contexts, sizes = _contexts(flags, entries, classes, SIZES)
        found = coder.code(Model(alphabet.symbols, sizes), contexts, symbols)
        if symbols is None:
            wanted = alphabet.row_classes(found, counts)[filled]
            _check_sizes(of_rows, wanted)
        return found
    contexts, sizes = _contexts(flags, entries, entries.scores, SCORES)
    return coder.code(Model(alphabet.symbols, sizes), contexts, symbols)


def _check_sizes(found: Class, wanted: Class) -> None:
    """Refuse classes that contradict the levels: equal levels have equal bytes."""
    if not np.array_equal(wanted, found):
        detail = "the class of a row is not that of its levels"
        raise PayloadError(Reason.BAD_VALUE, "delta.values", detail)


def _contexts(
    flags: CodingFlags, entries: Entries, classes: Class, number: int
) -> tuple[Contexts, tuple[int, ...]]:
    """Return the context of each entry's size, and the number of values of each part.

    Args:
        flags: Whether the weight is a context, too.
        entries: Context of each.
        classes: Class of each by its row or its position.
        number: Number of such classes.
    """
    if not flags.weight_context:
        return (classes,), (number,)
    # The weight is the more informative part, so it comes first.
    return (entries.contexts, classes), (COARSE, number)


def alphabet_of(values: str, *, shifted: bool) -> Alphabet:
    """Return the alphabet of sizes; a shift makes them up to twice as large."""
    top = VALUE_FORMATS[values].top
    return integers(top * 2 if shifted else top)


def code_scales(
    coder: Coder, counts: Ints, tensors: Class, codes: Class | None
) -> Class:
    """Write or read the code of every row or tensor that has an entry.

    Args:
        coder: Either end.
        counts: Entries that share each scale.
        tensors: Context of each scale, uint8[len(counts)].
        codes: uint8[len(counts)], or None to read.

    Returns:
        The codes; 0 where there is no entry.
    """
    filled = np.flatnonzero(counts)
    contexts = (tensors[filled],)
    high: Class | None = None
    low: Class | None = None
    if codes is not None:
        high = codes[filled] >> np.uint8(_LOW_BITS)
        low = codes[filled] & np.uint8(_LOW - 1)
    high = coder.code(Model(_HIGH, (TENSORS,)), contexts, high)
    low = coder.code(Model(_LOW, (TENSORS,)), contexts, low)
    found = np.zeros(len(counts), dtype=np.uint8)
    found[filled] = high << np.uint8(_LOW_BITS) | low
    return found


def shifts(shrink: np.float32, codes: Class, counts: Ints, values: str) -> Levels:
    """Return ``shrink / scale`` of each entry, rounded to a level, int16[entries].

    Doubles: one division and one rounding, which every platform does alike.
    """
    top = VALUE_FORMATS[values].top
    steps = np.where(codes > 0, LADDER[codes], np.float32(np.inf)).astype(np.float64)
    levels = np.clip(np.rint(np.float64(shrink) / steps), -top, top)
    return np.repeat(levels.astype(np.int16), counts)
