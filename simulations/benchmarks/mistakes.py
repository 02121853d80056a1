"""Mistakes of a new user: how many are answered by one clear line.

``python -m fedprune.simulations.benchmarks.mistakes``
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module

from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.benchmarks.kit.mistakes.files import write_files
from fedprune.simulations.benchmarks.kit.mistakes.play import fault, play
from fedprune.simulations.benchmarks.kit.mistakes.rows import MISTAKES

_NAMED = 3  # faults that the row names


def measure() -> list[Figure]:
    """Make every mistake, and count the clear answers."""
    # It lies above the benchmarks, and is called as the front door does.
    command = import_module("fedprune.simulations.cli").run_command_line
    with _elsewhere():
        write_files()
        faults = {one.name: fault(one, play(one, command)) for one in MISTAKES}
    wrong = {name: text for name, text in faults.items() if text}
    for name, text in wrong.items():
        print(f"{name}: {text}", file=sys.stderr)
    return [
        Figure(
            name="mistakes answered by one clear line and the right exit code",
            value=(len(faults) - len(wrong)) / len(faults),
            goal="== 1",
            detail=f"{len(faults) - len(wrong)} of {len(faults)}; the line says what "
            "was found, where and how to mend it"
            + "".join(f"; not: {name}" for name in list(wrong)[:_NAMED]),
        )
    ]


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    """Work in a new folder, without data of this machine."""
    os.environ.pop("FEDPRUNE_DATA", None)
    with (
        tempfile.TemporaryDirectory(prefix="fedprune-") as place,
        contextlib.chdir(place),
    ):
        yield


main = benchmark("mistakes", measure)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
