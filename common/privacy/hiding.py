"""Key and noise that hide the clients of a run."""

from dataclasses import dataclass

from fedprune.common.aggregate import DELTA_BITS
from fedprune.common.config import Config
from fedprune.common.privacy.key import load_key
from fedprune.common.privacy.noise import NoiseKey, check_size
from fedprune.common.privacy.spending import Spending, plan_spending, releases_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """Key and noise that hide the clients of a run.

    Attributes:
        key: Secret key of the noise.
        spending: Noise multipliers.
        clip: Largest L2 norm of a client's delta.
    """

    key: NoiseKey
    spending: Spending
    clip: float


def privacy_of(config: Config, *, moments: bool) -> Privacy | None:
    """Return the privacy of a run; None without ``privacy.epsilon``.

    Args:
        config: Epsilon, delta, clip, key and rounds.
        moments: Whether the network has batch norms.

    Raises:
        ConfigError: If the accountant is not installed, the noise is too large for sums
            of integers, or as ``load_key``.
    """
    wanted = config.privacy
    if wanted.epsilon is None:
        return None
    releases = releases_of(config, moments=moments)
    spending = plan_spending(wanted.epsilon, wanted.delta, releases)
    check_size(spending.multiplier * wanted.clip * 2.0**DELTA_BITS)
    return Privacy(
        key=load_key(wanted.key),
        spending=spending,
        clip=wanted.clip,
    )
