"""One self-contained ``report.html`` of a run, or of several side by side.

It needs no network and runs no script; its figures are inline SVG.  It is built from
the run folder alone, so it can be made again at any time, of an unfinished run too.
"""

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from fedprune.common.errors import ConfigError, IntegrityError
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.common.system.paths import check_output
from fedprune.common.text import error_line, fit_to_print
from fedprune.simulations.report.data import RunData, read_run

__all__ = ["write_report"]

# Whatever an event that was changed, but is JSON, may make its reader raise.
_BROKEN = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError)


def write_report(runs: Sequence[Path], output: Path | None = None) -> Path:
    """Write the report of one run, or the comparison of several.

    Args:
        runs: Run folders, at least one, finished or not.
        output: Where to write; by default ``report.html`` in the folder of a single
            run, and ``comparison.html`` beside the first of several.

    Returns:
        The file that was written.

    Raises:
        ConfigError: If no run is given, one is no run folder, the file cannot be
            written there, or matplotlib lacks.
        IntegrityError: If a file of a run is broken.
    """
    if not runs:
        msg = "no run to report on; want at least one run folder"
        raise ConfigError(msg)
    found = [_fit(read_run(path)) for path in runs]
    place = runs[0] / "report.html"
    if len(runs) > 1:
        place = runs[0].parent / "comparison.html"
    target = output or place
    check_output(target, ".html")
    write_bytes_atomic(target, _page(found).encode(errors="replace"))
    return target


def _fit(run: RunData) -> RunData:
    """Return a run whose texts are printable: fonts and terminals are handed them."""
    return replace(
        run,
        manifest=fit_to_print(run.manifest),
        events=tuple(fit_to_print(event) for event in run.events),
        summary=fit_to_print(run.summary),
    )


def _page(runs: Sequence[RunData]) -> str:
    """Return the page; matplotlib is loaded here, so that only reports need it."""
    try:
        page = import_module("fedprune.simulations.report.page")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        msg = "a report needs matplotlib: pip install 'fedprune[simulation]'"
        raise ConfigError(msg) from error
    try:
        made: str = page.single(runs[0]) if len(runs) == 1 else page.several(runs)
    except _BROKEN as error:
        places = ", ".join(str(run.path) for run in runs)
        why = error_line(error)
        msg = f"{places}: what its events or figures hold cannot be shown: {why}"
        raise IntegrityError(msg) from error
    return made
