"""The row ``votes``: rank correlation, one cut, and the end of short runs.

For each task and seed a warmup is trained, its clients vote by every criterion as in a
run, and the agreed importance is compared with the rise of the loss without each unit.
Two tasks choose, two confirm (``tasks.py``).
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.benchmarks.kit.science.compared import by_seed
from fedprune.simulations.benchmarks.kit.science.intervals import (
    interval,
    paired,
    unpack,
)
from fedprune.simulations.benchmarks.kit.science.rows import (
    Found,
    Piece,
    Row,
    figure,
)
from fedprune.simulations.benchmarks.kit.science.votes.cost import (
    GOAL,
    NETWORKS,
    measure_cost,
)
from fedprune.simulations.benchmarks.kit.science.votes.measure import (
    measure_end,
    measure_votes,
)
from fedprune.simulations.benchmarks.kit.science.votes.tasks import (
    SMALL,
    TASKS,
    VoteTask,
)

INCUMBENT, CHOSEN = "taylor", "fisher"
ENDS = ("fisher", "taylor", "random")
_UNLIKE = "random channels have no penalty, those of the others do"
ENDED = ("mnist-plain", "mnist-normed")  # tasks with runs to the end


def pieces(seeds: Sequence[int]) -> list[Piece]:
    """Return the cost of scoring, votes of all tasks, then runs to the end."""
    voted = [_piece(measure_votes, task, seed) for seed in seeds for task in TASKS]
    ended = [
        _piece(measure_end, task, seed, criterion)
        for task in TASKS
        if task.name in ENDED
        for seed in seeds
        for criterion in ENDS
    ]
    return [Piece(name="cost", work=measure_cost), *voted, *ended]


def figures(found: Found) -> list[Figure]:
    """Return the figures of the stored pieces."""
    shown: list[Figure] = []
    for task in TASKS:
        stored = by_seed(found, task.name)
        if stored:
            shown += _votes(task, stored)
    for task in TASKS:
        shown += _ends(task, found)
    return shown + (_cost(found["cost"]) if "cost" in found else [])


def _piece(
    work: Callable[..., Raw], task: VoteTask, seed: int, *criterion: str
) -> Piece:
    name = "-".join([task.name, *(c.replace(" ", "-") for c in criterion), str(seed)])
    settings = {"task": task.name, "seed": seed} | dict(task.settings)
    return Piece(
        name=name,
        settings=settings | ({"criterion": criterion[0]} if criterion else {}),
        work=partial(work, task, seed, *criterion),
    )


def _votes(task: VoteTask, stored: dict[int, Raw]) -> list[Figure]:
    """Return the mean quality of each criterion, and the difference that decides."""
    runs = list(stored.values())
    purpose = "choice" if task.choice else "confirmation"
    head = f"votes, {purpose}, {task.name}"
    names = list(runs[0]["criteria"])
    halves = " and ".join(str(count) for count in runs[0]["examples"])
    ceilings = [float(run["ceiling"]) for run in runs]
    return [
        Figure(
            name=f"{head}: units",
            value=runs[0]["units"],
            detail=f"{task.detail}; truth on two halves of {halves} examples that "
            f"no client scored; they agree by {_listed(ceilings)}",
        ),
        *(_quality(head, name, runs) for name in names),
        figure(
            f"{head}: rank correlation, {CHOSEN} - {INCUMBENT}",
            interval([_gap(run, "all") for run in runs]),
            goal=">= 0",
        ),
        figure(
            f"{head}: loss after one cut, {CHOSEN} - {INCUMBENT}",
            interval([_gap(run, "loss_after_cut") for run in runs]),
            goal="<= 0",
        ),
    ]


def _quality(head: str, name: str, runs: Sequence[Raw]) -> Figure:
    """Return the rank correlation of a criterion over that of the two halves."""
    each = [run["criteria"][name] for run in runs]
    over = [e["all"] / run["ceiling"] for e, run in zip(each, runs, strict=True)]
    within = np.mean([e["within"] for e in each])
    losses = [e["loss_after_cut"] for e in each]
    return Figure(
        name=f"{head}: {name}",
        value=float(np.mean(over)),
        detail=f"rank correlation with the rises / that of the halves: {_listed(over)};"
        f" inside groups {within:.3f}; loss after one cut to 30 % of the parameters "
        f"{np.mean(losses):.3f} ({_listed(losses)}), before it "
        f"{np.mean([run['loss'] for run in runs]):.3f}",
    )


def _gap(run: Raw, key: str) -> float:
    of = run["criteria"]
    return float(of[CHOSEN][key]) - float(of[INCUMBENT][key])


def _ends(task: VoteTask, found: Found) -> list[Figure]:
    """Return the final accuracies of a task, and the differences to the incumbent."""
    stored = {c: by_seed(found, f"{task.name}-{c}") for c in ENDS}
    right = {
        c: {seed: unpack(raw["correct"]) for seed, raw in runs.items()}
        for c, runs in stored.items()
    }
    shown = []
    for criterion, runs in stored.items():
        if runs:
            shown.append(_end(task, criterion, list(runs.values())))
    for other in ENDS:
        gaps = paired(right[CHOSEN], right[other]) if other != CHOSEN else []
        if gaps:
            shown.append(
                figure(
                    f"end, {task.name}: accuracy, {CHOSEN} - {other}",
                    interval(gaps, same_examples=True).scaled(100),
                    unit="points",
                    goal=">= 0",
                    note=_UNLIKE if other == "random" else "",
                )
            )
    return shown


def _end(task: VoteTask, criterion: str, runs: Sequence[Raw]) -> Figure:
    accuracies = [100 * float(run["accuracy_final"]) for run in runs]
    sizes = [f"{run['params_final'] / run['params_dense']:.3f}" for run in runs]
    return Figure(
        name=f"end, {task.name}: accuracy, {criterion}",
        value=float(np.mean(accuracies)),
        unit="%",
        detail=f"{100 * SMALL:g} % of the parameters; {_listed(accuracies, 2)}; sizes "
        f"{', '.join(sizes)}; {sum(run['rollbacks'] for run in runs)} rollbacks",
    )


def _cost(raw: Raw) -> list[Figure]:
    return [
        Figure(
            name=f"scoring by {name}, {network} / forward and backward",
            value=raw[network][name],
            unit="x",
            goal=GOAL if name == CHOSEN else "",
            detail="CPU seconds, 256 examples in batches of 32, best of 5, interleaved",
        )
        for network in NETWORKS
        for name in (CHOSEN, INCUMBENT)
    ]


def _listed(values: Sequence[float], digits: int = 3) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


ROW = Row(
    name="votes",
    budget="about 35 CPU minutes with three seeds",
    pieces=pieces,
    figures=figures,
)
