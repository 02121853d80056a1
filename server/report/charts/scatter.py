"""Networks as points: how good against how large; the best ones are joined."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedprune.server.report.charts.specs import Unit, axis, run_role, score_unit, series
from fedprune.server.report.data import RunData, number
from fedprune.server.report.parts import Chart, Spec
from fedprune.server.report.text import metric_name
from fedprune.server.runs.controls.names import ALL

# View -> key of a run, key of a control, unit.
_VIEWS: Mapping[str, tuple[str, str, Unit]] = {
    "by parameters": ("params_final", "params", "count"),
    "by FLOPs": ("flops_final", "flops", "count"),
    "by bytes up": ("bytes_up", "bytes_up", "bytes"),
    "by bytes down": ("bytes_down", "bytes_down", "bytes"),
    "by file size": ("model_bytes_final", "", "bytes"),
    "by latency": ("latency_ms_final", "", "number"),
}
_Pair = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Best:
    """The points that may be the best.

    Attributes:
        lower: Whether a lower score is better; None = none is the best.
        places: Places of the points that compete; None = all.
    """

    lower: bool | None
    places: Sequence[int] | None = None

    def of(self, pairs: Sequence[_Pair | None]) -> list[_Pair]:
        """Return the points that no other beats."""
        if self.lower is None:
            return []
        places = range(len(pairs)) if self.places is None else self.places
        known = [pair for place in places if (pair := pairs[place]) is not None]
        return front(known, lower=self.lower)


def of_controls(run: RunData) -> Chart | None:
    """Return the run among its controls, None where none has a score."""
    controls = run.summary.get("controls")
    named = controls if isinstance(controls, Mapping) else {}
    found = {name: named[name] for name in ALL if isinstance(named.get(name), Mapping)}
    if not found:
        return None
    views = {
        view: _spec(
            view.removeprefix("by "),
            unit,
            [
                ("this run", "own", _pair(run.summary, own, "accuracy_final")),
                *(
                    (name, run_role(place), _pair(figures, other, "accuracy"))
                    for place, (name, figures) in enumerate(found.items(), 1)
                ),
            ],
            metric=run.metric,
            best=_Best(lower=run.lower_is_better),
        )
        for view, (own, other, unit) in _VIEWS.items()
        if other
    }
    label = "Score against size, of the run and of what else could have been trained"
    return Chart(name="controls", label=label, views=views)


def of_runs(
    runs: Sequence[RunData], names: Sequence[str], metric: str, *, lower: bool | None
) -> Chart:
    """Return several runs: score against size, bytes, file and latency.

    Args:
        runs: The runs.
        names: Their names.
        metric: What their scores are.
        lower: Whether a lower score is better; None = the scores do not compare, and
            no line joins the best ones.  Nor does it join unfinished runs: they have
            sent less only because they stopped.
    """
    ended = tuple(place for place, run in enumerate(runs) if run.finished)
    best = _Best(lower=lower, places=ended)
    views = {
        view: _spec(
            view.removeprefix("by "),
            unit,
            [
                (name, run_role(place), _scored(run, key))
                for place, (run, name) in enumerate(zip(runs, names, strict=True))
            ],
            metric=metric,
            best=best,
        )
        for view, (key, _, unit) in _VIEWS.items()
        if any(number(run.summary, key) is not None for run in runs)
    }
    label = "Score of each run against its size; the line joins runs that none beats"
    return Chart(name="pareto", label=label, views=views, tall=340)


def front(pairs: Sequence[_Pair], *, lower: bool = False) -> list[_Pair]:
    """Return the points that no other beats in size and score, by size.

    Args:
        pairs: Size and score of each.
        lower: Whether a lower score is better.

    >>> front([(3, 0.9), (1, 0.5), (2, 0.4), (4, 0.8)])
    [(1, 0.5), (3, 0.9)]
    """
    sign = 1 if lower else -1
    found: list[_Pair] = []
    for size, score in sorted(pairs, key=lambda one: (one[0], sign * one[1])):
        if not found or sign * score < sign * found[-1][1]:
            found.append((size, score))
    return found


def _spec(
    name: str,
    unit: Unit,
    points: Sequence[tuple[str, str, _Pair | None]],
    *,
    metric: str,
    best: _Best,
) -> Spec:
    title = f"{name}, ms" if name == "latency" else name
    return {
        "kind": "scatter",
        "x": axis(title, unit),
        "y": axis(metric_name(metric), score_unit(metric)),
        "series": [series(label, role, [pair]) for label, role, pair in points if pair],
        "front": [list(pair) for pair in best.of([pair for _, _, pair in points])],
    }


def _scored(run: RunData, size: str) -> _Pair | None:
    x, (y, _) = number(run.summary, size), run.final_score
    return None if x is None or y is None else (x, y)


def _pair(source: Mapping[str, Any], size: str, score: str) -> _Pair | None:
    x, y = number(source, size), number(source, score)
    return None if x is None or y is None else (x, y)
