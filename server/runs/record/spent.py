"""Figures and words on the differential privacy of a run."""

from collections.abc import Mapping, Sequence
from math import inf, sqrt

from fedprune.common.config import Config
from fedprune.common.errors import ConfigError
from fedprune.common.privacy.spending import (
    Release,
    epsilon_of,
    plan_spending,
    releases_of,
)
from fedprune.server.runs.events import Event, PrivacySpent, of_run

DELTAS = "noise on the sum of the deltas"


def privacy_figures(events: Sequence[Event]) -> dict[str, float] | None:
    """Return the figures of ``summary.json``, None of a run without noise."""
    spent = of_run(events, PrivacySpent)
    if not spent:
        return None
    last = spent[-1]
    return {
        "epsilon": last.epsilon,
        "epsilon_planned": last.planned,
        "delta": last.delta,
        "noise_multiplier": last.multiplier,
    }


def planned_rows(
    config: Config, epsilon: float | None, delta: float | None
) -> dict[str, object]:
    """Return the noise that a run would need, by names in words.

    Args:
        config: Rounds and cohort.
        epsilon: Replaces ``privacy.epsilon``.
        delta: Replaces ``privacy.delta``.

    Raises:
        ConfigError: If no epsilon is given, one of them is out of its range, or the
            accountant is not installed.
    """
    wanted, privacy = epsilon, config.privacy
    if wanted is None and privacy.local_noise:
        return _local_rows(config, delta)
    if wanted is None:
        wanted = privacy.epsilon
    chance = privacy.delta if delta is None else delta
    if wanted is None or not 0.0 < wanted < inf or not 0.0 < chance < 1.0:
        msg = f"epsilon is {wanted}, delta {chance}; want --epsilon E > 0, such as 8, "
        msg += "and 0 < delta < 1"
        raise ConfigError(msg)
    planned = plan_spending(wanted, chance, releases_of(config))
    cohort = config.rounds.cohort
    entry = planned.multiplier * privacy.clip / cohort
    return {
        "epsilon": wanted,
        "delta": chance,
        "rounds": config.rounds.total + 1,
        DELTAS: f"{planned.multiplier:.4g} x privacy.clip",
        "noise on each weight of the mean": f"{entry:.4g} (cohort of {cohort})",
        **{
            f"noise on the sum of {release}": f"{planned.of(release):.4g} x its bound"
            for release in planned.releases
            if release is not Release.DELTA
        },
        "counted": "every client in every round, drawn or not",
    }


def _local_rows(config: Config, delta: float | None) -> dict[str, object]:
    """Return what the noise of the clients themselves is worth, by names in words."""
    privacy, cohort = config.privacy, config.rounds.cohort
    chance = privacy.delta if delta is None else delta
    releases = releases_of(config)
    of_sum = privacy.local_noise * sqrt(cohort)
    return {
        "epsilon against the server": epsilon_of(privacy.local_noise, chance, releases),
        "epsilon against who sees means alone": epsilon_of(of_sum, chance, releases),
        "delta": chance,
        "rounds": config.rounds.total + 1,
        DELTAS: f"{of_sum:.4g} x privacy.clip (cohort of {cohort})",
        "counted": "one answer a round; attempts that fail spend more",
    }


def privacy_line(summary: Mapping[str, object]) -> str:
    """Return one line on the privacy of a run, "" of one without noise."""
    found = summary.get("privacy")
    if not isinstance(found, Mapping):
        return ""
    keys = ("epsilon", "delta", "noise_multiplier")
    numbers = [found.get(key) for key in keys]
    if not all(isinstance(number, int | float) for number in numbers):
        return ""
    epsilon, delta, multiplier = numbers
    return (
        f"Differential privacy of any one client: epsilon {epsilon:.2f} at delta "
        f"{delta:g}; noise of {multiplier:.3g} times privacy.clip on the sum of the "
        "deltas.  Who holds the key of the noise, and the server, see more."
    )
