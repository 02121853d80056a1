"""What a run spends is what the accountant says of its releases."""

import math

import pytest
from helpers.tiny_federation import make_config

from fedprune.common.privacy.spending import (
    SHARES,
    Release,
    plan_spending,
    releases_of,
    spent,
)

accounting = pytest.importorskip("dp_accounting")


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
def test_the_noise_spends_the_epsilon_that_the_accountant_computes(epsilon):
    releases = {Release.DELTA: 12, Release.MOMENTS: 13, Release.FIGURES: 13}
    plan = plan_spending(epsilon, 1e-5, releases)
    assert spent(plan, releases) == pytest.approx(epsilon, rel=1e-6)
    # By another of its accountants, which composes one release after the other.
    ledger = accounting.pld.PLDAccountant()
    for release, count in releases.items():
        event = accounting.GaussianDpEvent(plan.of(release))
        ledger.compose(accounting.SelfComposedDpEvent(event, count))
    assert ledger.get_epsilon(1e-5) == pytest.approx(epsilon, rel=0.01)


def test_nothing_released_is_nothing_spent_and_more_spends_more():
    releases = {Release.DELTA: 4}
    plan = plan_spending(8.0, 1e-5, releases)
    assert spent(plan, {}) == 0.0
    steps = [spent(plan, {Release.DELTA: count}) for count in (1, 2, 3, 4)]
    assert steps == sorted(steps)
    assert steps[-1] == pytest.approx(8.0)


def test_a_figure_that_guides_has_wider_noise_than_the_weights():
    plan = plan_spending(8.0, 1e-5, {Release.DELTA: 4})
    assert plan.of(Release.DELTA) == plan.multiplier
    for release in (Release.MOMENTS, Release.SCORES, Release.FIGURES):
        ratio = plan.of(release) / plan.multiplier
        assert ratio == pytest.approx(1 / math.sqrt(SHARES[release]))


def test_every_round_and_the_closing_one_are_counted():
    config = make_config(rounds__warmup=2, rounds__cuts=2, rounds__final=3)
    rounds = config.rounds
    found = releases_of(config)
    assert found[Release.DELTA] == rounds.total
    assert found[Release.FIGURES] == found[Release.MOMENTS] == rounds.total + 1
    assert found[Release.SCORES] == 3
    assert releases_of(config, moments=False)[Release.MOMENTS] == 0
