"""The body of a delta: all that is entropy coded, in its order, for both ends."""

from dataclasses import dataclass

import numpy as np

from fedprune.common.codec.delta.levels import (
    Coded,
    Entries,
    Levels,
    Scale,
    Sizes,
    alphabet_of,
    code_levels,
    code_scales,
    look_up,
    shifts,
)
from fedprune.common.codec.delta.options import Header
from fedprune.common.codec.delta.positions import (
    Places,
    code_positions,
    mark,
    places_of,
)
from fedprune.common.codec.delta.quantise import VALUE_FORMATS
from fedprune.common.codec.delta.side_information import SideInformation
from fedprune.common.codec.entropy.coder import Coder
from fedprune.common.codec.entropy.contexts import Class
from fedprune.common.codec.entropy.rans import Ints
from fedprune.common.spec import Indices


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Positions, scales and levels of a delta, as a writer encodes them.

    Attributes:
        positions: Positions of the entries, int64[count], rising.
        codes: Scale codes of rows or tensors, uint8; empty for float32.
        levels: Signed levels of the entries, int16[count]; empty for float32.
    """

    positions: Indices
    codes: Class
    levels: Levels


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Results of a writer that the choice of contexts and the code both need.

    Attributes:
        places: The positions under the chosen flags; None where both ends know them.
        entries: Contexts of each entry.
        sizes: The levels under the chosen scale; None for float32.
    """

    places: Places | None
    entries: Entries
    sizes: Sizes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The body of a delta after it was encoded or decoded.

    Attributes:
        indices: Positions, int64[count].
        codes: As in ``Content``.
        scale: The map from levels to symbols.
        entries: Contexts of each entry.
        coded: Symbols and signs.
    """

    indices: Indices
    codes: Class
    scale: Scale
    entries: Entries
    coded: Coded


def code_body(
    coder: Coder,
    header: Header,
    side_info: SideInformation,
    content: Content | None,
    prepared: Prepared | None = None,
) -> Body:
    """Write a body, or read one.

    Args:
        coder: Either end.
        header: Its header.
        side_info: Side information of both ends.
        content: What to write, or None to read.
        prepared: What has been computed from ``content`` for this header, if it has.
    """
    flags, shape = header.flags, side_info.layout
    if side_info.mask is not None and flags.known_positions:
        indices = np.flatnonzero(side_info.mask)
        scores = None
    else:
        sent = prepared.places if prepared is not None else None
        if sent is None and content is not None:
            sent = places_of(mark(content.positions, shape), shape, flags)
        indices, scores = code_positions(coder, flags, side_info, header.count, sent)
    counts = groups_of(indices, side_info, header.values)
    codes = None if content is None else content.codes
    by_row = VALUE_FORMATS[header.values].per == "row"
    tensors = shape.row_tensors if by_row else np.zeros(len(counts), np.uint8)
    codes = code_scales(coder, counts, tensors, codes)
    if prepared is None:
        entries = look_up(flags, side_info, indices, scores)
    else:
        entries = prepared.entries
    scale = scale_of(header, codes, counts, entries)
    coded = Coded(symbols=codes[:0], negative=codes[:0])
    if header.values != "float32":
        sizes = None if prepared is None else prepared.sizes
        if sizes is None and content is not None:
            sizes = Sizes.of(content.levels, entries, scale)
        coded = code_levels(coder, flags, entries, scale, sizes)
    return Body(indices=indices, codes=codes, scale=scale, entries=entries, coded=coded)


def scale_of(header: Header, codes: Class, counts: Ints, entries: Entries) -> Scale:
    """Return the map from the levels of a message to symbols."""
    shift = np.zeros(len(entries.scores), dtype=np.int16)
    if header.shrink:
        shift = shifts(header.shrink, codes, counts, header.values) * entries.alive
    alphabet = alphabet_of(header.values, shifted=bool(header.shrink))
    return Scale(alphabet=alphabet, shift=shift)


def groups_of(indices: Indices, side_info: SideInformation, values: str) -> Ints:
    """Return the number of entries that share each scale, of rows or of tensors."""
    per = VALUE_FORMATS[values].per
    if per == "row":
        return side_info.layout.row_counts(indices)
    if per == "tensor":
        return np.diff(np.searchsorted(indices, side_info.layout.tensors))
    return np.zeros(0, dtype=np.int64)
