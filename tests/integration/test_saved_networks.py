"""Saved networks of a run: each one, loaded, has the reported accuracy."""

import pytest
import torch
from helpers.small_runs import read_summary, run_small

from fedprune.common.artifacts.load import load_model
from fedprune.common.config import load_config
from fedprune.common.tasks.loaded import LoadedTask

NAMES = {
    "final": "accuracy_final",
    "before_cut": "accuracy_before_cut",
    "dense": "accuracy_control",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    changes = {"run.controls": ["dense"], "rounds.warmup": 3, "client.lr": 0.1}
    return run_small(tmp_path_factory.mktemp("saved"), changes).directory


@pytest.mark.slow
@pytest.mark.parametrize(("name", "figure"), NAMES.items(), ids=NAMES)
def test_each_saved_network_has_the_accuracy_that_the_summary_gives_it(
    run, name, figure
):
    test = LoadedTask(load_config(run / "config.toml")).dataset.test
    model = load_model(run / "model" / f"{name}.safetensors").eval()
    inputs, targets = test.batch(range(len(test)))
    with torch.no_grad():
        found = float((model(inputs).argmax(dim=1) == targets).double().mean())
    assert found == pytest.approx(read_summary(run)[figure], abs=1e-9)
    assert found > 0.2  # the run learned something: the law is not about chance
