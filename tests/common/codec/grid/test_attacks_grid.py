"""Forged broadcasts on a grid: each is refused with its field, none costs memory."""

import tracemalloc

import numpy as np
import pytest
from helpers.codec.examples import (
    MATRIX,
    SPEC,
    body_of,
    edit,
    items_of,
    message_of,
    seal_again,
)
from helpers.codec.grid_examples import CHANGE, FULL, GRID, NEXT, lie

from fedprune.common import codec
from fedprune.common.codec.delta.options import CodingFlags
from fedprune.common.codec.grid.quantise import TOP
from fedprune.common.errors import PayloadError, StaleUpdate
from fedprune.common.messages import GridWeights

FLAGS, COUNT, BITS, STREAM, RAW = range(2, 7)  # items of a full message
ROUND, BASE_ITEM = 2, 3
SHIFT = 2  # items that a change has in front of them


def put(values, message=FULL):
    def change(items):
        for item, value in values.items():
            items[item] = value

    return edit(message, change)


def stream(change, message=FULL):
    return change(items_of(message)[STREAM])


def plus(step, row):
    def change(found):
        codes = found.codes.copy()
        codes[row] = step
        return {"codes": codes}

    return change


ZEROED = GridWeights(
    codes=np.concatenate([[0], GRID.codes[1:]]).astype(np.uint8),
    levels=np.concatenate([np.zeros(27, np.int16), GRID.levels[27:]]),
)


def bump(symbols):
    symbols[0] = (symbols[0] + 1) % 2


def less(symbols):
    symbols[0] -= 1


FULLS = {
    "no bytes": (b"", "message"),
    "cut off": (FULL[:-1], "message"),
    "a byte more": (FULL + b"\0", "message"),
    "a flipped bit": (FULL[:40] + bytes([FULL[40] ^ 1]) + FULL[41:], "digest"),
    "an item less": (message_of(items_of(FULL)[:-1]), "grid"),
    "an item more": (message_of([*items_of(FULL), 0]), "grid"),
    "another version": (put({0: 3}), "version"),
    "weights of another kind": (put({1: 4}), "weights"),
    "an update": (put({1: 3}), "kind"),
    "a count of none": (put({COUNT: None}), "grid.count"),
    "a count of true": (put({COUNT: True}), "grid.count"),
    "a count below 0": (put({COUNT: -1}), "grid.count"),
    "a count above the network": (put({COUNT: SPEC.size + 1}), "grid.count"),
    "a count of 2 ** 63": (put({COUNT: 2**63}), "grid.count"),
    "a count of one less": (put({COUNT: items_of(FULL)[COUNT] - 1}), None),
    "no count but a stream": (put({COUNT: 0, BITS: 0}), None),
    "bits of 0": (put({BITS: 0}), "grid.bits"),
    "bits of 16": (put({BITS: 16}), "grid.bits"),
    "bits of a larger level": (lie(header={"bits": 12}), "grid.levels"),
    "flags with an agreed mask": (put({FLAGS: 2}), "grid.flags"),
    "flags of entries everywhere": (put({FLAGS: 128}), "grid.flags"),
    "flags of 256": (put({FLAGS: 256}), "delta.flags"),
    "a stream of text": (put({STREAM: "x"}), "grid.stream"),
    "a stream of less than the states": (put({STREAM: bytes(31)}), "grid.stream"),
    "a stream of half a word": (put({STREAM: stream(lambda s: s[:-1])}), "grid.stream"),
    "a stream without a word": (put({STREAM: stream(lambda s: s[:-2])}), "delta.words"),
    "a word too many": (put({STREAM: stream(lambda s: s + b"ab")}), "delta.words"),
    "a state below the least": (
        put({STREAM: stream(lambda s: bytes(4) + s[4:])}),
        "grid.stream",
    ),
    "states that end elsewhere": (
        put({STREAM: stream(lambda s: s[:2] + b"\x77\x99" + s[4:])}),
        None,
    ),
    "no stream but fields": (put({STREAM: b""}), "grid.stream"),
    "raw bits missing": (put({RAW: items_of(FULL)[RAW][:-1]}), "delta.raw"),
    "raw bits too many": (put({RAW: items_of(FULL)[RAW] + b"\0"}), "delta.raw"),
    "a class that a row has not": (
        lie(2, less, header={"flags": CodingFlags(row_sizes=True)}),
        "delta.positions",
    ),
    "a class that its levels have not": (
        lie(3, less, header={"flags": CodingFlags(row_sizes=True, no_classes=True)}),
        "delta.values",
    ),
    "a step of a row of zeros": (
        lie(grid=ZEROED, content=plus(20, 0)),
        "grid.steps of 'conv.weight'",
    ),
    "no step of a row with levels": (
        lie(content=plus(0, 0)),
        "grid.steps of 'conv.weight'",
    ),
}


def refusal(data, spec=SPEC):
    with pytest.raises(PayloadError) as caught:
        codec.decode_weights(data, spec)
    return caught.value


@pytest.mark.parametrize(("data", "field"), FULLS.values(), ids=FULLS)
def test_forged_broadcasts_are_refused_by_name(data, field):
    found = refusal(data)
    assert field is None or found.field == field, found


def test_the_forger_makes_valid_messages():
    assert lie() == FULL
    assert lie(grid=NEXT, base=GRID) == CHANGE


CHANGES = {
    "cut off": (CHANGE[:-1], "message"),
    "a byte more": (CHANGE + b"\0", "message"),
    "an item less": (message_of(items_of(CHANGE)[:-1]), "grid"),
    "round 0": (put({ROUND: 0}, CHANGE), "grid.base.round"),
    "a round of text": (put({ROUND: "3"}, CHANGE), "grid.base.round"),
    "a round of 2 ** 62": (put({ROUND: 2**62}, CHANGE), "grid.base.round"),
    "a base of 15 bytes": (put({BASE_ITEM: bytes(15)}, CHANGE), "grid.base"),
    "no base": (put({BASE_ITEM: b""}, CHANGE), "grid.base"),
    "a count below 0": (put({COUNT + SHIFT: -1}, CHANGE), "grid.count"),
    "bits of 16": (put({BITS + SHIFT: 16}, CHANGE), "grid.bits"),
    "a stream of nothing": (put({STREAM + SHIFT: b""}, CHANGE), "grid.stream"),
    "a stream in which nothing changes": (
        lie(grid=GRID, base=GRID, content=lambda found: {}),
        "grid.stream",
    ),
    "a step that changes to what it was": (
        lie(0, bump, grid=NEXT, base=GRID),
        "grid.steps",
    ),
}


@pytest.mark.parametrize(("data", "field"), CHANGES.values(), ids=CHANGES)
def test_forged_changes_are_refused_by_name(data, field):
    with pytest.raises(PayloadError) as caught:
        codec.decode_change(data, SPEC, GRID, GRID)
    assert field is None or caught.value.field == field, caught.value


def test_a_change_from_another_broadcast_is_stale():
    other = put({BASE_ITEM: b"x" * 16}, CHANGE)
    with pytest.raises(StaleUpdate, match=r"grid.base.*is stored"):
        codec.decode_change(other, SPEC, GRID, GRID)
    with pytest.raises(StaleUpdate, match=r"grid\.base"):
        codec.decode_change(CHANGE, SPEC, NEXT, NEXT)


def test_a_level_out_of_range_is_refused_by_its_tensor():
    far = GridWeights(
        codes=GRID.codes,
        levels=np.where(GRID.levels > 0, 16000, GRID.levels).astype("i2"),
    )
    forged = lie(
        grid=far,
        base=far,
        header={"count": 1, "bits": 15, "flags": CodingFlags()},
        content=lambda found: {
            "positions": np.flatnonzero(far.levels == 16000)[:1],
            "levels": np.array([20000], np.int16),
        },
    )
    with pytest.raises(PayloadError, match="level 36000") as caught:
        codec.decode_change(forged, SPEC, far, far)
    assert caught.value.field == "grid.levels of 'conv.weight'"


def test_a_base_whose_rows_are_all_zeros_after_a_cut_is_no_result():
    odd = GridWeights(codes=GRID.codes, levels=np.zeros_like(GRID.levels))
    data = put(
        {BASE_ITEM: odd.name, **dict.fromkeys(range(4, 7), 0), 7: b"", 8: b""}, CHANGE
    )
    with pytest.raises(PayloadError) as caught:
        codec.decode_change(data, SPEC, odd, odd)
    assert caught.value.field == "grid.steps of 'conv.weight'"


def test_a_broadcast_of_another_network_is_refused():
    refusal(FULL, MATRIX)
    small = codec.encode_weights(np.ones(5, np.float32), MATRIX, "grid")
    refusal(small, SPEC)


@pytest.mark.parametrize("message", [FULL, CHANGE], ids=["full", "change"])
def test_every_changed_byte_with_a_right_digest_is_refused_or_read_whole(message):
    body = bytearray(body_of(message))
    refused = 0
    for at in range(len(body)):
        forged = bytearray(body)
        forged[at] ^= 1 << (at % 8)
        try:
            data = seal_again(bytes(forged))
            if message is FULL:
                found = codec.decode_full(data, SPEC)
            else:
                found = codec.decode_change(data, SPEC, GRID, GRID)
        except PayloadError:
            refused += 1
        else:
            assert len(found.levels) == SPEC.size
            assert np.abs(found.levels.astype(int)).max() <= TOP
    assert refused > len(body) / 2


def test_a_refusal_holds_little_memory():
    huge = put({COUNT: SPEC.size, STREAM: bytes(1 << 20)})
    refusal(huge)
    tracemalloc.start()
    refusal(huge)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20
