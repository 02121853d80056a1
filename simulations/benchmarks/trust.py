"""Hostile and slow clients: accuracy lost, backdoors, waiting, the defaults' cost.

``python -m fedprune.simulations.benchmarks.trust [ROW ...] [--seeds 0,1,2]``, with
``--json FILE`` and ``--check`` of every benchmark, and ``FEDPRUNE_DATA`` with MNIST:
2 000 training and 2 000 test images, 10 clients, LeNet-5 at 28 x 28 and a network with
batch norm at 14 x 14; the rows slow and soak have toys.  The rows that are named are
measured, piece by piece: each piece (one federation, one seed) is one file of
``docs/results/trust`` and is not measured again.  Rows that are not named show what is
stored.  ``--only`` measures the pieces whose names begin so, ``--work DIR`` stores
elsewhere.  ``--smoke`` is a selection of rows, with one seed, the network with batch
norm and equal parts: every attack against the defaults, at most 15 minutes on two
cores.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.benchmarks.kit.rows import RowStore
from fedprune.simulations.benchmarks.kit.science.rows import Row, measure, shown
from fedprune.simulations.benchmarks.kit.trust import (
    attack_rows,
    cost_row,
    privacy_row,
    slow,
    soak,
)
from fedprune.simulations.benchmarks.science import read_seeds

WORK = Path("docs") / "results" / "trust"


def rows(*, smoke: bool = False) -> dict[str, Row]:
    """Return the rows and their names, in the order of the table."""
    found = [*attack_rows.rows(smoke=smoke), cost_row.row(smoke=smoke), slow.row()]
    found += [] if smoke else [privacy_row.row(), soak.row()]
    return {row.name: row for row in found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the named rows and show all; return the exit code."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("rows", nargs="*", metavar="ROW", choices=[*rows(), []])
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--seeds", default="")
    parser.add_argument("--only", default="", metavar="PIECE")
    parser.add_argument("--smoke", action="store_true")
    # Named here, or its file would be taken for a row.
    parser.add_argument("--json", default="")
    own, rest = parser.parse_known_args(arguments)
    rest += ["--json", own.json] if own.json else []

    def figures() -> list[Figure]:
        store, known = RowStore(own.work), rows(smoke=own.smoke)
        seeds = read_seeds(own.seeds or ("0," if own.smoke else "3"))
        for name in own.rows or (known if own.smoke else ()):
            measure(known[name], seeds, store, own.only)
        return [one for row in known.values() for one in shown(row, seeds, store)]

    return benchmark("trust", figures)(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
