"""A network that was written is the same again: weights and every kind of buffer."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from helpers.tiny_federation import make_task
from torch import nn

from fedprune.common.artifacts import read_model_file, write_model_file
from fedprune.common.artifacts.load import load_model, write_network
from fedprune.common.description import Description
from fedprune.common.errors import ConfigError, IntegrityError
from fedprune.common.pruning.plan import apply_plan, child_plan, full_plan
from fedprune.common.structure.structure import Structure
from fedprune.common.structure.tracing.find import find_structure
from fedprune.simulations.cli import run_command_line
from fedprune.simulations.export.onnx_file import onnx_runner, write_onnx
from fedprune.simulations.export.packing import write_fpz

SHAPE = (1, 4, 4)

FACTS = Description(labels=("cat", "dog"), offset=0.5, scale=2.0, stored="uint8")


class Buffered(nn.Module):
    """A small network with buffers of every kind; ``idx`` is drawn when it is made."""

    def __init__(self, *, drawn=True):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.head = nn.Linear(6 * 16, 3)
        order = torch.randperm(4) if drawn else torch.arange(3, -1, -1)
        self.register_buffer("idx", order)
        self.register_buffer("alive", torch.tensor([True, False, True, True]))
        self.register_buffer("gain", torch.arange(1.0, 7.0)[:, None, None])
        self.register_buffer("step", torch.tensor(7, dtype=torch.int16))
        self.register_buffer("turn", torch.tensor([1j, 2.0]))
        self.register_buffer("cache", torch.rand(3), persistent=False)

    def forward(self, x):
        x = self.conv(x[:, :, self.idx] * self.alive)
        x = self.norm(x).relu() * self.gain
        return self.head(x.flatten(1) / self.step)


def fixed():
    return Buffered(drawn=False)


def written(path, factory, *, cut):
    """Return a network with a state of its own, its task, and the file it is in."""
    task = make_task(factory)
    model, example = task.build_model(), torch.rand(2, *SHAPE)
    structure = find_structure(model, example)
    plan = full_plan(structure)
    if cut:
        keep = structure.full()
        keep[structure.groups[0].units[::2]] = False
        plan = child_plan(structure, plan, keep)
        apply_plan(model, structure, keep)
    with torch.no_grad():
        for item in model.parameters():
            item.copy_(torch.rand_like(item))
        model.norm.running_mean.copy_(torch.rand_like(model.norm.running_mean))
    model.eval()
    parts = {"structure": structure, "plan": plan, "description": FACTS}
    write_network(path, model, task, **parts, run_id="", alone=True)
    return model, task


@pytest.mark.parametrize("cut", [False, True])
def test_what_is_loaded_has_the_state_that_was_written_bit_for_bit(tmp_path, cut):
    path = tmp_path / "final.safetensors"
    model, _ = written(path, Buffered, cut=cut)
    found, wanted = load_model(path, factory=Buffered).state_dict(), model.state_dict()
    assert len(wanted["gain"]) == (3 if cut else 6)
    assert found.keys() == wanted.keys()
    for name, item in wanted.items():
        assert found[name].dtype == item.dtype
        assert found[name].numpy().tobytes() == item.numpy().tobytes(), name
    tensors, _ = read_model_file(path)
    assert sorted(wanted.keys() - tensors.keys()) == ["norm.num_batches_tracked"]


def packed(source, target, task, factory):
    load = partial(load_model, factory=factory)
    write_fpz(source, target, values="float32", task=task, finetune=0, load=load)


@pytest.mark.slow
def test_onnx_and_fpz_hold_constant_buffers_of_every_type(tmp_path):
    pytest.importorskip("onnxscript")
    path = tmp_path / "final.safetensors"
    model, task = written(path, fixed, cut=True)
    batch = torch.rand(3, *SHAPE)
    with torch.no_grad():
        wanted = model(batch).numpy()
    write_onnx(load_model(path, factory=fixed), batch, tmp_path / "a.onnx")
    found = onnx_runner(tmp_path / "a.onnx")(batch.numpy())
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    packed(path, tmp_path / "a.fpz", task, fixed)
    again = load_model(tmp_path / "a.fpz", factory=fixed)
    for name, item in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], item), name


def test_fpz_refuses_a_buffer_that_the_code_makes_anew_otherwise(tmp_path):
    path = tmp_path / "final.safetensors"
    _, task = written(path, Buffered, cut=False)
    torch.manual_seed(0)  # one draw of 24 is the order that was written
    with pytest.raises(ConfigError, match=r"buffer 'idx' .* --format safetensors"):
        packed(path, tmp_path / "a.fpz", task, Buffered)


@pytest.mark.parametrize(
    ("name", "kind"), [("idx", np.float32), ("alive", np.int8), ("gain", np.int32)]
)
def test_a_buffer_of_another_type_is_refused(tmp_path, name, kind):
    path = tmp_path / "final.safetensors"
    written(path, Buffered, cut=False)
    tensors, metadata = read_model_file(path)
    changed = {**tensors, name: tensors[name].astype(kind)}
    write_model_file(path, changed, metadata)
    with pytest.raises(IntegrityError, match=f"tensor '{name}' has type"):
        load_model(path, factory=Buffered)


class Mixing(nn.Module):
    """A float buffer makes channels, in the way of ``way``."""

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.body, self.head = nn.Linear(4, 6), nn.Linear(6, 3)
        self.register_buffer("table", torch.rand(6, 6))
        self.register_buffer("shift", torch.rand(6))

    def forward(self, x):
        x = self.body(x)
        if self.way == "product":
            x = x @ self.table
        elif self.way == "linear":
            x = nn.functional.linear(x, self.table, self.shift)
        elif self.way == "convolution":
            x = nn.functional.conv1d(x[..., None], self.table[..., None]).squeeze(-1)
        elif self.way == "sum":
            x = x + x @ self.table
        elif self.way == "norm":
            x = nn.functional.batch_norm(x, self.shift, self.shift, self.shift)
        return self.head(x.relu())


@pytest.mark.parametrize(
    ("way", "units"), [("product", 6), ("linear", 6), ("sum", 0), ("norm", 6)]
)
def test_a_structure_with_a_buffer_that_makes_channels_can_be_read_back(way, units):
    structure = find_structure(Mixing(way), torch.rand(2, 4))
    assert Structure.from_json(structure.to_json()) == structure
    assert structure.units == units
    assert "table" not in {n for g in structure.groups for n in g.producers}


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        (5, {}, "found int, want the path of a model file: a str or a Path"),
        (None, {}, "found NoneType, want the path of a model file"),
        ("x.fpz", {"factory": nn.Linear(1, 1)}, "factory: found Linear, want a func"),
        ("x.fpz", {"max_bytes": "1 GB"}, "max_bytes: found '1 GB'; want bytes"),
        ("x.fpz", {"max_bytes": 0}, "max_bytes: found 0; want bytes"),
        ("x.fpz", {"max_bytes": True}, "max_bytes: found True; want bytes"),
    ],
)
def test_an_argument_of_another_kind_is_refused_by_its_name(path, options, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        load_model(path, **options)


def test_a_folder_in_the_place_of_a_model_leads_to_the_file_inside(tmp_path):
    with pytest.raises(ConfigError, match=r"is a folder; .* a \.safetensors or \.fpz"):
        load_model(tmp_path)
    (tmp_path / "model").mkdir()
    inside = tmp_path / "model" / "final.safetensors"
    inside.touch()
    with pytest.raises(ConfigError, match=rf"want a model file: {inside}$"):
        load_model(str(tmp_path))
    assert run_command_line(["run-model", str(tmp_path), "--data", "digits"]) == 2


def test_arrays_are_told_as_data_and_not_as_a_pickle(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros(3))
    with pytest.raises(IntegrityError, match=r"holds data .*task\.data=npz:FILE"):
        load_model(tmp_path / "d.npz")


class Words(nn.Module):
    """A network of tokens and a mask, with two outputs."""

    def __init__(self):
        super().__init__()
        self.words, self.inner = nn.Embedding(12, 8), nn.Linear(8, 6)
        self.one, self.other = nn.Linear(6, 3), nn.Linear(6, 2)

    def forward(self, ids, mask):
        x = self.inner(self.words(ids) * mask[..., None]).relu().mean(1)
        return {"one": self.one(x), "other": [self.other(x)]}


def test_a_network_of_tokens_without_some_rows_is_loaded_with_its_map(tmp_path):
    example = (torch.randint(12, (3, 5)), torch.ones(3, 5))
    model, task = Words(), make_task(Words)
    structure = find_structure(model, example, vocabulary=["words"])
    keep = structure.full()
    keep[:12:3] = False
    apply_plan(model, structure, keep).eval()
    plan = child_plan(structure, full_plan(structure), keep)
    parts = {"structure": structure, "plan": plan, "description": FACTS}
    parts |= {"run_id": "", "alone": True}
    path = tmp_path / "final.safetensors"
    write_network(path, model, task, **parts)
    packed(path, tmp_path / "a.fpz", task, Words)
    wanted = model(*example)
    assert (model.words.kept[example[0]] < 0).any()
    assert "words.kept" in read_model_file(path)[0]
    for file in (path, tmp_path / "a.fpz"):
        found = load_model(file, factory=Words)(*example)
        assert torch.equal(found["one"], wanted["one"])
        assert torch.equal(found["other"][0], wanted["other"][0])
