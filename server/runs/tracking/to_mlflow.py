"""MLflow: a store of runs, by default an SQLite file beside the run folders.

``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME`` choose another store and
experiment.  Only MLflow's client is used: its global state stays the caller's.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from typing_extensions import override

from fedprune.server.runs.events import MAIN, RunName
from fedprune.server.runs.tracking.base import Ended, TrackedRun, Tracker
from fedprune.server.runs.tracking.figures import plain_name

STORE, FILES = "mlflow.db", "mlflow-files"
EXPERIMENT = "fedprune"

_URI, _NAME = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"
_BATCH = 100  # parameters that one request takes
_LONGEST = 6000  # characters of a parameter
_HERE = ("", "file", "sqlite")  # schemes of stores on this machine
_STATUS = {
    Ended.FINISHED: "FINISHED",
    Ended.FAILED: "FAILED",
    Ended.INTERRUPTED: "KILLED",
}

T = TypeVar("T")


def refusal() -> str:
    """Return what is wrong on this machine: nothing that is known before a request."""
    return ""


def open_tracker() -> Tracker:
    """Return a tracker that writes into MLflow's store."""
    return MLflow()


class MLflow(Tracker):
    """Writes into MLflow's store."""

    def __init__(self) -> None:
        self._client: Any = None
        self._id = ""
        self._uri = ""
        self._rounds = 0
        self._had: dict[str, set[int]] = {}  # name of a figure -> its rounds

    @override
    def start(self, run: TrackedRun) -> str:
        # Neither use nor errors are reported to anyone but the user's own store.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        from mlflow import MlflowClient  # noqa: PLC0415 - optional

        root = run.folder.parent
        self._uri = os.environ.get(_URI, "") or f"sqlite:///{root / STORE}"
        self._client = MlflowClient(tracking_uri=self._uri)
        self._rounds = run.rounds.get(MAIN, 0)
        if run.token:
            self._id = run.token
            self._client.update_run(self._id, status="RUNNING")
            return self._id
        made = self._client.create_run(self._experiment(root), run_name=run.run_id)
        self._id = made.info.run_id
        self._log_config(run.config)
        return self._id

    def _experiment(self, root: Path) -> str:
        """Return the id of the experiment, which is made when absent."""
        name = os.environ.get(_NAME, "") or EXPERIMENT
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        # A server has a place of its own for files.
        files = (root / FILES).as_uri() if not os.environ.get(_URI) else None
        return str(self._client.create_experiment(name, artifact_location=files))

    def _log_config(self, config: Mapping[str, object]) -> None:
        from mlflow.entities import Param  # noqa: PLC0415 - optional

        params = [
            Param(plain_name(key), str(value)[:_LONGEST])
            for key, value in config.items()
        ]
        for part in _parts(params, _BATCH):
            self._client.log_batch(self._id, params=part)

    @override
    def log_round(self, run: RunName, round_: int, values: Mapping[str, float]) -> None:
        if round_ in self._known(run, next(iter(values))):
            return  # its figures arrived, and the note of it did not
        self._log(run, round_, values)
        if run == MAIN:
            self._rounds = round_

    @override
    def log_result(self, values: Mapping[str, float]) -> None:
        named = {f"result/{name}": value for name, value in values.items()}
        if named and not self._known(MAIN, next(iter(named))):
            self._log(MAIN, self._rounds, named)

    def _log(self, run: RunName, round_: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric  # noqa: PLC0415 - optional

        now = time.time_ns() // 1_000_000
        # One request a round: all of its figures are there, or none.
        self._client.log_batch(
            self._id,
            metrics=[
                Metric(metric_name(run, name), value, now, round_)
                for name, value in values.items()
            ],
        )

    def _known(self, run: RunName, name: str) -> set[int]:
        """Return the rounds that the store had a figure of when it was first asked."""
        full = metric_name(run, name)
        if full not in self._had:
            history = self._client.get_metric_history(self._id, full)
            self._had[full] = {point.step for point in history}
        return self._had[full]

    @override
    def sends(self) -> bool:
        return urlsplit(self._uri).scheme not in _HERE

    @override
    def log_file(self, path: Path) -> None:
        self._client.log_artifact(self._id, str(path))

    @override
    def end(self, ended: Ended) -> None:
        self._client.set_terminated(self._id, _STATUS[ended])


def metric_name(run: RunName, name: str) -> str:
    """Return the name of a figure; that of a control begins with the control's.

    >>> metric_name("main", "loss"), metric_name("dense", "loss")
    ('loss', 'dense/loss')
    """
    return name if run == MAIN else f"{plain_name(run)}/{name}"


def _parts(items: Sequence[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
