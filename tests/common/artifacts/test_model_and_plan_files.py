"""Model and plan files: equal bytes, and a refusal for every broken one."""

import hashlib
import json
import os
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fedprune.common.artifacts import (
    encode_tensors,
    read_model_file,
    read_plan_file,
    read_plan_groups,
    read_tensors_file,
    write_model_file,
    write_plan_file,
)
from fedprune.common.errors import IntegrityError
from fedprune.common.spec import PrunePlan, TensorSpec
from fedprune.common.structure.structure import DimUnits, PruningGroup, Structure

META = {
    "plan": "00" * 16,
    "structure": "11" * 16,
    "model": "mlp",
    "input_shape": "[1, 8, 8]",
    "num_outputs": "10",
}
DIGEST_IN_ANOTHER_PROCESS = """
import hashlib, numpy as np
from fedprune.common.artifacts import encode_tensors
t = {"b": np.ones((2, 3), np.float32), "a": np.array(7, np.int64)}
m = {c: c for c in "qwertyuiopasdfghjkl"}
print(hashlib.sha256(encode_tensors(t, m)).hexdigest())
"""


def tensors():
    return {
        "fc.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fc.bias": np.array([0.5, -1], dtype=np.float32),
        "bn.num_batches_tracked": np.array(3, dtype=np.int64),
    }


@pytest.fixture
def path(tmp_path):
    place = tmp_path / "m.safetensors"
    write_model_file(place, tensors(), META)
    return place


def structure():
    groups = tuple(
        PruningGroup(
            name=name,
            units=np.array(units, np.int32),
            producers=(f"{name}.weight",),
            norms=(),
        )
        for name, units in (("a", [0, 1, 2, 3, 4]), ("b", [5, 6, 7, 8]))
    )
    return Structure(
        tensors=tuple(
            TensorSpec(name=f"{g.name}.weight", shape=(len(g.units), 2)) for g in groups
        ),
        moments=(),
        units=9,
        dims=tuple(
            DimUnits(tensor=f"{g.name}.weight", dim=0, units=g.units) for g in groups
        ),
        groups=groups,
        attributes=(),
        multiplies={},
    )


def plan():
    keep = np.array([1, 0, 1, 1, 0, 0, 1, 0, 1], dtype=np.bool_)
    return PrunePlan(structure=structure().digest, keep=keep, parent=b"\7" * 16)


@given(
    npst.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.int8]),
        npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
        elements=st.integers(-100, 100),
    )
)
def test_what_is_encoded_is_read_back_with_shape_and_type(tmp_path_factory, array):
    place = tmp_path_factory.mktemp("t") / "x.safetensors"
    place.write_bytes(encode_tensors({"x": array}, {"k": "v"}))
    found, metadata = read_tensors_file(place)
    assert found["x"].shape == array.shape
    assert found["x"].dtype == array.dtype
    assert np.array_equal(found["x"], array)
    assert metadata == {"k": "v"}


def test_a_model_is_read_back_with_its_metadata(path):
    found, metadata = read_model_file(path)
    assert {name: array.shape for name, array in found.items()} == {
        name: array.shape for name, array in tensors().items()
    }
    assert all(np.array_equal(found[name], tensors()[name]) for name in found)
    assert metadata["format"] == "fedprune-model/1"
    assert META.items() <= metadata.items()


def test_the_same_tensors_in_any_order_and_process_make_the_same_bytes():
    one = {"a": np.array(7, np.int64), "b": np.ones((2, 3), np.float32)}
    meta = {c: c for c in "lkjhgfdsapoiuytrewq"}
    ours = hashlib.sha256(encode_tensors(one, meta)).hexdigest()
    done = subprocess.run(
        [sys.executable, "-c", DIGEST_IN_ANOTHER_PROCESS],
        capture_output=True,
        check=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert done.stdout.strip() == ours


def test_a_column_slice_is_written_in_its_own_order(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
    write_model_file(tmp_path / "x", {"x": array}, META)
    assert np.array_equal(read_model_file(tmp_path / "x")[0]["x"], array)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_tensor_that_is_not_finite_is_neither_written_nor_read(tmp_path, bad):
    array = np.array([1, bad, bad], np.float32)
    with pytest.raises(IntegrityError, match=r"tensor 'w' holds 2 non-finite"):
        write_model_file(tmp_path / "x.safetensors", {"w": array}, META)
    (tmp_path / "x.safetensors").write_bytes(encode_tensors({"w": array}, META))
    with pytest.raises(IntegrityError, match=r"tensor 'w' holds 2 non-finite"):
        read_model_file(tmp_path / "x.safetensors")


@pytest.mark.parametrize("cut", [1, 4, 40, 300])
def test_a_truncated_model_is_refused(path, cut):
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(IntegrityError, match="not a whole safetensors file"):
        read_model_file(path)


def test_every_flipped_bit_of_a_model_is_refused(path):
    """Every byte once, another bit each time."""
    whole = path.read_bytes()
    padding = whole.find(b"}  ")
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        path.write_bytes(bytes(data))
        try:
            found, metadata = read_model_file(path)
        except IntegrityError:
            continue
        # Only text that is not checked here may change: the name of the model, and
        # which plan, structure, shape and outputs (their readers check those).
        assert all(np.array_equal(found[name], tensors()[name]) for name in found)
        assert len(found) == len(tensors())
        assert metadata.items() != META.items() or place >= padding


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other/1"}, "format"),
        ({"plan": "xyz"}, "plan is 'xyz'"),
        ({"structure": "00"}, "structure is '00'"),
        ({"input_shape": "{}"}, "input_shape"),
        ({"input_shape": "[0]"}, "input_shape"),
        ({"num_outputs": "-1"}, "num_outputs"),
        ({"digest": "00" * 16}, "digest differs"),
        ({"model": None}, "lacks model"),
    ],
)
def test_metadata_that_is_wrong_is_refused_by_key(tmp_path, path, change, message):
    _, metadata = read_model_file(path)
    forged = {k: v for k, v in (metadata | change).items() if v is not None}
    place = tmp_path / "forged.safetensors"
    place.write_bytes(encode_tensors(tensors(), forged))
    with pytest.raises(IntegrityError, match=message):
        read_model_file(place)


def test_a_header_that_names_a_tensor_twice_is_refused(tmp_path):
    entry = b'"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    header = b"{" + entry + b"," + entry + b"}"
    place = tmp_path / "x.safetensors"
    place.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(IntegrityError, match="'w' twice"):
        read_tensors_file(place)


@pytest.mark.slow
def test_one_name_twice_among_many_is_found_at_once(tmp_path):
    entry = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    names = [f"w{number:05d}" for number in range(60_000)]
    header = ",".join(f'"{name}":{entry}' for name in [*names, names[-1]])
    place = tmp_path / "x.safetensors"
    place.write_bytes(struct.pack("<Q", len(header) + 2) + f"{{{header}}}".encode())
    started = time.process_time()
    with pytest.raises(IntegrityError, match=f"'{names[-1]}' twice"):
        read_tensors_file(place)
    assert time.process_time() - started < 5.0


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("m.pt", b"x"),
        ("m.bin", b"anything"),
        ("m.safetensors", b"PK\x03\x04 a torch zip"),
        ("m.safetensors", b"\x80\x04\x95 a pickle"),
    ],
)
def test_a_pickle_is_refused_by_name_or_content_with_the_way_out(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(IntegrityError, match=r"pickle.*save_file"):
        read_tensors_file(tmp_path / name)


@pytest.mark.parametrize("length", [0x280, 0x380, 0x480, 0x580])
def test_a_header_whose_length_looks_like_a_pickle_is_none(tmp_path, length):
    one = {"x": np.ones(2, np.float32)}
    (shorter,) = struct.unpack_from("<Q", encode_tensors(one, {"k": ""}))
    data = encode_tensors(one, {"k": "v" * (length - shorter)})
    assert data[:2] == bytes([0x80, length >> 8])
    (tmp_path / "x.safetensors").write_bytes(data)
    found, _ = read_tensors_file(tmp_path / "x.safetensors")
    assert np.array_equal(found["x"], one["x"])


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("x", b"GIF89a", "a picture"),
        ("x.py", b"import torch\n", "a text"),
        ("x.onnx", b"\x08\x0a", "an ONNX model"),
    ],
)
def test_a_file_of_another_kind_is_named_with_what_is_wanted(
    name, data, kind, tmp_path
):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(IntegrityError, match=f"but {kind}; want a model"):
        read_tensors_file(tmp_path / name)


@pytest.mark.parametrize("data", [b"\0", b"\xff" * 16, bytes(8) + b"{}", b"a" * 99])
def test_any_other_bytes_are_refused(tmp_path, data):
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(IntegrityError, match="not a whole safetensors file"):
        read_tensors_file(tmp_path / "x.safetensors")


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(IntegrityError, match="cannot be read"):
        read_model_file(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("rollback", [False, True])
@pytest.mark.parametrize("parent", [b"", b"\7" * 16])
def test_a_plan_is_read_back_with_its_digest(tmp_path, rollback, parent):
    one = PrunePlan(
        structure=structure().digest,
        keep=plan().keep,
        parent=parent,
        rollback=rollback,
    )
    write_plan_file(tmp_path / "plan.json", one, structure())
    found = read_plan_file(tmp_path / "plan.json")
    assert found.digest == one.digest
    assert np.array_equal(found.keep, one.keep)
    assert (found.parent, found.rollback) == (parent, rollback)


def test_groups_tell_channels_within_the_group(tmp_path):
    write_plan_file(tmp_path / "plan.json", plan(), structure())
    a, b = read_plan_groups(tmp_path / "plan.json")
    assert (a.name, a.kept, a.of, a.channels) == ("a", 3, 5, (0, 2, 3))
    assert (b.name, b.kept, b.of, b.channels) == ("b", 2, 4, (1, 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "x"}, "not a plan"),
        ({"keep": "ffff"}, "padding bits"),
        ({"keep": "ff"}, "1 bytes for 9 units"),
        ({"keep": "zz"}, "0 bytes for 9 units"),
        ({"keep": 5}, "0 bytes for 9 units"),
        ({"keep": "ff80"}, "digest differs"),
        ({"units": 10}, "digest differs"),
        ({"units": True}, "units"),
        ({"rollback": True}, "digest differs"),
        ({"parent": ""}, "digest differs"),
        ({"structure": "00"}, "structure is '00'"),
        ({"groups": {}}, "the groups keep 0 of 0"),
        ({"groups": {"a": 1}}, "groups are not"),
        ({"groups": None}, "groups are not"),
        ({"digest": None}, "digest is None"),
    ],
)
def test_a_changed_plan_is_refused(tmp_path, change, message):
    place = tmp_path / "plan.json"
    write_plan_file(place, plan(), structure())
    place.write_text(json.dumps(json.loads(place.read_text()) | change))
    with pytest.raises(IntegrityError, match=message):
        read_plan_groups(place)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "nul"])
def test_what_is_no_plan_is_refused(tmp_path, text):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(IntegrityError, match="plan"):
        read_plan_file(tmp_path / "plan.json")
    with pytest.raises(IntegrityError, match="plan"):
        read_plan_file(tmp_path / "absent.json")


def test_a_plan_without_a_key_is_refused_by_name(tmp_path):
    place = tmp_path / "plan.json"
    write_plan_file(place, plan(), structure())
    value = json.loads(place.read_text())
    del value["parent"]
    place.write_text(json.dumps(value))
    with pytest.raises(IntegrityError, match="lacks parent"):
        read_plan_file(place)
