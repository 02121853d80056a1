"""Simulated clients enrol as devices do: with the examples that they train on."""

import pytest
from helpers.small_runs import small_settings

import fedprune.simulations.runs.run
from fedprune.common.config import load_config
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.simulations.runs.run import run


class Seen(Exception):  # noqa: N818 - no error: the run has come far enough
    pass


def test_a_simulated_client_enrols_with_its_training_part(tmp_path, monkeypatch):
    seen = {}

    def federation(**given):
        seen.update(given["enrolled"])
        raise Seen

    monkeypatch.setattr(fedprune.simulations.runs.run, "run_federation", federation)
    config = load_config(None, small_settings(tmp_path))
    with pytest.raises(Seen):
        run(config)
    task = LoadedTask(config)
    assert seen == {c: len(task.client_data(c).train) for c in task.clients}
    assert sum(seen.values()) < sum(len(part) for part in task.parts.values())
