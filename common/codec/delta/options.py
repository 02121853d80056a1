"""How a delta was coded: one number of its header."""

from dataclasses import dataclass

import numpy as np

from fedprune.common.codec.checks import integer
from fedprune.common.errors import PayloadError, Reason

_FIELD = "delta.recipe"
_FLAGS = ("base", "agreed", "columns", "row_sizes", "deep", "coarse", "flat")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a delta is coded with; on the wire one bit each, in this order.

    Attributes:
        base: Whether the broadcast weights are context.
        agreed: Whether the mask is known, so that no positions travel.
        columns: Whether columns have classes.
        row_sizes: Whether rows have classes by mean level; else levels are told apart
            by the score of their place.
        deep: Whether levels use what is known of the weight, too.
        coarse: Whether classes of rows and columns are whole octaves, not halves.
        flat: Whether neither rows nor columns have classes, which small messages do
            not earn.
    """

    base: bool = False
    agreed: bool = False
    columns: bool = False
    row_sizes: bool = False
    deep: bool = False
    coarse: bool = False
    flat: bool = False

    @property
    def grain(self) -> int:
        """Half octaves of a class of rows and columns."""
        return 2 if self.coarse else 1

    def pack(self) -> int:
        """Return the recipe as one number."""
        return sum(getattr(self, flag) << bit for bit, flag in enumerate(_FLAGS))

    @staticmethod
    def unpack(value: object) -> "Recipe":
        """Return the recipe of a number; refuse what contradicts itself."""
        number = integer(value, _FIELD, 0, (1 << len(_FLAGS)) - 1)
        flags = {flag: bool(number >> bit & 1) for bit, flag in enumerate(_FLAGS)}
        recipe = Recipe(**flags)
        if recipe.deep and not recipe.base:
            detail = f"{number}: a context on top of weights that are none"
            raise PayloadError(Reason.BAD_VALUE, _FIELD, detail)
        classes = recipe.columns or recipe.coarse
        without = recipe.agreed or recipe.flat
        if (without and classes) or (recipe.agreed and recipe.flat):
            detail = f"{number}: classes of positions that do not travel"
            raise PayloadError(Reason.BAD_VALUE, _FIELD, detail)
        return recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What is known of a body before its first symbol.

    Attributes:
        recipe: Contexts to use.
        values: Kind of values.
        count: Number of entries.
        shrink: What the sparsifier took off every weight, or 0.
    """

    recipe: Recipe
    values: str
    count: int
    shrink: np.float32


def lanes_for(size: int, count: int) -> int:
    """Return the number of lanes of a message: about one for 750 bytes.

    A lane costs one to two bytes, and few lanes cost many steps.
    """
    return int(np.clip((size // 8 + 4 * count) // 3072, 8, 2048))
