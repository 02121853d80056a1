"""Broadcasts on a grid, version 2, as bytes: they are the same integers for ever."""

import pytest
from helpers.codec.grid_golden import MESSAGES, inputs

from fedprune.common import codec
from fedprune.common.messages import GridWeights
from fedprune.common.spec import ModelSpec

pytestmark = pytest.mark.usefixtures("coder")


def encode(spec: ModelSpec, grid: GridWeights, base: GridWeights | None) -> bytes:
    if base is None:
        return codec.encode_full(grid, spec)
    name = codec.BaseName(round=258, name=base.name)
    return codec.encode_change(grid, spec, name, base)


@pytest.mark.parametrize("name", list(inputs()))
def test_a_broadcast_of_version_2_is_read_and_written_as_ever(name):
    spec, wanted, base = inputs()[name]
    data = bytes.fromhex(MESSAGES[name])
    if base is None:
        found = codec.decode_full(data, spec)
    else:
        assert codec.base_name(data, spec) == codec.BaseName(round=258, name=base.name)
        found = codec.decode_change(data, spec, base, base)
    assert found.codes.tolist() == wanted.codes.tolist()
    assert found.levels.tolist() == wanted.levels.tolist()
    assert encode(spec, wanted, base).hex() == MESSAGES[name]


def test_the_golden_broadcasts_use_all_contexts_of_small_messages():
    heads = [codec.unseal(bytes.fromhex(m), k, 1 << 20) for m, k in _kinds()]
    flags_of_heads = [head[-5] for head in heads]
    used = {bit for flags in flags_of_heads for bit in range(7) if flags >> bit & 1}
    assert {0, 2, 3, 5, 6} <= used  # base, columns, row_sizes, coarse, flat
    assert 1 not in used  # agreed
    assert {head[-3] for head in heads} >= {0, 1, 15}


def _kinds() -> list[tuple[str, codec.Kind]]:
    return [
        (data, codec.Kind.FULL if name.startswith("full") else codec.Kind.CHANGE)
        for name, data in MESSAGES.items()
    ]
