"""Keys of hostile clients, which only a simulation has."""

from typing import Annotated

from pydantic import Field

from fedprune.common.config.method_key import MethodKey
from fedprune.common.config.sections import Count, Positive, Section
from fedprune.common.methods.kinds import ATTACK


class Attack(Section):
    """Hostile clients of a simulation; its controls have them too."""

    kind: Annotated[str, MethodKey(ATTACK)] = "none"
    """Change of their answers or of their training data, or none."""
    clients: float = Field(default=1.0, gt=0)
    """Number of hostile clients, or below 1 their share, rounded up; the last ones by
    id; 0 < clients."""
    scale: float = Field(default=0.0, ge=0)
    """Strength of the attack, for one on the data a factor on the delta, 0 <= scale; 0
    = its usual one, which "fedprune methods attack" says (data: 1)."""
    target: Count = 0
    """Class that the trigger of "backdoor" asks for, 0 <= target."""
    from_round: Positive = 1
    """First round in which they are hostile, 1 <= from_round <= all rounds."""
    omniscient: bool = False
    """Whether they know the honest deltas of all clients, which costs their training
    once more, and not of one another alone (alie, ipm, mimic)."""
