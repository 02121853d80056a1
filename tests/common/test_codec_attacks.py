"""Named attacks on an update and on a plan: what is forged -> which check refuses it.

Every forgery carries a right digest, so the checks behind it are reached.
"""

import contextlib
import tracemalloc
import zlib
from dataclasses import replace

import msgpack
import numpy as np
import pytest

from common import codec
from common.codec.checks import MAX_COUNT
from common.errors import PayloadError, Reason, StaleUpdate
from common.messages import QuantisedDelta, weights_digest
from tests.common.codec_examples import (
    BASE,
    DELTA_ITEM,
    PLAN,
    SPEC,
    body_of,
    edit,
    edit_delta,
    items_of,
    make_expected,
    make_plan,
    make_update,
    message_of,
    seal_again,
)

GAPS = codec.encode_update(make_update(6), SPEC, BASE)
BITMAP = codec.encode_update(make_update(60), SPEC, BASE)
EXACT = codec.encode_update(make_update(6, "float32"), SPEC, BASE)
RUNS = codec.encode_update(  # Every section is deflated.
    replace(
        make_update(1),
        delta=QuantisedDelta(
            size=SPEC.size,
            indices=np.arange(40),
            values=np.ones(40, np.int8),
            scales=np.uint8([150, 150] + [0] * 9),
        ),
    ),
    SPEC,
    BASE,
)
NAN, INF = float("nan"), float("inf")

# Items of an update and of its delta, by name.
RUN, ROUND, CLIENT, PLAN_ITEM, BASE_ITEM, EXAMPLES, LOSS = range(2, 9)
IMPORTANCE, STATISTICS, VALIDATION = range(10, 13)
CODER, COUNT, FORM, LENGTH, POSITIONS_DEFLATED, POSITIONS = range(6)
VALUES_DEFLATED, VALUES, SCALES_DEFLATED, SCALES = range(6, 10)


def put(item, value, message=GAPS):
    return edit(message, lambda items: items.__setitem__(item, value))


def put_delta(changes, message=GAPS):
    def change(parts):
        for item, value in changes.items():
            parts[item] = value

    return edit_delta(message, change)


def delta_of(message):
    return msgpack.unpackb(items_of(message)[DELTA_ITEM])


def poke(data, at, value):
    forged = bytearray(data)
    forged[at] = value
    return bytes(forged)


def deflate(*pieces):
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    out = [squeezer.compress(piece) for piece in pieces]
    return b"".join([*out, squeezer.flush()])


def halves(*values):
    return np.float16(values).tobytes()


def floats(*values):
    return np.float32(values).tobytes()


BOMB = deflate(*[bytes(1 << 20)] * 64)
VALUES_OF_GAPS = delta_of(GAPS)[VALUES]
SCALES_OF_GAPS = bytes(make_update(6).delta.scales)
EMPTY_ROW = SCALES_OF_GAPS.index(0)
FILLED_ROW = int(np.flatnonzero(list(SCALES_OF_GAPS))[0])
STATS = [90, halves(0, 0, 0, 0), halves(1, 1, 1, 1)]


def statistics(mean=STATS[1], variance=STATS[2], count=90):
    return put(STATISTICS, [count, mean, variance])


def validation(loss_sum=4.5, correct=7, count=10):
    return put(VALIDATION, [loss_sum, correct, count])


def gaps(raw, count=6, **changes):
    fields = {FORM: 1, LENGTH: len(raw), POSITIONS_DEFLATED: False, POSITIONS: raw}
    return put_delta(fields | {COUNT: count} | changes)


def scales(raw):
    return put_delta({SCALES_DEFLATED: False, SCALES: raw})


# name -> (message, field that is named, reason)
ATTACKS = {
    # The frame and the fields
    "a kind of another message": (put(1, 1), "kind", Reason.UNKNOWN),
    "an unknown kind": (put(1, 99), "kind", Reason.UNKNOWN),
    "a kind of true": (put(1, value=True), "kind", Reason.UNKNOWN),
    "another version": (put(0, 2), "version", Reason.UNKNOWN),
    "one field more": (
        edit(GAPS, lambda items: items.append(0)), "update", Reason.BAD_FRAME),
    "one field less": (
        edit(GAPS, lambda items: items.pop()), "update", Reason.BAD_FRAME),
    "a body of other bytes": (
        seal_again(body_of(GAPS) + b"\0"), "message", Reason.BAD_FRAME),
    "a long form of the round": (
        seal_again(body_of(GAPS).replace(b"run-1\x03", b"run-1\xcc\x03")),
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
        seal_again(body_of(GAPS).replace(b"run-1", b"ru\xff-1")),
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
    "more correct than counted": (
        validation(correct=11), "validation.correct", Reason.BAD_VALUE),
    "correct below 0": (
        validation(correct=-1), "validation.correct", Reason.BAD_VALUE),
    "a count below 0": (validation(count=-1), "validation.count", Reason.BAD_VALUE),
    "a count above the cap": (
        validation(count=1001), "validation.count", Reason.BAD_VALUE),
    "a count of true": (validation(count=True), "validation.count", Reason.BAD_FRAME),
    "a loss sum of NaN": (
        validation(loss_sum=NAN), "validation.loss_sum", Reason.NON_FINITE),
    "a loss sum below 0": (
        validation(loss_sum=-1.0), "validation.loss_sum", Reason.BAD_VALUE),
    "no validation": (put(VALIDATION, None), "validation", Reason.BAD_FRAME),
    # The delta
    "a delta that is an array": (put(DELTA_ITEM, [1]), "delta", Reason.BAD_FRAME),
    "an empty delta": (put(DELTA_ITEM, b""), "delta", Reason.BAD_FRAME),
    "a delta with trailing bytes": (
        put(DELTA_ITEM, items_of(GAPS)[DELTA_ITEM] + b"\0"), "delta", Reason.BAD_FRAME),
    "a delta cut off": (
        put(DELTA_ITEM, items_of(GAPS)[DELTA_ITEM][:-1]), "delta", Reason.BAD_FRAME),
    "a delta 100 000 deep": (
        put(DELTA_ITEM, b"\x91" * 100_000), "delta", Reason.BAD_FRAME),
    "an unknown coder": (put_delta({CODER: 3}), "delta.coder", Reason.BAD_VALUE),
    "another kind of value": (put_delta({CODER: 2}), "delta.coder", Reason.MISMATCH),
    "a count of -1": (put_delta({COUNT: -1}), "delta.count", Reason.BAD_VALUE),
    "a count of 2^64-1": (
        put_delta({COUNT: 2**64 - 1}), "delta.count", Reason.BAD_VALUE),
    "a count of 2^48": (
        put_delta({COUNT: MAX_COUNT}), "delta.count", Reason.BAD_VALUE),
    "a count of 6.0": (put_delta({COUNT: 6.0}), "delta.count", Reason.BAD_FRAME),
    "a count of entries of true": (
        put_delta({COUNT: True}), "delta.count", Reason.BAD_FRAME),
    "more entries than the update density allows": (
        codec.encode_update(make_update(80), SPEC, BASE),
        "delta.count", Reason.BAD_VALUE),
    "one entry more than values": (
        gaps(delta_of(GAPS)[POSITIONS] + b"\0", count=7),
        "delta.values", Reason.BAD_SIZE),
    "one value more than entries": (
        put_delta({VALUES: VALUES_OF_GAPS + b"\1"}), "delta.values", Reason.BAD_SIZE),
    "an unknown form of positions": (
        put_delta({FORM: 2}), "delta.form", Reason.BAD_VALUE),
    "a flag that is an int": (
        put_delta({VALUES_DEFLATED: 1}), "delta.values.deflated", Reason.BAD_FRAME),
    # Positions
    "a gap behind the end": (
        gaps(b"\0\0\0\0\0\xff\x01"), "delta.positions", Reason.BAD_VALUE),
    "gaps that sum up behind the end": (
        gaps(b"\x7f" * 6), "delta.positions", Reason.BAD_VALUE),
    "a gap of ten bytes": (
        gaps(b"\0\0\0\0\0" + b"\xff" * 5 + b"\x7f"),
        "delta.positions", Reason.BAD_SIZE),
    "a gap in a longer form": (
        gaps(b"\0\0\0\0\0\x85\0"), "delta.positions", Reason.BAD_VALUE),
    "a gap that is cut off": (
        gaps(b"\0\0\0\0\0\x80"), "delta.positions", Reason.BAD_SIZE),
    "one gap less": (gaps(b"\0\0\0\0\0"), "delta.positions", Reason.BAD_SIZE),
    "one gap more": (gaps(b"\0" * 7), "delta.positions", Reason.BAD_SIZE),
    "a length of 2^40": (
        put_delta({LENGTH: 2**40}), "delta.positions", Reason.BAD_SIZE),
    "a length of another section": (
        put_delta({LENGTH: 7}), "delta.positions", Reason.BAD_SIZE),
    "a bit in the padding": (
        put_delta({POSITIONS: poke(delta_of(BITMAP)[POSITIONS], -1, 0xFF)}, BITMAP),
        "delta.positions", Reason.BAD_SIZE),
    "a bit in the padding in place of another": (
        put_delta({FORM: 0, LENGTH: 17, COUNT: 1, POSITIONS_DEFLATED: False,
                   POSITIONS: bytes(16) + b"\x01", VALUES: b"\1"}),
        "delta.positions", Reason.BAD_VALUE),
    "one bit less than values": (
        put_delta({POSITIONS: poke(delta_of(BITMAP)[POSITIONS], 3, 0)}, BITMAP),
        "delta.positions", Reason.BAD_SIZE),
    "a bitmap of another network": (
        put_delta({LENGTH: 16, POSITIONS: delta_of(BITMAP)[POSITIONS][:16]}, BITMAP),
        "delta.positions", Reason.BAD_SIZE),
    # Values and scales
    "a level of -128": (
        put_delta({VALUES: poke(VALUES_OF_GAPS, 2, 0x80)}), None, Reason.BAD_VALUE),
    "a level of 0": (
        put_delta({VALUES: poke(VALUES_OF_GAPS, 2, 0)}), None, Reason.BAD_VALUE),
    "a value that is too large": (
        scales(poke(SCALES_OF_GAPS, FILLED_ROW, 255)), None, Reason.BAD_VALUE),
    "a scale for a row without entries": (
        scales(poke(SCALES_OF_GAPS, EMPTY_ROW, 9)), None, Reason.BAD_VALUE),
    "no scale for a row with entries": (
        scales(poke(SCALES_OF_GAPS, FILLED_ROW, 0)), None, Reason.BAD_VALUE),
    "scales of another network": (
        scales(SCALES_OF_GAPS + b"\0"), "delta.scales", Reason.BAD_SIZE),
    # Deflate
    "a bomb of positions": (
        put_delta({POSITIONS_DEFLATED: True, POSITIONS: BOMB}),
        "delta.positions", Reason.BAD_SIZE),
    "a bomb of values": (
        put_delta({VALUES_DEFLATED: True, VALUES: BOMB}),
        "delta.values", Reason.BAD_SIZE),
    "a bomb of scales": (
        put_delta({SCALES_DEFLATED: True, SCALES: BOMB}),
        "delta.scales", Reason.BAD_SIZE),
    "a small bomb of positions": (
        put_delta({POSITIONS: deflate(bytes(999))}, RUNS),
        "delta.positions", Reason.BAD_SIZE),
    "a small bomb of values": (
        put_delta({VALUES: deflate(b"\1" * 999)}, RUNS),
        "delta.values", Reason.BAD_SIZE),
    "bytes after the deflate stream": (
        put_delta({VALUES: delta_of(RUNS)[VALUES] + b"x"}, RUNS),
        "delta.values", Reason.BAD_SIZE),
    "a deflate stream cut off": (
        put_delta({VALUES: delta_of(RUNS)[VALUES][:-1]}, RUNS),
        "delta.values", Reason.BAD_FRAME),
    "a deflate stream of one byte less": (
        put_delta({VALUES: deflate(b"\1" * 39)}, RUNS),
        "delta.values", Reason.BAD_SIZE),
    "a deflate stream of a level of 0": (
        put_delta({VALUES: deflate(b"\1" * 39 + b"\0")}, RUNS),
        None, Reason.BAD_VALUE),
    "no deflate stream": (
        put_delta({VALUES: b"\xff" * 6}, RUNS),
        "delta.values", Reason.BAD_FRAME),
    "a stream with a header of zlib": (
        put_delta({VALUES: zlib.compress(b"\1" * 40, 9)}, RUNS),
        "delta.values", Reason.BAD_FRAME),
}  # fmt: skip

EXACT_ATTACKS = {
    "a value of NaN": (NAN, Reason.NON_FINITE),
    "a value of infinity": (INF, Reason.NON_FINITE),
    "a value of 0": (0.0, Reason.BAD_VALUE),
    "a value of -0": (-0.0, Reason.BAD_VALUE),
    "a value above the largest": (10.1, Reason.BAD_VALUE),
}

STALE = {
    "another run": (put(RUN, "run-2"), "run_id"),
    "the round before": (put(ROUND, 2), "round"),
    "another plan": (put(PLAN_ITEM, bytes(16)), "plan"),
    "another base": (put(BASE_ITEM, bytes(16)), "base"),
}


def refusal(data, expected=None):
    with pytest.raises(PayloadError) as caught:
        codec.decode_update(data, expected or make_expected())
    return caught.value


def test_the_messages_that_are_forged_are_valid():
    for data, values in (
        (GAPS, "int8"), (BITMAP, "int8"), (RUNS, "int8"), (EXACT, "float32")
    ):  # fmt: skip
        assert codec.decode_update(data, make_expected(values))
        assert message_of(items_of(data)) == data
    assert delta_of(GAPS)[FORM] == 1
    assert delta_of(GAPS)[VALUES_DEFLATED] is False
    assert delta_of(BITMAP)[FORM] == 0
    assert delta_of(BITMAP)[POSITIONS_DEFLATED] is False
    assert delta_of(RUNS)[POSITIONS_DEFLATED] is True
    assert delta_of(RUNS)[VALUES_DEFLATED] is True


@pytest.mark.parametrize(("data", "field", "reason"), ATTACKS.values(), ids=ATTACKS)
def test_an_attack_is_refused_by_the_check_that_is_meant_for_it(data, field, reason):
    error = refusal(data)
    assert not isinstance(error, StaleUpdate)
    assert error.reason == reason
    if field is None:
        assert error.field.startswith("delta.values of '")
    else:
        assert error.field == field


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_takes_little_memory(name):
    data, expected = ATTACKS[name][0], make_expected()
    refusal(data, expected)  # Imports and caches are filled before it is measured.
    tracemalloc.start()
    with contextlib.suppress(PayloadError):
        codec.decode_update(data, expected)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * len(data) + (64 << 10)


@pytest.mark.parametrize(("value", "reason"), EXACT_ATTACKS.values(), ids=EXACT_ATTACKS)
def test_a_forged_float32_value_is_refused_with_its_tensor(value, reason):
    raw = floats(1, 1, value, 1, 1, 1)
    forged = put_delta({VALUES_DEFLATED: False, VALUES: raw}, EXACT)
    error = refusal(forged, make_expected("float32"))
    assert error.reason == reason
    index = int(make_update(6, "float32").delta.indices[2])
    assert error.field == f"delta.values of '{SPEC.tensor_at(index)}'"


def test_a_float32_delta_with_scales_is_refused():
    forged = put_delta({SCALES_DEFLATED: False, SCALES: bytes(SPEC.rows)}, EXACT)
    assert refusal(forged, make_expected("float32")).field == "delta.scales"


@pytest.mark.parametrize(("data", "field"), STALE.values(), ids=STALE)
def test_an_answer_to_something_else_is_stale(data, field):
    error = refusal(data)
    assert isinstance(error, StaleUpdate)
    assert (error.reason, error.field) == (Reason.MISMATCH, field)


def test_an_update_of_another_network_is_refused():
    tensors = (replace(SPEC.tensors[0], shape=(5, 3, 3, 3)), *SPEC.tensors[1:])
    spec = replace(SPEC, tensors=tensors)
    base = np.zeros(spec.size, np.float32)
    for data in (GAPS, BITMAP):
        error = refusal(data, make_expected(spec=spec, base_weights=base))
        assert error.field in ("delta.positions", "delta.scales")


def test_an_importance_that_nobody_asked_for_is_refused():
    error = refusal(GAPS, make_expected(scored=False))
    assert (error.field, error.reason) == ("importance", Reason.MISMATCH)


def test_statistics_that_nobody_asked_for_are_refused():
    error = refusal(GAPS, make_expected(measured=False))
    assert (error.field, error.reason) == ("statistics", Reason.MISMATCH)


def test_a_message_above_the_cap_is_refused_before_it_is_read():
    error = refusal(b"\x91" * 1001, make_expected(max_bytes=1000))
    assert error.reason == Reason.TOO_LARGE


def test_a_refusal_names_value_and_tensor_in_one_line():
    error = refusal(put_delta({VALUES: poke(VALUES_OF_GAPS, 2, 0)}))
    tensor = SPEC.tensor_at(int(make_update(6).delta.indices[2]))
    assert str(error) == (
        f"field 'delta.values of '{tensor}'': "
        "level 0; want -127..127 without 0 (code BAD_VALUE)"
    )


@pytest.mark.parametrize("data", [b"", b"\x90", GAPS[:-1], None, put(DELTA_ITEM, b"")])
def test_inspecting_refuses_what_is_no_update(data):
    for read in (codec.message_parts, codec.fixed_bytes):
        with pytest.raises(PayloadError):
            read(data)


PLAN_MESSAGE = codec.encode_plan(make_plan())
SHARED = items_of(PLAN_MESSAGE)[4]


def forge_shared(item, value, *inside):
    """Return a plan whose shared part has another item, ``inside`` arrays deep."""
    items = items_of(SHARED)
    target, last = items, item
    for step in inside:
        target, last = target[last], step
    target[last] = value
    forged = message_of(items)
    return edit(PLAN_MESSAGE, lambda outer: outer.__setitem__(4, forged))


S_RUN, S_ROUND, S_PHASE, S_SETTINGS, S_STRUCTURE, S_SIZE, S_DEFLATED, S_JSON = range(
    2, 10
)
S_BROADCAST, S_TEACHER, S_TEACHER_BROADCAST, S_KEEP = range(10, 14)

PLAN_ATTACKS = {
    "acknowledged a later round": (
        put(3, 3, PLAN_MESSAGE), "acknowledged"),
    "acknowledged of true": (put(3, value=True, message=PLAN_MESSAGE), "acknowledged"),
    "a client that is a path": (put(2, "a/b", PLAN_MESSAGE), "client_id"),
    "a shared part of text": (put(4, "x", PLAN_MESSAGE), "shared"),
    "a shared part of another kind": (put(4, GAPS, PLAN_MESSAGE), "kind"),
    "a shared part with a wrong digest": (
        put(4, poke(SHARED, -1, SHARED[-1] ^ 1), PLAN_MESSAGE), "digest"),
    "round 0": (forge_shared(S_ROUND, 0), "round"),
    "a run that is a path": (forge_shared(S_RUN, ".."), "run_id"),
    "an unknown phase": (forge_shared(S_PHASE, "prune"), "phase"),
    "one setting less": (forge_shared(S_SETTINGS, [1] * 14), "settings"),
    "a learning rate of NaN": (
        forge_shared(S_SETTINGS, NAN, 2), "settings.lr"),
    "a learning rate of 0": (forge_shared(S_SETTINGS, 0.0, 2), "settings.lr"),
    "a momentum of 1": (forge_shared(S_SETTINGS, 1.0, 3), "settings.momentum"),
    "an unknown penalty": (forge_shared(S_SETTINGS, "l3", 4), "settings.penalty"),
    "an update density of 0": (
        forge_shared(S_SETTINGS, 0.0, 6), "settings.update_density"),
    "an update density above 1": (
        forge_shared(S_SETTINGS, 1.1, 6), "settings.update_density"),
    "an unknown kind of value": (
        forge_shared(S_SETTINGS, "int4", 7), "settings.values"),
    "no epoch": (forge_shared(S_SETTINGS, 0, 0), "settings.epochs"),
    "2^40 epochs": (forge_shared(S_SETTINGS, 2**40, 0), "settings.epochs"),
    "a flag of 1": (forge_shared(S_SETTINGS, 1, 13), "settings.measure"),
    "a structure digest cut off": (forge_shared(S_STRUCTURE, b"x"), "structure"),
    "a structure of 2^40 bytes": (forge_shared(S_SIZE, 2**40), "structure_json.size"),
    "a structure of another size": (forge_shared(S_SIZE, 5), "structure_json"),
    "a bomb of structure": (forge_shared(S_JSON, BOMB), "structure_json"),
    "units behind the bitmap": (
        forge_shared(S_BROADCAST, 17, 0, 1), "broadcast.plan.keep"),
    "2^40 units": (
        forge_shared(S_BROADCAST, 2**40, 0, 1), "broadcast.plan.units"),
    "a bit behind the units": (
        forge_shared(S_BROADCAST, b"\xff\xff", 0, 2), "broadcast.plan.keep"),
    "a parent digest cut off": (
        forge_shared(S_BROADCAST, b"p", 0, 3), "broadcast.plan.parent"),
    "a rollback of 1": (
        forge_shared(S_BROADCAST, 1, 0, 4), "broadcast.plan.rollback"),
    "weights of text": (forge_shared(S_BROADCAST, "x", 1), "broadcast.weights"),
    "a weights digest cut off": (
        forge_shared(S_BROADCAST, b"x", 2), "broadcast.digest"),
    "moments of no example": (
        forge_shared(S_BROADCAST, 0, 3, 0), "statistics.num_examples"),
    "a mean of infinity": (
        forge_shared(S_BROADCAST, floats(0, 0, INF, 0), 3, 1), "statistics.mean"),
    "means that are cut off": (
        forge_shared(S_BROADCAST, floats(0, 0) + b"x", 3, 1), "statistics.mean"),
    "a variance below 0": (
        forge_shared(S_BROADCAST, floats(0, 0, -1, 0), 3, 2), "statistics.variance"),
    "more variances than means": (
        forge_shared(S_BROADCAST, floats(0, 0, 1, 0, 0), 3, 2), "statistics.variance"),
    "a teacher of another digest": (
        forge_shared(S_TEACHER, bytes(16)), "teacher_broadcast.digest"),
    "a teacher that nobody names": (
        forge_shared(S_TEACHER, b""), "teacher_broadcast.digest"),
    "a flag to keep of nil": (forge_shared(S_KEEP, None), "keep_broadcast"),
}  # fmt: skip


def test_the_forger_of_plans_makes_valid_ones():
    data = forge_shared(S_ROUND, 4)
    assert codec.decode_plan(data, 1 << 18).round == 4
    assert codec.decode_plan(PLAN_MESSAGE, 1 << 18).broadcast.plan.digest == PLAN.digest


@pytest.mark.parametrize(("data", "field"), PLAN_ATTACKS.values(), ids=PLAN_ATTACKS)
@pytest.mark.parametrize("cached", [False, True])
def test_a_forged_plan_is_refused_by_name(data, field, cached):
    cache = codec.PlanCache() if cached else None
    with pytest.raises(PayloadError) as caught:
        codec.decode_plan(data, 1 << 18, cache)
    assert caught.value.field == field


def test_the_weights_of_another_plan_are_refused():
    broadcast = make_plan().broadcast
    teacher = make_plan().teacher_broadcast
    weights = codec.decode_weights(teacher.weights, SPEC)
    assert weights_digest(weights) == teacher.digest
    with pytest.raises(PayloadError, match="BAD_DIGEST"):
        codec.check_weights(weights, broadcast.digest)
