"""A proof of concept from its folder to its report."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from fedprune.common.system.ports import free_port
from fedprune.server.devices.preflight import check_port
from fedprune.server.report import write_report
from fedprune.server.runs.finished import finished_summary
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.poc.commands import HOST
from fedprune.simulations.poc.federation import Federation
from fedprune.simulations.poc.files import make_files
from fedprune.simulations.poc.folder import PocFolder, Settings, open_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Wishes of a user; None stands for what the folder says, else the default.

    Attributes:
        directory: Folder of all files.
        clients: Number of devices.
        data: Data source.
        overrides: "key=value" texts for the configuration.
        port: Port of the loopback; 0 = a free one.
    """

    directory: Path
    clients: int | None
    data: str | None
    overrides: tuple[str, ...]
    port: int


def try_devices(
    trial: Trial, show: Callable[[str], None]
) -> tuple[PocFolder, RunFolder, Path]:
    """Make what is missing, carry out or resume one run, write its report.

    A run that has finished is not repeated.

    Args:
        trial: What the user asks for.
        show: Prints one line of the progress.

    Returns:
        The folder, the run, and its report.

    Raises:
        FedPruneError: If it fails, with the exit code of its cause.
        KeyboardInterrupt: If it is interrupted; all processes have ended then.
    """
    folder, settings = open_folder(
        trial.directory,
        clients=trial.clients,
        data=trial.data,
        overrides=trial.overrides,
    )
    if trial.port:
        check_port("--port", HOST, trial.port)
    run = folder.last_run()
    if run is not None and finished_summary(run) is not None:
        show(f"{folder.path}: its run has finished already; nothing was changed")
        return folder, run, _report(run)
    if run is not None:
        show(f"going on with {run.path}")
    _make(folder, settings, show)
    federation = Federation(
        folder=folder, settings=settings, port=trial.port or free_port(), show=show
    )
    try:
        run = federation.carry_out(run)
    except KeyboardInterrupt:
        again = f"stopped; to go on: fedprune poc {quote(str(trial.directory))}"
        print(again, file=sys.stderr, flush=True)
        raise
    return folder, run, _report(run)


def _make(folder: PocFolder, settings: Settings, show: Callable[[str], None]) -> None:
    if make_files(folder, settings):
        made = "certificates, keys, configuration and data parts"
        show(f"made {made}: {folder.path}")
    names = ", ".join(settings.ids)
    show(f"starting the server and {names}; logs: {folder.log('').parent}")


def _report(run: RunFolder) -> Path:
    """Return the report of a run, written when it is missing."""
    return run.report if run.report.is_file() else write_report([run.path])
