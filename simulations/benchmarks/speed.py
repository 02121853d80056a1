"""CPU of rounds against stock Flower and plain torch; of codec, sums, start; state.

``python -m fedprune.simulations.benchmarks.speed [ROW ...] [--pairs 3]``, with ``--json
FILE`` and ``--check`` of every benchmark, and ``FEDPRUNE_DATA`` with MNIST.  A pair is
one measurement in which all systems take turns, round by round, over a whole cycle of
the schedule after one round that is not counted.  What counts are CPU seconds, user and
system, of each system's process tree; seconds on the clock stand beside them, with the
share of the machine that others kept busy.  A figure is the median over pairs with
their range; it has a verdict from three pairs on.

The rows that are named are measured, piece by piece: each pair is one file of
``docs/results/speed`` and is not measured again.  Rows that are not named show what is
stored.  ``--only`` measures the pieces whose names begin so, ``--work DIR`` stores
elsewhere.  The row ``pfl`` needs ``make rival-pfl``.  ``--small`` runs each row with a
few clients, which proves that it works and says nothing about speed: give it a
``--work`` of its own.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fedprune.common.errors import ConfigError
from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.benchmarks.kit.rows import RowStore
from fedprune.simulations.benchmarks.kit.science.rows import Row, measure, shown
from fedprune.simulations.benchmarks.kit.speed import (
    codec_row,
    round_rows,
    start_row,
    state_row,
    sum_row,
)

WORK = Path("docs") / "results" / "speed"


def rows(*, small: bool = False) -> dict[str, Row]:
    """Return the rows and their names, in the order of the table."""
    found = [
        *round_rows.rows(small=small),
        codec_row.row(small=small),
        sum_row.row(small=small),
        start_row.row(small=small),
        state_row.row(small=small),
    ]
    return {row.name: row for row in found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the named rows and show all; return the exit code."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("rows", nargs="*", metavar="ROW", choices=[*rows(), []])
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--only", default="", metavar="PIECE")
    parser.add_argument("--small", action="store_true")
    # Named here, or its file would be taken for a row.
    parser.add_argument("--json", default="")
    own, rest = parser.parse_known_args(arguments)
    rest += ["--json", own.json] if own.json else []

    def figures() -> list[Figure]:
        _check(own)
        store, pairs = RowStore(own.work), range(own.pairs)
        known = rows(small=own.small)
        for name in own.rows:
            measure(known[name], pairs, store, own.only)
        return [one for row in known.values() for one in shown(row, pairs, store)]

    return benchmark("speed", figures)(rest)


def _check(given: argparse.Namespace) -> None:
    """Refuse options that contradict each other.

    Raises:
        ConfigError: With what is wanted.
    """
    if given.pairs < 1:
        msg = f"--pairs is {given.pairs}; want at least 1"
        raise ConfigError(msg)
    if given.small and given.work == WORK:
        msg = f"--small measures nothing for {WORK}; want a --work of its own"
        raise ConfigError(msg)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
