"""Coding flags of a delta: the contexts and parts that it is coded with."""

from dataclasses import dataclass

import numpy as np

from fedprune.common.codec.checks import integer
from fedprune.common.errors import PayloadError, Reason

_FIELD = "delta.flags"
_FLAGS = (
    "base",
    "known_positions",
    "columns",
    "row_sizes",
    "weight_context",
    "coarse",
    "no_classes",
    "everywhere",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodingFlags:
    """Contexts and parts of a coded delta; on the wire one bit each, in this order.

    Attributes:
        base: Whether the broadcast weights are context.
        known_positions: Whether both ends know the mask, so no positions are sent.
        columns: Whether columns have classes.
        row_sizes: Whether rows have classes by mean level; else the context of a level
            is the score of its position.
        weight_context: Whether the class of the weight is a context of levels, too.
        coarse: Whether classes of rows and columns are whole octaves, not halves.
        no_classes: Whether neither rows nor columns have classes, which do not pay in
            small messages.
        everywhere: Whether every position has an entry, 0 included, so none is coded;
            of plain floats, without any other flag.
    """

    base: bool = False
    known_positions: bool = False
    columns: bool = False
    row_sizes: bool = False
    weight_context: bool = False
    coarse: bool = False
    no_classes: bool = False
    everywhere: bool = False

    @property
    def resolution(self) -> int:
        """Half octaves of a class of rows and columns."""
        return 2 if self.coarse else 1

    def pack(self) -> int:
        """Return the flags as one number."""
        return sum(getattr(self, flag) << bit for bit, flag in enumerate(_FLAGS))

    @staticmethod
    def unpack(value: object) -> "CodingFlags":
        """Return the flags of a number; refuse flags that contradict each other."""
        number = integer(value, _FIELD, 0, (1 << len(_FLAGS)) - 1)
        given = {flag: bool(number >> bit & 1) for bit, flag in enumerate(_FLAGS)}
        flags = CodingFlags(**given)
        if flags.everywhere and flags != CodingFlags(everywhere=True):
            detail = f"{number}: everywhere with other flags"
            raise PayloadError(Reason.BAD_VALUE, _FIELD, detail)
        if flags.weight_context and not flags.base:
            detail = f"{number}: weight_context without base"
            raise PayloadError(Reason.BAD_VALUE, _FIELD, detail)
        classes = flags.columns or flags.coarse
        without = flags.known_positions or flags.no_classes
        if (without and classes) or (flags.known_positions and flags.no_classes):
            detail = f"{number}: classes of positions that are not coded"
            raise PayloadError(Reason.BAD_VALUE, _FIELD, detail)
        return flags


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The header of a delta: known before the first symbol of its body.

    Attributes:
        flags: Contexts to use.
        values: Kind of values.
        count: Number of entries.
        shrink: Amount that a penalty took off every weight, or 0.
    """

    flags: CodingFlags
    values: str
    count: int
    shrink: np.float32


def lanes_for(size: int, count: int) -> int:
    """Return the number of lanes of a message: about one for 750 bytes.

    A lane costs one to two bytes, and few lanes cost many steps.
    """
    return int(np.clip((size // 8 + 4 * count) // 3072, 8, 2048))
