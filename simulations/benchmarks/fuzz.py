"""Mutants of valid messages: each is refused with ``PayloadError``, or is valid.

``python -m fedprune.simulations.benchmarks.fuzz [--mutants 1000000]``

Half of the mutants are bytes changed at random, with the old digest; the other half
are changed inside (items swapped, dropped, repeated and replaced; bits flipped in a
field; false lengths and counts) and sealed with a valid digest, so that the checks
after it are reached.  Every mutant follows from the seed and its number.
"""

import argparse
import resource
import sys
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgpack
import numpy as np
import xxhash

from fedprune.common.codec import Kind
from fedprune.common.codec.frame import kind_of
from fedprune.common.errors import PayloadError
from fedprune.simulations.benchmarks.kit.codec.files import packed_file
from fedprune.simulations.benchmarks.kit.codec.subjects import Subject, subjects
from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark

MUTANTS = 1_000_000
_TRACED = 61  # one mutant of so many is decoded with its allocations traced
_DIGEST = 18  # bytes of a digest and its header
_COVERED = 16  # bytes of a plan's shared part that its digest covers, the last ones
_DELTA = 9  # item of an update
_SHARED = 4  # item of a plan
_NESTED = 0.6  # of the mutants of a field that can be opened
_HOSTILE: list[Any] = [
    0, 1, -1, 2, 255, 2**31, 2**63, 2**64 - 1, -(2**63), True, False, None, 0.0,
    float("nan"), float("inf"), -1.5, 1e300, "", "int8", "x" * 100, b"", bytes(16),
    bytes(17), b"\xff" * 40, [], [0], [[[[[0]]]]], [0, b"", b""], {}, {"a": 1},
    msgpack.ExtType(1, b"x"), msgpack.Timestamp(0, 0),
]  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Outcome:
    """Counts of a fuzzing run.

    Attributes:
        refused: Mutants that were refused.
        accepted: Mutants with a valid digest that were valid.
        silent: Mutants with the old digest that were not refused; want 0.
        crashes: Other exceptions than ``PayloadError``; want 0.
        slowest: Seconds of the slowest decode.
        grown: Bytes that the process grew by.
        allocated: Most bytes of Python and numpy at a time in one traced decode.
    """

    refused: int = 0
    accepted: int = 0
    silent: int = 0
    crashes: int = 0
    slowest: float = 0.0
    grown: int = 0
    allocated: int = 0


def run(mutants: int, seed: int = 0) -> Outcome:
    """Decode mutants and count the results."""
    rng = np.random.default_rng(seed)
    chosen = [*subjects(), packed_file()]
    for subject in chosen:
        subject.decode(subject.data)
    outcome = Outcome()
    before = _memory()
    for number in range(mutants):
        subject = chosen[number % len(chosen)]
        sealed = number // len(chosen) % 2 == 1
        forged = mutant(rng, subject.data, sealed=sealed)
        if forged == subject.data:
            continue
        if number % _TRACED == 0:
            tracemalloc.start()
        _try(subject, forged, outcome, sealed=sealed)
        if number % _TRACED == 0:
            outcome.allocated = max(
                outcome.allocated, tracemalloc.get_traced_memory()[1]
            )
            tracemalloc.stop()
    outcome.grown = _memory() - before
    return outcome


def mutant(rng: np.random.Generator, data: bytes, *, sealed: bool) -> bytes:
    """Return a changed message, with a valid digest if ``sealed``."""
    if not sealed:
        return _change_bytes(rng, data)
    items = msgpack.unpackb(data, use_list=True)[:-1]
    nested = {Kind.PLAN: _SHARED, Kind.UPDATE: _DELTA}.get(items[1])
    if nested is None or rng.random() > _NESTED:
        if rng.random() < 0.25:  # noqa: PLR2004 - a quarter of them
            return _change_sealed(rng, data, items)
        _change_items(rng, items)
        return _seal_items(items)
    inner = msgpack.unpackb(items[nested], use_list=True)
    if items[1] == Kind.PLAN:
        inner = inner[:-1]
        _change_items(rng, inner)
        items[nested] = _seal_items(inner)
    else:
        _change_items(rng, inner)
        items[nested] = msgpack.packb(inner)
    return _seal_items(items)


def _change_sealed(rng: np.random.Generator, data: bytes, items: list[Any]) -> bytes:
    """Return a message with bytes changed, of a plan in its shared part or before."""
    if items[1] != Kind.PLAN:
        return _seal(_change_bytes(rng, data[:-_DIGEST]))
    shared: bytes = items[_SHARED]
    if rng.random() < _NESTED:
        items[_SHARED] = _seal(_change_bytes(rng, shared[:-_DIGEST]))
        return _seal_items(items)
    head = _change_bytes(rng, data[: -len(shared) - _DIGEST])
    return head + shared + _digest(head + shared[-_COVERED:])


def _try(subject: Subject, forged: bytes, outcome: Outcome, *, sealed: bool) -> None:
    started = time.perf_counter()
    try:
        subject.decode(forged)
    except PayloadError:
        outcome.refused += 1
    except Exception as error:  # a crash is counted and shown
        outcome.crashes += 1
        print(f"{type(error).__name__}: {error}; message {forged.hex()}")
    else:
        outcome.accepted += sealed
        outcome.silent += not sealed
    if not tracemalloc.is_tracing():  # which takes time itself
        outcome.slowest = max(outcome.slowest, time.perf_counter() - started)


def _memory() -> int:
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes or kB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _seal(body: bytes) -> bytes:
    return body + _digest(body, update=kind_of(body) is Kind.UPDATE)


def _digest(covered: bytes, *, update: bool = False) -> bytes:
    of = xxhash.xxh3_128(covered) if update else blake2b(covered, digest_size=16)
    return b"\xc4\x10" + of.digest()


def _seal_items(items: list[Any]) -> bytes:
    packed: bytes = msgpack.packb([*items, bytes(16)])
    body, last = packed[:-_DIGEST], items[-1]
    if items[1] != Kind.PLAN or type(last) is not bytes or len(last) < _COVERED:
        return _seal(body)
    # The digest of the message inside stands for it.
    return body + _digest(body[: -len(last)] + body[-_COVERED:])


def _change_bytes(rng: np.random.Generator, data: bytes) -> bytes:
    """Flip bits, overwrite, cut, insert, repeat or drop some bytes."""
    at, way = int(rng.integers(len(data))), int(rng.integers(6))
    size = int(rng.integers(1, 9))
    if way == 0:
        out = bytearray(data)
        for place in rng.integers(len(data), size=int(rng.integers(1, 4))):
            out[place] ^= 1 << int(rng.integers(8))
        return bytes(out)
    start = int(rng.integers(len(data)))
    return (
        data[:at] + rng.bytes(4) + data[at + 4 :],
        data[:at],
        data[:at] + rng.bytes(size) + data[at:],
        data[:at] + data[start : start + 4 * size] + data[at:],
        data[:at] + data[at + size :],
    )[way - 1]


def _change_items(rng: np.random.Generator, items: list[Any]) -> None:
    """Change one item in place: swap, repeat, drop, replace, or go one deeper."""
    at = int(rng.integers(len(items)))
    inside = items[at]
    deeper = rng.random() < _NESTED
    if isinstance(inside, list) and inside and deeper:
        _change_items(rng, inside)
    elif isinstance(inside, bytes) and inside and deeper:
        items[at] = _change_bytes(rng, inside)
    elif type(inside) is int and deeper:  # counts and lengths, slightly false
        items[at] = max(inside + int(rng.integers(-2, 3)), 0)
    else:
        _change_order(rng, items, at)


def _change_order(rng: np.random.Generator, items: list[Any], at: int) -> None:
    way = int(rng.integers(4))
    if way == 0:
        other = int(rng.integers(len(items)))
        items[at], items[other] = items[other], items[at]
    elif way == 1:
        items.insert(at, items[at])
    elif way == 2 and len(items) > 1:  # noqa: PLR2004 - the third of four ways
        del items[at]
    else:
        items[at] = _HOSTILE[rng.integers(len(_HOSTILE))]


def figures(mutants: int) -> list[Figure]:
    """Return the figures of a fuzzing run."""
    found = run(mutants)
    reached = f"{found.refused} refused, {found.accepted} valid with a valid digest"
    return [
        Figure(name="mutants", value=mutants, detail=reached),
        Figure(name="crashes", value=found.crashes, goal="== 0"),
        Figure(name="accepted under a wrong digest", value=found.silent, goal="== 0"),
        Figure(name="memory grown", value=found.grown / 1e6, unit="MB", goal="< 32"),
        Figure(
            name="memory of one decode, at most",
            value=found.allocated / 1e6,
            unit="MB",
            goal="< 1",
            detail=f"Python and numpy, one mutant of {_TRACED}; messages and a file",
        ),
        Figure(name="slowest decode", value=1000 * found.slowest, unit="ms"),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark with ``--mutants`` mutants."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--mutants", type=int, default=MUTANTS)
    own, rest = parser.parse_known_args(arguments)
    return benchmark("fuzz", lambda: figures(own.mutants))(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
