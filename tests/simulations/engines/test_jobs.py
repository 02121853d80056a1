"""Messages between driver and workers: decoded as encoded, or refused."""

from dataclasses import replace

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprune.common.aggregate import Accumulator, Limits
from fedprune.common.codec import SideInformation
from fedprune.common.config import Robust
from fedprune.common.errors import FedPruneError, PayloadError, Reason
from fedprune.common.messages import Covariances, SparseDelta, Statistics, Validation
from fedprune.common.profiling.activities import Activity, Profile, Spent
from fedprune.common.spec import ModelSpec, TensorSpec
from fedprune.server.rounds.engine import (
    Assignment,
    PartialAggregate,
    RoundRequest,
    RoundWork,
)
from fedprune.server.rounds.records import ClientRecord, Status
from fedprune.simulations.engines import jobs
from fedprune.simulations.engines.jobs import (
    decode_job,
    decode_part,
    encode_job,
    encode_part,
)

SPEC = ModelSpec(
    tensors=(TensorSpec(name="fc.weight", shape=(3, 4)),), moments=2, units=3
)
LIMITS = Limits(clients=7, max_examples=500)
ORDERS = (
    Assignment(client_id="a", variant=2, acknowledged=0, max_weight=5),
    Assignment(client_id="b", variant=0, acknowledged=4, max_weight=1),
    Assignment(client_id="ç ü", variant=2, acknowledged=9, max_weight=500),
)
ASKING = RoundRequest(
    variants=(b"zero", b"one", b"two"),
    assignments=ORDERS,
    limits=LIMITS,
    max_bytes=1000,
    individual_updates=True,
    max_norm=2.5,
    covariances=(5, 6),
    attempt=2,
)


def work_of(spec):
    """Return a round, as far as a worker's part is checked against it."""
    return RoundWork(
        request=ASKING,
        plan=None,
        side_info=SideInformation.of(spec, np.zeros(spec.size, np.float32)),
        encoded=None,
        robust=Robust(),
        patience=None,
    )


WORK = work_of(SPEC)
RECORDS = (
    ClientRecord(
        client_id="a",
        status=Status.ACCEPTED,
        bytes_down=1,
        bytes_up=2,
        bytes_fixed=3,
        num_examples=4,
        norm=0.1,
        factor=0.25,
        loss=-1e300,
        seconds=1 / 3,
        importance=np.float32([0.5, 0.0, 1e-30]),
        validation=Validation(loss_sum=0.1, metric_sum=5.0, count=6),
        statistics=Statistics(
            num_examples=4,
            mean=np.float32([-3.0, 0.25]),
            variance=np.float32([0.0, 65504.0]),
            running=np.float32([1e30, -1e-30]),
        ),
        covariances=Covariances(
            mean=np.float32([-3.0, 0.25]),
            deviation=np.float32([0.0, 1e-3]),
            correlation=np.float32([-0.5]),
        ),
    ),
    ClientRecord(client_id="b", status=Status.REFUSED, reason="field 'x': ü"),
    ClientRecord(client_id="c", status=Status.FAILED, reason="lost"),
    ClientRecord(client_id="d", status=Status.LATE),
)


def make_total():
    total = Accumulator(SPEC.size, LIMITS)
    delta = SparseDelta(
        size=12, indices=np.array([0, 11]), values=np.float32([-1.5, 2.0**-20])
    )
    total.add(delta, 17)
    return total


PART = PartialAggregate(records=RECORDS, total=make_total())


def assert_same_record(found, wanted):
    for name in ClientRecord.__dataclass_fields__:
        one, other = getattr(found, name), getattr(wanted, name)
        if isinstance(other, Statistics):
            assert one.num_examples == other.num_examples
            assert one.mean.tobytes() == other.mean.tobytes()
            assert one.variance.tobytes() == other.variance.tobytes()
        elif isinstance(other, Covariances):
            for part in ("mean", "deviation", "correlation"):
                assert np.array_equal(getattr(one, part), getattr(other, part))
        elif isinstance(other, np.ndarray):
            assert one.dtype == other.dtype
            assert one.tobytes() == other.tobytes()
        else:
            assert one == other, name
            assert type(one) is type(other), name


def test_a_job_comes_back_with_the_variants_that_it_needs():
    found = decode_job(encode_job(ASKING, ORDERS))
    for name in (
        "limits",
        "max_bytes",
        "individual_updates",
        "max_norm",
        "covariances",
    ):
        assert getattr(found, name) == getattr(ASKING, name)
    sent = [
        (o.client_id, found.variants[o.variant], o.acknowledged, o.max_weight)
        for o in found.assignments
    ]
    wanted = [("a", b"two", 0, 5), ("b", b"zero", 4, 1), ("ç ü", b"two", 9, 500)]
    assert sent == wanted
    assert b"one" not in found.variants


def test_a_worker_gets_only_its_own_orders():
    found = decode_job(encode_job(ASKING, ORDERS[1:2]))
    assert [assignment.client_id for assignment in found.assignments] == ["b"]
    assert found.variants == (b"zero",)


def test_a_part_comes_back_bit_by_bit():
    data = encode_part(PART)
    found = decode_part(data, WORK)
    assert len(found.records) == len(RECORDS)
    for one, other in zip(found.records, RECORDS, strict=True):
        assert_same_record(one, other)
    one, other = found.total.delta_sum, PART.total.delta_sum
    assert one.dtype == other.dtype
    assert one.shape == other.shape
    assert one.tobytes() == other.tobytes()
    for name in ("num_examples", "num_clients", "limits"):
        assert getattr(found.total, name) == getattr(PART.total, name)
    assert found.individual_updates == ()
    assert found.bytes_simulation == 0  # counted where it moves
    assert found.profile is None


def test_a_part_brings_the_profile_of_its_job():
    spent = {Activity.TRAINING: Spent(calls=2, cpu_s=0.1, wall_s=0.3)}
    profile = Profile(spent=spent, stacks={("clients", "local training", "f"): 0.1})
    found = decode_part(encode_part(replace(PART, profile=profile)), WORK)
    assert found.profile == profile


def test_a_decoded_sum_can_be_added_to():
    found = decode_part(encode_part(PART), WORK).total
    found.merge(make_total())
    assert found.num_clients == 2
    np.testing.assert_array_equal(found.delta_sum, 2 * make_total().delta_sum)


def test_a_part_in_which_every_client_failed_is_an_empty_sum():
    empty = PartialAggregate(records=RECORDS[1:], total=Accumulator(0, LIMITS))
    found = decode_part(encode_part(empty), WORK)
    assert [record.client_id for record in found.records] == ["b", "c", "d"]
    assert found.total.num_clients == 0
    assert found.total.delta_sum.shape == (12,)
    assert not found.total.delta_sum.any()


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (
            replace(SPEC, tensors=(TensorSpec(name="fc.weight", shape=(3, 5)),)),
            "delta_sum",
        ),
    ],
)
def test_sums_of_another_network_are_refused(spec, field):
    with pytest.raises(PayloadError) as caught:
        decode_part(encode_part(PART), work_of(spec))
    assert (caught.value.field, caught.value.reason) == (field, Reason.BAD_SIZE)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", msgpack.packb([1, 2]), msgpack.packb(7), b"\x95\x01"],
    ids=["empty", "no msgpack", "too few fields", "no array", "torn"],
)
def test_what_is_no_part_or_job_is_refused(data):
    with pytest.raises(PayloadError) as caught:
        decode_part(data, WORK)
    assert caught.value.field == "part"
    with pytest.raises(PayloadError) as caught:
        decode_job(data)
    assert caught.value.field == "job"


def test_a_part_with_more_behind_it_is_refused():
    with pytest.raises(PayloadError):
        decode_part(encode_part(PART) + b"\0", WORK)


# As a part has them: records, counts, single answers, profile, then those of the sums.
NO_SUMS = [12, b"", bytes(48), b""]
FORGED = {
    "a number for the records": [7, [0, 0], [], None, *NO_SUMS],
    "a record that is too short": [[["a"]], [0, 0], [], None, *NO_SUMS],
    "a status that there is not": [
        [["a", "fine", "", [0, 0, 0, 0], [0.0] * 4, None, None, None, False]],
        *([0, 0], [], None, *NO_SUMS),
    ],
    "texts for the counts": [[], ["a", "b"], [], None, *NO_SUMS],
    "too few counts": [[], [1], [], None, *NO_SUMS],
    "numbers for the sums": [[], [1, 1], [], None, 7, 7, 7, 7],
    "a number for an answer": [[], [0, 0], [7], None, *NO_SUMS],
    "an answer of a client that was not asked": [
        *([], [0, 0], [["d", b""]], None, *NO_SUMS),
    ],
    "a profile of another kind": [[], [0, 0], [], 7, *NO_SUMS],
    "a field more": [[], [1, 1], [], None, *NO_SUMS, 7],
}


def test_a_part_of_nothing_is_accepted():  # so that the fields above are what is wrong
    part = decode_part(msgpack.packb([[], [1, 1], [], None, *NO_SUMS]), WORK)
    assert part.total.delta_sum.tolist() == [0] * 12


@pytest.mark.parametrize("fields", FORGED.values(), ids=FORGED)
def test_a_part_with_fields_of_another_kind_is_refused(fields):
    with pytest.raises(PayloadError):
        decode_part(msgpack.packb(fields), WORK)


SUMS = {
    "zeros": [0] * 20,
    "bytes": [-128, 127, 0, 1] * 5,
    "two bytes, few": [0] * 18 + [-129, 128],
    "the largest": [2**62, -(2**62), 0, 7],
    "all": list(range(-10, 10)),
    "one": [0] * 99 + [-1],
    "of no network": [],
    "beyond four bytes": [2**31, -(2**31) - 1, 2**47 - 1, -(2**47)],
    "beyond six bytes": [2**47, -(2**47) - 1, 5],
}


@pytest.mark.parametrize("values", SUMS.values(), ids=SUMS)
def test_sums_come_back_whatever_their_size_and_number(values):
    assert sums_through(np.array(values, dtype=np.int64)) == values


@given(st.lists(st.integers(-(2**62), 2**62) | st.just(0), max_size=40))
def test_any_sums_come_back(values):
    assert sums_through(np.array(values, dtype=np.int64)) == values


def sums_through(sums):
    row = msgpack.unpackb(msgpack.packb(jobs._sums_out(sums)))
    found = jobs._sums_in(row, len(sums))
    assert found.dtype == np.int64
    return found.tolist()


def test_sums_of_few_entries_and_small_ones_are_short():
    sparse, dense = np.zeros((2, 80_000), dtype=np.int64)
    sparse[::20] = -(2**30)
    dense[:] = 2**30
    # A bit for each entry and four bytes for each of 4 000; four bytes for each.
    assert len(msgpack.packb(jobs._sums_out(sparse))) == 10_000 + 16_000 + 14
    assert len(msgpack.packb(jobs._sums_out(dense))) == 320_000 + 15


# Of a network with twelve weights.
WRONG_SUMS = {
    "of another length": [13, b"", bytes(52), b""],
    "too few values": [12, b"", bytes(44), b""],
    "too many values": [12, b"", bytes(52), b""],
    "a part of a value": [12, b"", bytes(47), b""],
    "a byte more of each": [12, b"", bytes(48), bytes(12)],
    "too few high parts": [12, b"", bytes(48), bytes(22)],
    "fewer values than bits": [12, b"\xff\xff", bytes(44), b""],
    "too few bits": [12, b"\xff", bytes(32), b""],
    "a text": [12, b"", "x" * 48, b""],
    "a field less": [12, b"", bytes(48)],
}


@pytest.mark.parametrize("row", WRONG_SUMS.values(), ids=WRONG_SUMS)
def test_sums_that_do_not_fit_are_refused(row):
    with pytest.raises(PayloadError):
        decode_part(msgpack.packb([[], [1, 1], [], None, *row]), WORK)


class Reply:
    """A reply of Flower's grid."""

    def __init__(self, content=None, reason=""):
        self.content, self.reason = content, reason
        self.error = self

    def has_error(self):
        return bool(self.reason)


def part_of(*names):
    records = tuple(ClientRecord(client_id=n, status=Status.LATE) for n in names)
    return encode_part(PartialAggregate(records=records, total=Accumulator(12, LIMITS)))


def test_the_reply_to_a_job_is_its_part():
    pytest.importorskip("ray")
    from fedprune.simulations.engines.on_ray import read_part
    from fedprune.simulations.engines.player import to_content

    found = read_part(Reply(to_content(part_of("b", "a"))), ORDERS[:2], WORK)
    assert [record.client_id for record in found.records] == ["b", "a"]


REPLIES = {
    "answered for a, c": part_of("a", "c"),
    "answered for a": part_of("a"),
    "answered for no client": part_of(),
    "answered for a, a, b": part_of("a", "b", "a"),
    "field 'part'": b"",
}


@pytest.mark.parametrize(("said", "blob"), REPLIES.items(), ids=REPLIES)
def test_a_reply_that_is_not_the_whole_part_ends_the_run(said, blob):
    pytest.importorskip("ray")
    from fedprune.simulations.engines.on_ray import read_part
    from fedprune.simulations.engines.player import to_content

    with pytest.raises(FedPruneError, match=said) as caught:
        read_part(Reply(to_content(blob)), ORDERS[:2], WORK)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("reply", "said"),
    [(Reply(), "AttributeError"), (Reply(reason="no memory"), "no memory")],
    ids=["without content", "an error"],
)
def test_a_worker_that_fails_ends_the_run_with_its_reason(reply, said):
    pytest.importorskip("ray")
    from fedprune.simulations.engines.on_ray import read_part

    with pytest.raises(FedPruneError, match=said):
        read_part(reply, ORDERS[:2], WORK)
