"""Measuring layers: which, at which widths, by what."""

import json

import numpy as np
import pytest
import torch
from helpers.pruning_nets import build
from torch import nn

from fedprune.common.config import load_config
from fedprune.common.errors import ConfigError
from fedprune.common.pruning.cost import shares
from fedprune.common.pruning.latency import load_table
from fedprune.common.structure.tracing.find import find_structure
from fedprune.simulations.cli import run_command_line
from fedprune.simulations.export.latency_table import profile


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_every_layer_is_measured_at_legal_widths_up_to_its_own(runtime):
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU()),
        *(nn.Conv2d(24, 24, 3, groups=24), nn.Conv2d(24, 16, 1), nn.Flatten()),
        nn.Linear(16 * 36, 4),
    ).eval()
    example = torch.zeros(2, 3, 8, 8)
    structure = find_structure(model, example)
    table = profile(model, structure, example, runtime=runtime, width_multiple=8)
    grids = {layer.tensor: (layer.inputs, layer.outputs) for layer in table.layers}
    assert grids["0.weight"] == ((3,), (8, 16, 24))
    assert grids["3.weight"] == ((1,), (8, 16, 24))
    assert grids["4.weight"] == ((8, 16, 24), (8, 16))
    assert grids["6.weight"][1] == (4,)
    assert all((layer.ms > 0).all() for layer in table.layers)
    assert table.dense_ms > 0
    assert runtime in table.device
    half = structure.full()
    half[::2] = False
    assert shares(structure, half, table)["latency"] > 0.0
    assert np.isclose(shares(structure, structure.full(), table)["latency"], 1.0)


def test_an_unknown_runtime_is_refused():
    model, example, structure = build("lenet")
    with pytest.raises(ConfigError, match=r"runtime is 'tvm'; want one of"):
        profile(model, structure, example, runtime="tvm")


def test_the_command_writes_a_table_for_the_configured_network(tmp_path, capsys):
    path = tmp_path / "latency.json"
    given = ["--set", "task.model=mlp", "--set", "task.data=digits"]
    code = run_command_line(["profile", *given, "--output", str(path), "--json"])
    assert code == 0
    found = json.loads(capsys.readouterr().out)
    assert found["layers"] == 3
    assert found["path"] == str(path)
    model = nn.Sequential(nn.Linear(2, 2))
    prune = {"budget": {"latency": 0.5}, "latency_table": path}
    table = load_table(load_config(None, {"prune": prune}))
    with pytest.raises(ConfigError, match="measured for structure"):
        table.check(find_structure(model, torch.zeros(1, 2)))
