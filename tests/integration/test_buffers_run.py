"""Runs of networks with state that is no weight: averaged, cut, stored, exported."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small_runs import figures, only_run, run_small, small_settings
from torch import nn

import fedprune.server.runs.loop
from fedprune.common.artifacts.load import load_model
from fedprune.common.config import load_config
from fedprune.common.messages import Phase
from fedprune.common.spec import Mask
from fedprune.common.structure.structure import Structure
from fedprune.common.task import Task
from fedprune.server.rounds.plan import plan_round
from fedprune.simulations.export.export import export_run
from fedprune.simulations.runs.api import simulate
from fedprune.simulations.runs.summary import build

HERE = Path(__file__).resolve()
SETTINGS = {"task.model": f"{HERE}:stateful_net", "client.lr": 0.1}
CUT = ("norm.running_mean", "norm.running_var", "scale.scale")


class RunningScale(nn.Module):
    """Divides each channel by its running magnitude."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("scale", torch.ones(channels))
        self.register_buffer("level", torch.zeros(()))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        if self.training:
            now = x.detach().abs().mean((0, 2, 3))
            self.scale.mul_(0.9).add_(0.1 * now)
            self.level = 0.5 * self.level + 0.5 * now.mean()
            self.num_batches_tracked += 1
        return x / (self.scale[:, None, None] + 1e-3) + self.level


class StatefulNet(nn.Module):
    """Two convolutions with buffers of every kind."""

    def __init__(self, num_outputs, channels):
        super().__init__()
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
        x = torch.relu(self.scale(self.norm(self.one(x))))
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
    task = Task(load_config(run.directory / "config.toml"))
    first, final = task.build_model().state_dict(), final_of(run).state_dict()
    width = len(final["one.weight"])
    assert 0 < width < len(first["one.weight"])
    for name in CUT:
        assert final[name].shape == (width,), name
        assert not bool((final[name] == first[name][0]).any()), name
    assert final["scale.level"] > 0
    for name in ("order", "kept", "noise"):
        assert torch.equal(final[name], first[name]), name
        assert final[name].dtype == first[name].dtype
    assert json.loads((run.directory / "structure.json").read_bytes())["version"] == 5
