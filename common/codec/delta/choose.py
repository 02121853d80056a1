"""Context modelling: the choice of an encoder's contexts, by estimated entropy.

Logarithms are rounded to integers and summed as such, so that every platform makes
the same choice.  A decoder accepts any choice.
"""

from dataclasses import dataclass, replace

import numpy as np

from fedprune.common.codec.delta.levels import (
    SIDES,
    Entries,
    Levels,
    Scale,
    Sizes,
    weight_contexts,
)
from fedprune.common.codec.delta.options import CodingFlags
from fedprune.common.codec.delta.positions import (
    SCORES,
    Marked,
    Places,
    mark,
    places_of,
)
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
from fedprune.common.codec.layout import TENSORS
from fedprune.common.spec import Indices, Vector

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
) -> tuple[CodingFlags, Places | None]:
    """Return the contexts of a message, columns and weights, and the positions.

    Args:
        side_info: Side information of both ends.
        indices: Positions of its entries.
        levels: Their levels, int16[count]; empty when values are plain floats.

    Returns:
        The flags, and the positions under them; None where both ends know them.
    """
    options = [CodingFlags()]
    if side_info.any_weight and len(levels):
        options.append(CodingFlags(base=True))
    costs = _level_costs(side_info, options, indices, levels)
    if side_info.mask is not None:
        best = min(options, key=lambda option: costs[option])
        return replace(best, known_positions=True), None
    shape = side_info.layout
    marked = mark(indices, shape)
    sample = _Sample.of(side_info, marked, options[-1])
    coarse = len(indices) < _FINE
    ways = [CodingFlags(coarse=coarse), CodingFlags(columns=True, coarse=coarse)]
    if len(indices) < _EARNED:
        ways.append(CodingFlags(no_classes=True))
    every = [places_of(marked, shape, way) for way in ways]
    rows = _class_cost(shape.row_tensors, every[0].rows)
    columns = _class_cost(shape.column_tensors, every[1].columns)
    found = []
    fixed = (rows, rows + columns, 0)
    for way, places, classes in zip(ways, every, fixed, strict=False):
        for option, cost in zip(options, sample.costs(places.scores), strict=False):
            found.append((costs[option] + classes + cost, way, option, places))
    _, way, option, places = min(found, key=lambda one: one[0])
    return replace(way, base=option.base), places


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """Every so many positions, with the class of the weight of each.

    Attributes:
        step: One in so many positions.
        bits: Whether it has an entry, uint8[n].
        weights: Class of its weight, uint8[n], or None.
        classes: Number of these classes.
    """

    step: int
    bits: Class
    weights: Class | None
    classes: int

    @staticmethod
    def of(
        side_info: SideInformation, marked: Marked, option: CodingFlags
    ) -> "_Sample":
        step = max(1, -(-side_info.layout.size // _POSITIONS))
        weights, classes = side_info.position_classes(option)
        return _Sample(
            step=step,
            bits=np.ascontiguousarray(marked.mask[::step]).view(np.uint8),
            weights=None if weights is None else np.ascontiguousarray(weights[::step]),
            classes=classes,
        )

    def costs(self, scores: Class) -> tuple[int, int]:
        """Return the cost of a bit for each position without and with the weights."""
        model = Model(2, (self.classes, SCORES))
        contexts = (self.weights, scores[:: self.step])
        counts = tally(model, contexts, self.bits)
        without = counts.reshape(self.classes, SCORES, 2).sum(axis=0)
        return self.step * cost_of(without), self.step * cost_of(counts)


def _class_cost(tensors: Class, classes: Class) -> int:
    """Return the cost of the classes of rows or of columns."""
    return entropy(Model(DENSITIES, (TENSORS,)), (tensors,), classes)


def _level_costs(
    side_info: SideInformation,
    options: list[CodingFlags],
    indices: Indices,
    levels: Levels,
) -> dict[CodingFlags, int]:
    """Return the cost of octaves and signs of levels with each option."""
    if not len(levels):
        return dict.fromkeys(options, 0)
    step = max(1, -(-len(levels) // _ENTRIES))
    some, level = indices[::step], levels[::step]
    octaves = log2_steps(np.abs(level) + 1, 1).astype(np.uint8)
    costs = {}
    for option in options:
        if not option.base:
            cost = entropy(Model(_OCTAVES, (1,)), (None,), octaves) + len(some) * _BIT
        else:
            weights = weight_contexts(option, side_info, some)
            signed = octaves * np.uint8(2) + (level * weights.signs < 0)
            dead = (~weights.alive).view(np.uint8)
            model = Model(2 * _OCTAVES, (COARSE, SIDES))
            cost = entropy(model, (weights.contexts, dead), signed)
        costs[option] = step * cost
    return costs


def choose_levels(
    flags: CodingFlags, entries: Entries, scale: Scale, sizes: Sizes
) -> CodingFlags:
    """Return the flags with the contexts of levels."""
    symbols, counts, width = sizes.symbols, entries.counts, scale.alphabet.symbols
    classes = np.repeat(scale.alphabet.row_classes(symbols, counts), counts)
    costs = {
        True: entropy(Model(width, (SIZES,)), (classes,), symbols)
        + 3 * _BIT * int(np.count_nonzero(counts)),
        False: entropy(Model(width, (SCORES,)), (entries.scores,), symbols),
    }
    row_sizes = min(costs, key=lambda key: costs[key])
    if not flags.base:
        return replace(flags, row_sizes=row_sizes)
    of_weights = tally(Model(width, (COARSE,)), (entries.contexts,), symbols)
    alone = cost_of(of_weights.sum(axis=0, keepdims=True))
    weight_context = cost_of(of_weights) < alone
    return replace(flags, row_sizes=row_sizes, weight_context=weight_context)


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
    return cost_of(tally(model, contexts, symbols))


def cost_of(counts: Ints) -> int:
    """Return the cost of symbols that were counted, int64[contexts, symbols]."""
    totals, seen = counts.sum(axis=1), counts[counts > 0]
    totals = totals[totals > 0]
    numbers = np.concatenate([totals, seen])
    bits = numbers * np.rint(np.log2(numbers) * _BIT).astype(np.int64)
    before = int(bits[: len(totals)].sum()) - int(bits[len(totals) :].sum())
    return before + _CELL * len(seen)
