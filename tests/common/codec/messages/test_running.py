"""Running values travel as float32, and only where the network has any."""

from dataclasses import replace

import msgpack
import numpy as np
import pytest
from helpers.codec.examples import (
    BASE,
    SPEC,
    edit,
    make_broadcast,
    make_expected,
    make_plan,
    make_update,
)
from helpers.codec.forgery import STATISTICS, floats

from fedprune.common import codec
from fedprune.common.errors import DataError, PayloadError, Reason
from fedprune.common.messages import Statistics
from fedprune.common.spec import TensorSpec

BIG = 1 << 20
# Beyond float16 on both sides.
VALUES = np.float32([1e30, -1e-30, 0.1, 0.0])
BUFFERS = (TensorSpec(name="scale", shape=(3,)), TensorSpec(name="level", shape=()))
KNOWN = codec.SideInformation.of(replace(SPEC, running=BUFFERS), BASE)


def with_running(statistics, values=VALUES):
    return replace(statistics, running=values)


def make(values=VALUES):
    update = make_update(6)
    return replace(update, statistics=with_running(update.statistics, values))


def expected(**changes):
    return make_expected(side_info=KNOWN, **changes)


def test_running_values_of_an_update_come_back_bit_by_bit():
    data = codec.encode_update(make(), KNOWN)
    found = codec.decode_update(data, expected()).statistics
    assert found.running.tobytes() == VALUES.tobytes()
    assert found.mean.tobytes() == make().statistics.mean.tobytes()


def test_running_values_of_plan_broadcast_and_teacher_come_back():
    broadcast = make_broadcast()
    broadcast = replace(broadcast, statistics=with_running(broadcast.statistics))
    plan = replace(
        make_plan(), broadcast=broadcast, teacher_statistics=broadcast.statistics
    )
    found = codec.decode_plan(codec.encode_plan(plan), BIG)
    assert found.broadcast.statistics.running.tobytes() == VALUES.tobytes()
    assert found.teacher_statistics.running.tobytes() == VALUES.tobytes()
    stored = codec.decode_broadcast(codec.encode_broadcast(broadcast))
    assert stored.statistics.running.tobytes() == VALUES.tobytes()


def test_rounds_that_freeze_the_moments_send_running_values_alone():
    none = np.zeros(0, np.float32)
    alone = Statistics(num_examples=9, mean=none, variance=none, running=VALUES)
    update = replace(make_update(6), statistics=alone)
    data = codec.encode_update(update, KNOWN)
    found = codec.decode_update(data, expected(measured=False)).statistics
    assert not found.measured
    assert found.running.tobytes() == VALUES.tobytes()
    with pytest.raises(PayloadError, match=r"statistics\.mean"):
        codec.decode_update(data, expected())


def test_rounds_without_training_send_none():
    data = codec.encode_update(make_update(6), KNOWN)
    assert not len(
        codec.decode_update(data, expected(trained=False)).statistics.running
    )
    with pytest.raises(PayloadError) as caught:
        codec.decode_update(codec.encode_update(make(), KNOWN), expected(trained=False))
    assert caught.value.field == "statistics"


def put_running(value):
    """Return an update whose fourth item of statistics is another one."""

    def change(items):
        items[STATISTICS][3] = value

    return edit(codec.encode_update(make(), KNOWN), change)


ATTACKS = {
    "too few": (floats(1, 2), "statistics.running", Reason.BAD_SIZE),
    "none": (b"", "statistics.running", Reason.BAD_SIZE),
    "a number": (1, "statistics.running", Reason.BAD_FRAME),
    "NaN": (floats(1, np.nan, 1, 1), "statistics.running", Reason.NON_FINITE),
    "infinity": (floats(1, 1, 1, np.inf), "statistics.running", Reason.NON_FINITE),
}


@pytest.mark.parametrize(("value", "field", "reason"), ATTACKS.values(), ids=ATTACKS)
def test_forged_running_values_are_refused(value, field, reason):
    with pytest.raises(PayloadError) as caught:
        codec.decode_update(put_running(value), expected())
    assert (caught.value.field, caught.value.reason) == (field, reason)


@pytest.mark.parametrize("value", [b"", b"abc", b"\0" * 5, 1, None])
def test_forged_running_values_of_a_broadcast_are_refused(value):
    broadcast = make_broadcast()
    broadcast = replace(broadcast, statistics=with_running(broadcast.statistics))

    def change(items):
        items[-1][3] = value

    data = edit(codec.encode_broadcast(broadcast), change)
    with pytest.raises(PayloadError, match=r"statistics\.running"):
        codec.decode_broadcast(data)


def test_running_values_that_the_network_lacks_or_missing_ones_are_refused():
    plain = codec.encode_update(make_update(6), KNOWN)
    for data, wanted in (
        (plain, expected()),
        (codec.encode_update(make(), KNOWN), make_expected()),
    ):
        with pytest.raises(PayloadError) as caught:
            codec.decode_update(data, wanted)
        assert (caught.value.field, caught.value.reason) == (
            "statistics",
            Reason.BAD_FRAME,
        )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_buffer_that_training_spoils_is_named_and_not_encoded(bad):
    with pytest.raises(DataError, match="buffer 'level' is not finite after training"):
        codec.encode_update(make(np.float32([1, 2, 3, bad])), KNOWN)


def test_a_message_without_running_values_is_as_long_as_before():
    items = msgpack.unpackb(codec.encode_update(make_update(6), KNOWN))
    assert len(items[STATISTICS]) == 3
