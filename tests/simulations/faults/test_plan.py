"""The fault plan: shares that are met, streams that nothing else moves."""

from collections import Counter

import pytest

from fedprune.common.config import Faults
from fedprune.simulations.faults.plan import Fault, FaultPlan

ROUNDS, CLIENTS = range(1, 101), [f"client-{n:03d}" for n in range(20)]


def plan(seed=0, **shares):
    return FaultPlan(faults=Faults(**shares), seed=seed)


def every(faults, attempt=0):
    return [faults.fault(r, c, attempt) for r in ROUNDS for c in CLIENTS]


@pytest.mark.parametrize(
    ("share", "name"),
    [
        ("drop_out", "drops_out"),
        ("crash", "crashes"),
        ("hang", "hangs"),
        ("corrupt", "corrupts"),
    ],
)
def test_the_shares_are_met_each_for_itself(share, name):
    found = every(plan(**{share: 0.2}))
    assert sum(getattr(f, name) for f in found) == pytest.approx(400, abs=60)
    others = {"drops_out", "crashes", "hangs", "corrupts"} - {name}
    assert not any(getattr(f, other) for f in found for other in others)
    assert all(getattr(f, name) for f in every(plan(**{share: 1.0})))


def test_without_shares_nothing_goes_wrong():
    assert set(every(plan())) == {Fault()}
    assert plan(stragglers=0.5).fault(1, "client-000") == Fault()
    assert plan().clock_s("client-000") == 0.0
    assert plan().stragglers(CLIENTS) == frozenset()


def test_draws_depend_on_seed_round_client_and_attempt_alone():
    first = every(plan(drop_out=0.5))
    assert every(plan(drop_out=0.5)) == first
    assert every(plan(seed=1, drop_out=0.5)) != first
    assert every(plan(drop_out=0.5), attempt=1) != first
    for draws in (
        {plan(drop_out=0.5).fault(r, "client-000").place for r in ROUNDS},
        {plan(drop_out=0.5).fault(1, c).place for c in CLIENTS},
    ):
        assert len(draws) in (len(ROUNDS), len(CLIENTS))


def test_another_share_moves_no_draw():
    some = every(plan(drop_out=0.3))
    more = every(plan(drop_out=0.3, crash=0.4, hang=0.1))
    assert [f.drops_out for f in some] == [f.drops_out for f in more]


def test_stragglers_are_the_same_whole_clients_in_every_round():
    assert len(plan(stragglers=0.3).stragglers(CLIENTS)) == 6
    assert len(plan(stragglers=0.31).stragglers(CLIENTS[:10])) == 3
    assert plan(stragglers=1.0).stragglers(CLIENTS) == frozenset(CLIENTS)
    found = plan(stragglers=0.3).stragglers(CLIENTS)
    assert plan(stragglers=0.3).stragglers(CLIENTS[::-1]) == found
    assert plan(seed=1, stragglers=0.3).stragglers(CLIENTS) != found
    drawn = Counter(
        c for seed in range(200) for c in plan(seed, stragglers=0.3).stragglers(CLIENTS)
    )
    assert all(30 < drawn[client] < 90 for client in CLIENTS)


def test_turns_are_drawn_anew_in_each_round():
    firsts = Counter(
        min(CLIENTS[:5], key=lambda c, r=r: plan().turn(r, c)) for r in ROUNDS
    )
    assert all(firsts[client] > 8 for client in CLIENTS[:5])


def test_clocks_are_ahead_and_behind():
    offsets = [plan(clock_s=100.0).clock_s(c) for c in CLIENTS]
    assert all(-100 <= s <= 100 for s in offsets)
    assert min(offsets) < -10
    assert max(offsets) > 10
