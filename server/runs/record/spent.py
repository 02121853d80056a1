"""Figures and words on the differential privacy of a run."""

from collections.abc import Iterator, Mapping, Sequence
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

MULTIPLIER = "noise_multiplier"  # of the deltas
SERVER = "epsilon_server"

_WORDS = {
    SERVER: "epsilon against the server",
    "epsilon_means": "epsilon against who sees means alone",
}


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


def planned_figures(
    config: Config, epsilon: float | None, delta: float | None
) -> dict[str, float]:
    """Return the noise that a run would need.

    Noise multipliers are standard deviations over the bound of a client's share:
    ``privacy.clip`` for deltas.

    Args:
        config: Rounds and cohort.
        epsilon: Replaces ``privacy.epsilon``.
        delta: Replaces ``privacy.delta``.

    Raises:
        ConfigError: If no epsilon is given, one of them is out of its range, or the
            accountant is not installed.
    """
    privacy, cohort = config.privacy, config.rounds.cohort
    if epsilon is None and privacy.local_noise:
        return _local_figures(config, delta)
    chance = privacy.delta if delta is None else delta
    wanted = _checked(privacy.epsilon if epsilon is None else epsilon, chance)
    planned = plan_spending(wanted, chance, releases_of(config))
    return {
        "epsilon": wanted,
        "delta": chance,
        "rounds": config.rounds.total + 1,
        "cohort": cohort,
        "clip": privacy.clip,
        MULTIPLIER: planned.multiplier,
        "noise_on_each_weight": planned.multiplier * privacy.clip / cohort,
        **{
            f"{MULTIPLIER}_{release}": planned.of(release)
            for release in planned.releases
            if release is not Release.DELTA
        },
    }


def _checked(epsilon: float | None, delta: float) -> float:
    if epsilon is None:
        msg = "no epsilon is given, here or as privacy.epsilon; want --epsilon E > 0, "
        msg += "such as 8"
        raise ConfigError(msg)
    if not 0.0 < epsilon < inf or not 0.0 < delta < 1.0:
        msg = f"epsilon is {epsilon}, delta {delta}; want --epsilon E > 0, such as 8, "
        msg += "and 0 < delta < 1"
        raise ConfigError(msg)
    return epsilon


def _local_figures(config: Config, delta: float | None) -> dict[str, float]:
    """Return what the noise of the clients themselves is worth."""
    privacy, cohort = config.privacy, config.rounds.cohort
    chance = privacy.delta if delta is None else delta
    releases = releases_of(config)
    of_sum = privacy.local_noise * sqrt(cohort)
    return {
        SERVER: epsilon_of(privacy.local_noise, chance, releases),
        "epsilon_means": epsilon_of(of_sum, chance, releases),
        "delta": chance,
        "rounds": config.rounds.total + 1,
        "cohort": cohort,
        "clip": privacy.clip,
        MULTIPLIER: of_sum,
    }


def planned_lines(figures: Mapping[str, float]) -> Iterator[str]:
    """Yield the lines of text of ``planned_figures``."""
    cohort = f"cohort of {figures['cohort']}"
    for key, value in figures.items():
        if key == "noise_on_each_weight":
            yield f"noise on each weight of the mean: {value:.4g} ({cohort})"
        elif key == MULTIPLIER:
            more = f" ({cohort})" if SERVER in figures else ""
            yield f"noise on the sum of the deltas: {value:.4g} x privacy.clip{more}"
        elif key.startswith(MULTIPLIER):
            what = key.removeprefix(f"{MULTIPLIER}_")
            yield f"noise on the sum of {what}: {value:.4g} x its bound"
        elif key not in {"cohort", "clip"}:
            yield f"{_WORDS.get(key, key)}: {value}"
    if SERVER in figures:
        yield "counted: one answer a round; attempts that fail spend more"
    else:
        yield "counted: every client in every round, drawn or not"


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
