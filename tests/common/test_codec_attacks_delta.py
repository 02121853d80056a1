"""Named attacks on the delta of an update: what is forged -> what refuses it."""

import zlib
from dataclasses import replace

import numpy as np
import pytest

from common import codec
from common.codec.checks import MAX_COUNT
from common.errors import Reason, StaleUpdate
from tests.common.codec_examples import (
    BASE,
    DELTA_ITEM,
    SPEC,
    items_of,
    make_expected,
    make_update,
    message_of,
)
from tests.common.codec_forgery import (
    BITMAP,
    BOMB,
    CODER,
    COUNT,
    EMPTY_ROW,
    EXACT,
    FILLED_ROW,
    FORM,
    GAPS,
    INF,
    LENGTH,
    NAN,
    POSITIONS,
    POSITIONS_DEFLATED,
    RUNS,
    SCALES,
    SCALES_DEFLATED,
    SCALES_OF_GAPS,
    VALUES,
    VALUES_DEFLATED,
    VALUES_OF_GAPS,
    deflate,
    delta_of,
    floats,
    gaps,
    peak_memory,
    poke,
    put,
    put_delta,
    refusal,
    scales,
)

# name -> (message, field that is named or None for a tensor, reason)
ATTACKS = {
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
    "a bomb of positions of the length that it claims": (
        put_delta({POSITIONS_DEFLATED: True, POSITIONS: BOMB, LENGTH: 64 << 20}),
        "delta.positions", Reason.BAD_SIZE),
    "a bomb of a bitmap of the length that it claims": (
        put_delta({POSITIONS: BOMB, LENGTH: 64 << 20}, RUNS),
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
def test_a_forged_delta_is_refused_by_the_check_meant_for_it(data, field, reason):
    error = refusal(data)
    assert not isinstance(error, StaleUpdate)
    assert error.reason == reason
    if field is None:
        assert error.field.startswith("delta.values of '")
    else:
        assert error.field == field


@pytest.mark.parametrize("name", ATTACKS)
def test_a_forged_delta_takes_little_memory(name):
    data = ATTACKS[name][0]
    assert peak_memory(data) < 2 * len(data) + (64 << 10)


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


def test_an_update_of_another_network_is_refused():
    tensors = (replace(SPEC.tensors[0], shape=(5, 3, 3, 3)), *SPEC.tensors[1:])
    spec = replace(SPEC, tensors=tensors)
    base = np.zeros(spec.size, np.float32)
    for data in (GAPS, BITMAP):
        error = refusal(data, make_expected(spec=spec, base_weights=base))
        assert error.field in ("delta.positions", "delta.scales")


def test_a_refusal_names_value_and_tensor_in_one_line():
    error = refusal(put_delta({VALUES: poke(VALUES_OF_GAPS, 2, 0)}))
    tensor = SPEC.tensor_at(int(make_update(6).delta.indices[2]))
    assert str(error) == (
        f"field 'delta.values of '{tensor}'': "
        "level 0; want -127..127 without 0 (code BAD_VALUE)"
    )
