"""The section ``[robust]``: limits on the influence of one client."""

from typing import Annotated

from pydantic import Field

from fedprune.common.config.method_key import MethodKey
from fedprune.common.config.sections import Positive, Section
from fedprune.common.methods.kinds import AGGREGATION


class Robust(Section):
    """Limits on the influence of one client."""

    aggregate: Annotated[str, MethodKey(AGGREGATION)] = "mean"
    """Aggregation rule, which makes one delta of those of the clients."""
    hostile: float = Field(default=0.2, ge=0, lt=0.5)
    """Share of the clients that may be hostile at once, for rules that outvote them,
    0 <= hostile < 0.5; rounded down."""
    max_examples: Positive = 100000
    """Largest number of examples that a client may report, 1 <= max_examples."""
    max_weight: float = Field(default=2.0, ge=0)
    """Largest weight of a client as a multiple of the cohort's median enrolment,
    0 <= max_weight; 0 = what it enrolled with."""
    max_norm: float = Field(default=1.75, ge=0)
    """Largest L2 norm of a delta as a multiple of the median one, 0 <= max_norm; a
    longer one is shortened; 0 = not."""
    max_moment: float = Field(default=3.0, ge=0)
    """Robust standard deviations that a client's batch-norm moments and running buffers
    may be away from the median of the cohort, 0 <= max_moment; others are clipped to
    it; 0 = not."""
