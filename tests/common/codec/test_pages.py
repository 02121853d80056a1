"""The examples on the pages of the wire format are what is written and read."""

import re

import numpy as np

from fedprune.common import codec
from fedprune.common.codec.delta import format as delta_page
from fedprune.common.codec.grid import format as grid_page
from fedprune.common.messages import SparseDelta
from fedprune.common.spec import ModelSpec, TensorSpec

SPEC = ModelSpec(tensors=(TensorSpec(name="w", shape=(2, 2)),), moments=0, units=0)
WEIGHTS = np.float32([1, -0.5, 0, 2])


def example(page):
    """Return the bytes of the example of a page: hex in front of each line's words."""
    shown = page.__doc__.partition("\nExample: ")[2].partition("::\n\n")[2]
    lines = shown.partition("\n\n")[0].splitlines()
    return bytes.fromhex("".join(re.match(r"( |[0-9a-f]{2}\b)*", x)[0] for x in lines))


def test_the_example_of_a_message():
    data = example(codec)
    assert codec.encode_weights(WEIGHTS, SPEC, "float32") == data
    assert codec.decode_weights(data, SPEC).tolist() == WEIGHTS.tolist()


def test_the_example_of_a_grid():
    data = example(grid_page)
    assert codec.encode_weights(WEIGHTS, SPEC, "grid") == data
    found = codec.decode_full(data, SPEC)
    assert (found.codes.tolist(), found.levels.tolist()) == ([47, 49], [2, -1, 0, 1])


def test_the_example_of_a_delta():
    one = SparseDelta(size=4, indices=np.array([1]), values=np.float32([0.25]))
    known = codec.SideInformation.of(SPEC, np.zeros(4, np.float32))
    data = codec.encode_delta(codec.quantise_delta(one, SPEC, "int8"), known)
    assert data == example(delta_page)
    found = codec.decode_delta(data, known, values="int8", max_entries=1)
    assert (found.indices.tolist(), found.values.tolist()) == ([1], [117])
    assert found.scales.tolist() == [154, 0]
