"""Messages to forge, and what forges them: every forgery carries a right digest."""

import contextlib
import tracemalloc
from dataclasses import replace
from unittest import mock

import msgpack
import numpy as np
import pytest

from fedprune.common import codec
from fedprune.common.codec.delta import levels, positions
from fedprune.common.codec.delta.body import code_body
from fedprune.common.codec.delta.content import content_of, raw_bytes
from fedprune.common.codec.delta.header import Fields, write_fields
from fedprune.common.codec.delta.options import CodingFlags, Header, lanes_for
from fedprune.common.codec.entropy.coder import Encoder
from fedprune.common.codec.entropy.raw_bits import split_raw
from fedprune.common.errors import PayloadError
from helpers.codec.examples import (
    DELTA_ITEM,
    KNOWN,
    SPEC,
    edit,
    edit_delta,
    items_of,
    make_expected,
    make_update,
)

UPDATE = codec.encode_update(make_update(6), KNOWN)
MANY = codec.encode_update(make_update(60), KNOWN)
EXACT = codec.encode_update(make_update(6, "float32"), KNOWN)
NAN, INF = float("nan"), float("inf")

# Names of the items of an update and of its delta.
RUN, ROUND, CLIENT, PLAN_ITEM, BASE_ITEM, EXAMPLES, LOSS = range(2, 9)
IMPORTANCE, STATISTICS, VALIDATION = range(10, 13)
FLAGS, VALUES, COUNT, SHRINK, MASK, STREAM, RAW = range(7)

# Which run of a body holds what, without columns; see ``delta/format.py``.
ROWS, BITS, HIGH, LOW, SIZES, SYMBOLS, SIGNS = range(7)


def put(item, value, message=UPDATE):
    return edit(message, lambda items: items.__setitem__(item, value))


def put_delta(changes, message=UPDATE):
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


def halves(*values):
    return np.float16(values).tobytes()


def floats(*values):
    return np.float32(values).tobytes()


STATS = [90, halves(0, 0, 0, 0), halves(1, 1, 1, 1)]


def statistics(mean=STATS[1], variance=STATS[2], count=90):
    return put(STATISTICS, [count, mean, variance])


def validation(loss_sum=4.5, metric_sum=7, count=10):
    return put(VALIDATION, [loss_sum, metric_sum, count])


class Liar(Encoder):
    """Changes the symbols of one run before it writes them."""

    def __init__(self, lanes, run, change):
        super().__init__(lanes)
        self.run, self.change, self.calls = run, change, 0

    def code(self, model, contexts, symbols):
        if self.calls == self.run:
            symbols = np.array(symbols)
            self.change(symbols)
        self.calls += 1
        return super().code(model, contexts, symbols)


def no_change(symbols):
    """Change nothing."""


def _truly_coded(mask, sent):
    """Return the positions that a liar's bits mean, not those that it was given."""
    del sent
    return np.flatnonzero(mask())


def lie(  # noqa: PLR0913 - one keyword for each thing to lie about
    run=-1, change=no_change, *, kind="int8", count=60, flags=None, shrink=0.0,
    content=None, raw=None, side_info=KNOWN,
):  # fmt: skip
    """Return an update whose body holds what no encoder writes."""
    delta = make_update(count, kind).delta
    header = Header(
        flags=flags or CodingFlags(row_sizes=True),
        values=kind,
        count=len(delta.indices),
        shrink=np.float32(shrink),
    )
    found = content_of(delta, delta.indices)
    if content is not None:
        found = replace(found, **content(found))
    lanes = lanes_for(SPEC.size, len(delta.indices))
    writer = Liar(lanes, run, change)
    with contextlib.ExitStack() as stack:
        checks = {"_check_rows": positions, "_check_columns": positions}
        for name, module in (checks | {"_check_sizes": levels}).items():
            stack.enter_context(mock.patch.object(module, name))
        coded = mock.patch.object(positions, "_coded", _truly_coded)
        stack.enter_context(coded)
        dry = Liar(lanes, run, change)
        layout = side_info.layout
        marked = positions.mark(found.positions, layout)
        places = positions.places_of(marked, layout, header.flags)
        indices, _ = positions.code_positions(
            dry, header.flags, side_info, header.count, places
        )
        if len(indices) != header.count:  # other positions than there are levels
            found = replace(
                found,
                levels=np.resize(found.levels, len(indices)),
                codes=np.maximum(found.codes, 100),
            )
        body = code_body(writer, header, side_info, found)
    bits = raw_bytes(body, found)
    first, rest = split_raw(bits, writer.lanes)
    if raw is not None:
        first, rest = raw(first, rest)
    states, words = writer.finish(first)
    fields = Fields(
        header=header,
        mask=b"",
        stream=states.astype("<u4").tobytes() + words.astype("<u2").tobytes(),
        raw=rest,
    )
    return put(DELTA_ITEM, write_fields(fields))


def refusal(data, expected=None):
    with pytest.raises(PayloadError) as caught:
        codec.decode_update(data, expected or make_expected())
    return caught.value


def peak_memory(data, values="int8"):
    """Return the most bytes that refusing a forged update holds at a time."""
    expected = make_expected(values)
    refusal(data, expected)  # Imports and caches are filled before it is measured.
    tracemalloc.start()
    with contextlib.suppress(PayloadError):
        codec.decode_update(data, expected)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak
