"""Context modelling: the choice of an encoder's contexts, by estimated entropy.

Logarithms are rounded to integers and summed as such, so that every platform makes
the same choice.  A decoder accepts any choice.
"""

from dataclasses import replace

import numpy as np

from fedprune.common.codec.delta.levels import (
    SIDES,
    Entries,
    Levels,
    Scale,
    look_up,
)
from fedprune.common.codec.delta.options import CodingFlags
from fedprune.common.codec.delta.positions import SCORES, classes_of, scores_of
from fedprune.common.codec.delta.side_information import SideInformation
from fedprune.common.codec.delta.symbols import Alphabet
from fedprune.common.codec.entropy.contexts import (
    COARSE,
    DENSITIES,
    SIZES,
    Class,
    log2_steps,
)
from fedprune.common.codec.entropy.models import Contexts, Model, Symbols, tally
from fedprune.common.codec.entropy.rans import Ints
from fedprune.common.codec.layout import TENSORS, Layout
from fedprune.common.spec import Indices, Mask, Vector

_BIT = 1 << 16  # a cost counts in units of 2**-16 bits
_CELL = 8 * _BIT  # cost of a symbol in a context where it was never seen
_POSITIONS = 1 << 17  # positions that an estimate samples, evenly
_ENTRIES = 1 << 16  # and entries
_OCTAVES = 16
_FINE = 1 << 17  # entries from which classes of half octaves pay
_EARNED = 1 << 14  # and from which classes of rows surely pay

Alphabets = tuple[Alphabet, Alphabet]


def choose(
    side_info: SideInformation, indices: Indices, levels: Levels
) -> tuple[CodingFlags, Class]:
    """Return the contexts of a message: columns and weights.

    The scores of the entries under these contexts come with them.

    Args:
        side_info: Side information of both ends.
        indices: Positions of its entries.
        levels: Their levels, int16[count]; empty when values are plain floats.
    """
    options = [CodingFlags()]
    if side_info.any_weight and len(levels):
        options.append(CodingFlags(base=True))
    costs = {o: _level_cost(side_info, o, indices, levels) for o in options}
    if side_info.mask is not None:
        best = min(options, key=lambda option: costs[option])
        return replace(best, known_positions=True), np.zeros(
            len(indices), dtype=np.uint8
        )
    mask = side_info.layout.mask(indices)
    coarse = len(indices) < _FINE
    ways = [CodingFlags(coarse=coarse), CodingFlags(columns=True, coarse=coarse)]
    if len(indices) < _EARNED:
        ways.append(CodingFlags(no_classes=True))
    found = []
    for way in ways:
        fixed, scores = _scores(side_info.layout, indices, way)
        for option, cost in _position_costs(side_info, options, mask, scores).items():
            flags = replace(way, base=option.base)
            found.append((costs[option] + fixed + cost, flags, scores))
    _, flags, scores = min(found, key=lambda one: one[0])
    return flags, scores[indices]


def _position_costs(
    side_info: SideInformation, options: list[CodingFlags], mask: Mask, scores: Class
) -> dict[CodingFlags, int]:
    """Return the cost of a bit for each position with each option."""
    step = max(1, -(-side_info.layout.size // _POSITIONS))
    bits, some = mask[::step].view(np.uint8), scores[::step]
    costs = {}
    for option in options:
        reference, number = side_info.position_classes(option)
        contexts = (None if reference is None else reference[::step], some)
        costs[option] = step * entropy(Model(2, (number, SCORES)), contexts, bits)
    return costs


def _scores(shape: Layout, indices: Indices, flags: CodingFlags) -> tuple[int, Class]:
    """Return the cost of the classes of rows and columns, and each position's score."""
    if flags.no_classes:
        return 0, np.zeros(shape.size, dtype=np.uint8)
    rows, columns = classes_of(indices, shape, flags)
    of_tensors = Model(DENSITIES, (TENSORS,))
    fixed = entropy(of_tensors, (shape.row_tensors,), rows)
    if columns is None:
        return fixed, scores_of(rows, np.zeros(0, dtype=np.uint8), shape)
    fixed += entropy(of_tensors, (shape.column_tensors,), columns)
    return fixed, scores_of(rows, columns, shape)


def _level_cost(
    side_info: SideInformation, option: CodingFlags, indices: Indices, levels: Levels
) -> int:
    """Return the cost of octaves and signs of levels with an option."""
    step = max(1, -(-len(levels) // _ENTRIES))
    some, level = indices[::step], levels[::step]
    if not len(levels):
        return 0
    octaves = log2_steps(np.abs(level) + 1, 1).astype(np.uint8)
    if not option.base:
        cost = entropy(Model(_OCTAVES, (1,)), (None,), octaves)
        return step * (cost + len(some) * _BIT)
    entries = look_up(option, side_info, some, np.zeros(len(some), dtype=np.uint8))
    signed = octaves * np.uint8(2) + (level * entries.signs < 0)
    dead = (~entries.alive).view(np.uint8)
    model = Model(2 * _OCTAVES, (COARSE, SIDES))
    return step * entropy(model, (entries.contexts, dead), signed)


def choose_levels(
    flags: CodingFlags, entries: Entries, scale: Scale, levels: Levels
) -> CodingFlags:
    """Return the flags with the contexts of levels."""
    rest = np.abs(levels * entries.signs + scale.shift)
    symbols = scale.alphabet.split(rest)
    width = scale.alphabet.symbols
    counts = np.bincount(entries.rows, minlength=len(entries.tensors))
    of_rows = scale.alphabet.row_classes(symbols, counts)
    classes = of_rows[entries.rows]
    costs = {
        True: entropy(Model(width, (SIZES,)), (classes,), symbols)
        + 3 * _BIT * int(np.count_nonzero(counts)),
        False: entropy(Model(width, (SCORES,)), (entries.scores,), symbols),
    }
    flags = replace(flags, row_sizes=min(costs, key=lambda key: costs[key]))
    if not flags.base:
        return flags
    alone = entropy(Model(width, (1,)), (None,), symbols)
    with_weight = entropy(Model(width, (COARSE,)), (entries.contexts,), symbols)
    return replace(flags, weight_context=with_weight < alone)


def choose_shrink(
    side_info: SideInformation, indices: Indices, values: Vector
) -> np.float32:
    """Return the amount by which a penalty may have shrunk every weight.

    Args:
        side_info: Side information of both ends.
        indices: Positions of the delta.
        values: Its values there, float32[count].
    """
    step = max(1, -(-len(indices) // _ENTRIES))
    weights = side_info.base[indices[::step]]
    alive = weights != 0
    return -_median(values[::step][alive] * np.sign(weights[alive]))


def _median(values: Vector) -> np.float32:
    """Return the upper median of at most 2**16 values, evenly taken; 0 of none."""
    sample = values[:: max(1, -(-len(values) // _ENTRIES))]
    if not len(sample):
        return np.float32(0)
    middle = len(sample) // 2
    return np.float32(np.partition(sample, middle)[middle])


def pays(shift: Levels, entries: Entries, alphabets: Alphabets, levels: Levels) -> bool:
    """Return whether levels are shorter after a shift: (without, with) alphabets."""
    step = max(1, -(-len(levels) // _ENTRIES))
    level = levels[::step] * entries.signs[::step]
    costs = []
    for alphabet, rest in zip(alphabets, (level, level + shift[::step]), strict=True):
        symbols = alphabet.split(np.abs(rest))
        raw = int(alphabet.raw[symbols].sum(dtype=np.int64))
        signed = symbols * np.uint8(2) + (rest < 0)
        model = Model(2 * alphabet.symbols, (1,))
        costs.append(entropy(model, (None,), signed) + raw * _BIT)
    return costs[1] < costs[0]


def entropy(model: Model, contexts: Contexts, symbols: Symbols) -> int:
    """Return the cost of symbols in contexts, in 2**-16 bits, unseen ones included."""
    counts = tally(model, contexts, symbols)
    bits = _count_bits(counts.sum(axis=1)) - _count_bits(counts)
    return bits + _CELL * int(np.count_nonzero(counts))


def _count_bits(counts: Ints) -> int:
    """Return the sum of ``n * log2(n)`` in 2**-16 bits."""
    seen = counts[counts > 1]
    return int((seen * np.rint(np.log2(seen) * _BIT).astype(np.int64)).sum())
