"""The section ``[faults]``: what goes wrong in a simulation, drawn from its seed."""

from pydantic import Field

from fedprune.common.config.sections import Section, Share
from fedprune.common.errors import ConfigError


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
