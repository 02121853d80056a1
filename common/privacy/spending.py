"""Spending of a run: its releases, the noise on each, and epsilon of all together.

All that leaves the server (every broadcast, every figure of the record) is made of
Gaussian sums, each of which one client moves by a known amount at most.  The whole
run is one Gaussian mechanism then: the inverse squares of the noise multipliers add up
(Gaussian differential privacy, Dong et al. 2019, arXiv:1905.02383).  Every client is
counted in every round: nothing is gained from who was drawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from math import sqrt
from typing import Any

from fedprune.common.config import Config
from fedprune.common.errors import ConfigError
from fedprune.common.text import not_installed


class Release(StrEnum):
    """A quantity whose sum over the clients leaves the server."""

    DELTA = "delta"
    MOMENTS = "moments"
    SCORES = "scores"
    FIGURES = "figures"


# Of the inverse square of the delta's noise multiplier: what guides costs less.
SHARES: Mapping[Release, float] = {
    Release.DELTA: 1.0,
    Release.MOMENTS: 0.1,
    Release.SCORES: 0.1,
    Release.FIGURES: 0.02,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """Noise of a run, and what all its rounds spend.

    Attributes:
        epsilon: Epsilon of the whole run.
        delta: Delta of the whole run.
        multiplier: Noise multiplier of the delta's sum: standard deviation over clip.
        releases: Number of releases of each quantity.
    """

    epsilon: float
    delta: float
    multiplier: float
    releases: Mapping[Release, int]

    def of(self, release: Release) -> float:
        """Return the noise multiplier of a quantity."""
        return self.multiplier / sqrt(SHARES[release])


def releases_of(config: Config, *, moments: bool = True) -> dict[Release, int]:
    """Return how often a run releases each quantity, at most.

    Args:
        config: Rounds and what clients measure.
        moments: Whether the network has batch norms.
    """
    rounds = config.rounds
    closing = rounds.total + 1
    return {
        Release.DELTA: rounds.total,
        Release.MOMENTS: closing if moments else 0,
        Release.SCORES: rounds.cuts + 1 if rounds.cuts else 0,
        Release.FIGURES: closing,
    }


def released_by(
    config: Config, planned: Spending, round_: int, cuts: int
) -> dict[Release, int]:
    """Return how often a run has released each quantity, at most, after a round.

    Args:
        config: Rounds.
        planned: Its releases at the end are the most.
        round_: The last round.
        cuts: Cuts made so far.
    """
    most = {
        Release.DELTA: min(round_, config.rounds.total),
        Release.MOMENTS: round_,
        Release.SCORES: cuts + 1,
        Release.FIGURES: round_,
    }
    return {key: min(most[key], count) for key, count in planned.releases.items()}


def weight_of(releases: Mapping[Release, int]) -> float:
    """Return the releases as so many releases of a delta."""
    return sum(SHARES[release] * count for release, count in releases.items())


def plan_spending(
    epsilon: float, delta: float, releases: Mapping[Release, int]
) -> Spending:
    """Return the least noise with which a run spends no more than ``epsilon``.

    Raises:
        ConfigError: If the accountant is not installed.
    """
    accountant = _accountant()
    sigma = float(accountant.get_sigma_gaussian(epsilon, delta))
    multiplier = sigma * sqrt(weight_of(releases))
    return Spending(
        epsilon=epsilon, delta=delta, multiplier=multiplier, releases=dict(releases)
    )


def spent(planned: Spending, done: Mapping[Release, int]) -> float:
    """Return the epsilon of the releases so far, 0 for none."""
    return epsilon_of(planned.multiplier, planned.delta, done)


def epsilon_of(
    multiplier: float, delta: float, releases: Mapping[Release, int]
) -> float:
    """Return the epsilon of so many releases, 0 for none.

    Args:
        multiplier: Noise multiplier of a delta, > 0.
        delta: Delta of all of them, 0 < delta < 1.
        releases: Number of releases of each quantity.

    Raises:
        ConfigError: If the accountant is not installed.
    """
    weight = weight_of(releases)
    if weight <= 0.0:
        return 0.0
    sigma = multiplier / sqrt(weight)
    return float(_accountant().get_epsilon_gaussian(sigma, delta))


def _accountant() -> Any:  # noqa: ANN401 - a module of an extra
    try:
        return import_module("dp_accounting")
    except ImportError as error:
        msg = not_installed("privacy.epsilon", "dp-accounting", "privacy")
        raise ConfigError(msg) from error
