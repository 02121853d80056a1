"""Named attacks on the fields of an update: what is forged -> what refuses it."""

import msgpack
import pytest
from helpers.codec.examples import body_of, edit, make_expected, seal_again
from helpers.codec.forgery import (
    BASE_ITEM,
    CLIENT,
    EXAMPLES,
    IMPORTANCE,
    INF,
    LOSS,
    NAN,
    PLAN_ITEM,
    ROUND,
    RUN,
    STATISTICS,
    UPDATE,
    VALIDATION,
    floats,
    halves,
    peak_memory,
    put,
    refusal,
    statistics,
    validation,
)

from fedprune.common.errors import Reason, StaleUpdate

# name -> (message, field that is named, reason)
ATTACKS = {
    # The frame and the fields
    "a kind of another message": (put(1, 1), "kind", Reason.UNKNOWN),
    "an unknown kind": (put(1, 99), "kind", Reason.UNKNOWN),
    "a kind of true": (put(1, value=True), "kind", Reason.UNKNOWN),
    "another version": (put(0, 3), "version", Reason.UNKNOWN),
    "one field more": (
        edit(UPDATE, lambda items: items.append(0)), "update", Reason.BAD_FRAME),
    "one field less": (
        edit(UPDATE, lambda items: items.pop()), "update", Reason.BAD_FRAME),
    "a body of other bytes": (
        seal_again(body_of(UPDATE) + b"\0"), "message", Reason.BAD_FRAME),
    "a long form of the round": (
        seal_again(body_of(UPDATE).replace(b"run-1\x03", b"run-1\xcc\x03")),
        "message", Reason.BAD_FRAME),
    "an array that claims 2^32-1 items": (
        seal_again(b"\xdd\xff\xff\xff\xff"), "message", Reason.BAD_FRAME),
    "a bin that claims 2^32-1 bytes": (
        seal_again(b"\x92\xc6\xff\xff\xff\xff"), "message", Reason.BAD_FRAME),
    "a field 2 000 deep": (
        seal_again(b"\x9e" + b"\x91" * 2000 + b"\xc0"), "message", Reason.BAD_FRAME),
    "10 kB of array headers": (
        seal_again(b"\xdc\xff\xff" * 3333), "message", Reason.BAD_FRAME),
    "an ext": (put(LOSS, msgpack.ExtType(5, b"x")), "message", Reason.BAD_FRAME),
    "a timestamp": (put(LOSS, msgpack.Timestamp(1, 0)), "message", Reason.BAD_FRAME),
    "a map": (put(VALIDATION, {"count": 1}), "message", Reason.BAD_FRAME),
    "a str of another encoding": (
        seal_again(body_of(UPDATE).replace(b"run-1", b"ru\xff-1")),
        "message", Reason.BAD_FRAME),
    # Whose answer to what
    "a run of another type": (put(RUN, b"run-1"), "run_id", Reason.BAD_FRAME),
    "a run with a line break": (put(RUN, "a\nb"), "run_id", Reason.BAD_VALUE),
    "an empty client": (put(CLIENT, ""), "client_id", Reason.BAD_SIZE),
    "a client that is a path": (put(CLIENT, "../x"), "client_id", Reason.BAD_VALUE),
    "another client": (put(CLIENT, "edge-04"), "client_id", Reason.MISMATCH),
    "a round of true": (put(ROUND, value=True), "round", Reason.BAD_FRAME),
    "a round of 3.0": (put(ROUND, 3.0), "round", Reason.BAD_FRAME),
    "round 0": (put(ROUND, 0), "round", Reason.BAD_VALUE),
    "a plan digest cut off": (put(PLAN_ITEM, b"x"), "plan", Reason.BAD_SIZE),
    "a base digest of text": (put(BASE_ITEM, "x" * 16), "base", Reason.BAD_FRAME),
    # Numbers
    "num_examples 0": (put(EXAMPLES, 0), "num_examples", Reason.BAD_VALUE),
    "num_examples -1": (put(EXAMPLES, -1), "num_examples", Reason.BAD_VALUE),
    "num_examples above the cap": (
        put(EXAMPLES, 1001), "num_examples", Reason.BAD_VALUE),
    "num_examples 2^64-1": (
        put(EXAMPLES, 2**64 - 1), "num_examples", Reason.BAD_VALUE),
    "num_examples 1e30": (put(EXAMPLES, 1e30), "num_examples", Reason.BAD_FRAME),
    "num_examples of NaN": (put(EXAMPLES, NAN), "num_examples", Reason.BAD_FRAME),
    "num_examples true": (put(EXAMPLES, value=True), "num_examples", Reason.BAD_FRAME),
    "num_examples of text": (put(EXAMPLES, "100"), "num_examples", Reason.BAD_FRAME),
    "a loss of NaN": (put(LOSS, NAN), "loss", Reason.NON_FINITE),
    "a loss of infinity": (put(LOSS, -INF), "loss", Reason.NON_FINITE),
    "a loss that is an int": (put(LOSS, 1), "loss", Reason.BAD_FRAME),
    # Importance
    "an importance of NaN": (
        put(IMPORTANCE, floats(1, 1, NAN, 1, 1, 1)), "importance", Reason.NON_FINITE),
    "an importance of infinity": (
        put(IMPORTANCE, floats(1, 1, INF, 1, 1, 1)), "importance", Reason.NON_FINITE),
    "an importance below 0": (
        put(IMPORTANCE, floats(1, 1, -1, 1, 1, 1)), "importance", Reason.BAD_VALUE),
    "an importance of other units": (
        put(IMPORTANCE, floats(1, 1)), "importance", Reason.BAD_SIZE),
    "an importance of text": (put(IMPORTANCE, "x"), "importance", Reason.BAD_FRAME),
    # Statistics
    "statistics missing": (put(STATISTICS, None), "statistics", Reason.MISMATCH),
    "statistics of one item": (put(STATISTICS, [1]), "statistics", Reason.BAD_FRAME),
    "a mean of NaN": (
        statistics(mean=halves(0, NAN, 0, 0)), "statistics.mean", Reason.NON_FINITE),
    "a variance of infinity": (
        statistics(variance=halves(0, INF, 0, 0)),
        "statistics.variance", Reason.NON_FINITE),
    "a variance below 0": (
        statistics(variance=halves(0, -1, 0, 0)),
        "statistics.variance", Reason.BAD_VALUE),
    "means of another network": (
        statistics(mean=halves(0)), "statistics.mean", Reason.BAD_SIZE),
    "statistics of no example": (
        statistics(count=0), "statistics.num_examples", Reason.BAD_VALUE),
    "statistics of 2^63 examples": (
        statistics(count=2**63), "statistics.num_examples", Reason.BAD_VALUE),
    # Validation
    "a metric sum of NaN": (
        validation(metric_sum=NAN), "validation.metric_sum", Reason.NON_FINITE),
    "an infinite metric sum": (
        validation(metric_sum=-float("inf")), "validation.metric_sum",
        Reason.NON_FINITE),
    "a whole metric sum as a float": (
        validation(metric_sum=7.0), "validation.metric_sum", Reason.BAD_FRAME),
    "a metric sum of 2^60": (
        validation(metric_sum=1 << 60), "validation.metric_sum", Reason.BAD_VALUE),
    "a count below 0": (validation(count=-1), "validation.count", Reason.BAD_VALUE),
    "a count above the cap": (
        validation(count=1001), "validation.count", Reason.BAD_VALUE),
    "a count of true": (validation(count=True), "validation.count", Reason.BAD_FRAME),
    "a loss sum of NaN": (
        validation(loss_sum=NAN), "validation.loss_sum", Reason.NON_FINITE),
    "a loss sum below 0": (
        validation(loss_sum=-1.0), "validation.loss_sum", Reason.BAD_VALUE),
    "no validation": (put(VALIDATION, None), "validation", Reason.BAD_FRAME),
}  # fmt: skip

STALE = {
    "another run": (put(RUN, "run-2"), "run_id"),
    "the round before": (put(ROUND, 2), "round"),
    "another plan": (put(PLAN_ITEM, bytes(16)), "plan"),
    "another base": (put(BASE_ITEM, bytes(16)), "base"),
}


@pytest.mark.parametrize(("data", "field", "reason"), ATTACKS.values(), ids=ATTACKS)
def test_a_forged_field_is_refused_by_the_check_meant_for_it(data, field, reason):
    error = refusal(data)
    assert not isinstance(error, StaleUpdate)
    assert error.reason == reason
    assert error.field == field


@pytest.mark.parametrize("name", ATTACKS)
def test_a_forged_field_takes_little_memory(name):
    data = ATTACKS[name][0]
    assert peak_memory(data) < 2 * len(data) + (64 << 10)


@pytest.mark.parametrize(("data", "field"), STALE.values(), ids=STALE)
def test_an_answer_to_something_else_is_stale(data, field):
    error = refusal(data)
    assert isinstance(error, StaleUpdate)
    assert (error.reason, error.field) == (Reason.MISMATCH, field)


def test_an_importance_that_was_not_asked_for_is_refused():
    error = refusal(UPDATE, make_expected(scored=False))
    assert (error.field, error.reason) == ("importance", Reason.MISMATCH)


def test_statistics_that_were_not_asked_for_are_refused():
    error = refusal(UPDATE, make_expected(measured=False))
    assert (error.field, error.reason) == ("statistics", Reason.MISMATCH)


def test_a_message_above_the_cap_is_refused_before_it_is_read():
    error = refusal(b"\x91" * 1001, make_expected(max_bytes=1000))
    assert error.reason == Reason.TOO_LARGE
