"""Comparisons that need several seeds: paired differences with 95 % intervals.

``python -m fedprune.simulations.benchmarks.science [ROW ...] [--seeds 0,1,2]``, with
``--json FILE`` and ``--check`` of every benchmark.  The rows that are named are
measured, piece by piece: each piece (one method, one seed) is one file of
``docs/results/science`` and is not measured again, so that a long row can be stopped,
and resumed by anybody who has the repository.  Rows that are not named show what is
stored; a row without a piece is *not run*.  ``--seeds`` takes a list, or their number;
``--only`` measures the pieces whose names begin so, ``--work DIR`` stores elsewhere.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fedprune.common.errors import ConfigError
from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.benchmarks.kit.rows import RowStore
from fedprune.simulations.benchmarks.kit.science import (
    decoder,
    pretrained,
    quantised,
    skew,
)
from fedprune.simulations.benchmarks.kit.science.classics import row as classics
from fedprune.simulations.benchmarks.kit.science.ladder import row as ladder
from fedprune.simulations.benchmarks.kit.science.lenet import row as lenet
from fedprune.simulations.benchmarks.kit.science.lenet import smallest
from fedprune.simulations.benchmarks.kit.science.rows import measure, shown
from fedprune.simulations.benchmarks.kit.science.votes import row as votes

WORK = Path("docs") / "results" / "science"
# In the order of the table.
_ALL = (
    pretrained.ROW,
    quantised.ROW,
    decoder.ROW,
    lenet.ROW,
    smallest.ROW,
    ladder.ROW,
    skew.ROW,
    classics.ROW,
    votes.ROW,
)
ROWS = {row.name: row for row in _ALL}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the named rows and show all; return the exit code."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("rows", nargs="*", metavar="ROW", choices=[*ROWS, []])
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--seeds", default="3")
    parser.add_argument("--only", default="", metavar="PIECE")
    # Named here, or its file would be taken for a row.
    parser.add_argument("--json", default="")
    own, rest = parser.parse_known_args(arguments)
    rest += ["--json", own.json] if own.json else []
    store = RowStore(own.work)

    def figures() -> list[Figure]:
        seeds = read_seeds(own.seeds)
        for name in own.rows:
            measure(ROWS[name], seeds, store, own.only)
        return [one for row in ROWS.values() for one in shown(row, seeds, store)]

    return benchmark("science", figures)(rest)


def read_seeds(text: str) -> list[int]:
    """Return the seeds of ``--seeds``: a list with commas, or their number.

    >>> read_seeds("3"), read_seeds("4,7"), read_seeds("5,")
    ([0, 1, 2], [4, 7], [5])

    Raises:
        ConfigError: If they are no seeds.
    """
    parts = [part.strip() for part in text.split(",")]
    numbers = [part for part in parts if part]
    known = bool(numbers) and all(p.isascii() and p.isdigit() for p in numbers)
    seeds = [int(part) for part in numbers] if known else []
    if len(parts) == 1 and seeds:
        seeds = list(range(seeds[0]))
    if not seeds or len(set(seeds)) < len(seeds):
        msg = f"--seeds is {text!r}; want their number >= 1, or different seeds as in "
        msg += "0,1,2"
        raise ConfigError(msg)
    return seeds


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
