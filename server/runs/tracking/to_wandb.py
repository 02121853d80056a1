"""Weights & Biases: a remote service, or files on this machine to be sent later.

``WANDB_MODE=offline`` keeps all on this machine, in the folder ``wandb`` beside the
run folders; ``WANDB_PROJECT`` and ``WANDB_ENTITY`` choose where it goes.  Nothing but
the run is sent: no console, code, git state, list of packages, metrics of the system,
or name of this machine and its user.
"""

import netrc
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from typing_extensions import override

from fedprune.server.runs.events import MAIN, RunName
from fedprune.server.runs.tracking.base import Ended, TrackedRun, Tracker
from fedprune.server.runs.tracking.figures import plain_name

PROJECT = "fedprune"

_UNNAMED = "fedprune"  # in place of the machine, its user and its program
_FLUSH_S = 0.05
_WRITTEN_S = 2.0  # at most, in the thread of the tracker
_WITHOUT_KEY = ("offline", "disabled", "dryrun")
_KEYS = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")


def refusal() -> str:
    """Return that no key is known here, as it would be asked for in mid-run; or ""."""
    if os.environ.get("WANDB_MODE", "") in _WITHOUT_KEY:
        return ""
    if any(os.environ.get(name) for name in _KEYS) or _in_netrc():
        return ""
    return (
        "wandb has no key on this machine; run: wandb login, or set the environment "
        "variable WANDB_MODE=offline"
    )


def _in_netrc() -> bool:
    base = os.environ.get("WANDB_BASE_URL", "") or "https://api.wandb.ai"
    try:
        return netrc.netrc().authenticators(urlsplit(base).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def open_tracker() -> Tracker:
    """Return a tracker that hands figures to Weights & Biases."""
    return Wandb()


class Wandb(Tracker):
    """Hands figures to Weights & Biases."""

    def __init__(self) -> None:
        self._run: Any = None
        self._steps = 0
        self._defined: set[RunName] = set()

    @override
    def start(self, run: TrackedRun) -> str:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb  # noqa: PLC0415 - optional

        name = run.token or plain_name(run.run_id)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "") or PROJECT,
            id=name,
            name=run.run_id,
            resume="allow",
            config=dict(run.config),
            # Beside the run's folder, which has no links: Weights & Biases makes some.
            dir=str(run.folder.parent),
            settings=wandb.Settings(**_quiet()),
        )
        # Steps count the rounds of all federations, one after another.
        self._steps = sum(run.rounds.values())
        return name

    @override
    def log_round(self, run: RunName, round_: int, values: Mapping[str, float]) -> None:
        prefix = "" if run == MAIN else f"{plain_name(run)}/"
        if run not in self._defined:
            self._defined.add(run)
            self._run.define_metric(f"{prefix}round")
            self._run.define_metric(f"{prefix}*", step_metric=f"{prefix}round")
        self._steps += 1
        if self._steps < self._run.step:  # it is that of the next record
            return  # its figures arrived, and the note of it did not
        named = {f"{prefix}{name}": value for name, value in values.items()}
        before = self._size()
        row = {f"{prefix}round": round_, **named}
        self._run.log(row, step=self._steps, commit=True)
        self._wait_written(before)

    def _size(self) -> int:
        """Return the length of the run's file on this machine."""
        path = Path(self._run.settings.sync_file)
        return path.stat().st_size if path.is_file() else 0

    def _wait_written(self, before: int) -> None:
        """Wait until the file has grown: a process of its own writes it, later."""
        end = time.monotonic() + _WRITTEN_S
        while self._size() <= before and time.monotonic() < end:
            time.sleep(_FLUSH_S / 2)

    @override
    def log_result(self, values: Mapping[str, float]) -> None:
        self._run.summary.update({f"result/{k}": v for k, v in values.items()})

    @override
    def sends(self) -> bool:
        """Return True: files that are written offline are meant to be sent."""
        return True

    @override
    def log_file(self, path: Path) -> None:
        import wandb  # noqa: PLC0415 - optional

        kind = "model" if path.suffix == ".safetensors" else "record"
        artefact = wandb.Artifact(f"{path.stem}-{self._run.id}"[-128:], type=kind)
        artefact.add_file(str(path))
        self._run.log_artifact(artefact)

    @override
    def end(self, ended: Ended) -> None:
        self._run.finish(exit_code=0 if ended is Ended.FINISHED else 1)


def _quiet() -> dict[str, Any]:
    """Return settings under which nothing but the run is recorded."""
    return {
        "console": "off",
        "silent": True,
        "disable_git": True,
        "save_code": False,
        "symlink": False,
        "host": _UNNAMED,
        "username": _UNNAMED,
        "email": "",
        "program": _UNNAMED,
        "x_executable": _UNNAMED,
        "x_disable_meta": True,
        "x_disable_stats": True,
        "x_disable_machine_info": True,
        "x_save_requirements": False,
        # The default of 15 s would lose rounds of a run that is killed.
        "x_transaction_log_flush_interval": _FLUSH_S,
    }
