"""Tables by round: figures, checks of the cuts, bytes of a message."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from fedprune.server.report.data import RunData
from fedprune.server.report.parts import Cell, Panel, Table, cells
from fedprune.server.report.text import (
    DASH,
    SHARES,
    count,
    metric_name,
    percent,
    points,
    score,
    seconds,
    size,
)
from fedprune.server.runs.events import CutChecked, LateArrived, RoundFinished, of_run


def by_round(run: RunData, most: int) -> Table:
    """Return one row a round, the newest first.

    Args:
        run: The run.
        most: Most rows.
    """
    rounds = run.rounds()[::-1][:most]
    measure = metric_name(run.metric)
    head = ["round", "phase", measure, "loss", "size", "up", "down", "answers", "time"]
    return Table(
        label="Figures of each round",
        head=tuple(head),
        rows=tuple(
            cells(
                str(event.round),
                event.phase.value,
                score(run.accuracy(event), run.metric),
                _fixed(event.validation_loss),
                percent(event.density),
                size(event.bytes_up),
                size(event.bytes_down),
                f"{event.accepted} of {event.asked}",
                seconds(event.seconds),
            )
            for event in rounds
        ),
    )


def checks(run: RunData) -> Panel | None:
    """Return the guard's checks, a line each; None of a run without any."""
    found = of_run(run.events, CutChecked)
    if not found:
        return None
    head = ["cut", "round", "loss before", "after", "allowed", "clients"]
    head += [f"{metric_name(run.metric)} first", "after", "lost at most", "clients"]
    lower = run.lower_is_better
    rows = [_check_row(event, run.metric, lower=lower) for event in found]
    note = (
        "Validation of the clients before and after a cut, with two standard errors of "
        "the difference: a limit is broken when the difference exceeds it by more. "
        "First: the network before the first cut. Unpaired: other clients than before."
    )
    title = "Checks of the cuts"
    table = Table(label=title, head=(*head, "verdict"), rows=tuple(rows), kind="words")
    return Panel(name="checks", title=title, note=note, tables=[("", table)])


def _check_row(event: CutChecked, metric: str, *, lower: bool) -> tuple[Cell, ...]:
    lost = event.accuracy_allowed
    sign = 1 if lower else -1  # where lower is better, a loss is a rise
    return cells(
        "final" if event.final else str(event.cycle),
        str(event.round),
        _fixed(event.loss_before),
        _fixed(event.loss_after, event.loss_error),
        _fixed(event.loss_allowed, sign="+"),
        _compared(event.loss_clients, event.loss_comparison),
        score(event.accuracy_reference, metric),
        score(event.accuracy_after, metric)
        + _errors(event.accuracy_error, times=100 if metric in SHARES else 1),
        DASH if lost is None else points(sign * lost, metric),
        _compared(event.accuracy_clients, event.accuracy_comparison),
        event.verdict.value,
    )


def _fixed(value: float | None, error: float | None = None, sign: str = "") -> str:
    """Return a loss with four digits, or four significant ones of a huge one."""
    if value is None:
        return DASH
    return f"{sign}{value:.4g}{_errors(error)}"


def _errors(error: float | None, times: int = 1) -> str:
    return "" if error is None else f" ± {2 * times * error:.2g}"


def _compared(clients: int, comparison: str) -> str:
    if comparison == "none":
        return DASH
    return f"{clients}, unpaired" if comparison == "unpaired" else str(clients)


def traffic(run: RunData) -> Panel:
    """Return bytes per message by phase, the fixed part apart, and times."""
    phases: dict[str, list[RoundFinished]] = defaultdict(list)
    for event in run.rounds():
        phases[event.phase.value].append(event)
    came = {event.round: len(event.asked) for event in of_run(run.events, LateArrived)}
    rows = [_phase_row(name, rounds, came) for name, rounds in phases.items()]
    head = (
        "phase",
        "rounds",
        "answers",
        "up, a message",
        "of it fixed",
        "down, a message",
        "time, a round",
    )
    simulated = sum(event.bytes_simulation for event in run.rounds())
    note = (
        "Lengths of the real messages. Fixed is what does not depend on the number "
        "of entries sent: statistics, scores, scales, header."
    )
    if simulated:
        note += f" Between workers and driver of the simulation: {size(simulated)}."
    title = "Bytes of one message"
    table = Table(label=title, head=head, rows=tuple(rows))
    return Panel(name="traffic", title=title, note=note, tables=[("", table)])


def _phase_row(
    name: str, rounds: Sequence[RoundFinished], late: Mapping[int, int]
) -> tuple[Cell, ...]:
    answers = sum(event.accepted + event.refused for event in rounds)
    answers += sum(late.get(event.round, 0) for event in rounds)
    return cells(
        name,
        count(len(rounds)),
        count(answers),
        size(_mean(sum(event.bytes_up for event in rounds), answers)),
        size(_mean(sum(event.bytes_fixed for event in rounds), answers)),
        size(
            _mean(
                sum(event.bytes_down for event in rounds),
                sum(event.asked for event in rounds),
            )
        ),
        seconds(_mean(sum(event.seconds for event in rounds), len(rounds))),
    )


def _mean(total: float, of: float) -> float | None:
    return total / of if of else None
