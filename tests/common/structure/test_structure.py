"""A structure as data: shapes, digests, canonical JSON, and forged JSON."""

import json

import numpy as np
import pytest
import torch
from helpers.pruning_nets import NETS, build, random_mask
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedprune.common.errors import PayloadError, Reason
from fedprune.common.structure.json_fields import read_runs, to_runs
from fedprune.common.structure.structure import Structure
from fedprune.common.structure.tracing.find import find_structure

SMALL = (
    b'{"attributes":[["0","out_channels",0,1],["1","num_channels",2,1],'
    b'["1","num_groups",2,2],["4","in_features",4,1]],"dims":[[0,0,[[0,2,2]]],'
    b"[1,0,[[0,2,2]]],[2,0,[[0,2,2]]],[3,0,[[0,2,2]]],[4,1,[[0,2,8]]]],"
    b'"groups":[["0",[[0,2,1]],[0],[2]]],"moments":[],'
    b'"multiplies":[[0,4],[4,1]],"tensors":[["0.weight",[4,1,1,1]],'
    b'["0.bias",[4]],["1.weight",[4]],["1.bias",[4]],["4.weight",[3,16]],'
    b'["4.bias",[3]]],"units":2,"version":1}'
)


def small() -> Structure:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 1),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    return find_structure(model, torch.zeros(1, 1, 2, 2))


def test_the_bytes_of_version_1_never_change():
    assert small().to_json() == SMALL
    assert small().digest.hex() == "8cb4ee8848686336a5a3eb351bec1620"
    assert Structure.from_json(SMALL) == small()


@pytest.mark.parametrize("name", NETS)
def test_json_and_back_is_the_same_structure(name):
    _, _, structure = build(name)
    data = structure.to_json()
    back = Structure.from_json(data)
    assert back == structure
    assert hash(back) == hash(structure)
    assert back.to_json() == data
    assert len(back.digest) == 16
    keep = random_mask(structure, 0)
    assert back.spec(keep) == structure.spec(keep)
    assert back.widths(keep) == structure.widths(keep)
    np.testing.assert_array_equal(back.channels, structure.channels)


def test_a_network_without_units_has_a_structure_too():
    structure = find_structure(nn.Sequential(nn.Linear(3, 2)), torch.zeros(1, 3))
    assert structure.units == 0
    assert Structure.from_json(structure.to_json()) == structure
    assert structure.spec(structure.full()).size == 8


@pytest.mark.parametrize("name", NETS)
def test_kept_positions_rise_for_every_number_of_kept_units(name):
    _, _, structure = build(name)
    group = max(structure.groups, key=lambda group: len(group.units))
    rng = np.random.default_rng(0)
    for count in range(1, len(group.units) + 1):
        keep = structure.full()
        keep[group.units] = False
        keep[rng.choice(group.units, count, replace=False)] = True
        for dim in structure.dims:
            index = structure.kept_index(dim.tensor, dim.dim, keep)
            assert index.dtype == np.int64
            assert (np.diff(index) > 0).all()
            kept = np.isin(np.arange(len(dim.units)), index)
            assert (keep[dim.units] == kept)[dim.units >= 0].all()
            assert kept[dim.units < 0].all()


def test_a_dimension_that_is_never_cut_keeps_every_position():
    structure = small()
    index = structure.kept_index("4.weight", 0, np.array([False, True]))
    np.testing.assert_array_equal(index, [0, 1, 2])


def test_the_spec_of_the_full_mask_is_the_dense_network():
    model, _, structure = build("resnet")
    spec = structure.spec(structure.full())
    found = [(tensor.name, tensor.shape) for tensor in spec.tensors]
    wanted = [(name, tuple(item.shape)) for name, item in model.named_parameters()]
    assert found == wanted
    assert spec.size == sum(item.numel() for item in model.parameters())
    assert spec.units == 72
    assert spec.moments == sum(len(m.weight) for m in model.modules() if is_norm(m))


def is_norm(module):
    return isinstance(module, nn.BatchNorm2d)


@pytest.mark.parametrize(
    "mask", [np.ones(3, bool), np.ones(2, np.int64), np.ones((1, 2), bool)]
)
def test_a_mask_of_another_form_is_refused(mask):
    with pytest.raises(ValueError, match=r"want bool\[2\]"):
        small().spec(mask)


@given(
    st.lists(st.tuples(st.integers(-1, 9), st.integers(1, 4)), max_size=12).map(
        lambda parts: [value for value, count in parts for _ in range(count)]
    )
)
def test_runs_and_back_is_the_same_list(values):
    units = np.asarray(values, dtype=np.int32)
    back = read_runs(to_runs(units), "units", len(values), 10)
    np.testing.assert_array_equal(back, units)


def test_runs_of_plain_layers_are_one_run():
    assert to_runs(np.arange(64, dtype=np.int32)) == [[0, 64, 1]]
    assert to_runs(np.repeat(np.arange(3, 7, dtype=np.int32), 9)) == [[3, 4, 9]]
    assert to_runs(np.full(5, -1, dtype=np.int32)) == [[-1, 1, 5]]


HUGE = 1 << 40

# what is forged -> (path into the JSON, new value)
ATTACKS = {
    "another version": (["version"], 6),
    "a version that is true": (["version"], True),
    "units as a float": (["units"], 2.0),
    "fewer units than used": (["units"], 1),
    "more units than used": (["units"], 3),
    "units below 0": (["units"], -1),
    "huge units": (["units"], HUGE),
    "an object for a list": (["dims"], {}),
    "a tensor without name": (["tensors", 0, 0], ""),
    "a name that is a number": (["tensors", 0, 0], 7),
    "a name with a newline": (["tensors", 0, 0], "a\nb"),
    "a name of a kilobyte": (["tensors", 0, 0], "a" * 1024),
    "a name twice": (["tensors", 1, 0], "0.weight"),
    "a shape of 0": (["tensors", 0, 1, 0], 0),
    "a negative shape": (["tensors", 0, 1, 0], -4),
    "a huge length": (["tensors", 0, 1, 0], HUGE),
    "a huge tensor": (["tensors", 0, 1], [4, 1 << 20, 1 << 20]),
    "many dimensions": (["tensors", 0, 1], [4] + [1] * 20),
    "a shape of another length": (["tensors", 0, 1, 0], 6),
    "no such tensor": (["dims", 4, 0], 6),
    "no such dimension": (["dims", 4, 1], 2),
    "dims out of order": (["dims", 0], [4, 0, [[-1, 1, 3]]]),
    "the same dim twice": (["dims", 1], [0, 0, [[0, 2, 2]]]),
    "a unit too many": (["dims", 0, 2], [[1, 2, 2]]),
    "a unit below -1": (["dims", 0, 2], [[-2, 2, 2]]),
    "too few positions": (["dims", 0, 2], [[0, 1, 2]]),
    "a huge repeat": (["dims", 0, 2], [[0, 2, HUGE]]),
    "a huge run": (["dims", 0, 2], [[0, HUGE, 2]]),
    "a run of length 0": (["dims", 0, 2], [[0, 0, 2], [0, 2, 2]]),
    "a run of two numbers": (["dims", 0, 2], [[0, 2]]),
    "runs that could be one": (["dims", 0, 2], [[0, 1, 2], [1, 1, 2]]),
    "a group that is empty": (["groups", 0, 1], []),
    "a group with fixed positions": (["groups", 0, 1], [[-1, 3, 1]]),
    "a group with a unit twice": (["groups", 0, 1], [[0, 1, 2]]),
    "a unit in no group": (["groups", 0, 1], [[0, 1, 1]]),
    "a unit in two groups": (
        ["groups"],
        [["0", [[0, 2, 1]], [0], [2]], ["1", [[0, 2, 1]], [0], [2]]],
    ),
    "a group name twice": (
        ["groups"],
        [["0", [[0, 1, 1]], [0], [2]], ["0", [[1, 1, 1]], [0], [2]]],
    ),
    "no producers": (["groups", 0, 2], []),
    "a producer that makes nothing": (["groups", 0, 2], [5]),
    "a producer out of range": (["groups", 0, 2], [9]),
    "producers out of order": (["groups", 0, 2], [2, 0]),
    "a norm without units": (["groups", 0, 3], [5]),
    "an attribute of any name": (["attributes", 0, 1], "__class__"),
    "an attribute that is private": (["attributes", 0, 1], "_modules"),
    "an attribute with a dot": (["attributes", 0, 1], "weight.data"),
    "an attribute that is a list": (["attributes", 0, 1], ["out_channels"]),
    "an item of a private list": (["attributes", 0, 1], "_sizes[1]"),
    "an item below 0": (["attributes", 0, 1], "sizes[-1]"),
    "an item with a leading 0": (["attributes", 0, 1], "sizes[01]"),
    "an item far away": (["attributes", 0, 1], "sizes[10000]"),
    "an item of an item": (["attributes", 0, 1], "sizes[0][1]"),
    "an item by a name": (["attributes", 0, 1], "sizes[x]"),
    "an item without an end": (["attributes", 0, 1], "sizes[1"),
    "an item and more": (["attributes", 0, 1], "sizes[1].real"),
    "a part without an end": (["attributes", 0], ["0", "out_channels", 0, 1, 2]),
    "a part that is the whole": (["attributes", 0], ["0", "a", 0, 1, 0, 4]),
    "a part that is empty": (["attributes", 0], ["0", "a", 0, 1, 2, 2]),
    "a part beyond the end": (["attributes", 0], ["0", "a", 0, 1, 0, 5]),
    "a part before the start": (["attributes", 0], ["0", "a", 0, 1, -1, 2]),
    "a part that cuts units": (["attributes", 0], ["0", "a", 0, 2, 1, 3]),
    "no such row": (["attributes", 0, 2], 5),
    "a divisor of 0": (["attributes", 0, 3], 0),
    "a divisor that cuts units": (["attributes", 2, 3], 3),
    "no positions": (["multiplies", 0, 1], 0),
    "a weight twice": (["multiplies", 1, 0], 0),
    "a moment without a module": (["moments"], [["5", 0]]),
    "infinity": (["units"], float("inf")),
}


@pytest.mark.parametrize(("path", "value"), ATTACKS.values(), ids=ATTACKS)
def test_forged_json_is_refused(path, value):
    forged = json.loads(SMALL)
    inner = forged
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    data = json.dumps(forged, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(PayloadError, match="structure") as caught:
        Structure.from_json(data)
    # All but these are refused for what they are, before the last check sees them.
    only_form = value == [[0, 1, 2], [1, 1, 2]] or path == ["multiplies", 1, 0]
    assert ("canonical" in str(caught.value)) == only_form


RAW = {
    "nothing": b"",
    "no JSON": b"PK\x03\x04",
    "no text": b"\xff\xfe",
    "a list": b"[]",
    "a deep nest": b"[" * 100_000,
    "a long number": b'{"units":' + b"9" * 10_000 + b"}",
    "white space": SMALL.replace(b",", b", "),
    "a trailing newline": SMALL + b"\n",
    "cut short": SMALL[:-1],
    "a key more": SMALL.replace(b'"units"', b'"extra":1,"units"'),
    "a key less": SMALL.replace(b'"version":1', b'"versio":1'),
    "a key twice": SMALL.replace(b'"units":2', b'"units":2,"units":2'),
    "megabytes": b" " * (5 << 20),
}


@pytest.mark.parametrize("data", RAW.values(), ids=RAW)
def test_bytes_that_are_no_structure_are_refused(data):
    with pytest.raises(PayloadError):
        Structure.from_json(data)


def test_running_mean_and_variance_are_cut_alike():
    _, _, structure = build("signal")
    forged = json.loads(structure.to_json())
    first = len(forged["tensors"])
    row = next(row for row in forged["dims"] if row[0] == first + 1)
    row[2] = [[0, 5, 1], [-1, 1, 1]]
    data = json.dumps(forged, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(PayloadError, match="cut differently"):
        Structure.from_json(data)


def test_many_groups_of_all_units_do_not_fill_the_memory():
    forged = json.loads(SMALL)
    forged["units"] = 1 << 20
    forged["groups"] = [["0", [[0, 1 << 20, 1]], [], []]] * 20_000
    with pytest.raises(PayloadError, match="groups") as caught:
        Structure.from_json(json.dumps(forged).encode())
    assert caught.value.reason in {Reason.BAD_SIZE, Reason.BAD_VALUE}


def test_many_long_dimensions_do_not_fill_the_memory():
    forged = json.loads(SMALL)
    forged["units"] = 2
    forged["tensors"] = [[f"t{n}", [1 << 23]] for n in range(20)]
    forged["dims"] = [[n, 0, [[0, 1, 1 << 23]]] for n in range(20)]
    with pytest.raises(PayloadError, match="positions") as caught:
        Structure.from_json(json.dumps(forged).encode())
    assert caught.value.reason is Reason.TOO_LARGE


@given(st.integers(0, len(SMALL) - 1), st.integers(0, 255))
def test_a_changed_byte_gives_another_structure_or_none(position, value):
    data = bytearray(SMALL)
    data[position] = value
    try:
        found = Structure.from_json(bytes(data))
    except PayloadError:
        return
    assert found.to_json() == bytes(data)
    assert (found.digest == small().digest) == (bytes(data) == SMALL)
