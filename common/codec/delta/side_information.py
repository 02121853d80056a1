"""What both ends hold before a message is read."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fedprune.common.codec.delta.options import Recipe
from fedprune.common.codec.entropy.contexts import FLOATS, Class, float_classes
from fedprune.common.codec.layout import Shape
from fedprune.common.messages import Mask, ModelSpec, Vector

_QUARTERS = 21  # bits cut off a float, so that quarters of an octave are left


@dataclass(frozen=True, kw_only=True)
class Known:
    """What server and client both hold; classes of it are found once.

    Attributes:
        shape: Rows and columns of the network.
        base: The decoded broadcast that the delta starts from, float32[size].
        mask: The agreed weight mask, bool[size], or None.
    """

    shape: Shape
    base: Vector
    mask: Mask | None = None

    def places(self, recipe: Recipe) -> tuple[Class | None, int]:
        """Return the class of each place by what is known of it, and their number.

        None stands for a single class.
        """
        if not recipe.base:
            return None, 1
        return self._weights, FLOATS

    @cached_property
    def any_weight(self) -> bool:
        """Whether a weight of the base is other than 0."""
        return bool(np.any(self.base))

    @cached_property
    def _weights(self) -> Class:
        bounds = self.shape.tensors
        return float_classes(self.base, bounds, shift=_QUARTERS, classes=FLOATS)


_held: list[Known] = []


def hold(spec: ModelSpec, base: Vector, *, mask: Mask | None = None) -> Known:
    """Return what a receiver of many messages holds, the same object for each.

    Args:
        spec: Shapes of the network.
        base: The decoded broadcast, float32[spec.size]; not written to later.
        mask: The agreed weight mask, or None.
    """
    for known in _held:
        same = known.base is base and known.mask is mask
        if same and known.shape.spec is spec:
            return known
    known = Known(shape=Shape(spec), base=base, mask=mask)
    _held[:] = [known]
    return known
