"""What both ends hold before a message is read."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fedprune.common.codec.delta.options import CodingFlags
from fedprune.common.codec.entropy.contexts import FLOATS, Class, float_classes
from fedprune.common.codec.layout import Layout
from fedprune.common.spec import Mask, ModelSpec, Vector

_QUARTERS = 21  # bits cut off a float, so that quarters of an octave are left


@dataclass(frozen=True, kw_only=True)
class SideInformation:
    """What server and client both hold; who codes many messages by it keeps it.

    Classes of it are found once.

    Attributes:
        layout: Rows and columns of the network.
        base: The decoded broadcast that the delta starts from, float32[size].
        mask: The agreed weight mask, bool[size], or None.
    """

    layout: Layout
    base: Vector = field(repr=False)
    mask: Mask | None = field(default=None, repr=False)

    @staticmethod
    def of(
        spec: ModelSpec, base: Vector, *, mask: Mask | None = None
    ) -> "SideInformation":
        """Return what is held by the shapes of a network."""
        return SideInformation(layout=Layout(spec), base=base, mask=mask)

    def places(self, flags: CodingFlags) -> tuple[Class | None, int]:
        """Return the class of each place by what is known of it, and their number.

        None stands for a single class.
        """
        if not flags.base:
            return None, 1
        return self._weights, FLOATS

    @cached_property
    def any_weight(self) -> bool:
        """Whether a weight of the base is other than 0."""
        return bool(np.any(self.base))

    @cached_property
    def _weights(self) -> Class:
        bounds = self.layout.tensors
        return float_classes(self.base, bounds, shift=_QUARTERS, classes=FLOATS)
