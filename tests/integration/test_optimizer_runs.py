"""Whole runs with optimisers on both sides and frozen modules, resumed too."""

import pytest
from helpers.small_runs import figures, only_run, run_small, small_settings
from safetensors.numpy import load_file

import fedprune.server.runs.loop
from fedprune.common.config import load_config
from fedprune.common.errors import ConfigError
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.server.rounds.plan import plan_round
from fedprune.simulations.runs.api import simulate

pytestmark = pytest.mark.slow

TUNED = {
    "client.optimizer": "adamw",
    "client.lr": 0.01,
    "client.weight_decay": 0.01,
    "client.proximal": 0.01,
    "client.precision": "bf16",
    "server.optimizer": "adam",
    "server.lr": 0.02,
    "task.freeze": ["0", "1"],
    "update.update_density": 0.5,
    "rounds.warmup": 3,
    "rounds.final": 4,
}
PLAIN = {
    "rounds.cuts": 0,
    "rounds.final": 3,
    "task.freeze": ["0", "1"],
    "broadcast.values": "float32",
    "run.controls": ["dense"],
}


class Stop(Exception):  # noqa: N818 - not an error of the program
    """The run ends here, as if it had been killed."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return run_small(tmp_path_factory.mktemp("tuned"), TUNED)


# The cuts are at the ends of rounds 4 and 6.
@pytest.mark.parametrize("round_", [2, 4, 6])
def test_a_run_with_optimisers_is_resumed_to_the_same_bits(
    undisturbed, tmp_path, monkeypatch, round_
):
    def stopping(state, run_spec, attempt=0):
        if state.round == round_:
            raise Stop
        return plan_round(state, run_spec, attempt)

    monkeypatch.setattr(fedprune.server.runs.loop, "plan_round", stopping)
    with pytest.raises(Stop):
        simulate(config=small_settings(tmp_path, TUNED))
    monkeypatch.undo()
    resumed = simulate(resume_from=only_run(tmp_path))
    assert figures(resumed.summary) == figures(undisturbed.summary)


def test_a_run_with_optimisers_learns_and_meets_its_budget(undisturbed):
    found = undisturbed.summary
    # Chance is 0.1; plain SGD reaches about 0.3 in as many rounds.
    assert found["accuracy_final"] > 0.2
    assert found["refused"] == found["failed"] == 0
    assert found["params_final"] <= 0.5 * found["params_dense"]


def test_frozen_tensors_of_the_saved_networks_are_those_of_the_start(tmp_path):
    run = run_small(tmp_path, PLAIN)
    start = LoadedTask(load_config(None, small_settings(tmp_path, PLAIN))).build_model()
    for name in ("final", "dense"):
        saved = load_file(run.directory / "model" / f"{name}.safetensors")
        for key, value in start.state_dict().items():
            if "num_batches" in key:
                continue
            same = saved[key].tobytes() == value.numpy().tobytes()
            assert same == key.startswith(("0.", "1.")), (name, key)


def test_a_module_that_the_network_lacks_ends_the_run_before_its_folder_is_made(
    tmp_path,
):
    settings = small_settings(tmp_path / "runs", {"task.freeze": ["7", "9"]})
    with pytest.raises(ConfigError, match=r"task\.freeze: found '7', want a module"):
        simulate(config=settings)
    assert not (tmp_path / "runs").exists()
