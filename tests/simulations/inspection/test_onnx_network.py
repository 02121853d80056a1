"""What inspect says of files for runtimes: ONNX and OpenVINO."""

import pytest
import torch
from torch import nn

from fedprune.common.errors import ConfigError, IntegrityError
from fedprune.simulations.export import onnx_file
from fedprune.simulations.export.onnx_file import write_onnx
from fedprune.simulations.inspection.artifacts import inspect_path, render


def write(path, *, metadata=()):
    """Write a network of one product: float32[batch, 3] to float32[batch, 2]."""
    onnx = pytest.importorskip("onnx")
    make = onnx.helper
    given, result = (
        make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", number])
        for name, number in (("x", 3), ("y", 2))
    )
    weight = make.make_tensor("w", onnx.TensorProto.FLOAT, [3, 2], [0.5] * 6)
    steps = [make.make_tensor("z", onnx.TensorProto.INT8, [4], [1, 2, 3, 4])]
    node = make.make_node("MatMul", ["x", "w"], ["y"])
    graph = make.make_graph([node], "g", [given], [result], [weight, *steps])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 18)])
    onnx.helper.set_model_props(model, dict(metadata))
    path.write_bytes(model.SerializeToString())
    return path


def test_an_onnx_file_says_what_it_takes_gives_and_holds(tmp_path):
    path = write(tmp_path / "a.onnx", metadata={"labels": '["a"]', "metric": "loss"})
    found = inspect_path(path)
    assert found["what"] == "ONNX network"
    assert found["rows"] == [
        ["opset", "18"],
        ["input", "x float32 [batch, 3]"],
        ["output", "y float32 [batch, 2]"],
        ["operations", "1: 1 MatMul"],
        ["weights", "6 float32, 24 B"],
        ["weights", "4 int8, 4 B"],
        ["labels", '["a"]'],
        ["metric", "loss"],
    ]
    assert "x float32 [batch, 3]" in render(found)


def test_escapes_in_an_onnx_file_do_not_reach_the_terminal(tmp_path):
    path = write(tmp_path / "a.onnx", metadata={"no\x1b[31m": "no\x1b[2J"})
    assert "\x1b" not in render(inspect_path(path))


@pytest.mark.parametrize("data", [b"", b"\x08\x0a", b"x" * 100, b"\xff" * 50])
def test_what_is_no_onnx_file_is_refused_by_its_name(tmp_path, data):
    pytest.importorskip("onnx")
    path = tmp_path / "a.onnx"
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"a\.onnx") as caught:
        inspect_path(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_truncated_onnx_file_is_refused(tmp_path):
    path = write(tmp_path / "a.onnx")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IntegrityError, match="not a whole ONNX file"):
        inspect_path(path)


def test_without_onnx_the_package_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"\x08\x0a")
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"fedprune\[onnx\]"):
        inspect_path(path)


@pytest.mark.slow
def test_an_exported_network_is_read(tmp_path):
    pytest.importorskip("onnxscript")
    path = tmp_path / "a.onnx"
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    write_onnx(model, (torch.ones(1, 3),), path)
    rows = dict(inspect_path(path)["rows"])
    assert rows["weights"] == "26 float32, 104 B"


def test_an_openvino_network_names_its_weights(tmp_path):
    path = tmp_path / "net.xml"
    path.write_text('<?xml version="1.0"?><net><layer id="0"/><layer id="1"/></net>')
    wanted = [["layers", "2"], ["weights", "net.bin, missing"]]
    assert inspect_path(path)["rows"] == wanted
    (tmp_path / "net.bin").write_bytes(bytes(2500))
    assert inspect_path(path)["rows"][1] == ["weights", "net.bin, 2.50 kB"]
    path.write_text("<other/>")
    with pytest.raises(IntegrityError, match="not an OpenVINO network"):
        inspect_path(path)
