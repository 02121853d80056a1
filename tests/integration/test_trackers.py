"""Runs that TensorBoard, MLflow and Weights & Biases follow, read back offline."""

import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from helpers.small_runs import only_run, read_summary, run_small, small_settings
from helpers.some_events import ROUND, STARTED, at

from fedprune import simulate
from fedprune.common.config import load_config
from fedprune.server.runs.checkpoint import Checkpoints
from fedprune.server.runs.events import WarningGiven, of_kind, read_events
from fedprune.server.runs.folder import RunFolder
from fedprune.server.runs.tracking import tracked
from fedprune.server.runs.tracking.progress import read_done
from fedprune.simulations.benchmarks.kit.trackers.stored import STORED, written
from fedprune.simulations.benchmarks.kit.trackers.wandb_file import read_wandb
from fedprune.simulations.engines.faults import die, forked

for package in ("tensorboard", "mlflow", "sqlalchemy", "alembic", "wandb"):
    pytest.importorskip(package)

pytestmark = [
    pytest.mark.slow,
    # Of other packages, in the threads of the trackers.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

CONTROLLED = {"run.controls": ["dense"], "rounds.cuts": 1}
ALL = {"run.track": ["tensorboard", "mlflow", "wandb"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder for runs; nothing leaves the machine."""
    made = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
            patch.setenv(name, str(made / "own"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
        yield made


def interrupted_and_resumed(runs, changes):
    """Return a run that was stopped after a round that its trackers have already.

    Its checkpoint was not written, so the resumed run plays that round again.
    """
    write, count = Checkpoints.write, 0

    def stop(self, state):
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        write(self, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            simulate(config=small_settings(runs, changes), progress=False)
    left = only_run(runs)
    simulate(resume_from=left, progress=False)
    return RunFolder.open(left)


@pytest.fixture(scope="module")
def folder(place):
    """Return a run with one control that all trackers followed."""
    return interrupted_and_resumed(place / "runs", CONTROLLED | ALL)


@pytest.mark.parametrize("name", STORED)
def test_every_figure_of_a_resumed_run_is_read_back_once(folder, name):
    found, wanted = STORED[name](folder), written(folder)
    assert len(wanted) > 100
    assert {place.run for place in wanted} == {"main", "dense"}
    times = Counter(place for place, _ in found)
    assert {place: times[place] for place in wanted} == dict.fromkeys(wanted, 1)
    # Trackers have the time that a round took when it was first played.
    timeless = {place: v for place, v in wanted.items() if place.name != "seconds"}
    values = {place: value for place, value in found if place in timeless}
    assert values == pytest.approx(timeless, rel=1e-6)


def test_no_tracker_has_failed(folder):
    texts = [e.text for e in of_kind(read_events(folder.events), WarningGiven)]
    assert not [text for text in texts if "tracker" in text]


def test_no_bit_of_a_run_depends_on_its_trackers(folder, place):
    plain = run_small(place / "plain", CONTROLLED).summary
    followed = read_summary(folder.path)
    assert followed["model_sha256"] == plain["model_sha256"]
    assert followed["bytes_up"] == plain["bytes_up"]


def mlflow_run(folder):
    from mlflow import MlflowClient

    store = f"sqlite:///{folder.path.parent.resolve()}/mlflow.db"
    client = MlflowClient(tracking_uri=store)
    (experiment,) = (e for e in client.search_experiments() if e.name == "fedprune")
    (run,) = client.search_runs([experiment.experiment_id])
    return client, run


def test_mlflow_has_one_run_with_configuration_result_and_files(folder):
    client, run = mlflow_run(folder)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == folder.run_id
    assert run.data.params["task.clients"] == "4"
    assert run.data.params["prune.budget.params"] == "0.5"
    assert "run.dir" not in run.data.params
    summary = read_summary(folder.path)
    final = client.get_metric_history(run.info.run_id, "result/accuracy_final")
    assert [point.value for point in final] == [summary["accuracy_final"]]
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"final.safetensors", "plan.json", "report.html"}


def test_tensorboard_has_the_configuration_and_the_result(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder.tracking / "tensorboard" / "main"))
    events.Reload()
    (config,) = events.Tensors("config/text_summary")
    assert b"| task.clients | 4 |" in config.tensor_proto.string_val[0]
    (final,) = events.Scalars("result/accuracy_final")
    assert final.value == pytest.approx(read_summary(folder.path)["accuracy_final"])
    (model,) = events.Tensors("file/final/text_summary")
    assert model.tensor_proto.string_val[0] == b"model/final.safetensors"


def wandb_files(folder):
    found = sorted(folder.path.parent.glob("wandb/offline-run-*/*.wandb"))
    assert len(found) == 2  # one for each process of the run
    return found


def test_wandb_has_one_run_with_configuration_result_and_files(folder):
    records = [record for path in wandb_files(folder) for record in read_wandb(path)]
    runs = {record.run.run_id for record in records if record.HasField("run")}
    assert runs == {folder.run_id}
    config = {
        item.key: item.value_json
        for record in records
        for item in record.run.config.update
    }
    assert config["task.clients"] == "4"
    summary = {
        item.key or item.nested_key[0]: item.value_json
        for record in records
        for item in record.summary.update
    }
    final = read_summary(folder.path)["accuracy_final"]
    assert float(summary["result/accuracy_final"]) == pytest.approx(final)
    files = {
        entry.path
        for record in records
        for entry in record.request.log_artifact.artifact.manifest.contents
    } | {
        entry.path for record in records for entry in record.artifact.manifest.contents
    }
    assert files == {"final.safetensors", "plan.json"}


def test_nothing_for_wandb_names_a_client_this_machine_or_its_user(folder):
    data = b"".join(path.read_bytes() for path in wandb_files(folder))
    assert b"client-0" not in data
    assert b"fedprune" in data
    (host,) = {
        record.run.host
        for path in wandb_files(folder)
        for record in read_wandb(path)
        if record.HasField("run")
    }
    assert host == "fedprune"
    for private in (Path.home(), Path.cwd(), Path(sys.executable).parent):
        assert str(private).encode() not in data


@pytest.mark.parametrize("name", STORED)
def test_a_round_that_counts_as_taken_survives_a_kill(name, place):
    folder = RunFolder.create(place / "killed")
    config = load_config(None, [f'run.track=["{name}"]'])

    def run():
        with tracked(folder, config) as tracking:
            tracking.on_event(STARTED)
            for number in (1, 2, 3):
                tracking.on_event(at(ROUND, number))
            while read_done(folder.tracking / f"{name}.json").rounds != {"main": 3}:
                time.sleep(0.01)
            die()

    assert forked(run) == -signal.SIGKILL
    found = dict(STORED[name](folder))
    losses = {key.round: value for key, value in found.items() if key.name == "loss"}
    assert losses == {1: 1.25, 2: 1.25, 3: 1.25}
