"""How a delta was coded: one number of its header, and what both ends hold."""

from dataclasses import dataclass

import numpy as np

from common.codec.checks import integer
from common.codec.shape import Shape
from common.errors import PayloadError, Reason
from common.messages import Mask, Vector

_BASE, _LAST, _AGREED, _COLUMNS = 1, 2, 4, 8
_GRAIN_BITS = 2  # of each of three fields above the flags
_FIELD = "delta.recipe"
ROW, SIZE, DEEP = 4, 6, 8  # first bit of each field
MOST = 1 << 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a delta is coded with.

    Attributes:
        base: Whether the broadcast weights are context.
        last: Whether the last aggregate delta is, too.
        agreed: Whether the mask is known, so that no positions travel.
        columns: Whether columns have classes.
        row_grain: Classes of rows are ``2**row_grain`` half octaves wide, 0..3.
        size_grain: Mean levels of rows are told apart by ``2**size_grain`` quarter
            octaves, 0..3.
        deep: Whether levels use all of what is known as context, or rows alone.
    """

    base: bool = False
    last: bool = False
    agreed: bool = False
    columns: bool = False
    row_grain: int = 0
    size_grain: int = 0
    deep: bool = False

    def pack(self) -> int:
        """Return the recipe as one number."""
        flags = (self.base, self.last, self.agreed, self.columns)
        number = sum(1 << place for place, flag in enumerate(flags) if flag)
        number |= self.row_grain << ROW | self.size_grain << SIZE
        return number | int(self.deep) << DEEP

    @staticmethod
    def unpack(value: object) -> "Recipe":
        """Return the recipe of a number; refuse what ``pack`` does not write."""
        number = integer(value, _FIELD, 0, MOST - 1)
        recipe = Recipe(
            base=bool(number & _BASE),
            last=bool(number & _LAST),
            agreed=bool(number & _AGREED),
            columns=bool(number & _COLUMNS),
            row_grain=number >> ROW & 3,
            size_grain=number >> SIZE & 3,
            deep=bool(number >> DEEP & 1),
        )
        if (recipe.last or recipe.deep) and not recipe.base:
            detail = f"{number}: a context on top of weights that are none"
            raise PayloadError(Reason.BAD_VALUE, _FIELD, detail)
        if recipe.agreed and (recipe.columns or recipe.row_grain):
            detail = f"{number}: classes of positions that do not travel"
            raise PayloadError(Reason.BAD_VALUE, _FIELD, detail)
        return recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What both ends hold before a message is read.

    Attributes:
        shape: Rows and columns of the network.
        base: The decoded broadcast that the delta starts from, float32[size].
        last: The aggregate delta of the round before, float32[size], or None.
        mask: The agreed weight mask, bool[size], or None.
    """

    shape: Shape
    base: Vector
    last: Vector | None = None
    mask: Mask | None = None


def lanes_for(size: int, count: int) -> int:
    """Return the number of lanes of a message: about one for 150 bytes.

    A lane costs about a byte, and few lanes cost many steps.
    """
    return int(np.clip((size // 8 + 4 * count) >> 11, 8, 2048))
