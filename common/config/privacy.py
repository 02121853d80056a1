"""Keys of what hides clients."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from pydantic import Field

from fedprune.common.config.sections import Positive, Section


class Privacy(Section):
    """Differential privacy of whole clients, and the least number to hide one in."""

    preset: Literal["none", "strict"] = "none"
    """"strict" = every client hides its own answers, so that the server's operator is
    not trusted either: local_noise, min_examples and senders of this section,
    update.choice = "shared", update.stateless = true and run.controls = []."""
    epsilon: float | None = Field(default=None, gt=0)
    """Epsilon of the whole run for any one client, with noise that the server adds to
    all sums over clients, 0 < epsilon; left out = no noise."""
    delta: float = Field(default=1e-5, gt=0, lt=1)
    """Probability with which epsilon may not hold, 0 < delta < 1; want less than one in
    the number of clients."""
    local_noise: float = Field(default=0.0, ge=0)
    """Noise that a client adds to its own answers, as a multiple of clip on each entry
    of its delta, 0 <= local_noise; 0 = none; read from the client's own
    configuration."""
    clip: float = Field(default=1.0, gt=0)
    """Largest L2 norm of a client's delta under noise, in the unit of the weights,
    0 < clip; longer ones are shortened, and the noise is a multiple of it."""
    key: str = ""
    """File with the secret key of the noise; "" = privacy.key in this user's state
    folder, made where it is missing."""
    min_examples: Positive = 1
    """Fewest training examples with which a client answers, 1 <= min_examples; read
    from the client's own configuration."""
    senders: Positive = 1
    """Fewest clients that must have sent an entry for it to count, 1 <= senders."""

    @property
    def hides_clients(self) -> bool:
        """True if noise of the server or of clients hides what single clients hold."""
        return self.epsilon is not None or self.local_noise > 0


# Key -> value that ``privacy.preset = "strict"`` gives it where none is set.
STRICT: Final[Mapping[str, object]] = MappingProxyType(
    {
        "privacy.local_noise": 0.03,
        "privacy.min_examples": 32,
        "privacy.senders": 3,
        "update.choice": "shared",
        "update.stateless": True,
        "run.controls": [],
    }
)


def with_preset(given: object) -> object:
    """Return settings by section with those of their preset, where none is set.

    Args:
        given: Section -> its settings; anything else is returned as it is.
    """
    if not isinstance(given, Mapping):
        return given
    privacy = given.get("privacy")
    preset = privacy.get("preset") if isinstance(privacy, Mapping) else None
    if preset != "strict":
        return given
    filled = dict(given)
    for key, value in STRICT.items():
        section, _, name = key.partition(".")
        known = filled.get(section, {})
        if isinstance(known, Mapping):
            filled[section] = {name: value} | dict(known)
    return filled
