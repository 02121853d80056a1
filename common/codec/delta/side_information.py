"""What both ends hold before a message is read."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedprune.common.codec.delta.options import Recipe
from fedprune.common.codec.entropy.contexts import COARSE, FLOATS, Class, float_classes
from fedprune.common.codec.layout import Shape
from fedprune.common.messages import Mask, ModelSpec, Vector

_QUARTERS = 21  # bits cut off a float, so that quarters of an octave are left
_HALVES = 22


@dataclass(frozen=True, kw_only=True)
class Known:
    """What server and client both hold; classes of it are found once.

    Attributes:
        shape: Rows and columns of the network.
        base: The decoded broadcast that the delta starts from, float32[size].
        last: The broadcast less the one before, float32[size], or None.
        last_name: Digest of the broadcast before; empty without.
        mask: The agreed weight mask, bool[size], or None.
    """

    shape: Shape
    base: Vector
    last: Vector | None = None
    last_name: bytes = b""
    mask: Mask | None = None

    def places(self, recipe: Recipe) -> tuple[Class | NDArray[np.uint16] | None, int]:
        """Return the class of each place by what is known of it, and their number.

        None stands for a single class.
        """
        if not recipe.base:
            return None, 1
        if recipe.last and self.last is not None:
            return self._moved, 2 * COARSE * COARSE
        return self._weights, FLOATS

    @cached_property
    def any_weight(self) -> bool:
        """Whether a weight of the base is other than 0."""
        return bool(np.any(self.base))

    @cached_property
    def _weights(self) -> Class:
        bounds = self.shape.tensors
        return float_classes(self.base, bounds, shift=_QUARTERS, classes=FLOATS)

    @cached_property
    def _moved(self) -> NDArray[np.uint16]:
        """Return the class of each weight if it moved on, then of the weight itself."""
        out = np.empty(self.shape.size, dtype=np.uint16)
        last = self.last
        assert last is not None  # noqa: S101 - the caller asked
        for grid in self.shape.grids:  # a tensor at a time stays in the cache
            part = grid.part
            moved = np.sign(self.base[part])
            moved *= last[part]
            moved += np.abs(self.base[part])
            bounds = np.array([0, len(moved)])
            classes = float_classes(moved, bounds, shift=_HALVES, classes=COARSE)
            classes += (moved < 0).view(np.uint8) * np.uint8(COARSE)
            np.multiply(classes, COARSE, out=out[part], dtype=np.uint16)
            out[part] += self._weights[part] >> 1
        return out


_held: list[Known] = []


def hold(
    spec: ModelSpec,
    base: Vector,
    *,
    last: Vector | None = None,
    last_name: bytes = b"",
    mask: Mask | None = None,
) -> Known:
    """Return what a receiver of many messages holds, the same object for each.

    Args:
        spec: Shapes of the network.
        base: The decoded broadcast, float32[spec.size]; not written to later.
        last: That broadcast less the one before, or None.
        last_name: Digest of the one before.
        mask: The agreed weight mask, or None.
    """
    for known in _held:
        same = known.base is base and known.last is last and known.mask is mask
        if same and known.shape.spec is spec and known.last_name == last_name:
            return known
    known = Known(
        shape=Shape(spec), base=base, last=last, last_name=last_name, mask=mask
    )
    _held[:] = [known]
    return known
