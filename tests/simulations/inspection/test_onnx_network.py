"""What inspect says of files for runtimes: ONNX and OpenVINO."""

import pytest
import torch
from torch import nn

from fedprune.common.errors import ConfigError, IntegrityError
from fedprune.simulations.export import onnx_file
from fedprune.simulations.export.onnx_file import write_onnx
from fedprune.simulations.inspection.artifacts import inspect_path, render


def write(path, *, metadata=(), change=None):
    """Write a network of one product: float32[batch, 3] to float32[batch, 2].

    Args:
        path: The file.
        metadata: Names and texts.
        change: Alters the network before it is written.
    """
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
    if change is not None:
        change(model)
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


def outside(tensor, place):
    tensor.ClearField("float_data")
    tensor.data_location = tensor.EXTERNAL
    tensor.external_data.add(key="location", value=place)


def test_a_file_beside_an_onnx_file_is_named_and_not_opened(tmp_path):
    def change(model):
        outside(model.graph.initializer[0], "../../a\x1b[2J.bin")

    found = inspect_path(write(tmp_path / "a.onnx", change=change))
    assert found["rows"][4:] == [
        ["weights", "6 float32, in other files"],
        ["weights", "4 int8, 4 B"],
        ["other files", "../../a\\x1b[2J.bin"],
    ]


def test_values_of_four_bits_are_told_with_the_bytes_that_they_take(tmp_path):
    def change(model):
        tensor = model.graph.initializer[1]
        tensor.data_type, tensor.raw_data = tensor.INT4, b"\1\2"
        tensor.ClearField("int32_data")

    rows = inspect_path(write(tmp_path / "a.onnx", change=change))["rows"]
    assert ["weights", "4 int4, 2 B"] in rows


def test_a_value_of_unknown_size_or_no_tensor_is_told_as_such(tmp_path):
    def change(model):
        given, result = model.graph.input[0], model.graph.output[0]
        given.type.tensor_type.shape.dim[0].ClearField("dim_param")
        more = model.graph.input.add(name="z")
        more.type.tensor_type.elem_type = 1
        result.type.map_type.key_type = 7

    rows = inspect_path(write(tmp_path / "a.onnx", change=change))["rows"]
    assert rows[1:4] == [
        ["input", "x float32 [?, 3]"],
        ["input", "z float32 of any shape"],
        ["output", "y map"],
    ]


def shaped(*dims):
    def change(model):
        model.graph.initializer[0].dims[:] = dims

    return change


def without_versions(model):
    model.ClearField("opset_import")


def of_type_99(model):
    model.graph.initializer[0].data_type = 99


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (shaped(-1, 6), r"'w' of shape \[-1, 6\], which no tensor has"),
        (shaped(-2, -3), "which no tensor has"),
        (shaped(1 << 40, 1 << 40), "which no tensor has"),
        # The product of so many sizes would take minutes.
        (shaped(*[(1 << 62) + 1] * 300_000), r"and 299992 more\], which no tensor has"),
        (shaped(10**12), "'w' announces 1000000000000 entries in .. bytes"),
        (without_versions, "it names no version of its operations"),
        (of_type_99, "type 99 of a tensor"),
    ],
    ids=range(7),
)
def test_what_an_onnx_file_cannot_hold_is_refused_in_one_line(tmp_path, change, why):
    path = write(tmp_path / "a.onnx", change=change)
    with pytest.raises(IntegrityError, match=why) as caught:
        inspect_path(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: not a whole ONNX file: ")
    assert len(text.splitlines()) == 1


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


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<other/>", "not an OpenVINO network: it does not begin with <net>"),
        ("<network></network>", "not an OpenVINO network: it does not begin"),
        ('<net><layer id="0"/><lay', "not a whole OpenVINO network"),
        ("<net>", "not a whole OpenVINO network: it does not end with </net>"),
    ],
)
def test_what_is_no_whole_openvino_network_is_refused(tmp_path, text, why):
    path = tmp_path / "net.xml"
    path.write_text(text)
    with pytest.raises(IntegrityError, match=why):
        inspect_path(path)


def test_entities_of_an_openvino_network_are_not_expanded(tmp_path):
    path = tmp_path / "net.xml"
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 30))
    start = '<!DOCTYPE net [<!ENTITY f SYSTEM "file:///etc/passwd">'
    path.write_text(f'<net name="x">\n{start}{entities}]>&f;&a29;<layer />\n</net>\n')
    assert inspect_path(path)["rows"][0] == ["layers", "1"]
