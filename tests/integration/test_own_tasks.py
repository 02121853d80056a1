"""Runs of one's own tasks: from Python and from a file, resumed, and loaded again."""

import json
import re
from pathlib import Path

import pytest
import torch
from helpers.own_tasks import Mixed, Next, OfMixed, OfNext, OfTexts, Texts
from helpers.tiny_federation import BASE

from fedprune import load_config, load_model, simulate
from fedprune.common.errors import ConfigError, FedPruneError, IntegrityError
from fedprune.server.runs.events import RoundFinished
from fedprune.simulations.cli import run_command_line

SHORT = BASE | {
    "rounds.cuts": 1,
    "rounds.final": 1,
    "prune.budget": {"params": 0.8},
    "client.lr": 0.1,
    "run.controls": [],
}
IID = {"task.partition.kind": "iid"}
TASKS = {
    "a dict of integers": (OfTexts, Texts, {}),
    "a tuple of integers and values": (OfMixed, Mixed, IID),
    "a transformer": (OfNext, Next, IID | {"task.loss": "next-token"}),
}

MINE = '''\
"""A task of one's own."""
import torch
from torch import nn

from fedprune import Task


class Mine(Task):
    """Numbers below zero and above, by a network of the configured width."""

    def network(self):
        outputs = self.config.task.outputs
        return nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, outputs))

    def clients(self):
        return ["ann", "bob", "cid", "dan"]

    def train_data(self, client):
        draws = torch.Generator().manual_seed(sum(client.encode()))
        inputs = torch.randn(40, 6, generator=draws)
        return torch.utils.data.TensorDataset(inputs, (inputs[:, 0] > 0).long())

    def test_data(self):
        return self.train_data("test")

    def augment(self, batch, generator):
        noise = torch.randn(batch.inputs.shape, generator=generator)
        return batch._replace(inputs=batch.inputs + 0.1 * noise)

    def optimizer(self, parameters, lr):
        return torch.optim.Adam(parameters, lr)
'''
USED = SHORT | {"task.use": "mine.py:Mine", "task.outputs": 2}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working folder of one's own with the code, and a state folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDPRUNE_STATE", str(tmp_path / "state"))
    monkeypatch.setattr("fedprune.simulations.runs.run._report", lambda folder: None)
    Path("mine.py").write_text(MINE, encoding="utf-8")
    return tmp_path


def final_of(result):
    return result.directory / "model" / "final.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "network", "changes"), TASKS.values(), ids=TASKS)
def test_inputs_of_any_kind_go_through_a_run_with_a_cut(kind, network, changes):
    result = simulate(kind(), SHORT | changes)
    again = simulate(kind(), SHORT | changes)
    assert result.summary["cuts"] == 1
    assert result.summary["params_final"] <= 0.8 * result.summary["params_dense"]
    assert (result.summary["refused"], result.summary["failed"]) == (0, 0)
    assert again.summary["model_sha256"] == result.summary["model_sha256"]
    model = load_model(final_of(result), factory=network)
    size = sum(weight.numel() for weight in model.parameters())
    assert size == result.summary["params_final"]
    assert figure_of(kind, model) == pytest.approx(result.summary["accuracy_final"])


def figure_of(kind, model):
    """Return the accuracy of a network on a task's test data, computed plainly."""
    task = kind()
    batch = task.collate(list(task.test_data()))
    with torch.no_grad():
        if kind is OfTexts:
            return right(model(**batch.inputs)["logits"], batch.targets)
        if kind is OfMixed:
            return right(model(*batch.inputs), batch.targets)
        return right(model(batch.inputs).movedim(-1, 1), batch.targets)


def right(outputs, targets):
    return float((outputs.argmax(1) == targets).double().mean())


@pytest.mark.slow
def test_a_task_and_its_settings_are_handed_over_in_several_ways(here):
    toml = here / "run.toml"
    toml.write_text("[task]\nclients = 3\n", encoding="utf-8")
    changes = SHORT | {"task.clients": 3, "rounds.cohort": 3}
    ways = [
        simulate(OfTexts(), changes),
        simulate(OfTexts(), config=changes),
        simulate(OfTexts(), None, changes),
        simulate(OfTexts(), load_config(None, changes)),
        simulate(model=OfTexts(), config=load_config(None, changes)),
    ]
    assert len({way.summary["model_sha256"] for way in ways}) == 1
    assert {way.summary["clients"] for way in ways} == {3}
    with pytest.raises(ConfigError, match="cohort"):
        simulate(OfTexts(), toml)  # its path is read: 3 clients, a cohort of 10


@pytest.mark.slow
def test_a_task_of_a_file_is_the_one_of_python_and_its_network_loads_by_itself():
    result = simulate(config=USED)
    assert result.summary["accuracy_final"] > 0.6
    model = load_model(final_of(result))
    names = {}
    exec(MINE, names)  # noqa: S102 - as a notebook does it
    handed = simulate(names["Mine"](), USED | {"task.use": ""})
    assert handed.summary["model_sha256"] == result.summary["model_sha256"]
    with pytest.raises(
        ConfigError, match=r"name that code: --use FILE.py:NAME.*factory=MyTask"
    ):
        load_model(final_of(handed))
    inputs = torch.randn(5, 6)
    for factory in (lambda: dense(names["Mine"]), names["Mine"]()):
        loaded = load_model(final_of(handed), factory=factory)
        assert torch.equal(loaded(inputs), model(inputs))


def test_a_task_is_handed_over_or_named_and_not_both(here):
    message = "a task is handed over and task.use is 'mine.py:Mine'; want one of the t"
    with pytest.raises(ConfigError, match=re.escape(message)):
        simulate(OfTexts(), USED | {"run.dir": here / "none"})
    assert not (here / "none").exists()


def dense(kind):
    return kind().under(load_config(None, {"task.outputs": 2})).network()


@pytest.mark.slow
def test_the_command_line_runs_a_task_of_a_file():
    words = [f"--set={key}={json.dumps(value)}" for key, value in USED.items()]
    words = [word for word in words if "prune.budget=" not in word]
    words += ["--set=prune.budget.params=0.8", "--set=run.dir='runs'"]
    assert run_command_line(["simulate", *words]) == 0
    (summary,) = Path("runs").glob("*/summary.json")
    found = json.loads(summary.read_text(encoding="utf-8"))
    wanted = simulate(config=USED).summary["model_sha256"]
    assert found["model_sha256"] == wanted


class Killed(BaseException):
    """Ends a run wherever it is."""


class Killer:
    """Ends a run after two rounds."""

    def __init__(self):
        self.rounds = 0

    def on_event(self, event):
        self.rounds += isinstance(event, RoundFinished)
        if self.rounds == 2:
            raise Killed


def stopped(here, *given):
    settings = (SHORT if given else USED) | {"run.dir": here / "stopped"}
    with pytest.raises(Killed):
        simulate(*given, config=settings, progress=Killer())
    return next(path for path in (here / "stopped").iterdir() if path.is_dir())


@pytest.mark.slow
def test_a_run_of_a_task_of_a_file_goes_on_to_the_same_network(here):
    whole = simulate(config=USED)
    folder = stopped(here)
    found = simulate(resume_from=folder)
    assert not found.was_finished
    assert found.summary["model_sha256"] == whole.summary["model_sha256"]


@pytest.mark.slow
def test_a_run_of_a_task_of_python_goes_on_with_the_task_alone(here):
    whole = simulate(OfTexts(), SHORT)
    folder = stopped(here, OfTexts())
    with pytest.raises(ConfigError, match=r"handed over the task.*--use FILE.py:CLASS"):
        simulate(resume_from=folder)
    found = simulate(OfTexts(), resume_from=folder)
    assert found.summary["model_sha256"] == whole.summary["model_sha256"]


class Halved(OfTexts):
    """Another loss."""

    def loss(self, outputs, batch):
        return 0.5 * super().loss(outputs, batch)


@pytest.mark.slow
def test_a_run_of_a_task_of_python_does_not_go_on_with_another(here):
    folder = stopped(here, OfTexts())
    before = contents(folder)
    with pytest.raises(IntegrityError, match="code of the task"):
        simulate(Halved(), resume_from=folder)
    assert contents(folder) == before


CHANGES = {
    "the draws": MINE.replace("0.1 * noise", "0.2 * noise"),
    "the optimiser": MINE.replace("Adam", "SGD"),
}


@pytest.mark.slow
@pytest.mark.parametrize("text", CHANGES.values(), ids=CHANGES)
def test_a_run_does_not_go_on_when_the_code_of_its_task_changed(here, text):
    folder = stopped(here)
    before = contents(folder)
    Path("mine.py").write_text(text, encoding="utf-8")
    # Neither without consent to run what this user did not start, nor with it.
    with pytest.raises(ConfigError, match=re.escape("mine.py")):
        simulate(resume_from=folder)
    with pytest.raises(IntegrityError, match=r"the code of the task \(task\.use\)"):
        simulate(resume_from=folder, trust_code=True)
    assert contents(folder) == before
    Path("mine.py").write_text(MINE, encoding="utf-8")
    assert not simulate(resume_from=folder).was_finished


@pytest.mark.slow
def test_a_run_goes_on_when_only_a_comment_of_its_task_changed(here):
    whole = simulate(config=USED)
    folder = stopped(here)
    Path("mine.py").write_text(MINE + "# The end.\n", encoding="utf-8")
    found = simulate(resume_from=folder)
    assert found.summary["model_sha256"] == whole.summary["model_sha256"]


def contents(folder):
    """Return what is in each file of a run."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.name: path.read_bytes() for path in files}


def test_a_task_of_a_file_that_is_gone_is_refused_before_anything(here):
    Path("mine.py").unlink()
    with pytest.raises(FedPruneError, match=r"there is no file 'mine\.py'"):
        simulate(config=USED | {"run.dir": here / "none"})
    assert not (here / "none").exists()
