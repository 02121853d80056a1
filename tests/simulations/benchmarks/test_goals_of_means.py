"""Goals on the mean of several seeds: met where the whole interval meets them."""

from collections import defaultdict

import pytest

from fedprune.simulations.benchmarks import digits, firstaid
from fedprune.simulations.benchmarks.kit.rows import RowStore
from fedprune.simulations.benchmarks.kit.tasks import experiments

# final - control in points: the mean meets every goal, in SPREAD the interval does not.
SPREAD, CLOSE = (0.3, -1.2, 0.1, 0.2, -0.4), (-0.1, 0.0, 0.1, 0.0, 0.1)


def raws(gaps):
    """Make what is stored of one run a seed; all other figures are 1."""
    return [
        defaultdict(
            lambda: 1,
            accuracy_final=0.9 + gap / 100,
            accuracy_control=0.9,
            equal_accuracy=None,
            commit="c",
            metric="accuracy",
        )
        for gap in gaps
    ]


def of_digits(gaps, _):
    return digits.figures(raws(gaps))


def of_first_aid(gaps, folder):
    store = RowStore(folder)
    for seed, raw in enumerate(raws(gaps)):
        store.get(f"digits-{seed}", lambda raw=raw: dict(raw))
    return firstaid.digits(store, range(len(gaps)))


def of_a_task(gaps, _):
    small = experiments.Experiment(name="small", goal=">= -0.5")
    return experiments.scores(small, raws(gaps))


@pytest.mark.parametrize("made", [of_digits, of_first_aid, of_a_task])
@pytest.mark.parametrize(("gaps", "met"), [(SPREAD, None), (CLOSE, True)])
def test_a_mean_whose_interval_crosses_the_goal_is_not_resolved(
    tmp_path, made, gaps, met
):
    (found,) = (
        one
        for one in made(gaps, tmp_path)
        if one.name.endswith("final - control") and "worst" not in one.name
    )
    assert found.value == pytest.approx(sum(gaps) / len(gaps))
    assert found.goal
    assert found.met is met


def test_one_seed_resolves_no_goal():
    (found,) = (one for one in of_a_task((0.5,), None) if one.goal)
    assert found.met is None
