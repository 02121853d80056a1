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

from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.store import ClientStore
from fedprune.common import codec
from fedprune.common.aggregate import Accumulator
from fedprune.common.messages import Phase
from fedprune.server.rounds.answers import accept_answer, failure
from fedprune.server.rounds.cycle import Cursor
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.records import Status

CUTTING = Cursor(phase=Phase.SPARSIFY, index=1, step=0.5)


class RunContext:
    """What the server holds when one client's answer comes in."""

    def __init__(self, root):
        task = make_task()
        run_spec = make_setting(task)
        self.work = plan_round(replace(start(task, run_spec), cursor=CUTTING), run_spec)
        plan = plan_for(self.work)
        self.client_id = plan.client_id
        self.data = answer_to(plan, ModelCache(task), ClientStore(root, plan.client_id))
        work = self.work
        self.expected = work.expected(work.request.assignments[0])
        self.update = codec.decode_update(self.data, self.expected)
        self.total = Accumulator(work.spec.size, work.request.limits)

    def forge(self, **changes):
        """Return an answer that is encoded rightly and says something else."""
        update = replace(self.update, **changes)
        return codec.encode_update(update, self.work.side_info)

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
    return RunContext(tmp_path_factory.mktemp("clients"))


@pytest.fixture
def context(answered):
    work = answered.work
    answered.total = Accumulator(work.spec.size, work.request.limits)
    return answered


def test_an_accepted_answer_is_added_with_its_weight(context):
    record, delta = context.accept(context.data)
    assert delta is not None
    update = context.update
    assert record.status is Status.ACCEPTED
    assert record.reason == ""
    assert context.total.num_clients == 1
    assert context.total.num_examples == record.num_examples == update.num_examples
    found = context.total.mean_delta()
    np.testing.assert_allclose(found[delta.indices], delta.values, atol=2**-24)
    assert np.count_nonzero(found) <= len(delta.indices)
    sent = codec.dequantise_delta(update.delta, context.work.spec)
    np.testing.assert_array_equal(delta.values, sent.values)
    assert record.client_id == context.client_id
    assert record.statistics.mean.tobytes() == update.statistics.mean.tobytes()


def test_the_record_holds_what_was_measured(context):
    record, delta = context.accept(context.data)
    update = context.update
    assert (record.client_id, record.bytes_down, record.seconds) == (
        context.client_id,
        77,
        0.5,
    )
    assert record.bytes_up == len(context.data)
    assert record.bytes_fixed == update.fixed < record.bytes_up
    assert record.loss == update.loss
    assert record.validation == update.validation
    assert record.importance.tobytes() == update.importance.tobytes()
    norm = np.linalg.norm(delta.values)
    assert record.norm == pytest.approx(norm, rel=1e-6)


def nan_importance(context):
    bad = context.update.importance.copy()
    bad[3] = np.nan
    return context.forge(importance=bad)


def far_moments(context):
    statistics = context.update.statistics
    mean = statistics.mean.copy()
    mean[0] = 60000.0
    return context.forge(statistics=replace(statistics, mean=mean))


def far_delta(context):
    scales = context.update.delta.scales.copy()
    scales[scales > 0] = 255
    return context.forge(delta=replace(context.update.delta, scales=scales))


REFUSED = {
    "corrupt": (
        lambda context: context.data[:-1] + bytes([context.data[-1] ^ 1]),
        "digest",
    ),
    "truncated": (lambda context: context.data[:50], "message"),
    "empty": (lambda _: b"", "message"),
    "a stale round": (lambda context: context.forge(round=7), "round"),
    "a foreign client": (
        lambda context: context.forge(client_id="client-003"),
        "client_id",
    ),
    "another run": (lambda context: context.forge(run_id="run-2"), "run_id"),
    "another plan": (lambda context: context.forge(plan=b"0" * 16), "plan"),
    "another base": (lambda context: context.forge(base=b"0" * 16), "base"),
    "an importance that is no number": (nan_importance, "importance"),
    "a negative importance": (
        lambda context: context.forge(importance=-context.update.importance - 1),
        "importance",
    ),
    "too many examples": (
        lambda context: context.forge(num_examples=100_001),
        "num_examples",
    ),
    "no example": (lambda context: context.forge(num_examples=0), "num_examples"),
    "a loss that is no number": (
        lambda context: context.forge(loss=float("nan")),
        "loss",
    ),
    "moments out of range": (far_moments, "statistics"),
    "no moments": (lambda context: context.forge(statistics=None), "statistics"),
}


@pytest.mark.parametrize(("forge", "field"), REFUSED.values(), ids=REFUSED)
def test_a_refused_answer_names_client_and_field_and_adds_nothing(
    context, forge, field
):
    context.accept(context.data)
    before = context.bits()
    data = forge(context)
    record, delta = context.accept(data)
    assert delta is None
    assert record.status is Status.REFUSED
    assert record.client_id == context.client_id
    assert f"client {context.client_id}" in record.reason
    assert f"field '{field}" in record.reason
    assert "\n" not in record.reason
    assert (record.bytes_up, record.bytes_down) == (len(data), 77)
    assert (record.num_examples, record.importance, record.validation) == (
        0,
        None,
        None,
    )
    assert context.bits() == before


def test_an_answer_larger_than_the_cap_is_refused_before_it_is_read(context):
    context.expected, whole = replace(context.expected, max_bytes=100), context.expected
    try:
        record, delta = context.accept(context.data)
    finally:
        context.expected = whole
    assert delta is None
    assert "TOO_LARGE" in record.reason


def test_a_delta_beyond_the_bound_is_refused(context):
    bounded = replace(context.expected, max_value=1e-6)
    record, delta = accept_answer(
        context.data, bounded, context.total, bytes_down=1, seconds=0.0
    )
    assert delta is None
    assert "delta.values" in record.reason
    assert context.total.num_clients == 0


def test_the_largest_values_that_can_be_written_cannot_overflow_the_sum(context):
    record, _ = context.accept(far_delta(context))
    assert record.status is Status.ACCEPTED
    assert np.abs(context.total.mean_delta()).max() <= 127 * 2**3.75 + 1


def test_a_failure_names_the_client_and_the_reason():
    record = failure("client-007", "out of memory", 12)
    assert record.status is Status.FAILED
    assert record.reason == "client client-007 failed: out of memory"
    assert (record.bytes_down, record.bytes_up) == (12, 0)
