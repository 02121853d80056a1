"""Updates through both coders, compiled and numpy: equal bytes, equal answers.

``python -m fedprune.simulations.benchmarks.coders [--messages 1000000]``, with ``--json
FILE`` and ``--check`` of every benchmark.  Each update follows from its number: a small
network, weights, values of any kind and density, some under an agreed mask.  It is
encoded and decoded by a process of each coder, and so are nine copies of its message
with a few bytes replaced; all that they return is compared, refusals with their
reasons too.

Messages are compared in pieces; each is one file of ``docs/results/coders`` and is not
compared again.  ``--work DIR`` stores elsewhere, ``--now N`` compares at most so many
pieces that are missing: without it none is, and what is stored is shown.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from fedprune.common.errors import ConfigError
from fedprune.common.native.choice import NATIVE, NUMPY, VARIABLE
from fedprune.simulations.benchmarks.kit.codec import drawn
from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.benchmarks.kit.rows import Raw, RowStore
from fedprune.simulations.benchmarks.kit.science.rows import (
    Found,
    Piece,
    Row,
    measure,
    shown,
)

WORK = Path("docs") / "results" / "coders"
MESSAGES, SIZE = 1_000_000, 50_000
_NAMED = 5  # differing updates in a detail


def row(size: int) -> Row:
    """Return the row, whose pieces have ``size`` messages each."""

    def pieces(numbers: Sequence[int]) -> list[Piece]:
        return [
            Piece(
                name=f"part-{number}",
                settings={"messages": size},
                work=partial(compare, number * _updates(size), _updates(size)),
            )
            for number in numbers
        ]

    return Row(
        name="coders",
        budget="an hour for a million messages",
        pieces=pieces,
        figures=lambda found: [figure(found)],
    )


def _updates(messages: int) -> int:
    return messages // drawn.MESSAGES


def compare(start: int, count: int) -> Raw:
    """Return the numbers of the updates on which the coders differ."""
    one, other = _replies(start, count)
    differ = np.flatnonzero(one != other) + start
    return {"messages": count * drawn.MESSAGES, "differ": differ.tolist()}


def _replies(start: int, count: int) -> list[np.ndarray]:
    """Return the digests that each coder's process wrote, uint64[count].

    Raises:
        ConfigError: If a process fails, as without a compiled coder.
    """
    with tempfile.TemporaryFile() as native, tempfile.TemporaryFile() as numpy:
        files = {NATIVE: native, NUMPY: numpy}
        running = [_started(start, count, coder, to) for coder, to in files.items()]
        codes = [process.wait() for process in running]
        if any(codes):
            msg = "a coder's process failed, as it says above"
            raise ConfigError(msg)
        for file in files.values():
            file.seek(0)
        found = [np.frombuffer(one.read(), dtype=np.uint64) for one in files.values()]
    if any(len(one) != count for one in found):
        msg = f"a coder's process wrote {[len(one) for one in found]} of {count}"
        raise ConfigError(msg)
    return found


def _started(
    start: int, count: int, coder: str, to: IO[bytes]
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", drawn.__name__, str(start), str(count)]
    return subprocess.Popen(  # noqa: S603 - this interpreter, our own module
        command, stdout=to, env=os.environ | {VARIABLE: coder}
    )


def figure(found: Found) -> Figure:
    """Return how many updates differ."""
    differ = [number for raw in found.values() for number in raw["differ"]]
    count = sum(int(raw["messages"]) for raw in found.values())
    detail = f"of {count} messages, nine of ten damaged: bytes, values, refusals"
    if differ:
        detail += f"; the first are numbers {', '.join(map(str, differ[:_NAMED]))}"
    return Figure(
        name="updates on which numpy and the compiled coder differ",
        value=len(differ),
        goal="== 0",
        detail=detail,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare what is missing and show all; return the exit code."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--now", type=int, default=0)
    own, rest = parser.parse_known_args(arguments)

    def figures() -> list[Figure]:
        if own.messages < 1 or own.messages % SIZE:
            msg = f"--messages is {own.messages}; want a multiple of {SIZE}"
            raise ConfigError(msg)
        store, parts, all_ = RowStore(own.work), range(own.messages // SIZE), row(SIZE)
        missing = [n for n in parts if store.find(f"coders-part-{n}") is None]
        measure(all_, missing[: own.now], store)
        return shown(all_, parts, store)

    return benchmark("coders", figures)(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
