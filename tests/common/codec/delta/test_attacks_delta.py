"""Named attacks on the delta of an update: what is forged -> what refuses it."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.codec.examples import (
    BASE,
    DELTA_ITEM,
    KNOWN,
    SPEC,
    items_of,
    make_expected,
    make_update,
    message_of,
)
from helpers.codec.forgery import (
    BITS,
    COUNT,
    EXACT,
    FLAGS,
    HIGH,
    INF,
    LOW,
    MANY,
    MASK,
    NAN,
    RAW,
    ROWS,
    SHRINK,
    SIZES,
    STREAM,
    SYMBOLS,
    UPDATE,
    VALUES,
    delta_of,
    floats,
    lie,
    peak_memory,
    put,
    put_delta,
    refusal,
)

from fedprune.common import codec
from fedprune.common.codec import frame as codec_frame
from fedprune.common.codec.checks import MAX_COUNT
from fedprune.common.codec.delta.options import CodingFlags
from fedprune.common.errors import PayloadError, Reason, StaleUpdate

STREAM_OF_UPDATE = delta_of(UPDATE)[STREAM]
STREAM_OF_MANY = delta_of(MANY)[STREAM]
PLAIN = CodingFlags(row_sizes=True).pack()
BASED = CodingFlags(base=True, row_sizes=True)
COLUMNS = CodingFlags(columns=True, row_sizes=True)


def first(value):
    """Set the first symbol of a run."""
    return lambda symbols: symbols.__setitem__(0, value)


def more(symbols):
    """Raise the first symbol of a run by one."""
    symbols[0] += 1


def flip_zero(symbols):
    """Set the first bit that is 0: one more position."""
    symbols[np.flatnonzero(symbols == 0)[0]] = 1


def flip_one(symbols):
    symbols[np.flatnonzero(symbols)[0]] = 0


def wide(content):
    """Make the first level larger than the grid has."""
    levels = content.levels.copy()
    levels[0] = 130 if BASE[0] < 0 else -130
    return {"levels": levels}


def drop_row(content):
    """Take the code of the first row with entries."""
    codes = content.codes.copy()
    codes[np.flatnonzero(codes)[0]] = 0
    return {"codes": codes}


def dirty_lane(first_words, rest):
    words = first_words.copy()
    words[-1] = 1
    return words, rest


# name -> (message, field that is named or None for a tensor, reason)
ATTACKS = {
    "a delta that is an array": (put(DELTA_ITEM, [1]), "delta", Reason.BAD_FRAME),
    "an empty delta": (put(DELTA_ITEM, b""), "delta", Reason.BAD_FRAME),
    "a delta with trailing bytes": (
        put(DELTA_ITEM, items_of(UPDATE)[DELTA_ITEM] + b"\0"),
        "delta", Reason.BAD_FRAME),
    "a delta cut off": (
        put(DELTA_ITEM, items_of(UPDATE)[DELTA_ITEM][:-1]), "delta", Reason.BAD_FRAME),
    "a delta 100 000 deep": (
        put(DELTA_ITEM, b"\x91" * 100_000), "delta", Reason.BAD_FRAME),
    "an array of 2^31": (
        put(DELTA_ITEM, b"\xdd\x80\0\0\0"), "delta", Reason.BAD_FRAME),
    "bytes of 2^31": (
        put(DELTA_ITEM, b"\x91\xc6\x80\0\0\0"), "delta", Reason.BAD_FRAME),
    # Header
    "flags with an unknown bit": (
        put_delta({FLAGS: 256}), "delta.flags", Reason.BAD_VALUE),
    "entries everywhere of levels": (
        put_delta({FLAGS: 128}), "delta.flags", Reason.MISMATCH),
    "entries everywhere with contexts": (
        put_delta({FLAGS: 129}), "delta.flags", Reason.BAD_VALUE),
    "flags with resolutions of classes that are not coded": (
        put_delta({FLAGS: CodingFlags(coarse=True, no_classes=True).pack()}),
        "delta.flags", Reason.BAD_VALUE),
    "flags of -1": (put_delta({FLAGS: -1}), "delta.flags", Reason.BAD_VALUE),
    "flags that is a bool": (
        put_delta({FLAGS: True}), "delta.flags", Reason.BAD_FRAME),
    "deep contexts without weights": (
        put_delta({FLAGS: PLAIN | 16}), "delta.flags", Reason.BAD_VALUE),
    "an agreed mask with columns": (
        put_delta({FLAGS: PLAIN | 2 | 4}), "delta.flags", Reason.BAD_VALUE),
    "an agreed mask without a digest": (
        put_delta({FLAGS: PLAIN | 2}), "delta.mask", Reason.MISMATCH),
    "a mask that was not agreed on": (
        put_delta({FLAGS: PLAIN | 2, MASK: bytes(16)}),
        "delta.flags", Reason.MISMATCH),
    "a digest of a mask that is not used": (
        put_delta({MASK: bytes(16)}), "delta.mask", Reason.MISMATCH),
    "an unknown kind of values": (
        put_delta({VALUES: 4}), "delta.values", Reason.BAD_VALUE),
    "another kind of values": (
        put_delta({VALUES: 3}), "delta.values", Reason.MISMATCH),
    "a shrink of three bytes": (
        put_delta({SHRINK: b"abc"}), "delta.shrink", Reason.BAD_SIZE),
    "a shrink of NaN": (
        put_delta({FLAGS: PLAIN | 1, SHRINK: floats(NAN)}),
        "delta.shrink", Reason.NON_FINITE),
    "a shrink of infinity": (
        put_delta({FLAGS: PLAIN | 1, SHRINK: floats(INF)}),
        "delta.shrink", Reason.NON_FINITE),
    "a shrink of 0": (
        put_delta({FLAGS: PLAIN | 1, SHRINK: floats(0)}),
        "delta.shrink", Reason.BAD_VALUE),
    "a shrink without weights": (
        put_delta({FLAGS: PLAIN, SHRINK: floats(0.1)}),
        "delta.shrink", Reason.BAD_VALUE),
    "a count of -1": (put_delta({COUNT: -1}), "delta.count", Reason.BAD_VALUE),
    "a count of 2^64-1": (
        put_delta({COUNT: 2**64 - 1}), "delta.count", Reason.BAD_VALUE),
    "a count of 2^48": (
        put_delta({COUNT: MAX_COUNT}), "delta.count", Reason.BAD_VALUE),
    "a count of 6.0": (put_delta({COUNT: 6.0}), "delta.count", Reason.BAD_FRAME),
    "a count of entries of true": (
        put_delta({COUNT: True}), "delta.count", Reason.BAD_FRAME),
    "no entries, but a stream": (
        put_delta({COUNT: 0}), "delta.count", Reason.BAD_VALUE),
    "more entries than the update density allows": (
        codec.encode_update(make_update(80), KNOWN), "delta.count", Reason.BAD_VALUE),
    # Stream
    "a stream of half a word": (
        put_delta({STREAM: STREAM_OF_UPDATE[:-1]}), "delta.stream", Reason.BAD_SIZE),
    "a stream without states": (
        put_delta({STREAM: b""}), "delta.stream", Reason.BAD_SIZE),
    "one lane of eight": (
        put_delta({STREAM: STREAM_OF_UPDATE[:4]}), "delta.stream", Reason.BAD_SIZE),
    "a state of 0": (
        put_delta({STREAM: bytes(4) + STREAM_OF_MANY[4:]}, MANY),
        "delta.stream", Reason.BAD_VALUE),
    "a state below 2^16": (
        put_delta({STREAM: b"\xff\xff\0\0" + STREAM_OF_MANY[4:]}, MANY),
        "delta.stream", Reason.BAD_VALUE),
    "a stream without its last word": (
        put_delta({STREAM: STREAM_OF_MANY[:-2]}, MANY), "delta.words", Reason.BAD_SIZE),
    "a stream with a word too many": (
        put_delta({STREAM: STREAM_OF_MANY + b"\1\1"}, MANY),
        "delta.words", Reason.BAD_SIZE),
    "two kilobytes of words": (
        put_delta({STREAM: STREAM_OF_MANY + bytes(2048)}, MANY),
        "delta.words", Reason.BAD_SIZE),
    # Positions
    "a row of another class": (lie(ROWS, more), "delta.positions", Reason.BAD_VALUE),
    "a row of a class beyond the full one": (
        lie(ROWS, first(24), flags=replace(CodingFlags(row_sizes=True), coarse=True)),
        "delta.positions", Reason.BAD_VALUE),
    "a full row that is not": (
        lie(ROWS, first(24)), "delta.positions", Reason.BAD_SIZE),
    "an empty row that is not": (
        lie(ROWS, first(0)), "delta.positions", Reason.BAD_SIZE),
    "a column of another class": (
        lie(1, more, flags=COLUMNS), "delta.positions", Reason.BAD_VALUE),
    "a position more than the count": (
        lie(BITS, flip_zero), "delta.positions", Reason.BAD_SIZE),
    "a position less than the count": (
        lie(BITS, flip_one), "delta.positions", Reason.BAD_VALUE),
    # Scales and levels
    "no scale for a row with entries": (
        lie(content=drop_row), None, Reason.BAD_VALUE),
    "a value that is too large": (
        lie(HIGH, lambda high: high.__setitem__(slice(None), 31)),
        None, Reason.BAD_VALUE),
    "a row of another mean level": (
        lie(SIZES, more), "delta.values", Reason.BAD_VALUE),
    "a level of 0": (
        lie(SYMBOLS - 1, first(0), flags=CodingFlags()), None, Reason.BAD_VALUE),
    "a level beyond the grid": (
        lie(flags=BASED, shrink=1.0, content=wide), "delta.values", Reason.BAD_VALUE),
    # Raw bits
    "a byte of raw bits too many": (
        put_delta({RAW: delta_of(MANY)[RAW] + b"\0"}, MANY),
        "delta.raw", Reason.BAD_SIZE),
    "raw bits cut off": (
        put_delta({RAW: delta_of(MANY)[RAW][:-1]}, MANY), "delta.raw", Reason.BAD_SIZE),
    "a lane that begins with a bit of nothing": (
        lie(count=6, raw=dirty_lane), "delta.raw", Reason.BAD_VALUE),
}  # fmt: skip

EXACT_ATTACKS = {
    "a value of NaN": (NAN, Reason.NON_FINITE),
    "a value of infinity": (INF, Reason.NON_FINITE),
    "a value of 0": (0.0, Reason.BAD_VALUE),
    "a value of -0": (-0.0, Reason.BAD_VALUE),
    "a value above the largest": (10.1, Reason.BAD_VALUE),
}


def test_the_messages_that_are_forged_are_valid():
    for data, values in ((UPDATE, "int8"), (MANY, "int8"), (EXACT, "float32")):
        assert codec.decode_update(data, make_expected(values))
        assert message_of(items_of(data)) == data
    assert delta_of(MANY)[RAW]


@pytest.mark.parametrize("kind", ["int8", "step"])
def test_what_the_liar_writes_is_valid_without_a_lie(kind):
    assert codec.decode_update(lie(kind=kind), make_expected(kind))


@pytest.mark.parametrize(("data", "field", "reason"), ATTACKS.values(), ids=ATTACKS)
def test_a_forged_delta_is_refused_by_the_check_meant_for_it(data, field, reason):
    error = refusal(data)
    assert not isinstance(error, StaleUpdate)
    assert (error.field, error.reason) == (field or error.field, reason)
    if field is None:
        assert error.field.startswith("delta.values of '")


@pytest.mark.parametrize("name", ATTACKS)
def test_a_forged_delta_takes_little_memory(name):
    data = ATTACKS[name][0]
    assert peak_memory(data) < 2 * len(data) + (640 << 10)


@pytest.mark.parametrize(("value", "reason"), EXACT_ATTACKS.values(), ids=EXACT_ATTACKS)
def test_a_forged_float32_value_is_refused_with_its_tensor(value, reason):
    forged = put_delta({RAW: floats(1, 1, value, 1, 1, 1)}, EXACT)
    error = refusal(forged, make_expected("float32"))
    assert error.reason == reason
    index = int(make_update(6, "float32").delta.indices[2])
    assert error.field == f"delta.values of '{SPEC.tensor_at(index)}'"


@pytest.mark.parametrize("count", [0, 5, 7])
def test_other_than_one_float32_value_for_each_entry_is_refused(count):
    forged = put_delta({RAW: floats(*[1] * count)}, EXACT)
    assert refusal(forged, make_expected("float32")).field == "delta.values"


def test_an_update_of_another_network_is_refused():
    tensors = (replace(SPEC.tensors[0], shape=(5, 3, 3, 3)), *SPEC.tensors[1:])
    spec = replace(SPEC, tensors=tensors)
    base = np.zeros(spec.size, np.float32)
    for data in (UPDATE, MANY):
        error = refusal(
            data, make_expected(side_info=codec.SideInformation.of(spec, base))
        )
        assert error.field.startswith("delta.")


def test_a_mask_of_another_round_is_stale():
    delta = make_update(60).delta
    mask = np.zeros(SPEC.size, bool)
    mask[delta.indices] = True
    known_positions = codec.encode_delta(
        delta, codec.SideInformation.of(SPEC, BASE, mask=mask)
    )
    other = codec.SideInformation.of(SPEC, BASE, mask=np.roll(mask, 1))
    with pytest.raises(StaleUpdate, match=r"delta.mask"):
        codec.decode_delta(known_positions, other, values="int8", max_entries=SPEC.size)


def test_an_agreed_mask_of_another_count_is_refused():
    delta = make_update(60).delta
    mask = np.zeros(SPEC.size, bool)
    mask[delta.indices] = True
    side_info = codec.SideInformation.of(SPEC, BASE, mask=mask)
    items = delta_of(put(DELTA_ITEM, codec.encode_delta(delta, side_info)))
    forged = delta_of(put_delta({COUNT: items[COUNT] - 1}, put(
        DELTA_ITEM, codec.encode_delta(delta, side_info))))  # fmt: skip
    data = items_of(put_delta(dict(enumerate(forged))))[DELTA_ITEM]
    with pytest.raises(PayloadError, match=r"delta.count.*the agreed mask has"):
        codec.decode_delta(data, side_info, values="int8", max_entries=SPEC.size)


def test_a_refusal_names_value_and_tensor_in_one_line():
    error = refusal(ATTACKS["a level of 0"][0])
    tensor = SPEC.tensor_at(int(make_update(60).delta.indices[0]))
    assert str(error) == (
        f"field 'delta.values of '{tensor}'': "
        "level 0; want -127..127 without 0 (code BAD_VALUE)"
    )
    assert LOW == HIGH + 1


def everywhere(**changes):
    """Return the fields of a delta of all positions, some of them changed."""
    values = np.arange(SPEC.size, dtype="<f4") / 8
    fields = {"flags": 128, "values": 2, "count": SPEC.size, "shrink": b"", "mask": b""}
    fields |= {"stream": b"", "raw": values.tobytes()}
    return codec_frame.pack(list((fields | changes).values()))


def of_floats(values):
    return np.array(values, dtype="<f4").tobytes()


def test_a_delta_of_all_positions_is_read_with_its_zeros():
    found = codec.decode_delta(
        everywhere(), KNOWN, values="float32", max_entries=SPEC.size
    )
    assert found.indices.tolist() == list(range(SPEC.size))
    assert found.values[0] == 0
    assert codec.encode_delta(found, KNOWN) == everywhere()


def test_the_positions_that_dense_deltas_share_cannot_be_written():
    first, second = (
        codec.decode_delta(
            everywhere(), KNOWN, values="float32", max_entries=SPEC.size
        ).indices
        for _ in range(2)
    )
    assert first is second
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"count": SPEC.size - 1}, Reason.MISMATCH),
        ({"count": SPEC.size + 1}, Reason.BAD_VALUE),
        ({"stream": bytes(4)}, Reason.BAD_SIZE),
        ({"raw": bytes(4 * SPEC.size - 4)}, Reason.BAD_SIZE),
        ({"raw": of_floats([np.nan] * SPEC.size)}, Reason.NON_FINITE),
        ({"raw": of_floats([-0.0] * SPEC.size)}, Reason.BAD_VALUE),
        ({"mask": bytes(16)}, Reason.MISMATCH),
    ],
)
def test_a_delta_of_all_positions_that_is_not_one_is_refused(changes, reason):
    with pytest.raises(PayloadError) as caught:
        codec.decode_delta(
            everywhere(**changes), KNOWN, values="float32", max_entries=SPEC.size
        )
    assert caught.value.reason is reason
