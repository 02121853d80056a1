"""One answer: taken whole, or refused whole with client and field named."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.tiny_federation import (
    answer_to,
    make_setting,
    make_task,
    plan_for,
    start,
)

from fedprune.client.rounds.store import ClientStore
from fedprune.client.rounds.workbench import Workbench
from fedprune.common import codec
from fedprune.common.aggregate import Accumulator
from fedprune.common.messages import Phase
from fedprune.server.rounds.answers import accept_answer, failure
from fedprune.server.rounds.cycle import Cursor
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.records import Status

CUTTING = Cursor(phase=Phase.SPARSIFY, index=1, step=0.5)


class Desk:
    """What the server holds when one client's answer comes in."""

    def __init__(self, root):
        task = make_task()
        setting = make_setting(task)
        self.work = plan_round(replace(start(task, setting), cursor=CUTTING), setting)
        plan = plan_for(self.work)
        self.client_id = plan.client_id
        self.data = answer_to(plan, Workbench(task), ClientStore(root, plan.client_id))
        work = self.work
        self.expected = work.expected(work.asking.orders[0])
        self.update = codec.decode_update(self.data, self.expected)
        self.total = Accumulator(work.spec.size, work.asking.limits)

    def forge(self, **changes):
        """Return an answer that is encoded rightly and says something else."""
        update = replace(self.update, **changes)
        return codec.encode_update(update, self.work.known)

    def accept(self, data):
        return accept_answer(
            data, self.expected, self.total, bytes_down=77, seconds=0.5
        )

    def bits(self):
        total = self.total
        return (
            total.delta_sum.tobytes(),
            (total.num_examples, total.num_clients),
        )


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    return Desk(tmp_path_factory.mktemp("clients"))


@pytest.fixture
def desk(answered):
    work = answered.work
    answered.total = Accumulator(work.spec.size, work.asking.limits)
    return answered


def test_an_accepted_answer_is_added_with_its_weight(desk):
    record, single = desk.accept(desk.data)
    assert single is not None
    update = desk.update
    assert record.status is Status.ACCEPTED
    assert record.reason == ""
    assert desk.total.num_clients == 1
    assert desk.total.num_examples == record.num_examples == update.num_examples
    delta = single.delta
    found = desk.total.mean_delta()
    np.testing.assert_allclose(found[delta.indices], delta.values, atol=2**-24)
    assert np.count_nonzero(found) <= len(delta.indices)
    sent = codec.dequantise_delta(update.delta, desk.work.spec)
    np.testing.assert_array_equal(delta.values, sent.values)
    assert (single.client_id, single.answer) == (desk.client_id, desk.data)
    assert record.statistics.mean.tobytes() == update.statistics.mean.tobytes()


def test_the_record_holds_what_was_measured(desk):
    record, single = desk.accept(desk.data)
    update = desk.update
    assert (record.client_id, record.bytes_down, record.seconds) == (
        desk.client_id,
        77,
        0.5,
    )
    assert record.bytes_up == len(desk.data)
    assert record.bytes_fixed == codec.fixed_bytes(desk.data) < record.bytes_up
    assert record.loss == update.loss
    assert record.validation == update.validation
    assert record.importance.tobytes() == update.importance.tobytes()
    norm = np.linalg.norm(single.delta.values)
    assert record.norm == pytest.approx(norm, rel=1e-6)


def nan_importance(desk):
    bad = desk.update.importance.copy()
    bad[3] = np.nan
    return desk.forge(importance=bad)


def far_moments(desk):
    statistics = desk.update.statistics
    mean = statistics.mean.copy()
    mean[0] = 60000.0
    return desk.forge(statistics=replace(statistics, mean=mean))


def far_delta(desk):
    scales = desk.update.delta.scales.copy()
    scales[scales > 0] = 255
    return desk.forge(delta=replace(desk.update.delta, scales=scales))


REFUSED = {
    "corrupt": (lambda desk: desk.data[:-1] + bytes([desk.data[-1] ^ 1]), "digest"),
    "truncated": (lambda desk: desk.data[:50], "message"),
    "empty": (lambda _: b"", "message"),
    "a stale round": (lambda desk: desk.forge(round=7), "round"),
    "a foreign client": (lambda desk: desk.forge(client_id="client-003"), "client_id"),
    "another run": (lambda desk: desk.forge(run_id="run-2"), "run_id"),
    "another plan": (lambda desk: desk.forge(plan=b"0" * 16), "plan"),
    "another base": (lambda desk: desk.forge(base=b"0" * 16), "base"),
    "an importance that is no number": (nan_importance, "importance"),
    "a negative importance": (
        lambda desk: desk.forge(importance=-desk.update.importance - 1),
        "importance",
    ),
    "too many examples": (
        lambda desk: desk.forge(num_examples=100_001),
        "num_examples",
    ),
    "no example": (lambda desk: desk.forge(num_examples=0), "num_examples"),
    "a loss that is no number": (lambda desk: desk.forge(loss=float("nan")), "loss"),
    "moments out of range": (far_moments, "statistics"),
    "no moments": (lambda desk: desk.forge(statistics=None), "statistics"),
}


@pytest.mark.parametrize(("forge", "field"), REFUSED.values(), ids=REFUSED)
def test_a_refused_answer_names_client_and_field_and_adds_nothing(desk, forge, field):
    desk.accept(desk.data)
    before = desk.bits()
    data = forge(desk)
    record, single = desk.accept(data)
    assert single is None
    assert record.status is Status.REFUSED
    assert record.client_id == desk.client_id
    assert f"client {desk.client_id}" in record.reason
    assert f"field '{field}" in record.reason
    assert "\n" not in record.reason
    assert (record.bytes_up, record.bytes_down) == (len(data), 77)
    assert (record.num_examples, record.importance, record.validation) == (
        0,
        None,
        None,
    )
    assert desk.bits() == before


def test_an_answer_larger_than_the_cap_is_refused_before_it_is_read(desk):
    desk.expected, whole = replace(desk.expected, max_bytes=100), desk.expected
    try:
        record, single = desk.accept(desk.data)
    finally:
        desk.expected = whole
    assert single is None
    assert "TOO_LARGE" in record.reason


def test_a_delta_beyond_the_bound_is_refused(desk):
    bounded = replace(desk.expected, max_value=1e-6)
    record, single = accept_answer(
        desk.data, bounded, desk.total, bytes_down=1, seconds=0.0
    )
    assert single is None
    assert "delta.values" in record.reason
    assert desk.total.num_clients == 0


def test_the_largest_values_that_can_be_written_cannot_overflow_the_sum(desk):
    record, _ = desk.accept(far_delta(desk))
    assert record.status is Status.ACCEPTED
    assert np.abs(desk.total.mean_delta()).max() <= 127 * 2**3.75 + 1


def test_a_failure_names_the_client_and_the_reason():
    record = failure("client-007", "out of memory", 12)
    assert record.status is Status.FAILED
    assert record.reason == "client client-007 failed: out of memory"
    assert (record.bytes_down, record.bytes_up) == (12, 0)
