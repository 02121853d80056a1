"""The verdict: which network the clients' validation parts prefer, and how surely.

Compared is what each client measured in the closing rounds, client by client, on the
same examples: the mean difference, weighted by examples, and its standard error over
the clients.  Test figures decide nothing.  The error is that of one run: another seed
would give other networks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import Literal

from fedprune.server.runs.controls.names import FRESH, SIZED, kind_of, of_equal_bytes
from fedprune.server.runs.events import ClientAnswered, Event, RunName, of_run

Outcome = Literal["won", "lost", "not resolved"]
_ERRORS = 2.0  # standard errors within which a difference is not resolved
_FEWEST = 2  # clients that a standard error needs

Measured = Mapping[str, tuple[float, int]]  # client -> (metric, examples)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A run against one of its controls on the clients' validation parts.

    Attributes:
        control: Name of the control.
        run_value: Mean metric of the run's final network.
        control_value: That of the control's.
        difference: How much better the run is; below 0 = worse.
        standard_error: Of the difference, over the clients; inf with fewer than two.
        clients: Clients that measured both.
    """

    control: str
    run_value: float
    control_value: float
    difference: float
    standard_error: float
    clients: int

    @property
    def outcome(self) -> Outcome:
        """Win or loss of the run, where it is above two standard errors."""
        if abs(self.difference) <= _ERRORS * self.standard_error:
            return "not resolved"
        return "won" if self.difference > 0.0 else "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Result of the comparisons; each text is "" where nothing was compared.

    Attributes:
        equal_size: One sentence on the controls of the final network's size.
        equal_bytes: One sentence on the controls of the run's bytes.
        advice: What to do if a small network from scratch won.
        comparisons: The comparisons themselves.
    """

    equal_size: str
    equal_bytes: str
    advice: str
    comparisons: tuple[Comparison, ...]


def closing_metrics(events: Sequence[Event], run: RunName) -> Measured:
    """Return the validation metrics of the closing round of one federation."""
    answers = of_run(events, ClientAnswered, run)
    last = max((event.round for event in answers), default=0)
    return {
        event.client: (event.validation_metric, event.validation_examples)
        for event in answers
        if event.round == last and event.validation_metric is not None
    }


def compare(
    name: str, ours: Measured, theirs: Measured, *, higher_is_better: bool
) -> Comparison | None:
    """Return the comparison with one control; None without a client that has both.

    A client's weight is the number of its validation examples.  With the weights
    ``w`` (sum 1) and the differences ``d`` of ``k`` clients, mean ``m``::

        standard error = sqrt(k / (k - 1) * sum(w**2 * (d - m)**2))
    """
    both = sorted(ours.keys() & theirs.keys())
    total = sum(ours[client][1] for client in both)
    if not total:
        return None
    shares = [ours[client][1] / total for client in both]
    sign = 1.0 if higher_is_better else -1.0
    gaps = [sign * (ours[client][0] - theirs[client][0]) for client in both]
    mean, count = _mean(shares, gaps), len(both)
    spread = sum((w * (d - mean)) ** 2 for w, d in zip(shares, gaps, strict=True))
    return Comparison(
        control=name,
        run_value=_mean(shares, [ours[client][0] for client in both]),
        control_value=_mean(shares, [theirs[client][0] for client in both]),
        difference=mean,
        standard_error=sqrt(spread * count / (count - 1)) if count >= _FEWEST else inf,
        clients=count,
    )


def verdict_of(
    comparisons: Sequence[Comparison], metric: str, *, restarted: bool
) -> Verdict:
    """Return the verdict on a run.

    Args:
        comparisons: Those that could be made.
        metric: Name of the metric.
        restarted: Whether the run itself drew fresh weights after its last cut.
    """
    by_bytes = [one for one in comparisons if of_equal_bytes(one.control)]
    sized = [one for one in comparisons if one.control in SIZED]
    lost = [one for one in (*sized, *by_bytes) if one.outcome == "lost"]
    fresh = any(kind_of(one.control) in FRESH for one in lost)
    return Verdict(
        equal_size=_sentence("At equal size", sized, metric),
        equal_bytes=_sentence("At equal bytes", by_bytes, metric),
        advice=_advice(restarted=restarted) if fresh else "",
        comparisons=tuple(comparisons),
    )


def _sentence(where: str, found: Sequence[Comparison], metric: str) -> str:
    """Return one sentence: who won, or that it is not resolved."""
    if not found:
        return ""
    hardest = min(found, key=lambda one: one.difference)
    open_ = [one for one in found if one.outcome == "not resolved"]
    if hardest.outcome == "lost":
        return f"{where} {hardest.control} won: {_figures(hardest, metric)}."
    if open_:
        nearest = min(open_, key=lambda one: one.difference)
        text = f"{where} it is not resolved whether this run or {nearest.control} is "
        return f"{text}better: {_figures(nearest, metric)}."
    rest = ", the best of the others" if len(found) > 1 else ""
    text = f"{where} this run won against {hardest.control}{rest}: "
    return f"{text}{_figures(hardest, metric)}."


def _figures(one: Comparison, metric: str) -> str:
    """Return both values, the difference and its error on the validation parts."""
    error = f"{one.standard_error:.4f}" if one.standard_error < inf else "unknown"
    return (
        f"{metric} {one.control_value:.4f} against {one.run_value:.4f} of this run on "
        f"the validation parts of {one.clients} clients (difference "
        f"{abs(one.difference):.4f}, standard error {error})"
    )


def _advice(*, restarted: bool) -> str:
    text = "A small network from scratch does better here"
    if restarted:
        return f'{text} although prune.restart = "fresh" is set: cut earlier'
    return f'{text}: set prune.restart = "fresh", or start with a small network'


def _mean(shares: Sequence[float], values: Sequence[float]) -> float:
    return sum(w * x for w, x in zip(shares, values, strict=True))
