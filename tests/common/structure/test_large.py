"""A structure from outside takes time and memory by its bytes, not by what it says."""

import json
import time
import tracemalloc

import numpy as np
import pytest

from fedprune.common.errors import PayloadError, Reason
from fedprune.common.structure.parts import block_of
from fedprune.common.structure.structure import Structure

SECONDS = 12.0  # of this process; a few times what is needed


def text(units, rows, blocks=()):
    """Return a structure of one tensor, group and row of runs for each name."""
    found = {
        "version": 3 if blocks else 1,
        "units": units,
        "tensors": [[f"{name}.w", [length]] for name, length, _ in rows],
        "moments": [],
        "dims": [[place, 0, runs] for place, (_, _, runs) in enumerate(rows)],
        "groups": [
            [name, runs, [place], []] for place, (name, _, runs) in enumerate(rows)
        ],
        "attributes": [],
        "multiplies": [],
    }
    found |= {"blocks": list(blocks)} if blocks else {}
    return json.dumps(found, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize("runs", [[[-1, 1, 1 << 24]], [[0, 1, 1 << 24]]])
def test_177_bytes_do_not_make_16_million_positions(runs):
    data = text(1, [("0", 1 << 24, runs)])
    assert len(data) < 200
    tracemalloc.start()
    with pytest.raises(PayloadError, match="more than 4194304 positions") as caught:
        Structure.from_json(data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.reason is Reason.TOO_LARGE
    assert most < 1 << 20


@pytest.mark.slow
def test_a_structure_of_8000_blocks_is_read_in_seconds():
    rows = [(f"b{n:04d}", 2, [[2 * n, 2, 1]]) for n in range(8000)]
    data = text(16_000, rows, [name for name, _, _ in rows])
    started = time.process_time()
    found = Structure.from_json(data)
    assert found.dropped(np.zeros(16_000, bool)) == found.blocks
    assert len(found.living(np.zeros(16_000, bool)).tensors) == 0
    assert time.process_time() - started < SECONDS


@pytest.mark.slow
def test_the_channels_of_many_groups_are_counted_in_seconds():
    many = 1 << 20
    rows = [(f"g{n:04d}", 1, [[n, 1, 1]]) for n in range(4000)]
    rows.append(("rest", 2 * (many - 4000), [[4000, many - 4000, 2]]))
    data = json.loads(text(many, rows))
    data["groups"][-1][1] = [[4000, many - 4000, 1]]
    data = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
    started = time.process_time()
    channels = Structure.from_json(data).channels
    assert time.process_time() - started < SECONDS
    assert (channels[:4000] == 1).all()
    assert (channels[4000:] == 2).all()


def test_a_block_is_found_without_walking_over_all_blocks():
    class Names(frozenset):
        def __iter__(self):
            pytest.fail("walks over the blocks")

    blocks = Names({"a.b", "c"})
    assert [block_of(name, blocks) for name in ("a.b.w", "a.b", "a", "a.bb.w")] == [
        *("a.b", "a.b", "", ""),
    ]
    assert [block_of(name, blocks) for name in ("c", "c.x.y", "cc", "")] == [
        *("c", "c", "", ""),
    ]
