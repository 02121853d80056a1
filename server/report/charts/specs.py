"""A plot as the JSON that ``static/page.js`` draws.

::

    lines   = {"kind": "lines", "x": axis, "y": axis, "series": [series, ...],
               "marks": [mark, ...], "bands": [band, ...]}
    scatter = {"kind": "scatter", "x": axis, "y": axis, "series": [series, ...],
               "front": [[x, y], ...]}
    bars    = {"kind": "bars", "names": [text, ...], "unit": unit, "axis": text,
               "series": [{"name", "role", "values": [number or null, ...]}, ...],
               "stacked": bool, "sideways": bool, "overlay": bool, "texts": [text, ...]}
    map     = {"kind": "map", "rows": [text, ...], "columns": [text, ...],
               "cells": [[whole number or null, ...], ...], "axis": text,
               "states": [{"name", "role"}, ...]}
              without states cells are 0..100, and "heads" names columns:
              {place: [text, columns that it stands above], ...}

    axis    = {"name": text, "unit": unit, "log": bool}
    unit    = "share" | "bytes" | "count" | "number"
    series  = {"name": text, "role": role, "dashed": bool, "step": bool,
               "points": [[x, y], ...]}
    mark    = {"x": number, "text": text, "role": role}
    band    = {"from": number, "to": number, "name": text, "role": role}

A role is the name of a colour of the page (``--role`` in ``page.css``).
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from fedprune.server.report.parts import Spec
from fedprune.server.report.text import SHARES

Unit: TypeAlias = Literal["share", "bytes", "count", "number"]
Points: TypeAlias = Sequence[tuple[float, float]]
RUNS = 8  # colours of several runs


def axis(name: str, unit: Unit, *, log: bool = False) -> Spec:
    """Return an axis; ``log`` is what it begins with, the reader may change it."""
    return {"name": name, "unit": unit, "log": log}


def score_unit(metric: str) -> Unit:
    """Return the unit of a headline metric."""
    return "share" if metric in SHARES else "number"


def series(
    name: str, role: str, points: Points, *, dashed: bool = False, step: bool = False
) -> Spec:
    """Return one curve; numbers are shortened to what a screen can show."""
    shown = [[_short(x), _short(y)] for x, y in points]
    return {
        "name": name,
        "role": role,
        "dashed": dashed,
        "step": step,
        "points": shown,
    }


def run_role(place: int) -> str:
    """Return the colour of the run at a place of a comparison."""
    return f"run{place % RUNS}"


def _short(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.6g}")
