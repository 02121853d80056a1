"""Processes that die in mid-round: the run ends or is resumed with the same model.

``python -m fedprune.simulations.benchmarks.faults [CASE ...] [--times 10]``, with
``--json FILE`` and ``--check`` of every benchmark.  A small federation on Ray with two
workers loses a worker, a node or its driver by SIGKILL, or a worker is stopped by
SIGSTOP, while clients are in training and after another round each time.  It is good if
the run ends with the ``model_sha256`` of a run in one process that nothing happened to,
and an event tells of each loss.

The cases that are named are played in turns: each time is one file of
``docs/results/faults`` and is not played again.  Cases that are not named show what is
stored.  ``--work DIR`` stores elsewhere.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fedprune.common.errors import ConfigError
from fedprune.simulations.benchmarks.kit.faults.cases import (
    CASES,
    undisturbed,
)
from fedprune.simulations.benchmarks.kit.faults.row import row
from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.benchmarks.kit.rows import RowStore
from fedprune.simulations.benchmarks.kit.science.rows import measure, shown

WORK = Path("docs") / "results" / "faults"


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the named cases and show all; return the exit code."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("cases", nargs="*", metavar="CASE", choices=[*CASES, []])
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--times", type=int, default=10)
    # Named here, or its file would be taken for a case.
    parser.add_argument("--json", default="")
    own, rest = parser.parse_known_args(arguments)
    rest += ["--json", own.json] if own.json else []

    def figures() -> list[Figure]:
        if own.times < 1:
            msg = f"--times is {own.times}; want at least 1"
            raise ConfigError(msg)
        store, times = RowStore(own.work), range(own.times)
        rows = {name: row(name, lambda: _expected(store), own.times) for name in CASES}
        for number in times:
            for name in own.cases:
                measure(rows[name], [number], store)
        return [one for each in rows.values() for one in shown(each, times, store)]

    return benchmark("faults", figures)(rest)


def _expected(store: RowStore) -> str:
    """Return the model of the run that nothing happens to."""
    found = store.get("undisturbed", lambda: {"model_sha256": undisturbed()})
    return str(found["model_sha256"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
