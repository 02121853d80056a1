"""A stopped run continues unchanged or not at all; one that has ended stays so."""

import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.some_events import STARTED
from helpers.tiny_federation import BASE, Tiny, make_examples, make_task
from torch import nn

from fedprune import simulate
from fedprune.common.aggregate import Accumulator
from fedprune.common.errors import ConfigError, FedPruneError, IntegrityError
from fedprune.server.rounds.engine import LostWorker, PartialAggregate
from fedprune.server.runs.events import EventLog, RoundFinished, WarningGiven, of_kind
from fedprune.server.runs.folder import RunFolder
from fedprune.server.runs.start import refuse_changes
from fedprune.server.runs.trying import check_unchanged, try_network
from fedprune.simulations.cli import run_command_line
from fedprune.simulations.engines.engines import InProcessEngine

EXAMPLES = make_examples(96)
X, Y = EXAMPLES.inputs, EXAMPLES.targets
TEST = make_examples(12, seed=1)
DATA = (X, Y, TEST.inputs, TEST.targets)
SETTINGS = BASE | {
    "task.clients": 8,
    "rounds.cohort": 3,
    "rounds.cuts": 1,
    "rounds.final": 1,
    "run.controls": [],
    # Its clients have too few examples to vote, which a warning would say.
    "prune.importance": "l2",
}


class Bent(Tiny):
    """The tiny network with tanh for its first relu."""

    def forward(self, x):
        x = torch.tanh(self.bn(self.conv(x)))
        y = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(y)) + x)
        return self.fc(x.mean((2, 3)))


class Wide(Tiny):
    """The tiny network with another width inside."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(8, 12, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 8, 3, padding=1, bias=False)


class Killed(BaseException):
    """Ends a run wherever it is."""


class Listener:
    """Collects events and ends the run after some rounds."""

    def __init__(self, rounds=0):
        self.rounds, self.events = rounds, []

    def on_event(self, event):
        self.events.append(event)
        if len(list(of_kind(self.events, RoundFinished))) == self.rounds > 0:
            raise Killed

    @property
    def warnings(self):
        return list(of_kind(self.events, WarningGiven))


def stopped(base, rounds, **changes):
    """Return the folder of a run that died after some rounds."""
    with pytest.raises(Killed):
        simulate(
            Tiny,
            DATA,
            SETTINGS | {"run.dir": base} | changes,
            progress=Listener(rounds),
        )
    return next(path for path in base.iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def _stopped(tmp_path_factory):
    """A run that died after three rounds, and what lies beside it."""
    base = tmp_path_factory.mktemp("stopped")
    folder = stopped(base / "runs", 3)
    shutil.copytree(base / "runs", base / "kept")
    return SimpleNamespace(base=base, folder=folder)


@pytest.fixture
def folder(_stopped):
    """The folder of a run that died after three rounds, as it was then."""
    shutil.rmtree(_stopped.base / "runs")
    shutil.copytree(_stopped.base / "kept", _stopped.base / "runs")
    return _stopped.folder


def goes_on(folder, factory=Tiny):
    """Go on with a run; return what it warned of."""
    listener = Listener()
    result = simulate(factory, resume_from=folder, progress=listener)
    assert not result.was_finished
    assert (folder / "summary.json").is_file()
    return listener.warnings


def refused(folder, factory, kind, message):
    """Check that a run does not continue, and that its folder is not changed."""
    before = contents(folder)
    with pytest.raises(kind, match=re.escape(message)) as caught:
        simulate(factory, resume_from=folder)
    assert len(str(caught.value).splitlines()) == 1
    assert contents(folder) == before


def contents(folder):
    """Return bytes and time of every file, and the time of every folder."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
        if path.name != ".lock"
    }


NETWORK = (
    "cannot continue: the network (its operations, settings or shapes) changed since"
)


@pytest.mark.parametrize("factory", [Bent, Wide])
def test_another_network_is_refused(folder, factory):
    refused(folder, factory, IntegrityError, NETWORK)


def test_a_wider_network_is_refused_before_the_first_checkpoint(folder):
    shutil.rmtree(folder / "checkpoints")
    refused(folder, Wide, IntegrityError, NETWORK)


def test_a_network_of_python_code_must_be_passed_again(folder):
    refused(folder, None, ConfigError, "name the function: --use FILE.py:NAME")


def test_what_the_kill_left_half_written_goes(folder):
    left = [
        folder / "checkpoints" / ".main-round-00004.safetensors.0123456789ab.tmp",
        next(folder.glob("clients/*/client-*")) / ".round-00004.safetensors.77.tmp",
    ]
    for path in left:
        path.write_bytes(b"half")
    goes_on(folder)
    assert not [path for path in left if path.exists()]


@pytest.mark.parametrize("lost", [True, False])
def test_what_lost_workers_left_half_written_goes_at_the_end(folder, monkeypatch, lost):
    left = next(folder.glob("clients/*/client-*")) / ".round-00005.safetensors.0f.tmp"
    ask = InProcessEngine.ask

    def with_losses(self, work):
        yield from ask(self, work)
        left.write_bytes(b"half")
        told = LostWorker(worker="7 on x", reason="it ended", clients=())
        total = Accumulator(0, work.request.limits)
        yield PartialAggregate(records=(), total=total, lost=(told,) if lost else ())

    monkeypatch.setattr(InProcessEngine, "ask", with_losses)
    goes_on(folder)
    # Without a loss no folder is searched: there may be a hundred thousand.
    assert left.exists() is not lost


def swapped(values):
    return values[np.random.default_rng(3).permutation(len(values))]


def both(z):
    order = np.random.default_rng(3).permutation(len(z["y_train"]))
    return {"x_train": z["x_train"][order], "y_train": z["y_train"][order]}


OTHER_DATA = {
    "labels permuted": lambda z: {"y_train": swapped(z["y_train"])},
    "examples permuted": both,
    "inputs changed": lambda z: {"x_train": z["x_train"] + 1e-3},
    "test labels permuted": lambda z: {"y_test": z["y_test"][::-1].copy()},
    "an example less": lambda z: {k: z[k][1:] for k in ("x_train", "y_train")},
}


@pytest.mark.parametrize("change", OTHER_DATA.values(), ids=OTHER_DATA)
def test_other_data_are_refused(folder, change):
    (path,) = folder.parent.glob("data-*.npz")
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **arrays | change(arrays))
    message = "cannot continue: the data (inputs, labels or their order) changed since"
    refused(folder, Tiny, IntegrityError, message)


def test_all_that_differs_is_named(folder):
    (path,) = folder.parent.glob("data-*.npz")
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **arrays | {"y_train": swapped(arrays["y_train"])})
    message = "their order) and the network (its operations, settings or shapes) chan"
    refused(folder, Bent, IntegrityError, message)


def test_data_that_are_gone_are_named(folder):
    (path,) = folder.parent.glob("data-*.npz")
    path.unlink()
    refused(folder, Tiny, FedPruneError, f"there is no file '{path}'")


def test_a_changed_configuration_is_refused_with_its_keys(folder):
    path = folder / "config.toml"
    text = path.read_text(encoding="utf-8")
    text = text.replace("epochs = 1", "epochs = 2").replace("batch = 8", "batch = 4")
    path.write_text(text, encoding="utf-8")
    message = "was changed since the run started: client.batch: 8 -> 4, client.epochs: "
    message += "1 -> 2; put it back"
    refused(folder, Tiny, IntegrityError, message)


def test_a_server_refuses_a_changed_configuration_too(tmp_path):
    config = make_task().config
    folder = RunFolder.create(tmp_path, "run")
    refuse_changes(folder, config)  # nothing has started yet
    with EventLog(folder.events) as log:
        log.write(replace(STARTED, config=config.model_dump(mode="json")))
    refuse_changes(folder, config)
    elsewhere = config.run.model_copy(update={"dir": "elsewhere", "workers": 3})
    refuse_changes(folder, config.model_copy(update={"run": elsewhere}))
    other = config.client.model_copy(update={"epochs": 7})
    with pytest.raises(IntegrityError, match=r"started: client\.epochs: 1 -> 7; put"):
        refuse_changes(folder, config.model_copy(update={"client": other}))


@pytest.mark.parametrize("factory", [Bent, Wide])
def test_a_server_refuses_another_network_too(tmp_path, factory):
    folder = RunFolder.create(tmp_path, "run")
    before, now = (
        try_network(task, task.build_model())
        for task in (make_task(), make_task(factory))
    )
    check_unchanged(folder, now)  # nothing has started yet
    with EventLog(folder.events) as log:
        log.write(replace(STARTED, graph=before.graph))
    folder.structure.write_bytes(before.structure.to_json())
    check_unchanged(folder, before)
    with pytest.raises(IntegrityError, match=re.escape(NETWORK)):
        check_unchanged(folder, now)
    folder.structure.unlink()
    with pytest.raises(IntegrityError, match=r"it lacks structure\.json"):
        check_unchanged(folder, before)
    (folder.checkpoints / "main-round-00001.safetensors").touch()
    folder.events.unlink()
    lacks = r"it lacks 'run_started' in events\.jsonl, structure\.json"
    with pytest.raises(IntegrityError, match=lacks):
        check_unchanged(folder, before)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    base = tmp_path_factory.mktemp("finished")
    return simulate(Tiny, DATA, SETTINGS | {"run.dir": base})


def test_a_finished_run_stays_as_it_is_for_python(finished):
    before = contents(finished.directory)
    for factory in (Tiny, Bent, None):
        again = simulate(factory, resume_from=finished.directory)
        assert again.was_finished
        assert again.summary == json.loads(json.dumps(finished.summary))
    assert contents(finished.directory) == before


def test_a_finished_run_has_no_live_page(finished, capsys):
    words = ["simulate", "--resume", str(finished.directory), "--watch", "--quiet"]
    assert run_command_line(words) == 0
    said = capsys.readouterr().err
    assert "http" not in said
    report = finished.directory / "report.html"
    assert f"{finished.directory} has finished; its report is {report}" in said


def test_a_finished_run_stays_as_it_is_for_the_command_line(finished, capsys):
    before = contents(finished.directory)
    words = ["simulate", "--resume", str(finished.directory)]
    call = run_command_line
    assert call(words) == 0
    shown = capsys.readouterr().out
    assert f"{finished.directory} has finished already; nothing was changed" in shown
    assert call([*words, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["accuracy_final"] == finished.summary["accuracy_final"]
    assert call([*words, "--quiet"]) == 0
    assert capsys.readouterr().out == f"{finished.directory}\n"
    assert contents(finished.directory) == before


def residuals(folder):
    found = sorted((folder / "clients").rglob("round-*.safetensors"))
    assert found
    return found


def delete(path):
    path.unlink()


def damage(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("harm", [delete, damage])
def test_lost_residuals_are_said_with_the_clients_they_were_of(folder, harm):
    took_part = {path.parent.name for path in residuals(folder)}
    for path in residuals(folder):
        harm(path)
    warnings = goes_on(folder)
    clients = [name for warning in warnings for name in warning.clients]
    assert clients
    assert set(clients) <= took_part
    assert len(set(clients)) == len(clients), "each is said once"
    assert "residuals are missing or damaged, of client-" in warnings[0].text
    assert warnings[0].clients[0] in warnings[0].text
    written = (folder / "events.jsonl").read_text(encoding="utf-8")
    assert "residuals are missing or damaged" in written


@pytest.mark.slow
def test_the_command_line_shows_lost_residuals(folder, capsys, monkeypatch):
    for path in residuals(folder):
        path.unlink()
    from fedprune.simulations.runs.progress import LineProgress

    with LineProgress() as progress:
        simulate(Tiny, resume_from=folder, progress=progress)
    shown = capsys.readouterr().out
    assert "warning: round " in shown
    assert "residuals are missing or damaged, of client-" in shown


@pytest.mark.slow
def test_a_run_that_lost_nothing_goes_on_without_a_word(folder):
    assert goes_on(folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [1, 2, 5])
@pytest.mark.parametrize("controls", [[], ["dense"]])
def test_so_does_a_longer_one_stopped_anywhere(tmp_path, rounds, controls):
    changes = {"run.controls": controls, "rounds.cuts": 2}
    assert goes_on(stopped(tmp_path, rounds, **changes)) == []


def test_a_run_that_never_stopped_warns_of_nothing(finished):
    events = (finished.directory / "events.jsonl").read_text(encoding="utf-8")
    assert '"round"' in events
    assert '"warning"' not in events


NOTED = ("config_digest", "data_fingerprint", "graph", "weights_sha256")


@pytest.mark.parametrize("key", NOTED)
def test_a_run_whose_manifest_was_thinned_is_refused(folder, key):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest[key]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    message = f"cannot continue: it lacks '{key}' in manifest.json, so it cannot"
    refused(folder, Tiny, IntegrityError, message)


def test_a_run_without_its_structure_is_refused(folder):
    (folder / "structure.json").unlink()
    message = "cannot continue: it lacks structure.json, so it cannot"
    refused(folder, Tiny, IntegrityError, message)


def test_a_run_whose_structure_was_cut_short_is_refused_by_the_name_of_the_file(folder):
    path = folder / "structure.json"
    path.write_bytes(path.read_bytes()[:-20])
    message = "cannot continue: the file structure.json (damaged or edited) changed"
    refused(folder, Tiny, IntegrityError, message)


@pytest.mark.parametrize("kept", [0, 5])
def test_a_run_whose_events_were_lost_is_refused(folder, kept):
    path = folder / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:kept]))
    lost = re.escape(f"{path} lacks 2 of the 2 rounds of main")
    with pytest.raises(IntegrityError, match=lost):
        simulate(Tiny, resume_from=folder)
