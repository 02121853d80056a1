"""Faults and hostile clients: the sections that a simulation alone has."""

from typing import Annotated

from pydantic import Field

from fedprune.common.config.method_key import MethodKey
from fedprune.common.config.sections import Count, Positive, Section, Share
from fedprune.common.errors import ConfigError
from fedprune.common.methods.kinds import ATTACK


class Faults(Section):
    """Faults of a simulation's clients, in virtual time; devices have their own."""

    stragglers: Share = 0.0
    """Share of the clients that are slow in every round, 0 <= stragglers <= 1."""
    slowdown: float = Field(default=10.0, ge=1, le=1e6)
    """Factor on a straggler's 60 virtual seconds, 1 <= slowdown <= 10^6."""
    drop_out: Share = 0.0
    """Share of the answers that never arrive, 0 <= drop_out <= 1."""
    crash: Share = 0.0
    """Share of the rounds of a client whose training raises an error, 0 <= crash <=
    1."""
    hang: Share = 0.0
    """Share of the rounds of a client whose training never ends, 0 <= hang <= 1."""
    corrupt: Share = 0.0
    """Share of the answers in which one bit is flipped, 0 <= corrupt <= 1."""
    clock_s: float = Field(default=0.0, ge=0, le=1e9)
    """Most seconds that a client's clock is ahead or behind, 0 <= clock_s <= 10^9; no
    result depends on it."""


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


def refuse_faults(faults: Faults, place: str) -> None:
    """Refuse a fault plan where real devices answer.

    Args:
        faults: The section.
        place: What the configuration is for: "a server" or "a device".

    Raises:
        ConfigError: If it has a value that is not the default.
    """
    if faults != Faults():
        given = ", ".join(f"faults.{key}" for key in sorted(_changed(faults)))
        msg = f"{given}: faults are for simulations; want none in the configuration of "
        msg += place
        raise ConfigError(msg)


def _changed(faults: Faults) -> set[str]:
    default = Faults()
    names = type(faults).model_fields
    return {name for name in names if getattr(faults, name) != getattr(default, name)}
