"""Trials that are clearly worse: rungs, rivals, and the listener that ends a trial."""

import pytest
from helpers.small_runs import SMALL

from fedprune.common.config import load_config
from fedprune.server.rounds.records import Measured, validations_from
from fedprune.simulations.tuning.stopping import Rival, alike, clearly_worse, rungs


def config(**settings):
    return load_config(None, SMALL | {"rounds.final": 8} | settings)


def validated(*metrics, count=50):
    return validations_from(
        Measured(client=f"c{n}", loss=0.0, metric=metric, count=count)
        for n, metric in enumerate(metrics)
    )


def rivals(*means):
    spread = (-0.01, 0.0, 0.01, 0.0, -0.01, 0.01)
    return [
        Rival(number=n, found=validated(*(mean + s for s in spread)))
        for n, mean in enumerate(means, start=1)
    ]


OURS = validated(0.69, 0.70, 0.71, 0.70, 0.69, 0.71)
NEAR = validated(0.75, 0.66, 0.74, 0.68, 0.72, 0.67)


def test_rungs_lie_after_the_last_cut_in_the_first_half_of_the_final_rounds():
    assert rungs(config()) == (7, 9)  # 1 + 2 * 2 rounds, then 8
    assert rungs(config(**{"rounds.final": 1})) == (6,)
    assert rungs(config(**{"rounds.final": 0})) == ()


def test_one_in_the_worse_half_is_stopped_where_the_half_is_clearly_better():
    worse = clearly_worse(OURS, rivals(0.9, 0.8), higher=True)
    assert worse is not None
    assert worse.number == 2  # the last one of the better half
    assert clearly_worse(OURS, rivals(0.9), higher=True).number == 1


@pytest.mark.parametrize(
    ("ours", "found"),
    [
        (OURS, rivals()),
        (OURS, rivals(0.9, 0.6)),  # the better half
        (OURS, rivals(0.9, 0.5, 0.4)),
        (OURS, [Rival(number=n, found=NEAR) for n in (1, 2)]),  # not clearly
        (validated(), rivals(0.9, 0.9)),  # no validation
        (validated(0.1), rivals(0.9, 0.9)),  # one client has no standard error
        (OURS, [Rival(number=1, found=validated())]),
    ],
)
def test_others_go_on(ours, found):
    assert clearly_worse(ours, found, higher=True) is None


def test_a_metric_whose_lower_values_are_better_is_compared_the_other_way():
    assert clearly_worse(OURS, rivals(0.9, 0.8), higher=False) is None
    assert clearly_worse(OURS, rivals(0.3, 0.4), higher=False).number == 2


def test_only_trials_of_the_same_phases_and_no_larger_budget_are_compared():
    ours = config()
    assert alike(ours, config(**{"client.penalty": "group"}))
    smaller = {"prune.budget.params": 0.3}
    assert alike(ours, config(**smaller))
    assert not alike(config(**smaller), ours)
    assert not alike(ours, config(**{"prune.restart": "fresh"}))
    assert not alike(ours, config(**{"rounds.warmup": 2}))
    assert not alike(
        config(**{"prune.budget.flops": 0.5}), config(**{"prune.budget.params": 0.5})
    )
