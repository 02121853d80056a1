"""Side information: all that both ends of the codec know before a message is read."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fedprune.common.codec.delta.options import CodingFlags
from fedprune.common.codec.entropy.contexts import FLOATS, Class, float_classes
from fedprune.common.codec.layout import Layout
from fedprune.common.spec import Mask, ModelSpec, Vector

_QUARTERS = 21  # bits cut off a float, which leaves quarters of an octave


@dataclass(frozen=True, kw_only=True)
class SideInformation:
    """Layout, base and weight mask, which server and client both know.

    Its classes are computed once, so one object serves many messages.

    Attributes:
        layout: Rows and columns of the network.
        base: The decoded broadcast that the delta is encoded against, float32[size].
        mask: The agreed weight mask, bool[size], or None.
    """

    layout: Layout
    base: Vector = field(repr=False)
    mask: Mask | None = field(default=None, repr=False)

    @staticmethod
    def of(
        spec: ModelSpec, base: Vector, *, mask: Mask | None = None
    ) -> "SideInformation":
        """Return the side information of a network of these shapes."""
        return SideInformation(layout=Layout(spec), base=base, mask=mask)

    def position_classes(self, flags: CodingFlags) -> tuple[Class | None, int]:
        """Return the class of each position by its weight in the base, uint8[size].

        With it the number of classes; None stands for a single class.
        """
        if not flags.base:
            return None, 1
        return self._weights, FLOATS

    @cached_property
    def any_weight(self) -> bool:
        """True if a weight of the base is other than 0."""
        return bool(np.any(self.base))

    @cached_property
    def _weights(self) -> Class:
        bounds = self.layout.tensors
        return float_classes(self.base, bounds, shift=_QUARTERS, classes=FLOATS)
