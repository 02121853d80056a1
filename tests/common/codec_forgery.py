"""Messages to forge, and what forges them: every forgery carries a right digest."""

import contextlib
import tracemalloc
import zlib
from dataclasses import replace

import msgpack
import numpy as np
import pytest

from common import codec
from common.errors import PayloadError
from common.messages import QuantisedDelta
from tests.common.codec_examples import (
    BASE,
    DELTA_ITEM,
    SPEC,
    edit,
    edit_delta,
    items_of,
    make_expected,
    make_update,
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


def refusal(data, expected=None):
    with pytest.raises(PayloadError) as caught:
        codec.decode_update(data, expected or make_expected())
    return caught.value


def peak_memory(data):
    """Return the most bytes that refusing a forged update holds at a time."""
    expected = make_expected()
    refusal(data, expected)  # Imports and caches are filled before it is measured.
    tracemalloc.start()
    with contextlib.suppress(PayloadError):
        codec.decode_update(data, expected)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak
