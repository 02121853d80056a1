"""Hostile and slow clients: accuracy lost, backdoors, waiting, the defaults' cost.

``python -m fedprune.simulations.benchmarks.trust [ROW ...] [--seeds 0,1,2]``, with
``--json FILE`` and ``--check`` of every benchmark, and ``FEDPRUNE_DATA`` with MNIST:
2 000 training and 2 000 test images, 10 clients, LeNet-5 at 28 x 28 and a network with
batch norm at 14 x 14; the row slow has digits.  The rows that are named are measured,
piece by piece: each piece (one federation, one seed) is one file of
``docs/results/trust`` and is not measured again.  Rows that are not named show what is
stored.  ``--only`` measures the pieces whose names begin so, ``--work DIR`` stores
elsewhere.  ``--smoke`` has the network with batch norm, equal parts and the default
rule, and other rules against two attacks: with one seed 15 minutes of two cores.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.benchmarks.kit.rows import RowStore
from fedprune.simulations.benchmarks.kit.science.rows import Row, measure, shown
from fedprune.simulations.benchmarks.kit.trust import attack_rows, cost_row, slow
from fedprune.simulations.benchmarks.science import read_seeds

WORK = Path("docs") / "results" / "trust"


def rows(*, smoke: bool = False) -> dict[str, Row]:
    """Return the rows and their names, in the order of the table."""
    found = [*attack_rows.rows(smoke=smoke), cost_row.row(smoke=smoke), slow.row()]
    return {row.name: row for row in found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the named rows and show all; return the exit code."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("rows", nargs="*", metavar="ROW", choices=[*rows(), []])
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--seeds", default="3")
    parser.add_argument("--only", default="", metavar="PIECE")
    parser.add_argument("--smoke", action="store_true")
    # Named here, or its file would be taken for a row.
    parser.add_argument("--json", default="")
    own, rest = parser.parse_known_args(arguments)
    rest += ["--json", own.json] if own.json else []

    def figures() -> list[Figure]:
        store, seeds = RowStore(own.work), read_seeds(own.seeds)
        known = rows(smoke=own.smoke)
        for name in own.rows:
            measure(known[name], seeds, store, own.only)
        return [one for row in known.values() for one in shown(row, seeds, store)]

    return benchmark("trust", figures)(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
