"""Methods of one's own in whole runs: here, elsewhere, and in the workers of Ray."""

import shutil

import pytest
from helpers.processes import child, fedprune
from helpers.small_runs import (
    as_options,
    figures,
    only_run,
    read_summary,
    run_small,
    small_settings,
)

from fedprune.common.config import load_config
from fedprune.common.errors import ConfigError
from fedprune.common.methods.kinds import KINDS
from fedprune.common.trust import named_code
from fedprune.simulations.cli import run_command_line
from fedprune.simulations.runs.api import simulate

MINE = """
from dataclasses import replace
from pathlib import Path

import numpy as np

Path(__file__).with_name("executed").touch()


def strongest(products, activations, draws):
    effect = np.abs(products).max(axis=0) * (activations > 0).any(axis=(0, 2))
    return effect + 1e-9 * draws


def concave(channels, threshold):
    return ((1 - threshold / channels.clamp(min=1e-30)) * 1.5).clamp(0, 1)


def middle(scores):
    return np.sort(scores, axis=0)[len(scores) // 2]


def trimmed(deltas):
    return np.sort(deltas, axis=0)[1:-1].mean(axis=0)


def straight(progress, end):
    return 1.0 - (1.0 - end) * progress


def halving(progress, start):
    return start * 0.5 ** (4 * progress)


def largest(total, count):
    order = np.argsort(-np.abs(total), kind="stable")[:count]
    return np.isin(np.arange(len(total)), order)


def stripes(targets, clients):
    return [np.arange(first, len(targets), clients) for first in range(clients)]


def by_square(matrix):
    return matrix**2


def turned(answer):
    return replace(answer, delta=-answer.delta)
"""
FUNCTIONS = (
    *("strongest", "concave", "middle", "trimmed", "straight", "halving"),
    *("largest", "stripes", "by_square", "turned"),
)
NAMED = {
    kind.key: f"mine.py:{function}"
    for kind, function in zip(KINDS, FUNCTIONS, strict=True)
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder of one's own, with a state folder and the code."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FEDPRUNE_STATE", str(tmp_path / "state"))
    monkeypatch.setattr("fedprune.simulations.runs.run._report", lambda folder: None)
    (folder / "mine.py").write_text(MINE, encoding="utf-8")
    return folder


def unfinished(folder):
    """Run half a run; return its folder, which can be resumed."""
    settings = small_settings(folder / "runs", NAMED)
    simulate(config=settings)
    run = only_run(folder / "runs")
    (run / "summary.json").unlink()
    return run


@pytest.mark.slow
def test_every_key_may_name_a_function_of_ones_own(here):
    config = load_config(None, NAMED)
    assert named_code(config) == NAMED
    found = run_small(here / "own", NAMED).summary
    assert (here / "executed").exists()
    usual = run_small(here / "usual").summary
    assert found["model_sha256"] != usual["model_sha256"]
    assert found["params_final"] <= 0.5 * found["params_dense"]


@pytest.mark.slow
def test_a_run_goes_on_where_it_was_started_and_nowhere_else(
    here, tmp_path, monkeypatch, capsys
):
    run = unfinished(here)
    assert run_command_line(["simulate", "--resume", str(run), "--quiet"]) == 0
    (run / "summary.json").unlink()
    away = tmp_path / "away"
    shutil.copytree(here, away)
    (away / "executed").unlink()
    monkeypatch.chdir(away)
    monkeypatch.setenv("FEDPRUNE_STATE", str(tmp_path / "other"))
    copied = away / run.relative_to(here)
    capsys.readouterr()
    words = ["simulate", "--resume", str(copied), "--quiet"]
    assert run_command_line(words) == ConfigError.exit_code
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "names code" in said
    assert "--trust-code" in said
    assert not (away / "executed").exists()
    # Who only reads it needs none of its code.
    (away / "mine.py").unlink()
    assert run_command_line(["inspect", str(copied)]) == 0
    assert load_config(copied / "config.toml").prune.importance == "mine.py:strongest"
    (away / "mine.py").write_text(MINE, encoding="utf-8")
    assert run_command_line([*words, "--trust-code"]) == 0
    assert (away / "executed").exists()


@pytest.mark.slow
def test_a_function_that_has_changed_since_is_refused(here, capsys):
    run = unfinished(here)
    with (here / "mine.py").open("a") as file:
        file.write("CHANGED = True\n")
    words = ["simulate", "--resume", str(run), "--quiet"]
    assert run_command_line(words) == ConfigError.exit_code
    assert "has changed since" in capsys.readouterr().err


def test_a_function_that_does_not_fit_ends_a_run_before_its_first_round(here, capsys):
    (here / "mine.py").write_text("def f(weight):\n    return weight\n")
    options = as_options(
        small_settings(here / "runs", {"prune.importance": "mine.py:f"})
    )
    assert run_command_line(["simulate", *options, "--quiet"]) == ConfigError.exit_code
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "asks for 'weight'; did you mean 'weights'?" in said
    assert not (here / "runs").exists()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_workers_of_ray_run_functions_of_ones_own_bit_for_bit(here):
    found = run_small(here / "runs", NAMED).summary
    changes = NAMED | {"run.engine": "ray", "run.workers": 2}
    options = as_options(small_settings(here / "ray", changes))
    with child(fedprune("simulate", *options), here) as command:
        assert command.wait(300) == 0, command.output
    assert figures(read_summary(only_run(here / "ray"))) == figures(found)
