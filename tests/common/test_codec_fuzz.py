"""Mutants of valid messages: only ``PayloadError``, or a valid message, comes out.

Half of the mutants carry a right digest, so that the checks behind it are reached.
"""

import resource
import sys
import time

import msgpack
import numpy as np
import pytest

from common import codec
from common.codec.frame import pack, unpack
from common.errors import PayloadError
from tests.common.codec_examples import (
    DELTA_ITEM,
    KNOWN,
    SPEC,
    body_of,
    items_of,
    make_broadcast,
    make_expected,
    make_plan,
    make_update,
    message_of,
    seal_again,
)

MUTANTS = 20_000
HOSTILE = [
    0, 1, -1, 2, 255, 2**31, 2**63, 2**64 - 1, -(2**63), True, False, None, 0.0,
    float("nan"), float("inf"), -1.5, 1e300, "", "int8", "x" * 100, b"", bytes(16),
    bytes(17), b"\xff" * 40, [], [0], [[[[[0]]]]], [0, b"", b""], {}, {"a": 1},
    msgpack.ExtType(1, b"x"), msgpack.Timestamp(0, 0),
]  # fmt: skip


def decode_update(data, values):
    update = codec.decode_update(data, make_expected(values))
    indices = update.delta.indices
    assert np.all(np.diff(indices) > 0)
    assert len(indices) == len(update.delta.values) <= SPEC.size // 2 + 1
    assert len(indices) == 0 or (indices[0] >= 0 and indices[-1] < SPEC.size)
    sent = codec.dequantise_delta(update.delta, SPEC)
    assert np.all(np.abs(sent.values) <= 10)
    assert 1 <= update.num_examples <= 1000
    assert np.all(
        np.isfinite(update.importance if update.importance is not None else 0)
    )
    codec.encode_update(update, KNOWN)


def decode_plan(data):
    plan = codec.decode_plan(data, 1 << 18)
    codec.encode_plan(plan)


def decode_weights(data):
    weights = codec.decode_weights(data, SPEC)
    assert weights.shape == (SPEC.size,)
    assert np.all(np.isfinite(weights))


def update(count, values):
    return codec.encode_update(make_update(count, values), KNOWN)


MESSAGES = {
    "gaps": (update(6, "int8"), lambda data: decode_update(data, "int8")),
    "bitmap": (update(60, "int8"), lambda data: decode_update(data, "int8")),
    "deflated": (RUNS, lambda data: decode_update(data, "int8")),
    "float32": (update(20, "float32"), lambda data: decode_update(data, "float32")),
    "plan": (codec.encode_plan(make_plan()), decode_plan),
    "int8 weights": (make_broadcast("int8").weights, decode_weights),
    "float32 weights": (make_broadcast("float32").weights, decode_weights),
}


def flip(rng, data):
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        out[rng.integers(len(out))] ^= 1 << int(rng.integers(8))
    return bytes(out)


def overwrite(rng, data):
    at = int(rng.integers(len(data)))
    return data[:at] + rng.bytes(4) + data[at + 4 :]


def cut(rng, data):
    return data[: rng.integers(len(data))]


def insert(rng, data):
    at = int(rng.integers(len(data)))
    return data[:at] + rng.bytes(int(rng.integers(1, 9))) + data[at:]


def splice(rng, data):
    start, end = sorted(rng.integers(len(data), size=2).tolist())
    at = int(rng.integers(len(data)))
    return data[:at] + data[start:end] + data[at:]


def drop(rng, data):
    start = int(rng.integers(len(data)))
    return data[:start] + data[start + int(rng.integers(1, 9)) :]


BYTES = (flip, overwrite, cut, insert, splice, drop)


def mutate_items(rng, items):
    """Change one item in place: swap, repeat, drop, replace, or go one deeper."""
    at = int(rng.integers(len(items)))
    inside = items[at]
    if isinstance(inside, list) and inside and rng.random() < 0.6:
        return mutate_items(rng, inside)
    if isinstance(inside, bytes) and inside and rng.random() < 0.6:
        items[at] = BYTES[rng.integers(len(BYTES))](rng, inside)
        return None
    operation = rng.integers(4)
    if operation == 0:
        other = int(rng.integers(len(items)))
        items[at], items[other] = items[other], items[at]
    elif operation == 1:
        items.insert(at, inside)
    elif operation == 2 and len(items) > 1:
        del items[at]
    else:
        items[at] = HOSTILE[rng.integers(len(HOSTILE))]
    return None


def mutant(rng, name, data):
    choice = rng.random()
    if choice < 0.5:
        return BYTES[rng.integers(len(BYTES))](rng, data)
    if choice < 0.65:
        return seal_again(BYTES[rng.integers(len(BYTES))](rng, body_of(data)))
    items = items_of(data)
    nested = {"plan": 4}.get(name, DELTA_ITEM if len(items) > DELTA_ITEM else None)
    if nested is None or rng.random() < 0.4:
        mutate_items(rng, items)
        return message_of(items)
    inner = msgpack.unpackb(items[nested], use_list=True)
    inner = inner[:-1] if name == "plan" else inner
    mutate_items(rng, inner)
    items[nested] = message_of(inner) if name == "plan" else msgpack.packb(inner)
    return message_of(items)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_mutant_is_refused_with_a_payload_error_or_is_valid(name):
    data, decode = MESSAGES[name]
    rng = np.random.default_rng(sum(name.encode()))
    decode(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refusals, slowest = [], 0.0
    count = MUTANTS // len(MESSAGES)
    for _ in range(count):
        forged = mutant(rng, name, data)
        start = time.perf_counter()
        try:
            decode(forged)
        except PayloadError as error:
            refusals.append(str(error))
        slowest = max(slowest, time.perf_counter() - start)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes or kB
    assert grown * unit < 32 << 20
    assert len(refusals) > 0.6 * count
    assert max(map(len, refusals)) < 400
    assert slowest < 1.0


def test_a_mutant_with_the_old_digest_is_never_accepted():
    rng = np.random.default_rng(0)
    for data, decode in MESSAGES.values():
        for _ in range(200):
            forged = BYTES[rng.integers(len(BYTES))](rng, data)
            if forged != data:
                with pytest.raises(PayloadError):
                    decode(forged)


def test_what_is_inspected_is_refused_or_counted_to_the_last_byte():
    rng = np.random.default_rng(1)
    for name in ("gaps", "bitmap", "float32"):
        for _ in range(500):
            forged = mutant(rng, name, MESSAGES[name][0])
            try:
                parts = codec.message_parts(forged)
            except PayloadError:
                continue
            assert sum(parts.values()) == len(forged)
            assert min(parts.values()) >= 0


def test_random_bytes_are_refused_or_are_what_pack_writes():
    rng = np.random.default_rng(2)
    accepted = 0
    for _ in range(3000):
        data = b"\x92" + rng.bytes(int(rng.integers(1, 12)))
        try:
            items = unpack(data, "it")
        except PayloadError:
            continue
        accepted += 1
        assert pack(items) == data
    assert accepted > 0
