"""The body of a grid: all that is entropy coded, in its order, for both ends.

A grid is coded as the difference from a base; for a message that stands alone the base
is a network of zeros.  Positions, sizes and signs are coded as those of an update
(``delta/positions.py``, ``delta/levels.py``), after the steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedprune.common.codec.delta.body import Prepared
from fedprune.common.codec.delta.choose import choose, choose_levels
from fedprune.common.codec.delta.levels import (
    Coded,
    Entries,
    Levels,
    Scale,
    Sizes,
    code_levels,
    look_up,
)
from fedprune.common.codec.delta.options import CodingFlags
from fedprune.common.codec.delta.positions import (
    Places,
    code_positions,
    mark,
    places_of,
)
from fedprune.common.codec.delta.side_information import SideInformation
from fedprune.common.codec.delta.symbols import Alphabet, integers
from fedprune.common.codec.entropy.coder import Coder
from fedprune.common.codec.entropy.contexts import Class
from fedprune.common.codec.entropy.models import Model, bit_model
from fedprune.common.codec.entropy.raw_bits import pack_fields, to_bytes, unpack_fields
from fedprune.common.codec.grid.quantise import (
    CODES,
    Codes,
    empty_grid,
    grid_values,
    rescaled,
)
from fedprune.common.codec.layout import TENSORS, Layout
from fedprune.common.errors import PayloadError, Reason
from fedprune.common.messages import GridWeights
from fedprune.common.spec import Indices, ModelSpec

Observer = Callable[[str], None]

BITS = 15  # of the largest difference of two levels
_BYTE = 8


@dataclass(frozen=True, kw_only=True)
class Base:
    """The base of a grid, which both ends know before the grid is decoded.

    Attributes:
        grid: The broadcast that it is encoded against, in the shapes of this one.
        spec: Shapes of the network.
    """

    grid: GridWeights
    spec: ModelSpec

    @cached_property
    def side_info(self) -> SideInformation:
        """Side information: the weights of the base."""
        return SideInformation(
            layout=Layout(self.spec), base=grid_values(self.grid, self.spec)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The difference of a grid from its base.

    Attributes:
        codes: Steps, uint8[rows].
        positions: Positions of the levels that differ from the base in these steps.
        levels: Level minus that of the base there, int16[count], none of them 0.
    """

    codes: Codes
    positions: Indices
    levels: Levels


@dataclass(frozen=True, slots=True, kw_only=True)
class GridHeader:
    """The header of a grid: known before the first symbol of its body.

    Attributes:
        flags: Contexts to use.
        count: Number of levels that differ.
        bits: Bits of the largest difference, 0..15; 0 without any.
    """

    flags: CodingFlags
    count: int
    bits: int

    @property
    def alphabet(self) -> Alphabet:
        """Symbols of sizes of so many bits."""
        return integers((1 << max(self.bits, 1)) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class GridBody:
    """The body of a grid after it was encoded or decoded.

    Attributes:
        alphabet: The map from sizes to symbols.
        codes: Steps, uint8[rows].
        positions: As in ``Change``.
        entries: Contexts of each.
        coded: Symbols and signs.
    """

    alphabet: Alphabet
    codes: Codes
    positions: Indices
    entries: Entries
    coded: Coded


def nothing(spec: ModelSpec) -> Base:
    """Return the base of a grid that stands alone."""
    return Base(grid=empty_grid(spec), spec=spec)


def change_between(base: Base, grid: GridWeights) -> Change:
    """Return the difference of a grid from its base."""
    before = rescaled(base.grid, grid.codes, base.spec)
    moved = grid.levels.astype(np.int32) - before
    positions = np.flatnonzero(moved)
    levels = moved[positions].astype(np.int16)
    return Change(codes=grid.codes, positions=positions, levels=levels)


def choose_header(base: Base, change: Change) -> tuple[GridHeader, Prepared | None]:
    """Return the contexts that leave the shortest message, and what they gave."""
    count = len(change.positions)
    if not count:
        return GridHeader(flags=CodingFlags(), count=0, bits=0), None
    bits = int(np.abs(change.levels).max()).bit_length()
    flags, places = choose(base.side_info, change.positions, change.levels)
    scores = None if places is None else places.scores
    entries = look_up(flags, base.side_info, change.positions, scores)
    header = GridHeader(flags=flags, count=count, bits=bits)
    scale = _scale(header, change.positions)
    sizes = Sizes.of(change.levels, entries, scale)
    flags = choose_levels(flags, entries, scale, sizes)
    prepared = Prepared(places=places, entries=entries, sizes=sizes)
    return GridHeader(flags=flags, count=count, bits=bits), prepared


def code_grid(
    coder: Coder,
    header: GridHeader,
    base: Base,
    change: Change | None,
    prepared: Prepared | None = None,
    observer: Observer = lambda part: None,
) -> GridBody:
    """Encode a grid, or decode one.

    Args:
        coder: Either end.
        header: Its header.
        base: The base of both ends.
        change: What to write, or None to read.
        prepared: What has been computed from ``change`` for this header, if it has.
        observer: Called with the name of each part that has been coded.
    """
    side_info, flags = base.side_info, header.flags
    codes = _code_steps(coder, base, None if change is None else change.codes)
    observer("steps")
    sent = None if prepared is None else prepared.places
    if sent is None and change is not None:
        sent = _places(side_info, change, flags)
    positions, scores = code_positions(coder, flags, side_info, header.count, sent)
    observer("positions")
    if prepared is None:
        entries = look_up(flags, side_info, positions, scores)
    else:
        entries = prepared.entries
    scale = _scale(header, positions)
    sizes = None if prepared is None else prepared.sizes
    if sizes is None and change is not None:
        sizes = Sizes.of(change.levels, entries, scale)
    coded = code_levels(coder, flags, entries, scale, sizes, observer)
    return GridBody(
        alphabet=scale.alphabet,
        codes=codes,
        positions=positions,
        entries=entries,
        coded=coded,
    )


def _places(side_info: SideInformation, change: Change, flags: CodingFlags) -> Places:
    shape = side_info.layout
    return places_of(mark(change.positions, shape), shape, flags)


def _scale(header: GridHeader, positions: Indices) -> Scale:
    shift = np.zeros(len(positions), dtype=np.int16)
    return Scale(alphabet=header.alphabet, shift=shift)


def _code_steps(coder: Coder, base: Base, codes: Codes | None) -> Codes:
    """Code the rows whose step differs from the base, and their steps."""
    tensors = base.side_info.layout.row_tensors
    old = base.grid.codes
    bits = None if codes is None else (codes != old).view(np.uint8)
    changed = coder.code(bit_model((TENSORS,)), (tensors,), bits).view(np.bool_)
    new = None if codes is None else codes[changed]
    found = old.copy()
    found[changed] = coder.code(Model(CODES, (TENSORS,)), (tensors[changed],), new)
    if codes is None and np.any(found[changed] == old[changed]):
        detail = "a step that changes to itself"
        raise PayloadError(Reason.BAD_VALUE, "grid.steps", detail)
    return found


def raw_of(body: GridBody, change: Change) -> bytes:
    """Return mantissas, then the signs that were not coded."""
    rest = change.levels * body.entries.signs
    symbols = body.coded.symbols
    low = np.abs(rest) - body.alphabet.smallest(symbols)
    negative = (rest < 0).view(np.uint8)[len(body.coded.negative) :]
    high, narrow = _widths(body)
    parts = [pack_fields(low >> _BYTE, high), pack_fields(low, narrow), negative]
    return to_bytes(np.concatenate(parts))


def raw_bits(body: GridBody) -> int:
    """Return the number of raw bits of a message."""
    symbols = body.coded.symbols
    mantissas = int(body.alphabet.widths(symbols).sum(dtype=np.int64))
    return mantissas + int(np.count_nonzero(symbols)) - len(body.coded.negative)


def levels_of(body: GridBody, bits: NDArray[np.uint8]) -> Levels:
    """Return the differences at the positions of a body, int16[count]."""
    symbols = body.coded.symbols
    high, narrow = _widths(body)
    middle = int(high.sum(dtype=np.int64))
    end = middle + int(narrow.sum(dtype=np.int64))
    rest = body.alphabet.smallest(symbols)
    if middle:
        rest += unpack_fields(bits[:middle], high).astype(np.int16) << _BYTE
    rest += unpack_fields(bits[middle:end], narrow)
    minus = np.concatenate([body.coded.negative, bits[end:]])
    signs = np.int16(1) - (minus.view(np.int8) << 1)
    if len(signs) == len(rest):
        rest *= signs
    else:
        rest[symbols > 0] *= signs
    rest *= body.entries.signs
    return rest


def _widths(body: GridBody) -> tuple[Class, Class]:
    """Return the raw bits of each entry: those above a byte, and those within."""
    widths = body.alphabet.widths(body.coded.symbols)
    narrow = np.minimum(widths, np.uint8(_BYTE))
    return widths - narrow, narrow
