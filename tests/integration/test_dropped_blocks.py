"""Whole runs that drop a residual block: the plan says it, and everything follows."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.crash_script import UNDISTURBED
from helpers.processes import child, module, on_ray
from helpers.small_runs import events, figures, only_run, read_summary, small_settings
from torch import nn

import fedprune.server.runs.loop
from fedprune.common.artifacts import read_plan_dropped, read_plan_file
from fedprune.common.artifacts.load import load_model
from fedprune.common.errors import IntegrityError, PayloadError
from fedprune.common.pruning.plan import check_plan, full_plan
from fedprune.common.structure.structure import Structure
from fedprune.server.rounds import guard
from fedprune.server.rounds.records import Verdict
from fedprune.server.runs.events import (
    CutRolledBack,
    NetworkCut,
    RoundFinished,
    WarningGiven,
)
from fedprune.simulations.engines.faults import MOMENTS
from fedprune.simulations.export.export import export_run
from fedprune.simulations.inspection.artifacts import inspect_path, render
from fedprune.simulations.runs.api import simulate
from fedprune.simulations.runs.notebook.result import RunResult

pytestmark = pytest.mark.slow

BLOCK = "stages.2.1"
SETTINGS = {
    "task.model": "small-resnet",
    "prune.blocks": 1,
    "prune.budget.params": 0.4,
    "prune.width_multiple": 4,
    "distill.weight": 0.0,
    "rounds.final": 2,
}


def run(folder, **changes) -> RunResult:
    return simulate(config=small_settings(folder, SETTINGS | changes))


@pytest.fixture(scope="module")
def dropped(tmp_path_factory):
    return run(tmp_path_factory.mktemp("dropped"))


def test_the_run_ends_without_the_block_and_within_its_budget(dropped):
    summary, cuts = dropped.summary, events(dropped.directory, NetworkCut)
    assert [cut.blocks for cut in cuts] == [(BLOCK,), (BLOCK,)]
    assert 0.98 <= summary["budget_used"]["params"] <= 1.0
    assert not events(dropped.directory, WarningGiven)
    model = load_model(dropped.directory / "model" / "final.safetensors")
    assert isinstance(model.get_submodule(BLOCK), nn.Identity)
    size = sum(item.numel() for item in model.parameters())
    assert size == summary["params_final"] <= 0.4 * summary["params_dense"]
    assert summary["accuracy_final"] > 0.7


def test_an_update_holds_no_entry_of_a_dropped_block(dropped):
    rounds = events(dropped.directory, RoundFinished)
    first = min(cut.round for cut in events(dropped.directory, NetworkCut))
    sizes = {e.round: e.params for e in rounds}
    assert sizes[first + 1] < 0.6 * sizes[first]


def test_plan_and_run_say_what_was_dropped(dropped):
    plan = dropped.directory / "plan.json"
    assert read_plan_dropped(plan) == (BLOCK,)
    assert f"dropped     {BLOCK}" in render(inspect_path(plan))
    assert f"without {BLOCK}" in render(inspect_path(dropped.directory))


@pytest.mark.parametrize("format_", ["safetensors", "onnx", "fpz"])
def test_every_export_is_the_smaller_network(dropped, format_):
    found = export_run(dropped.directory, format_=format_, check=format_ != "fpz")
    assert found["params"] == dropped.summary["params_final"]
    assert found.get("max_difference", 0.0) <= 1e-4
    if format_ != "onnx":
        original = load_model(dropped.directory / "model" / "final.safetensors")
        again = load_model(Path(str(found["path"])))
        images = torch.rand(4, 1, 8, 8)
        assert torch.equal(again(images), original(images))


def test_the_plan_belongs_to_a_structure_with_blocks(dropped, tmp_path):
    plan = read_plan_file(dropped.directory / "plan.json")
    text = (dropped.directory / "structure.json").read_bytes()
    found = json.loads(text)
    del found["blocks"]
    found["version"] = 1
    plain = json.dumps(found, sort_keys=True, separators=(",", ":")).encode()
    other = Structure.from_json(plain)
    with pytest.raises(PayloadError, match=r"plan\.structure"):
        check_plan(other, plan)
    check_plan(Structure.from_json(text), plan)
    assert full_plan(Structure.from_json(text)).digest != plan.digest


def test_a_model_file_refuses_the_structure_without_blocks(dropped, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    name = "final.safetensors"
    (folder / name).write_bytes((dropped.directory / "model" / name).read_bytes())
    (folder / "plan.json").write_bytes((dropped.directory / "plan.json").read_bytes())
    other = json.loads((dropped.directory / "structure.json").read_bytes())
    del other["blocks"]
    other["version"] = 1
    data = json.dumps(other, sort_keys=True, separators=(",", ":"))
    (folder / "structure.json").write_text(data)
    with pytest.raises(IntegrityError, match="structure"):
        load_model(folder / name)


class Stop(Exception):  # noqa: N818 - not an error of the program
    """The run ends here, as if it had been killed."""


@pytest.mark.parametrize("after", [2, 3])
def test_a_run_stopped_after_a_cut_is_resumed_to_the_same_bits(
    dropped, tmp_path, monkeypatch, after
):
    plan_round = fedprune.server.runs.loop.plan_round

    def stopping(state, run_spec, attempt=0):
        if state.round == after:
            raise Stop
        return plan_round(state, run_spec, attempt)

    monkeypatch.setattr(fedprune.server.runs.loop, "plan_round", stopping)
    with pytest.raises(Stop):
        run(tmp_path)
    monkeypatch.undo()
    resumed = simulate(resume_from=only_run(tmp_path))
    assert figures(resumed.summary) == figures(dropped.summary)


def test_a_block_that_cost_too_much_comes_back_and_channels_go_instead(
    tmp_path, monkeypatch
):
    check_cut, checked = guard.check_cut, []

    def first_cut_is_worse(*arguments):
        found = check_cut(*arguments)
        checked.append(found)
        first = len(checked) == 1
        return replace(found, verdict=Verdict.ROLLED_BACK) if first else found

    monkeypatch.setattr(guard, "check_cut", first_cut_is_worse)
    result = run(tmp_path, **{"prune.max_loss_increase": 1000.0})
    assert len(events(result.directory, CutRolledBack)) == 1
    assert result.summary["rollbacks"] == 1
    blocks = [cut.blocks for cut in events(result.directory, NetworkCut)]
    assert blocks[0] == (BLOCK,)
    assert not any(blocks[1:])
    assert result.summary["refused"] == 0
    assert result.summary["budget_used"]["params"] <= 1.0
    assert np.isfinite(result.summary["accuracy_final"])


@pytest.mark.long
@pytest.mark.timeout(400)
def test_ray_gives_the_bits_of_one_process(dropped, tmp_path):
    found = on_ray(tmp_path, 2, SETTINGS)
    assert figures(read_summary(found)) == figures(dropped.summary)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_run_killed_at_any_moment_is_resumed_to_the_same_bits(dropped, tmp_path):
    given = module("crash_script", str(tmp_path), json.dumps(SETTINGS))
    with child(given, tmp_path) as script:
        assert script.wait(360) == 0, script.output
    cases = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert set(cases) == {UNDISTURBED, *MOMENTS}
    for name, case in cases.items():
        if name != UNDISTURBED:
            assert (case["ended"], case["resumed"]) == (-signal.SIGKILL, 0), name
        assert figures(read_summary(case["run"])) == figures(dropped.summary), name
        assert [c.blocks for c in events(case["run"], NetworkCut)] == [(BLOCK,)] * 2
