"""A failure of a user's own code in a run is one line: client, cause, file and line."""

import re
from pathlib import Path

import pytest
import torch
from helpers.own_tasks import OfTexts
from helpers.small_runs import SMALL
from torch import nn

from fedprune import FedPruneError, RoundError, simulate
from fedprune.common.user_code import in_own_code
from fedprune.simulations.cli import run_command_line

HERE = Path(__file__).name
SHORT = {key: value for key, value in SMALL.items() if key != "task.model"} | {
    "task.clients": 0,
    "rounds.cuts": 1,
    "distill.weight": 0.0,
    "prune.budget.params": 0.8,
}


class Late:
    """Fails once it was called more than a number of times."""

    def __init__(self, most):
        self.left = most

    def __call__(self):
        self.left -= 1
        if self.left < 0:
            raise KeyError(self.left)


class Rows:
    """Rows that can be read a number of times."""

    def __init__(self, rows, late):
        self.rows, self.late = rows, late

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        self.late()
        return self.rows[index]


def task_of(part, most):
    """Return a task whose ``part`` fails after ``most`` calls."""
    late = Late(most)

    def fail(name):
        if name == part:
            late()

    class Own(OfTexts):
        def loss(self, outputs, batch):
            fail("loss")
            logits = outputs["logits"]
            return nn.functional.cross_entropy(logits, batch.targets, reduction="none")

        def metrics(self, outputs, batch):
            fail("metrics")
            return {"right": (outputs["logits"].argmax(1) == batch.targets).float()}

        def augment(self, batch, generator):
            fail("augment")
            return batch

        def collate(self, items):
            fail("collate")
            return super().collate(items)

        def rows(self, count, seed):
            rows = super().rows(count, seed)
            return Rows(rows, late) if part == "__getitem__" else rows

    return Own()


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDPRUNE_STATE", str(tmp_path / "state"))
    monkeypatch.setattr("fedprune.simulations.runs.run._report", lambda folder: None)


# Calls before the first round: the trial of the task.  Then some of a round.
PARTS = {"loss": 9, "augment": 9, "__getitem__": 600}


@pytest.mark.parametrize("part", PARTS)
def test_the_first_failed_client_is_named_with_the_cause_and_its_place(part, here):
    with pytest.raises(RoundError) as caught:
        simulate(task_of(part, PARTS[part]), SHORT, progress=False)
    text = str(caught.value)
    assert re.search(r"^round \d+: client \w+ failed: .*KeyError: -\d", text)
    assert re.search(rf", in your code at {HERE}:\d+ \(__call__\); ", text)
    assert "; mend the code and start a new run, or resume" in text


@pytest.mark.parametrize(("part", "most"), [("metrics", 12), ("collate", 26)])
def test_a_failure_on_the_driver_ends_the_run_with_its_place(part, most):
    with pytest.raises(FedPruneError) as caught:
        simulate(task_of(part, most), SHORT, progress=False)
    assert re.search(rf"KeyError: -\d, in your code at {HERE}:", str(caught.value))
    assert "; mend the code and start a new run" in str(caught.value)


FILE = """
from helpers.own_tasks import OfTexts

CALLS = []


class Own(OfTexts):
    def augment(self, batch, generator):
        CALLS.append(1)
        if len(CALLS) > 9:
            raise OSError("disk")
        return batch
"""


@pytest.mark.slow
def test_the_command_line_shows_it_as_its_last_line(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(FILE, encoding="utf-8")
    words = ["simulate", "--use", "mine.py:Own", "--quiet"]
    for key, value in SHORT.items():
        words += ["--set", f"{key}={str(value).lower() if value is False else value}"]
    assert run_command_line(words) == RoundError.exit_code
    text = capsys.readouterr().err
    assert "OSError: disk, in your code at mine.py:11 (augment); " in text
    assert "resume with: fedprune simulate --resume " in text
    assert "--trust-code" not in text


@pytest.mark.slow
def test_the_hint_names_trust_code_where_the_run_needs_it(
    tmp_path, capsys, monkeypatch
):
    (tmp_path / "mine.py").write_text(FILE, encoding="utf-8")
    settings = SHORT | {"task.use": "mine.py:Own"}
    with pytest.raises(RoundError):
        simulate(config=settings, progress=False)
    folder = next((tmp_path / "runs").iterdir())
    monkeypatch.setenv("FEDPRUNE_STATE", str(tmp_path / "another user"))
    assert run_command_line(["inspect", str(folder)]) == 0
    hint = f"fedprune simulate --resume {folder.resolve()} --trust-code"
    assert hint.split("runs")[1] in capsys.readouterr().out
    words = ["export", str(folder), "--format", "fpz"]
    assert run_command_line(words) == 2
    assert hint.split("runs")[1] in capsys.readouterr().err


def test_a_place_is_that_of_own_code_also_below_other_code():
    def own():
        return torch.zeros(2) @ torch.zeros(3)

    with pytest.raises(RuntimeError) as caught:
        nn.Sequential(nn.Identity()).apply(lambda _: own())
    assert f"{HERE}:" in in_own_code(caught.value)
    assert in_own_code(caught.value).endswith("(own)")
    assert in_own_code(ValueError("no frame")) == ""
