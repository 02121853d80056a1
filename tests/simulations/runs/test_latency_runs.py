"""The latency table of a run: read once, and kept in the run's own folder."""

import os
import shutil

import pytest
from helpers.pruning_nets import table_of
from helpers.small_runs import only_run
from helpers.tiny_federation import BASE, Tiny, make_examples, tiny_structure

from fedprune import simulate
from fedprune.common.config import load_config
from fedprune.common.errors import ConfigError
from fedprune.common.pruning import latency
from fedprune.server.devices.run_config import run_config
from fedprune.server.devices.service import new_folder
from fedprune.server.runs.events import RoundFinished
from fedprune.server.runs.folder import RunFolder

EXAMPLES = make_examples(96)
X, Y = EXAMPLES.inputs, EXAMPLES.targets
DATA = (X, Y, X[:12], Y[:12])
SETTINGS = BASE | {
    "rounds.final": 1,
    "run.controls": [],
    "prune.importance": "l2",
    "prune.budget": {"latency": 0.6},
    "prune.latency_table": "fast.json",
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a latency table of the tiny network."""
    table_of(tiny_structure(), step=1).save(tmp_path / "fast.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(base, **options):
    return simulate(Tiny, DATA, SETTINGS | {"run.dir": base}, **options)


class Killed(BaseException):
    """Ends a run wherever it is."""


class Death:
    """Ends a run in its third round."""

    rounds = 0

    def on_event(self, event):
        self.rounds += isinstance(event, RoundFinished)
        if self.rounds == 3:
            raise Killed


@pytest.mark.slow
def test_a_run_reads_its_table_once_and_keeps_it(place, monkeypatch):
    read, count = latency._read, []
    monkeypatch.setattr(latency, "_read", lambda d: count.append(1) or read(d))
    result = run(place / "runs")
    assert len(count) == 1
    assert result.summary["cuts"] > 0
    assert 0.0 < result.summary["budget_used"]["latency"] <= 1.0
    folder = RunFolder.open(result.directory)
    named = load_config(folder.config).prune.latency_table
    assert named == str(folder.latency.resolve())
    assert latency.load_table(load_config(folder.config)).device == "a board"


def forget(place, folder):
    (place / "fast.json").unlink()
    return folder


def change(place, folder):
    def slow(_tensor, taken, made):
        return 1e6 / (taken * made)

    table_of(tiny_structure(), slow, step=1).save(place / "fast.json")
    return folder


def move(place, folder):
    """Move the run, and go where its table's name would mean another file."""
    (place / "fast.json").unlink()
    shutil.move(folder, place / "elsewhere")
    (place / "latency.json").write_text("{")
    return place / "elsewhere"


@pytest.mark.slow
@pytest.mark.parametrize("happens", [forget, change, move])
def test_a_stopped_run_goes_on_with_its_own_copy(place, happens):
    whole = run(place / "whole").summary
    with pytest.raises(Killed):
        run(place / "stopped", progress=Death())
    folder = happens(place, only_run(place / "stopped"))
    summary = simulate(Tiny, resume_from=folder).summary
    same = ("model_sha256", "budget_used", "bytes_up", "rounds")
    assert {key: summary[key] for key in same} == {key: whole[key] for key in same}


def test_a_run_that_is_submitted_takes_its_table_along(place):
    config = load_config(None, SETTINGS | {"run.dir": "runs"})
    folder = new_folder(config, place / "state")
    (place / "fast.json").unlink()
    os.chdir("/")
    found = run_config(RunFolder(place / folder.path))
    assert latency.load_table(found).device == "a board"


def test_a_table_that_cannot_be_read_leaves_no_folder(place):
    (place / "fast.json").write_text("{")
    config = load_config(None, SETTINGS | {"run.dir": "runs"})
    with pytest.raises(ConfigError, match=r"'fast\.json' is not a latency table"):
        new_folder(config, place / "state")
    with pytest.raises(ConfigError, match=r"'fast\.json' is not a latency table"):
        run(place / "runs")
    assert not [path for path in place.glob("runs/*") if path.is_dir()]


def test_the_table_of_another_network_is_refused_at_the_door(place):
    other = table_of(tiny_structure())
    object.__setattr__(other, "structure", "00" * 16)
    other.save(place / "fast.json")
    with pytest.raises(ConfigError, match=r"prune\.latency_table was measured for"):
        run(place / "runs")
