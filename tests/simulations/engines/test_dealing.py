"""Dealing: each client once, loads level, few jobs where the work is little."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprune.server.rounds.engine import Assignment
from fedprune.simulations.engines.dealing import assign, deal

NAMES = st.lists(
    st.text(alphabet="abcdef", min_size=1, max_size=4), max_size=20, unique=True
)


def orders_of(names):
    return tuple(
        Assignment(client_id=name, variant=0, acknowledged=0, max_weight=9)
        for name in names
    )


def named(jobs):
    return [[assignment.client_id for assignment in job] for job in jobs]


@given(names=NAMES, workers=st.integers(1, 6), data=st.data())
def test_everyone_is_dealt_exactly_once_to_at_most_all_hands(names, workers, data):
    costs = {name: data.draw(st.integers(0, 100)) for name in names}
    dealt = assign(orders_of(names), costs, workers)
    assert Counter(o.client_id for hand in dealt for o in hand) == Counter(names)
    assert len(dealt) == min(workers, len(names))
    assert all(dealt)


@given(names=NAMES, workers=st.integers(1, 6), data=st.data())
def test_no_hand_is_heavier_than_the_lightest_by_more_than_one_client(
    names, workers, data
):
    costs = {name: data.draw(st.integers(0, 100)) for name in names}
    dealt = assign(orders_of(names), costs, workers)
    loads = [sum(costs[o.client_id] + 1 for o in hand) for hand in dealt]
    loads += [0] * (workers - len(loads))
    for hand, load in zip(dealt, loads, strict=False):
        last = min(costs[o.client_id] for o in hand) + 1
        assert load - last <= min(loads)


@given(names=NAMES, workers=st.integers(1, 6), most=st.integers(1, 5))
def test_no_job_has_more_clients_than_fit_and_none_is_left_out(names, workers, most):
    costs = dict.fromkeys(names, 10)
    jobs = deal(orders_of(names), costs, workers, epochs=1, most=most)
    assert Counter(o.client_id for job in jobs for o in job) == Counter(names)
    assert all(1 <= len(job) <= most for job in jobs)


def test_the_longest_are_dealt_first_and_equals_by_their_names():
    costs = {"a": 1, "b": 9, "c": 5, "d": 5, "e": 1}
    dealt = assign(orders_of("edcba"), costs, 2)
    # b = 9 | c = 5, d = 5 | a to the first (10 against 12), e to the first (12, 12).
    assert [[o.client_id for o in hand] for hand in dealt] == [
        ["b", "a", "e"],
        ["c", "d"],
    ]


def test_the_deal_does_not_depend_on_the_order_of_the_orders():
    costs = {"a": 1, "b": 9, "c": 5, "d": 5, "e": 1}
    assert assign(orders_of("abcde"), costs, 3) == assign(orders_of("ecdab"), costs, 3)


def test_a_client_of_unknown_cost_is_dealt_too():
    assert len(assign(orders_of("ab"), {}, 1)[0]) == 2


def federation(count, examples):
    names = [f"{number:04d}" for number in range(count)]
    return orders_of(names), dict.fromkeys(names, examples)


# Clients, examples of each, epochs, workers -> jobs.
JOBS = {
    "much work": (100, 3000, 2, 2, 16),
    "no job without a client": (10, 60_000, 2, 2, 10),
    "one client": (1, 60_000, 9, 4, 1),
    "some work": (10, 600, 2, 2, 6),
    "one epoch of it": (10, 600, 1, 2, 2),
    "a step a client": (100, 32, 1, 2, 2),
    "nothing to train": (100, 600, 0, 3, 3),
    "just not two jobs": (4, 1999, 1, 2, 2),
    "just two jobs": (4, 2000, 1, 2, 4),
    "many workers": (1000, 600, 1, 64, 256),
}


@pytest.mark.parametrize(
    ("clients", "examples", "epochs", "workers", "jobs"), JOBS.values(), ids=JOBS
)
def test_a_worker_has_as_many_jobs_as_are_worth_their_traffic(
    clients, examples, epochs, workers, jobs
):
    orders, costs = federation(clients, examples)
    assert len(deal(orders, costs, workers, epochs=epochs, most=1000)) == jobs


@given(names=NAMES, workers=st.integers(1, 6), epochs=st.integers(0, 5), data=st.data())
def test_jobs_hold_each_client_once_and_the_longest_comes_first(
    names, workers, epochs, data
):
    costs = {name: data.draw(st.integers(0, 9000)) for name in names}
    jobs = deal(orders_of(names), costs, workers, epochs=epochs, most=1000)
    assert Counter(o.client_id for job in jobs for o in job) == Counter(names)
    assert all(jobs)
    assert len(jobs) <= 8 * workers
    loads = [sum(costs[name] + 1 for name in job) for job in named(jobs)]
    assert loads == sorted(loads, reverse=True)


def test_jobs_do_not_depend_on_the_order_of_the_orders():
    costs = {"a": 1000, "b": 9000, "c": 5000, "d": 5000, "e": 1000}
    jobs = deal(orders_of("abcde"), costs, 2, epochs=1, most=1000)
    # 21 000 examples: five for each worker at most, so one job a client.
    assert named(jobs) == [["b"], ["c"], ["d"], ["a"], ["e"]]
    assert deal(orders_of("ecdab"), costs, 2, epochs=1, most=1000) == jobs
