"""Late answers: which count, with what weight, and within which bounds."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.tiny_federation import make_setting, make_task, start

from fedprune.common.aggregate import Accumulator
from fedprune.common.errors import PayloadError
from fedprune.common.messages import SparseDelta
from fedprune.server.rounds.answers import Answers
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.records import ClientRecord, Status
from fedprune.server.rounds.steps.late import settle, with_late
from fedprune.server.rounds.waiting.closing import Cause, Closing
from fedprune.server.rounds.waiting.late import LateUpdate, network_of


@pytest.fixture
def work():
    task = make_task(rounds__late="use", rounds__cohort=2, rounds__minimum=1)
    run_spec = make_setting(task)
    state = start(task, run_spec)
    return plan_round(replace(state, round=9), run_spec)


def late(work, client, round_=9, *, value=1.0, **changes):
    size = work.spec.size
    delta = SparseDelta(
        size=size,
        indices=np.array([3], dtype=np.int64),
        values=np.array([value], dtype=np.float32),
    )
    given = {
        "client_id": client,
        "round": round_,
        "network": network_of(work.plan),
        "delta": delta,
        "num_examples": 100,
        "norm": abs(value),
        "bytes_up": 10,
    }
    return LateUpdate(**given | changes)


def answers(work, **changes):
    closing = Closing(seconds=60.0, cause=Cause.ALL, counted=(), late=(), last=60.0)
    records = tuple(
        ClientRecord(
            client_id=one.client_id,
            status=Status.ACCEPTED,
            bytes_down=1,
            num_examples=50,
            norm=0.5,
        )
        for one in work.request.assignments
    )
    total = Accumulator(work.spec.size, work.request.limits)
    return Answers(records=records, total=total, closing=closing, **changes)


def test_the_weight_falls_with_the_rounds_that_an_answer_is_late(work):
    pending = [late(work, f"x{n}", 10 - n) for n in (1, 3)]
    for staleness, weights in ((0.5, [50, 70]), (0.0, [100, 100]), (10.0, [1, 1])):
        settled = settle(pending, answers(work), work, staleness)
        assert [one.num_examples for one in settled.used] == weights
        assert [one.client_id for one in settled.used] == ["x3", "x1"]


def test_an_answer_counts_once_it_has_arrived(work):
    on_its_way = [late(work, "x", away_s=60.0), late(work, "y", away_s=60.5)]
    settled = settle(on_its_way, answers(work), work, 0.5)
    assert [one.client_id for one in settled.used] == ["x"]
    assert [(one.client_id, one.away_s) for one in settled.pending] == [("y", 0.5)]
    assert settled.unused == ()


def test_what_this_round_will_miss_waits_whenever_it_comes(work):
    mine = late(work, "x", 10, away_s=0.0)
    settled = settle([], answers(work, awaited=(mine,)), work, 0.5)
    assert settled.used == ()
    assert settled.pending == (mine,)


def test_who_was_asked_has_no_late_answer(work):
    name = work.request.assignments[0].client_id
    given = answers(work, arrived=(late(work, name),))
    settled = settle([late(work, name)], given, work, 0.5)
    assert settled.arrived == settled.pending == ()


@pytest.mark.parametrize(
    "changes",
    [{"epochs": 0}, {"quantise": "codebook"}],
    ids=["the closing round", "values of a codebook"],
)
def test_some_rounds_use_none(work, changes):
    settings = replace(work.plan.settings, **changes)
    other = replace(work, plan=replace(work.plan, settings=settings))
    settled = settle([late(work, "x")], answers(work), other, 0.5)
    assert settled.used == ()
    assert [one.client_id for one in settled.unused] == ["x"]


def test_another_network_or_mask_uses_none(work):
    for network in (b"", network_of(replace(work.plan, mask=b"m" * 16))):
        settled = settle([late(work, "x", network=network)], answers(work), work, 0.5)
        assert (len(settled.used), len(settled.unused)) == (0, 1)


def test_no_more_count_than_clients_are_asked_and_the_others_wait(work):
    many = [late(work, f"x{n}", 9 - n % 3, value=1e4) for n in range(5)]
    settled = settle(many, answers(work), work, 0.0)
    assert [one.round for one in settled.used] == [7, 8]
    assert len(settled.pending) == 3
    # They fit into the sums beside the cohort's own, whatever they are.
    limits = work.request.limits
    assert limits.clients == 4
    with_late(answers(work), settled.used, work)
    too_far = late(work, "x", value=2 * limits.max_value)
    with pytest.raises(PayloadError):
        Accumulator(work.spec.size, limits).add(too_far.delta, 1)


@pytest.mark.parametrize(("longest", "wanted"), [(2.0, 2.0), (np.inf, 1.0)])
def test_a_late_answer_is_clipped_as_those_of_its_round(work, longest, wanted):
    # Where no norm is known yet, by twice the median of the round's own, 0.5.
    request = replace(work.request, max_norm=longest)
    robust = work.robust.model_copy(update={"max_norm": 2.0})
    other = replace(work, request=request, robust=robust)
    given = answers(work)
    summed = with_late(given, [late(work, "x", value=9.0)], other)
    assert summed.total.mean_delta()[3] == pytest.approx(wanted)
    assert given.total.num_clients == 0  # the round's own sum is as it was
    assert with_late(given, [], other) is given
