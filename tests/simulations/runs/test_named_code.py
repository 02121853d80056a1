"""The code of a run of Python objects is named on the command line by ``--use``."""

import json
import shutil
from pathlib import Path

import pytest
from helpers import own_tasks
from helpers.own_tasks import OfTexts
from helpers.small_runs import SMALL

from fedprune import ConfigError, simulate
from fedprune.common.tasks.own import load_given
from fedprune.simulations.cli import run_command_line

SHORT = {key: value for key, value in SMALL.items() if key != "task.model"} | {
    "task.clients": 0,
    "rounds.cuts": 1,
    "distill.weight": 0.0,
    "prune.budget.params": 0.8,
}
OWN = Path(own_tasks.__file__).resolve()
TASK = f"{OWN}:OfTexts"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the folder of a run of a task that Python handed over."""
    place = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDPRUNE_STATE", str(place / "state"))
        patch.setattr("fedprune.simulations.runs.run._report", lambda folder: None)
        return simulate(OfTexts(), SHORT | {"run.dir": place}, progress=False).directory


def refused(capsys, *words):
    assert run_command_line(words) == ConfigError.exit_code
    return capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("format_", ["safetensors", "onnx", "fpz"])
def test_an_export_takes_the_task_that_use_names(made, tmp_path, format_, capsys):
    target = tmp_path / f"x.{format_}"
    words = ("export", str(made), "--format", format_, "--output", str(target))
    assert "--use FILE.py:" in refused(capsys, *words)
    assert run_command_line((*words, "--check", "--use", TASK)) == 0
    assert "on test examples of the run" in capsys.readouterr().out


def test_a_stored_network_runs_on_the_test_data_of_its_task(made, capsys):
    words = ("run-model", str(made / "model" / "final.safetensors"))
    assert "--use FILE.py:NAME" in refused(capsys, *words)
    assert run_command_line((*words, "--use", TASK, "--count", "30", "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    summary = json.loads((made / "summary.json").read_text())
    assert len(found["predictions"]) == 30
    assert found["accuracy"] == pytest.approx(summary["accuracy_final"])


def test_a_network_without_a_task_wants_a_source(made, capsys):
    words = ("run-model", str(made / "model" / "final.safetensors"))
    text = refused(capsys, *words, "--use", f"{OWN}:Texts")
    assert "want --data SOURCE, or --use FILE.py:CLASS" in text


def test_data_of_another_form_are_one_line(made, capsys):
    words = ("run-model", str(made / "model" / "final.safetensors"), "--data", "digits")
    assert run_command_line((*words, "--use", TASK)) == 3
    text = capsys.readouterr().err
    assert "does not run on a batch of shape [10, 1, 8, 8]: TypeError" in text


def test_a_stopped_run_of_a_python_task_is_resumed_with_use(made, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(made, folder)
    for name in ("summary.json", "report.html"):
        (folder / name).unlink(missing_ok=True)
    events = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    (folder / "events.jsonl").write_text("".join(events[:-1]))
    assert run_command_line(("inspect", str(folder))) == 0
    hint = f"fedprune simulate --resume {folder} --use FILE.py:NAME"
    assert hint in capsys.readouterr().out
    words = ("simulate", "--resume", str(folder), "--quiet")
    assert "name it: --use FILE.py:CLASS" in refused(capsys, *words)
    assert run_command_line((*words, "--use", TASK)) == 0


def test_use_on_a_new_run_is_the_key_of_the_configuration(capsys):
    text = refused(capsys, "simulate", "--use", "nowhere.py:Mine")
    assert "there is no file 'nowhere.py'" in text


def test_a_script_whose_run_is_not_guarded_does_not_run_when_it_is_named(
    tmp_path, capsys, made
):
    script = tmp_path / "script.py"
    script.write_text("import fedprune\nfedprune.simulate()\n", encoding="utf-8")
    words = ("export", str(made), "--format", "fpz", "--use", f"{script}:Mine")
    assert "want the call under: if __name__ == '__main__'" in refused(capsys, *words)


def test_use_names_a_task_or_what_makes_a_network_and_nothing_else():
    assert isinstance(load_given(TASK), OfTexts.__mro__[1])
    assert isinstance(load_given(f"{OWN}:Next")(), own_tasks.nn.Module)
    with pytest.raises(ConfigError, match=r"words\(\) missing"):
        load_given(f"{OWN}:words")
    with pytest.raises(ConfigError, match="gives a dict; want a fedprune"):
        load_given("builtins:dict")
