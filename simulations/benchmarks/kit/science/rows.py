"""A row of the benchmarks ``science`` and ``speed``: how pieces are stored and shown.

A row is one file of this folder that has a ``ROW``, and a place in the table of
``fedprune.simulations.benchmarks.science``.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from fedprune.common.errors import IntegrityError
from fedprune.simulations.benchmarks.kit.harness import Figure, cpu
from fedprune.simulations.benchmarks.kit.rows import Interval, Raw, RowStore, origin

Found = Mapping[str, Raw]  # name of a piece -> what it measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a row that is measured and stored alone: one method, one seed.

    Attributes:
        name: Its name, unique in its row.
        settings: What it is measured with, stored beside the result.
        work: Measures it; returns JSON values, all numbers finite.
    """

    name: str
    settings: Mapping[str, object] = field(default_factory=dict)
    work: Callable[[], Raw] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row.

    Attributes:
        name: Its name on the command line.
        budget: CPU time of all pieces with three seeds, in words.
        pieces: Makes the pieces for some seeds, in the order of measuring.
        figures: Makes the figures of the pieces that are stored, maybe not all.
    """

    name: str
    budget: str
    pieces: Callable[[Sequence[int]], Sequence[Piece]] = field(repr=False)
    figures: Callable[[Found], list[Figure]] = field(repr=False)


def run_pieces(
    seeds: Sequence[int],
    settings: Mapping[str, object],
    measured: Callable[[int], Raw],
) -> list[Piece]:
    """Return the pieces of a row that is one run for each seed: ``run-SEED``."""
    return [
        Piece(
            name=f"run-{seed}",
            settings={**settings, "seed": seed},
            work=partial(measured, seed),
        )
        for seed in seeds
    ]


def measure(row: Row, seeds: Sequence[int], store: RowStore, only: str = "") -> None:
    """Measure the pieces that are not stored yet, of those whose name begins so."""
    for piece in row.pieces(seeds):
        if not piece.name.startswith(only):
            continue
        name = f"{row.name}-{piece.name}"
        _check_settings(name, piece, store.get(name, partial(_measured, piece)))


def shown(row: Row, seeds: Sequence[int], store: RowStore) -> list[Figure]:
    """Return the figures of what is stored; a row without a piece is *not run*."""
    pieces = row.pieces(seeds)
    stored = {p.name: store.find(f"{row.name}-{p.name}") for p in pieces}
    found = {name: raw for name, raw in stored.items() if raw is not None}
    for piece in pieces:
        if piece.name in found:
            _check_settings(f"{row.name}-{piece.name}", piece, found[piece.name])
    head = Figure(
        name=f"{row.name}: pieces measured",
        value=len(found),
        detail=_progress(row, pieces, found),
    )
    return [head, *row.figures(found)] if found else [head]


def figure(
    name: str, value: Interval, *, unit: str = "", goal: str = "", note: str = ""
) -> Figure:
    """Return the figure of an interval, whose whole decides about the goal."""
    return Figure(
        name=name,
        value=value.mean,
        low=value.low,
        high=value.high,
        unit=unit,
        goal=goal,
        detail=f"{value}; {note}" if note else str(value),
    )


def _check_settings(name: str, piece: Piece, stored: Raw) -> None:
    """Refuse a stored piece that was measured with other settings than the row has.

    Raises:
        IntegrityError: With its name.
    """
    wanted = json.loads(json.dumps(dict(piece.settings)))
    if stored.get("settings") != wanted:
        msg = f"{name}.json was measured with other settings than the row has now; "
        msg += "delete it to measure it again"
        raise IntegrityError(msg)


def _progress(row: Row, pieces: Sequence[Piece], found: Found) -> str:
    if not found:
        return f"not run; {row.budget}"
    spent = sum(float(raw["cpu_seconds"]) for raw in found.values())
    text = f"n = {len(found)} of {len(pieces)}; {spent / 60:.1f} CPU minutes so far"
    if len(found) < len(pieces):
        text += f"; {row.budget} in all"
    return text + origin(list(found.values()))


def _measured(piece: Piece) -> Raw:
    before = _cpu_seconds()
    found = piece.work()
    spent = round(_cpu_seconds() - before, 2)
    return {
        "settings": dict(piece.settings),
        "cpu": cpu(),
        "cpu_seconds": spent,
    } | found


def _cpu_seconds() -> float:
    """Return the CPU seconds of this process and of those that it has waited for."""
    times = os.times()
    return sum((times.user, times.system, times.children_user, times.children_system))
