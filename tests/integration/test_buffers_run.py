"""Runs of networks with state that is no weight: averaged, cut, stored, exported."""

import json
from pathlib import Path

import pytest
import torch
from helpers.small_runs import figures, only_run, run_small, small_settings
from torch import nn

import fedprune.server.runs.loop
from fedprune.common.artifacts.load import load_model
from fedprune.common.config import load_config
from fedprune.common.errors import RoundError
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.server.rounds.plan import plan_round
from fedprune.simulations.export.export import export_run
from fedprune.simulations.runs.api import simulate

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve()
SETTINGS = {"task.model": f"{HERE}:stateful_net", "client.lr": 0.1}
CUT = ("norm.running_mean", "norm.running_var", "scale.scale")


class RunningScale(nn.Module):
    """Divides each channel by its running magnitude."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("scale", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        if self.training:
            self.scale.lerp_(x.detach().abs().mean((0, 2, 3)), 0.1)
            self.num_batches_tracked += 1
        return x / (self.scale[:, None, None] + 0.1)


class Level(nn.Module):
    """Subtracts the running mean of the inputs."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean()
        return x - self.mean


class StatefulNet(nn.Module):
    """Two convolutions with buffers of every kind."""

    def __init__(self, num_outputs, channels):
        super().__init__()
        self.level = Level()
        self.one = nn.Conv2d(channels, 12, 3, stride=2, padding=1)
        self.norm = nn.InstanceNorm2d(12, track_running_stats=True)
        self.scale = RunningScale(12)
        self.two = nn.Conv2d(12, 16, 3, padding=1, bias=False)
        self.batch = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, num_outputs)
        self.register_buffer("order", torch.arange(num_outputs))
        self.register_buffer("kept", torch.ones(num_outputs, dtype=torch.bool))
        self.register_buffer("noise", torch.rand(num_outputs))
        self.register_buffer("grid", torch.linspace(0, 1, 4), persistent=False)

    def forward(self, x):
        x = torch.relu(self.scale(self.norm(self.one(self.level(x)))))
        x = torch.relu(self.batch(self.two(x))).mean((2, 3))
        x = self.head(x).index_select(1, self.order)
        return torch.where(self.kept, x, x - 1e4) + self.noise + self.grid.sum()


def stateful_net(num_outputs, input_shape):
    """Return the network for a run that names it."""
    return StatefulNet(num_outputs, input_shape[0])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_small(tmp_path_factory.mktemp("buffers"), SETTINGS)


def final_of(run):
    return load_model(run.directory / "model" / "final.safetensors")


def test_running_buffers_of_the_final_network_were_trained_and_cut(run):
    task = LoadedTask(load_config(run.directory / "config.toml"))
    first, final = task.build_model().state_dict(), final_of(run).state_dict()
    width = len(final["one.weight"])
    assert 0 < width < len(first["one.weight"])
    for name in CUT:
        assert final[name].numel() == width, name
        assert not bool((final[name] == first[name].flatten()[0]).any()), name
    assert final["level.mean"] > 0
    assert json.loads((run.directory / "structure.json").read_bytes())["version"] == 5


def test_constant_buffers_of_every_type_are_those_of_the_code(run):
    task = LoadedTask(load_config(run.directory / "config.toml"))
    first, final = task.build_model(), final_of(run)
    for name in ("order", "kept", "noise", "grid"):
        assert torch.equal(final.get_buffer(name), first.get_buffer(name)), name
        assert final.get_buffer(name).dtype == first.get_buffer(name).dtype


def test_a_resumed_run_ends_with_the_same_bits(run, tmp_path, monkeypatch):
    def stopping(state, run_spec, attempt=0):
        if state.round == 3:
            raise KeyboardInterrupt
        return plan_round(state, run_spec, attempt)

    monkeypatch.setattr(fedprune.server.runs.loop, "plan_round", stopping)
    with pytest.raises(KeyboardInterrupt):
        simulate(config=small_settings(tmp_path, SETTINGS))
    monkeypatch.undo()
    resumed = simulate(resume_from=only_run(tmp_path))
    assert figures(resumed.summary) == figures(run.summary)
    wanted = final_of(run).state_dict()
    for name, value in final_of(resumed).state_dict().items():
        assert torch.equal(value, wanted[name]), name


@pytest.mark.parametrize("format_", ["fpz", "safetensors"])
def test_an_export_holds_every_buffer(run, tmp_path, format_):
    target = tmp_path / f"model.{format_}"
    export_run(run.directory, format_=format_, output=target)
    wanted = final_of(run).state_dict()
    for name, value in load_model(target).state_dict().items():
        if name not in {"one.weight", "two.weight"} or format_ == "safetensors":
            assert torch.allclose(value.double(), wanted[name].double(), atol=1e-2)
        if name in {*CUT, "level.mean", "order", "kept", "noise"}:
            assert torch.equal(value, wanted[name]), name


def test_an_onnx_file_computes_with_the_running_buffers(run, tmp_path):
    target = tmp_path / "model.onnx"
    found = export_run(run.directory, format_="onnx", output=target, check=True)
    assert found["max_difference"] <= 1e-5 * max(found["max_output"], 1.0)


class Late(StatefulNet):
    """Counts its steps, from the fifth on."""

    def __init__(self, num_outputs, channels):
        super().__init__(num_outputs, channels)
        self.calls = 0
        self.register_buffer("late", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        self.calls += self.training
        if self.calls > 5:
            self.late += 1
        return super().forward(x)


def late_net(num_outputs, input_shape):
    """Return the network for a run that names it."""
    return Late(num_outputs, input_shape[0])


def test_a_buffer_that_changes_later_ends_the_run_by_its_name(tmp_path):
    with pytest.raises(RoundError, match="training changed 'late', which no step did"):
        run_small(tmp_path, {"task.model": f"{HERE}:late_net"})
