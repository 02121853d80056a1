"""Aggregation: weighted sums of deltas that do not depend on the order of clients.

Each delta is rounded once to int64 fixed point and then added; integer addition is
associative, so any engine and any split over workers gives the same bits.  The bound on
one entry is proven from the size of the cohort, so that no sum can overflow.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedprune.common import native
from fedprune.common.errors import PayloadError, Reason
from fedprune.common.messages import SparseDelta
from fedprune.common.spec import Vector, largest_magnitude

_HEADROOM_BITS = 62  # one bit below int64's 63, so a rounded bound cannot touch it
DELTA_BITS = 24  # 2**-24 is below float32's step for weights of magnitude 1
_VALUE_CAP = 1e4  # no honest weight moves further in one round


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds that keep every sum inside int64.

    Attributes:
        clients: Most updates that are added, >= 1.
        max_examples: Largest weight of one update, >= 1.
    """

    clients: int
    max_examples: int

    @property
    def max_value(self) -> float:
        """Largest magnitude of one delta entry that can always be added."""
        room: float = 2.0 ** (_HEADROOM_BITS - DELTA_BITS)
        return min(_VALUE_CAP, room / (self.clients * self.max_examples))


class Accumulator:
    """Sum of weighted deltas; it reuses its own buffer.

    Law: any order and any tree of ``add`` and ``merge`` over the same updates gives
    the same bits.  Memory is one int64 vector, flat in the number of clients.

    Args:
        size: Number of weights.
        limits: Bounds of this round.
    """

    def __init__(self, size: int, limits: Limits) -> None:
        self.limits = limits
        self.delta_sum: NDArray[np.int64] = np.zeros(size, dtype=np.int64)
        self.num_examples = 0
        self.num_clients = 0

    def add(self, delta: SparseDelta, num_examples: int) -> None:
        """Add one delta with its weight.

        Raises:
            PayloadError: If it could overflow the sum; nothing has been added then.
        """
        if delta.size != len(self.delta_sum):
            detail = f"a delta of {delta.size} entries; want {len(self.delta_sum)}"
            raise PayloadError(Reason.BAD_SIZE, "delta", detail)
        if not 1 <= num_examples <= self.limits.max_examples:
            detail = f"{num_examples}; want 1..{self.limits.max_examples}"
            raise PayloadError(Reason.BAD_VALUE, "num_examples", detail)
        if not self._add(delta, float(num_examples) * 2.0**DELTA_BITS):
            largest, most = largest_magnitude(delta.values), self.limits.max_value
            detail = f"an entry of {largest}; want at most {most}"
            raise PayloadError(Reason.BAD_VALUE, "delta", detail)
        self.num_examples += num_examples
        self.num_clients += 1

    def _add(self, delta: SparseDelta, scale: float) -> bool:
        """Add a delta and return True; False where an entry is above the bound."""
        kernels, limit = native.kernels(), self.limits.max_value
        # Rising positions: as many as there are places are all of them.
        everywhere = len(delta.indices) == delta.size
        if kernels is not None and everywhere:
            # Dense values are read once: the bound is checked on the way.
            return kernels.add_dense(self.delta_sum, delta.values, scale, limit)
        if not largest_magnitude(delta.values) <= limit:
            return False
        if kernels is None:
            fixed = np.rint(delta.values.astype(np.float64) * scale).astype(np.int64)
            self.delta_sum[... if everywhere else delta.indices] += fixed
        else:
            kernels.add_sparse(self.delta_sum, delta.indices, delta.values, scale)
        return True

    def merge(self, other: "Accumulator") -> None:
        """Add another accumulator of the same round; an empty one changes nothing."""
        if other.num_clients == 0:
            return
        self.delta_sum += other.delta_sum
        self.num_examples += other.num_examples
        self.num_clients += other.num_clients

    def mean_delta(self) -> Vector:
        """Return the mean delta, weighted by examples, float32[size]."""
        scale = 2.0**DELTA_BITS * max(self.num_examples, 1)
        return (self.delta_sum / scale).astype(np.float32)
