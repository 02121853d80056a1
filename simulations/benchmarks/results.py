"""``docs/results.md`` from ``docs/results/*.json``: every number with its command.

``python -m fedprune.simulations.benchmarks.results [FOLDER] [--check]``; with
``--check`` nothing is written, and the exit code is 1 when the page differs from
the files.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedprune.common.errors import FedPruneError, IntegrityError
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.common.system.json_file import read_json
from fedprune.simulations.benchmarks.kit.harness import show_number, verdict

_KEYS = ("benchmark", "commit", "versions", "cpu", "seconds", "figures")
_FIGURE_KEYS = ("name", "value", "unit", "reference", "goal", "met", "detail")
_HEAD = """# Results

Generated from `docs/results/*.json` by
`python -m fedprune.simulations.benchmarks.results`; do not edit.
Every number comes from the command above its table; a commit with `+` had
changes that were not committed.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the page; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m fedprune.simulations.benchmarks.results"
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("docs/results"))
    parser.add_argument("--check", action="store_true", help="only compare")
    given = parser.parse_args(arguments)
    target = given.folder.with_suffix(".md")
    try:
        page = render(read_results(given.folder))
        if given.check:
            return _check(target, page)
        write_bytes_atomic(target, page.encode())
    except FedPruneError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"wrote {target}")
    return 0


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Return the results of a folder, in order of the file names.

    Raises:
        IntegrityError: If a file is not a result of a benchmark.
    """
    return [_read(path) for path in sorted(folder.glob("*.json"))]


def render(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the page: the goals met, then a table for each benchmark."""
    verdicts = [f["met"] for r in results for f in r["figures"] if f["met"] is not None]
    unresolved = sum(
        bool(f["goal"]) and f["met"] is None for r in results for f in r["figures"]
    )
    open_ = f", {unresolved} not resolved" if unresolved else ""
    parts = [_HEAD, f"{sum(verdicts)} of {len(verdicts)} goals met{open_}.\n"]
    missed = [
        f"- {result['benchmark']}: {_cell(figure['name'])} is "
        f"{_value(figure)}, goal {_cell(figure['goal'])}"
        for result in results
        for figure in result["figures"]
        if figure["met"] is False
    ]
    if missed:
        parts.append("Missed:\n\n" + "\n".join(missed) + "\n")
    return "\n".join([*parts, *(_section(result) for result in results)])


def _section(result: Mapping[str, Any]) -> str:
    versions = ", ".join(
        f"{name} {number}" for name, number in result["versions"].items()
    )
    rows = [
        " | ".join(
            (
                _cell(figure["name"]),
                _value(figure),
                _cell(figure["goal"]) or "-",
                verdict(figure["met"], figure["goal"]) or "-",
                _cell(figure["reference"]),
                _cell(figure["detail"]),
            )
        )
        for figure in result["figures"]
    ]
    table = "\n".join(f"| {row} |" for row in rows)
    return (
        f"## {result['benchmark']}\n\n"
        f"`{_command(result)}`: commit {result['commit']}, {result['cpu']}, "
        f"{result['seconds']:.0f} s; {versions}.\n\n"
        "| figure | value | goal | | reference | detail |\n"
        "|---|---:|---:|---|---|---|\n"
        f"{table}\n"
    )


def _command(result: Mapping[str, Any]) -> str:
    default = f"python -m fedprune.simulations.benchmarks.{result['benchmark']}"
    return str(result.get("command", default))


def _value(figure: Mapping[str, Any]) -> str:
    return f"{show_number(figure['value'])} {_cell(figure['unit'])}".strip()


def _cell(text: object) -> str:
    """Return text escaped for a cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _read(path: Path) -> dict[str, Any]:
    value: Any = read_json(path)
    missing = sorted(set(_KEYS) - set(value)) if isinstance(value, dict) else _KEYS
    if missing:
        msg = f"{path}: not a result of a benchmark: lacks {', '.join(missing)}"
        raise IntegrityError(msg)
    for figure in value["figures"]:
        lacking = sorted(set(_FIGURE_KEYS) - set(figure))
        if lacking:
            msg = f"{path}: a figure lacks {', '.join(lacking)}"
            raise IntegrityError(msg)
    found: dict[str, Any] = value
    return found


def _check(target: Path, page: str) -> int:
    there = target.read_text(encoding="utf-8") if target.is_file() else ""
    if there == page:
        return 0
    print(
        f"{target} differs from its files; run python -m "
        "fedprune.simulations.benchmarks.results",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
