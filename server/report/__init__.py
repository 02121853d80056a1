"""One self-contained ``report.html`` of a run, or of several side by side.

It needs no network; its plots are drawn by the script that it brings along, and its
tables are there without any.  It is built from the run folder alone, so it can be made
again at any time, of an unfinished run too.
"""

from collections.abc import Sequence
from pathlib import Path

from fedprune.common.errors import ConfigError, FedPruneError, IntegrityError
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.common.system.paths import check_output
from fedprune.common.text import error_line
from fedprune.server.report import page
from fedprune.server.report.data import RunData, printable_run, read_run
from fedprune.server.report.several import several
from fedprune.server.report.single import single
from fedprune.server.runs.folder import RunFolder

__all__ = ["report_on_end", "write_report"]

# Whatever an event that was changed, but is JSON, may make its reader raise.
BROKEN = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError)


def write_report(runs: Sequence[Path], output: Path | None = None) -> Path:
    """Write the report of one run, or the comparison of several.

    Args:
        runs: Run folders, at least one, finished or not.
        output: Where to write; by default ``report.html`` in the folder of a single
            run, and ``comparison.html`` beside the first of several.

    Returns:
        The file that was written.

    Raises:
        ConfigError: If no run is given, one is given twice or is no run folder, or the
            file cannot be written there.
        IntegrityError: If a file of a run is broken.
    """
    if not runs:
        msg = "no run to report on; want at least one run folder"
        raise ConfigError(msg)
    _check_different(runs)
    found = [printable_run(read_run(path)) for path in runs]
    place = runs[0] / "report.html"
    if len(runs) > 1:
        place = runs[0].parent / "comparison.html"
    target = output or place
    check_output(target, ".html")
    write_bytes_atomic(target, _page(found).encode(errors="replace"))
    return target


def _check_different(runs: Sequence[Path]) -> None:
    """Refuse to compare a run with itself, by whatever path it is named."""
    places = [path.resolve() for path in runs]
    for number, path in enumerate(runs):
        if places.index(places[number]) < number:
            msg = f"{path}: this run is named twice; want each run once"
            raise ConfigError(msg)


def report_on_end(folder: RunFolder) -> str:
    """Write the report of a run that has ended; its network does not depend on it.

    Returns:
        One line on why there is no report, "" where there is one.
    """
    try:
        write_report([folder.path], folder.report)
    except (FedPruneError, OSError) as error:
        return f"no report of this run: {error_line(error)}"
    return ""


def _page(runs: Sequence[RunData]) -> str:
    try:
        return page.page(single(runs[0]) if len(runs) == 1 else several(runs))
    except BROKEN as error:
        places = ", ".join(str(run.path) for run in runs)
        why = error_line(error)
        msg = f"{places}: what its events or figures hold cannot be shown: {why}"
        raise IntegrityError(msg) from error
