"""Broadcasts on a client's own disk: what is kept comes back, or is refused."""

import numpy as np
import pytest
from helpers.tiny_federation import tiny_structure

from fedprune.common import codec
from fedprune.common.codec import frame
from fedprune.common.errors import PayloadError
from fedprune.common.messages import GridWeights
from fedprune.common.pruning.plan import full_plan


def held(largest):
    plan = full_plan(tiny_structure())
    spec = tiny_structure().spec(plan.keep)
    rng = np.random.default_rng(largest)
    levels = rng.integers(-largest, largest + 1, spec.size).astype(np.int16)
    codes = rng.integers(1, 200, spec.rows).astype(np.uint8)
    levels[3] = largest
    return plan, spec, GridWeights(codes=codes, levels=levels)


def shapes(plan):
    return tiny_structure().spec(plan.keep)


@pytest.mark.parametrize("largest", [0, 1, 127, 128, 16383])
def test_a_held_broadcast_comes_back(largest):
    plan, spec, grid = held(largest)
    data = codec.encode_stored(plan, grid)
    stored, found = codec.decode_stored(data, shapes)
    assert stored.digest == plan.digest
    assert found.name == grid.name
    assert found.levels.dtype == np.int16
    assert len(data) < spec.size * (1 if largest < 128 else 2) + spec.rows + 200


def test_a_held_broadcast_of_other_shapes_or_damaged_is_refused():
    plan, _, grid = held(100)
    data = codec.encode_stored(plan, grid)
    keep = plan.keep.copy()
    keep[0] = False
    with pytest.raises(PayloadError, match=r"stored\.codes|stored\.levels"):
        codec.decode_stored(data, lambda _: tiny_structure().spec(keep))
    for bad in (data[:-1], data[:50] + bytes([data[50] ^ 1]) + data[51:], b""):
        with pytest.raises(PayloadError):
            codec.decode_stored(bad, shapes)


def test_a_held_broadcast_is_hashed_once(monkeypatch):
    plan, _, grid = held(100)
    data = codec.encode_stored(plan, grid)
    hashed, real = [], frame._digest
    monkeypatch.setattr(
        frame,
        "_digest",
        lambda kind, body, last: hashed.append(len(body)) or real(kind, body, last),
    )
    codec.decode_stored(data, shapes)
    assert len(hashed) == 1
