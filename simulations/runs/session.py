"""``fedprune simulate``: a run under a progress display, then its result.

``show`` is the form of the result on standard output: "table", "json", or "path" for
the run's folder alone.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fedprune.common.config import Config
from fedprune.common.data.places import check_early
from fedprune.common.errors import ConfigError, FedPruneError, RoundError
from fedprune.common.profiling.activities import Activity
from fedprune.common.profiling.recorder import during
from fedprune.common.text import LONGEST_LINE, as_json, printable
from fedprune.server.live import watching
from fedprune.simulations.profiling.record import recording

if TYPE_CHECKING:
    from fedprune.server.live.serving import LivePage
    from fedprune.simulations.runs.notebook.result import RunResult
    from fedprune.simulations.runs.progress import Display

# characters of a value, which may be a path
_RESUMABLE = {FedPruneError.exit_code, RoundError.exit_code}


class Interrupted(FedPruneError):  # noqa: N818 - the user's wish, not an error
    """The user pressed Ctrl-C."""

    exit_code = 130


@contextmanager
def as_typed(options: Mapping[str, str]) -> Iterator[None]:
    """Name a wrong setting in an error by the option that the user typed.

    Args:
        options: The setting as ``--set`` has it -> the option.
    """
    try:
        yield
    except ConfigError as error:
        text = str(error)
        for setting, option in options.items():
            text = text.replace(f"{setting}: ", f"{option}: ")
        raise ConfigError(text) from error


def run_one(config: Config, ray_address: str, show: str, *, watch: str = "") -> None:
    """Run one federation and show its result.

    Args:
        config: Its configuration.
        ray_address: A Ray cluster, or "".
        show: The form of the result.
        watch: HOST:PORT of a live page, or "".
    """
    with watching(wanted=bool(watch), at=watch) as page:
        result = _run(config, ray_address, show, page)
    _show_one(result, show)


def resume_one(
    directory: Path,
    ray_address: str,
    show: str,
    *,
    use: str = "",
    trust_code: bool = False,
    watch: str = "",
) -> None:
    """Resume a stopped run, maybe with a task or network of Python, and show it."""
    wanted = bool(watch) and not _has_finished(directory)
    with watching(wanted=wanted, at=watch) as page:
        if page is not None:
            page.follow(lambda: directory)
        result = _resume(directory, ray_address, show, use=use, trust_code=trust_code)
    if result.was_finished and show == "table":
        print(f"{directory} has finished already; nothing was changed\n")
    _show_one(result, show)


def _has_finished(directory: Path) -> bool:
    """Return whether there is nothing to watch in a run, and say so if that is so."""
    from fedprune.server.runs.folder import RunFolder
    from fedprune.simulations.runs.resumption import finished_summary

    folder = RunFolder.open(directory)
    if finished_summary(folder) is None:
        return False
    told = f"no live page: {directory} has finished; its report is {folder.report}"
    print(told, file=sys.stderr)
    return True


def _run(
    config: Config, ray_address: str, show: str, page: "LivePage | None"
) -> "RunResult":
    """Run one federation under a progress display."""
    check_early(config)
    if show == "table":
        print(what_comes(config), flush=True)  # seconds before torch is there
    with recording(wanted=config.run.profile):
        with during(Activity.STARTING):  # torch is imported
            display = _display(show)
            from fedprune.simulations.runs.run import run
        if page is not None:
            page.follow(lambda: Path(display.directory) if display.directory else None)
        with display:
            try:
                return run(config, ray_address=ray_address, progress=display)
            except (KeyboardInterrupt, FedPruneError) as error:
                raise _with_hint(error, display.directory) from error


def what_comes(config: Config) -> str:
    """Return one line about a run: its data, clients, rounds and controls.

    >>> what_comes(Config())[:30]
    'digits, small-resnet: 10 clien'
    """
    task, rounds = config.task, config.rounds
    what = task.use or f"{task.data}, {task.model}"
    clients = str(task.clients or "all")  # 0 = as many as the data name
    text = f"{what}: {clients} clients, {rounds.total + 1} rounds"
    controls = ", ".join(config.run.controls)
    if controls:
        text += (
            f"; then as many for comparison: {controls} (run.controls = [] has none)"
        )
    return text


def _resume(
    directory: Path, ray_address: str, show: str, *, use: str, trust_code: bool
) -> "RunResult":
    """Resume one federation under a progress display."""
    from fedprune.common.tasks.own import load_given
    from fedprune.common.tasks.task import Task
    from fedprune.simulations.runs.run import resume

    own = load_given(use) if use else None
    with _display(show) as display:
        try:
            return resume(
                directory,
                ray_address=ray_address,
                progress=display,
                factory=None if isinstance(own, Task) else own,
                given=own if isinstance(own, Task) else None,
                trust_code=trust_code,
            )
        except (KeyboardInterrupt, FedPruneError) as error:
            raise _with_hint(error, str(directory)) from error


def _display(show: str) -> "Display":
    from fedprune.simulations.runs.progress import (
        SilentProgress,
        usual_display,
    )

    if show != "table":
        return SilentProgress()
    return usual_display()


def _with_hint(error: BaseException, directory: str) -> FedPruneError:
    """Return an error with the command that resumes the run, where that can help."""
    from fedprune.server.devices.run_config import resume_command

    hint = f"; resume with: {resume_command(directory)}" if directory else ""
    if not isinstance(error, FedPruneError):
        return Interrupted(f"interrupted{hint}")
    # A run that needs a lower learning rate fails in the same way when resumed.
    has_remedy = any(word in str(error) for word in ("--resume", "client.lr"))
    if error.exit_code not in _RESUMABLE or has_remedy or not hint:
        return error
    hinted = FedPruneError(f"{error}{hint}")
    hinted.exit_code = error.exit_code
    return hinted


def _show_one(result: "RunResult", show: str) -> None:
    """Print the result of one run."""
    from fedprune.simulations.profiling.files import PAGE
    from fedprune.simulations.profiling.table import print_profile
    from fedprune.simulations.runs.outcome import print_outcome

    if show == "json":
        print_json(_with_directory(result))
    elif show == "path":
        print(result.directory)
    else:
        print_outcome(result.summary)
        if result.profile is not None:
            print()
            print_profile(result.profile)
        print(f"\nrun: {result.directory}")
        report = result.directory / "report.html"
        if report.exists():
            print(f"report: {report}")
        if result.profile is not None:
            print(f"profile: {result.directory / 'profile' / PAGE}")


def run_sweep(
    configs: Sequence[tuple[str, Config]],
    ray_address: str,
    show: str,
    *,
    watch: str = "",
) -> None:
    """Run every configuration of a sweep and print one row for each."""
    from fedprune.simulations.runs.outcome import print_comparison

    results = []
    with watching(wanted=bool(watch), at=watch) as page:
        for number, (label, config) in enumerate(configs, start=1):
            if show == "table":
                print(f"sweep {number}/{len(configs)}: {label}")
            results.append((label, _run(config, ray_address, show, page)))
    if show == "json":
        print_json(
            [{"label": label, **_with_directory(result)} for label, result in results]
        )
        return
    if show == "table":
        print_comparison([(label, result.summary) for label, result in results])
    for _, result in results:
        print(result.directory)


def _with_directory(result: "RunResult") -> dict[str, object]:
    return {"directory": str(result.directory), **result.summary}


def print_json(value: object) -> None:
    """Print one JSON document; characters that are not printable are escaped."""
    text = json.dumps(as_json(value), indent=2, ensure_ascii=False)
    print("".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in text))


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1].replace("\x7f", "\\u007f")


def print_rows(found: Mapping[str, object], *, quiet: bool) -> None:
    """Print what was written; when quiet, only the path."""
    for name, value in found.items():
        if not quiet or name == "path":
            shown = printable(value, LONGEST_LINE)
            print(shown if quiet else f"{name}: {shown}")
