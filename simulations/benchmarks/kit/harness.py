"""Harness of every benchmark: figures with goals, a table, a JSON file, exit codes.

A benchmark is a module with ``main = benchmark("codec", measure)``, run as
``python -m fedprune.simulations.benchmarks.codec [--json FILE] [--check]``.  It exits
0 when it
ran, whether goals are met or not; with ``--check`` a missed goal makes it exit 1.
"""

import argparse
import math
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fedprune.common.errors import ConfigError, FedPruneError
from fedprune.common.system.atomic import write_json_atomic
from fedprune.simulations.runs.outcome import table_console

Measure = Callable[[], Sequence["Figure"]]

_PACKAGES = ("fedprune", "torch", "numpy", "flwr", "ray", "msgpack", "safetensors")
_GOAL = re.compile(r"(<=|>=|<|>|==)\s*(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)")
_WIDTH = 110  # columns of a table that goes to a file or a pipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number and its goal.

    Attributes:
        name: Name of the quantity; unique in its benchmark.
        value: The number, finite.
        unit: Its unit, empty for a plain number.
        reference: Its comparison: a rival, its number, a source.
        goal: "<= 1.0", ">= 2", "< 3", "> 4" or "== 0"; empty = none.
        detail: Method of measurement: sizes, repetitions, ranges.
        low: Lower end of the value's interval, maybe -inf; None = no interval.
        high: Its upper end.
    """

    name: str
    value: float
    unit: str = ""
    reference: str = ""
    goal: str = ""
    detail: str = ""
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.goal and not _GOAL.fullmatch(self.goal):
            msg = f"goal of {self.name!r} is {self.goal!r}; want like '<= 1.0'"
            raise ConfigError(msg)
        if not math.isfinite(self.value):
            msg = f"value of {self.name!r} is {self.value}; want a finite number"
            raise ConfigError(msg)

    @property
    def met(self) -> bool | None:
        """True if the goal is met, None without a goal and where it is not resolved.

        With an interval a goal is met or missed if it is by both ends.
        """
        found = _GOAL.fullmatch(self.goal)
        if found is None:
            return None
        ends = (self.low, self.high) if self.low is not None else (self.value,)
        verdicts = {_holds(found[1], end, float(found[2])) for end in ends}
        return verdicts.pop() if len(verdicts) == 1 else None


def benchmark(name: str, measure: Measure) -> Callable[[Sequence[str] | None], int]:
    """Return the ``main`` of a benchmark.

    Args:
        name: Its name: that of the module.
        measure: Measures; returns the figures in the order of the table.
    """

    def main(arguments: Sequence[str] | None = None) -> int:
        """Measure, print, optionally write; return the exit code."""
        given = _parse(name, arguments)
        started = time.monotonic()
        try:
            figures = measure()
            taken = time.monotonic() - started
            print_figures(name, figures)
            if given.json is not None:
                write_json_atomic(given.json, result(name, figures, taken))
        except FedPruneError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        missed = [figure.name for figure in figures if figure.met is False]
        return 1 if given.check and missed else 0

    return main


def result(name: str, figures: Sequence[Figure], seconds: float) -> dict[str, object]:
    """Return the JSON document of ``--json``.

    Raises:
        ConfigError: If two figures have one name.
    """
    names = [figure.name for figure in figures]
    twice = sorted({one for one in names if names.count(one) > 1})
    if twice:
        msg = f"benchmark {name}: figures named twice: {', '.join(twice)}"
        raise ConfigError(msg)
    return {
        "benchmark": name,
        "commit": commit(),
        "versions": {"python": platform.python_version()}
        | {package: _version(package) for package in _PACKAGES},
        "cpu": cpu(),
        "seconds": round(seconds, 2),
        "figures": [_as_json(figure) for figure in figures],
    }


def _as_json(figure: Figure) -> dict[str, object]:
    """Return a figure with its verdict; ends that are not finite are left out."""
    found = asdict(figure) | {"met": figure.met}
    ends = {key: found.pop(key) for key in ("low", "high")}
    finite = {k: v for k, v in ends.items() if v is not None and math.isfinite(v)}
    return found | finite


def print_figures(
    name: str, figures: Sequence[Figure], console: Console | None = None
) -> None:
    """Print the table of a benchmark."""
    table = Table(title=name, title_justify="left", box=None, pad_edge=False)
    for head, justify in (
        ("figure", "left"),
        ("value", "right"),
        ("goal", "right"),
        ("", "left"),
        ("reference", "left"),
        ("detail", "left"),
    ):
        table.add_column(head, justify="right" if justify == "right" else "left")
    for figure in figures:
        table.add_row(
            figure.name,
            f"{show_number(figure.value)} {figure.unit}".strip(),
            figure.goal,
            verdict(figure.met, figure.goal),
            figure.reference,
            figure.detail,
        )
    table_console(console, _WIDTH).print(table, highlight=False, markup=False)


def verdict(met: bool | None, goal: str) -> str:  # noqa: FBT001 - a value to show, not a flag
    """Return "met", "MISSED", "not resolved", or nothing without a goal."""
    if met is None:
        return "not resolved" if goal else ""
    return "met" if met else "MISSED"


def show_number(value: float) -> str:
    """Return a number with four significant digits; integers in full.

    >>> show_number(12345678), show_number(0.123456), show_number(3.0)
    ('12,345,678', '0.1235', '3')
    """
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"  # noqa: PLR2004


def _holds(sign: str, value: float | None, limit: float) -> bool:
    if value is None:
        return False
    return {
        "<=": value <= limit,
        ">=": value >= limit,
        "<": value < limit,
        ">": value > limit,
        "==": value == limit,
    }[sign]


def commit() -> str:
    """Return the commit of the checkout, "+" when changed, "unknown" outside one."""
    here = Path(__file__).parent
    found = _git(here, "rev-parse", "--short=12", "HEAD")
    if not found:
        return "unknown"
    changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    return f"{found}+" if changed else found


def cpu() -> str:
    """Return the processor's name and the number of its cores."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        found = re.search(r"model name\s*:\s*(.+)", info.read_text(encoding="utf-8"))
        name = found[1].strip() if found else name
    return f"{name}, {os.cpu_count()} cores"


def _parse(name: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m fedprune.simulations.benchmarks.{name}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument(
        "--check", action="store_true", help="exit 1 when a goal is missed"
    )
    return parser.parse_args(arguments)


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - git of the PATH
            capture_output=True,
            check=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
