"""Whole runs with controls: all four beside a run, and a kill between two of them."""

import json

import pytest
import torch
from helpers.small_runs import events, figures, read_summary, run_small

import fedprune.server.rounds.guard
import fedprune.simulations.runs.controls
from fedprune.common.artifacts.load import load_model
from fedprune.server.report import write_report
from fedprune.server.runs.events import (
    ClientAnswered,
    MaskChosen,
    NetworkCut,
    NetworkRestarted,
    RoundFinished,
    of_run,
    read_events,
)
from fedprune.simulations.runs.api import simulate

FOUR = ["dense", "scratch", "uniform", "one-shot"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    changes = {"run.controls": [*FOUR, "scratch@bytes"]}
    return run_small(tmp_path_factory.mktemp("controls"), changes)


def test_all_four_run_for_as_many_rounds_and_have_their_figures(run):
    table = run.summary["controls"]
    assert list(table) == [*FOUR, "scratch@bytes"]
    assert {table[name]["rounds"] for name in FOUR} == {run.summary["rounds"]}
    assert table["dense"]["params"] == run.summary["params_dense"]
    assert table["scratch"]["params"] == run.summary["params_final"]
    assert table["dense"]["accuracy"] == run.summary["accuracy_control"]
    assert table["dense"]["bytes_up"] == run.summary["bytes_up_control"]
    for name in ("uniform", "one-shot"):
        assert table[name]["params"] <= 0.5 * run.summary["params_dense"]
    assert len(of_run(read_events(run.directory / "events.jsonl"), NetworkCut)) == 2
    assert run.summary["cuts"] == 2


def test_equal_bytes_are_about_those_of_the_run(run):
    ours = run.summary["bytes_up"] + run.summary["bytes_down"]
    found = run.summary["controls"]["scratch@bytes"]
    assert 0.7 * ours <= found["bytes_up"] + found["bytes_down"] <= 1.1 * ours
    assert found["rounds"] > run.summary["rounds"]


def test_each_has_a_network_and_client_states_of_its_own(run):
    for name in (*FOUR, "scratch@bytes"):
        load_model(run.directory / "model" / f"{name}.safetensors")
    folders = sorted(p.name for p in (run.directory / "clients").iterdir())
    names = {folder.rpartition("-")[0] for folder in folders}
    assert {"main", "scratch", "uniform", "one-shot", "scratch@bytes"} <= names


def test_the_verdict_is_in_the_summary_and_in_the_report(run):
    verdict = run.summary["verdict"]
    assert set(verdict["comparisons"]) == {*FOUR, "scratch@bytes"}
    page = (run.directory / "report.html").read_text(encoding="utf-8")
    assert "At equal rounds" in page
    assert "At equal bytes" in page
    assert verdict["equal_size"].startswith("At equal size")
    assert "on the validation parts of 4 clients" in verdict["equal_size"]


def test_answers_have_the_validation_of_their_client(run):
    answers = of_run(read_events(run.directory / "events.jsonl"), ClientAnswered)
    assert all(event.validation_examples > 0 for event in answers)
    assert all(0 <= event.validation_metric <= 1 for event in answers)


class StoppedError(Exception):
    """The end of a process, between two controls."""


def test_a_run_that_stops_between_controls_goes_on_with_the_next(tmp_path, monkeypatch):
    changes = {"run.controls": ["scratch", "one-shot"], "prune.restart": "fresh"}
    changes |= {"rounds.cuts": 1, "prune.step_cap": 1.0, "distill.weight": 0.0}
    whole = run_small(tmp_path / "whole", changes)
    assert len(events(whole.directory, NetworkRestarted)) == 1
    kept = fedprune.simulations.runs.controls.control_config

    def until(name, config, rounds):
        if name == "one-shot":
            raise StoppedError
        return kept(name, config, rounds)

    with monkeypatch.context() as patch:
        patch.setattr(fedprune.simulations.runs.controls, "control_config", until)
        with pytest.raises(StoppedError):
            run_small(tmp_path / "stopped", changes)
    (folder,) = (tmp_path / "stopped").iterdir()
    simulate(resume_from=folder)
    one, two = read_summary(whole.directory), read_summary(folder)
    assert figures(one) == figures(two)
    assert json.dumps(one["controls"]) == json.dumps(two["controls"])
    done = [(e.run, e.round) for e in events(folder, RoundFinished)]
    assert len(done) == len(set(done))
    assert len(done) == 3 * two["rounds"]


def test_a_control_that_diverges_does_not_cost_the_run_its_figures(
    tmp_path, monkeypatch
):
    kept = fedprune.simulations.runs.controls.control_config

    def wild(name, config, rounds):
        found = kept(name, config, rounds)
        if name != "dense":
            return found
        change = {"client": found.client.model_copy(update={"lr": 1e30, "clip": 0.0})}
        return found.model_copy(update=change)

    monkeypatch.setattr(fedprune.simulations.runs.controls, "control_config", wild)
    run = run_small(tmp_path, {"run.controls": ["dense@bytes", "scratch"]})
    assert list(run.summary["controls"]) == ["scratch"]
    assert set(run.summary["verdict"]["comparisons"]) == {"scratch"}
    assert run.summary["accuracy_control"] is None
    assert run.summary["bytes_up_control"] is None
    told = "\n".join(run.summary["warnings"])
    assert "dense: control dense failed and is left out" in told
    assert "dense@bytes: control dense@bytes is left out: dense failed" in told
    write_report([run.directory], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "control dense failed" in page


def test_controls_of_a_run_that_stopped_above_its_budget_have_its_size(
    tmp_path, monkeypatch
):
    # Whatever the clients say of the second cut breaks the limit.
    kept = fedprune.server.rounds.guard.Change.broken.fget
    broken = property(lambda change: change.allowed is not None or kept(change))
    monkeypatch.setattr(fedprune.server.rounds.guard.Change, "broken", broken)
    changes = {"prune.max_accuracy_drop": 0.5, "prune.budget.params": 0.3}
    run = run_small(tmp_path, changes | {"run.controls": ["uniform", "one-shot"]})
    assert run.summary["budget_met"] is False
    final = run.summary["params_final"]
    assert final > 0.3 * run.summary["params_dense"]
    for name in ("uniform", "one-shot"):
        assert 0.9 * final <= run.summary["controls"][name]["params"] <= final
    assert run.summary["verdict"]["advice"] == ""  # nothing was cut in the end


@pytest.mark.parametrize("warmup", [0, 1])
def test_a_mask_before_the_first_round_is_one_too(tmp_path, warmup):
    mask = {"kind": "n:m", "n": 2, "m": 4}
    changes = {"rounds.cuts": 0, "rounds.final": 2, "distill.weight": 0.0}
    run = run_small(tmp_path, changes | {"rounds.warmup": warmup, "prune.mask": mask})
    assert run.summary["weight_density"] < 0.6
    (chosen,) = events(run.directory, MaskChosen)
    assert chosen.round == 1


def test_controls_of_a_run_with_a_weight_mask_have_it_too(tmp_path):
    mask = {"kind": "unstructured", "density": 0.5}
    changes = {"run.controls": ["dense", "scratch"], "rounds.final": 2}
    run = run_small(tmp_path, changes | {"prune.mask": mask})
    small = load_model(run.directory / "model" / "scratch.safetensors")
    dense = load_model(run.directory / "model" / "dense.safetensors")
    zeros = []
    for model in (small, dense):
        matrices = [w.flatten() for w in model.parameters() if w.dim() > 1]
        zeros.append((torch.cat(matrices) == 0).float().mean().item())
    assert zeros[0] > 0.3
    assert zeros[1] == 0.0


def test_a_run_without_cuts_has_a_dense_control_alone(tmp_path):
    run = run_small(tmp_path, {"rounds.cuts": 0, "run.controls": ["dense"]})
    assert list(run.summary["controls"]) == ["dense"]
    assert run.summary["verdict"]["equal_size"] == ""
