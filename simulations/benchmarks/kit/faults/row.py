"""A row of the benchmark ``faults``: one case, a number of times."""

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from fedprune.common.errors import FedPruneError
from fedprune.simulations.benchmarks.kit.faults.cases import (
    CASES,
    LOSES_WORKERS,
    SETTINGS,
    Case,
)
from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.benchmarks.kit.science.rows import Found, Piece, Row

_TITLES = {
    "worker-killed": "a worker killed in mid-round",
    "node-killed": "a node of Ray killed in mid-round",
    "driver-killed": "the driver killed in mid-round, and resumed",
    "worker-stopped": "a worker stopped (SIGSTOP) in mid-round",
}
_AGAIN = 2  # runs more whose signal may find no job
_BUDGET = "10 to 25 minutes on the clock for ten times"


def row(name: str, expected: Callable[[], str], times: int) -> Row:
    """Return the row of a case.

    Args:
        name: Its name in ``CASES``.
        expected: Returns the model of the run that nothing happens to.
        times: How often it is to be good.
    """

    def pieces(numbers: Sequence[int]) -> list[Piece]:
        work = partial(measure, CASES[name], expected)
        settings = {"settings": SETTINGS}
        return [
            Piece(name=str(n), settings=settings, work=partial(work, n))
            for n in numbers
        ]

    return Row(
        name=name,
        budget=_BUDGET,
        pieces=pieces,
        figures=lambda found: [figure(name, found, times)],
    )


def measure(case: Case, expected: Callable[[], str], number: int) -> Raw:
    """Play a case once; return how it ended, and how it should have.

    A signal that finds no job, as on a busy machine, proves nothing: the case is played
    again, twice at most.

    Raises:
        FedPruneError: If none of the signals found a job.
    """
    wanted = expected()
    for _ in range(_AGAIN):
        with suppress(FedPruneError):
            return {"expected": wanted, **_played(case, number)}
    return {"expected": wanted, **_played(case, number)}


def _played(case: Case, number: int) -> Raw:
    with tempfile.TemporaryDirectory(prefix="fp-", ignore_cleanup_errors=True) as name:
        return case(Path(name), number)


def figure(name: str, found: Found, times: int) -> Figure:
    """Return how often a case ended well; times that are missing may go either way."""
    good = sum(is_good(name, raw) for raw in found.values())
    return Figure(
        name=f"{_TITLES[name]}: the same model_sha256",
        value=good,
        unit=f"of {len(found)}",
        goal=f"== {times}",
        low=good,
        high=good + times - len(found),
        reference="exit code 4, or a run that hangs",
        detail=_detail(name, found),
    )


def is_good(name: str, raw: Raw) -> bool:
    """Return whether a run ended with the right model after what was meant happened."""
    hit = bool(raw.get("lost")) or name not in LOSES_WORKERS
    return hit and raw.get("model_sha256") == raw["expected"]


def _detail(name: str, found: Found) -> str:
    before = sorted({int(raw["rounds_before"]) for raw in found.values()})
    text = f"after round {', '.join(map(str, before))} of a run on two workers"
    reasons = Counter(why for raw in found.values() for why in raw.get("lost", ()))
    if reasons:
        told = [f"{why} ({count})" for why, count in sorted(reasons.items())]
        text += f"; events: {', '.join(told)}"
    bad = [
        f"{number}: exit code {raw['exit']}, model {raw.get('model_sha256', 'none')}"
        for number, raw in found.items()
        if not is_good(name, raw)
    ]
    return "; ".join([text, *bad])
