"""Networks of other people that can be cut: how many, how exactly, how far.

``python -m fedprune.simulations.benchmarks.coverage [--rows FILE] [--only TEXT]``

Measures each network of the list in a process of its own and adds a line to ``--rows``;
what stands there of the same code is not measured again, so an interrupted run goes on.
Needs the extras ``vision``, ``hf`` and ``onnx``, and timm; torch-pruning is
compared where it is installed.  Weights are random: no accuracy is measured here.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from fedprune.common.errors import ConfigError
from fedprune.simulations.benchmarks.kit.coverage.figures import figures
from fedprune.simulations.benchmarks.kit.coverage.measure import RIVAL, STEPS, Request
from fedprune.simulations.benchmarks.kit.coverage.nets.listing import all_entries
from fedprune.simulations.benchmarks.kit.coverage.processes import measure_apart
from fedprune.simulations.benchmarks.kit.coverage.row import (
    Row,
    append_row,
    code_name,
    read_rows,
)
from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark

_ROWS = Path("build/coverage.jsonl")
_SECONDS = 900.0  # for one network, on the clock
_WIDTH = 160  # columns of a line of progress


def measure(
    rows: Path = _ROWS, only: str = "", steps: Sequence[str] = STEPS
) -> list[Figure]:
    """Measure the networks of the list that this code has not measured yet.

    Args:
        rows: File of results, one line of JSON for each network.
        only: Part of the names of the networks to measure; empty = all.
        steps: Steps beside the structure and its verification.

    Raises:
        ConfigError: If no network has such a name.
    """
    keys = [key for key in all_entries() if only in key]
    if not keys:
        msg = f"no network of the list has {only!r} in its name"
        raise ConfigError(msg)
    code = code_name()
    known = read_rows(rows)
    found: list[Row] = []
    for number, key in enumerate(keys, start=1):
        row = known.get(key)
        if row is None or row.code != code:
            row = measure_apart(Request(key=key, steps=steps), _SECONDS)
            row = replace(row, code=code)
            append_row(rows, row)
            line = f"{number}/{len(keys)} {key}: {row.outcome} {row.detail}"
            print(line[:_WIDTH], file=sys.stderr, flush=True)
        found.append(row)
    return figures(found, whole=not only)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--rows", type=Path, default=_ROWS)
    parser.add_argument("--only", default="")
    parser.add_argument("--steps", nargs="*", choices=STEPS, default=list(STEPS))
    own, rest = parser.parse_known_args(arguments)
    steps = [s for s in own.steps if s != RIVAL or find_spec("torch_pruning")]
    return benchmark("coverage", lambda: measure(own.rows, own.only, steps))(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
