"""Human-readable line of an event, as a run displays it."""

from functools import singledispatch

from fedprune.common.text import and_more, printable
from fedprune.server.rounds.records import Status
from fedprune.server.runs.events.base import MAIN, Event, OfRound, RunName
from fedprune.server.runs.events.kinds import (
    ClientAnswered,
    ClientsAnswered,
    ClientsPutAside,
    CutChecked,
    LateArrived,
    NetworkCut,
    NetworkRestarted,
    PrivacySpent,
    RoundFinished,
    WarningGiven,
    WorkerLost,
)
from fedprune.server.runs.events.of_runs import (
    ClientsConnected,
    NetworkDelivered,
    RunFailed,
    RunResumed,
    RunStarted,
    RunStopped,
)

_KILO = 1000
_NAMED = 3  # clients in a line; the event has all
_LONGEST = 20_000  # characters of a line: the names of a few hundred clients


def describe(event: Event) -> str:
    """Return one printable line about an event, or "" for a kind that has none."""
    return printable(_line(event), _LONGEST)


@singledispatch
def _line(_event: Event) -> str:
    return ""


@_line.register
def _(event: RunStarted) -> str:
    return f"run {event.directory}: {event.reach}".rstrip(": ")


@_line.register
def _(event: RunResumed) -> str:
    return f"resumed {event.directory}".rstrip()


@_line.register
def _(event: RunFailed) -> str:
    return event.text


@_line.register
def _(event: RunStopped) -> str:
    return f"stopped by the operator after round {event.rounds}"


@_line.register
def _(event: ClientsConnected) -> str:
    text = f"{len(event.connected)}/{event.wanted} clients: "
    text += ", ".join(event.connected)
    return f"{text}; refused: {', '.join(event.refused)}" if event.refused else text


@_line.register
def _(event: NetworkDelivered) -> str:
    result = event.reason or f"accuracy {_number(event.accuracy, '.3f')} there"
    return f"delivered to {event.client}: {result}"


@_line.register
def _(event: RoundFinished) -> str:
    place = f"{event.round}/{event.rounds}"
    return f"{run_label(event.run):6} round {place:7} {figures(event)}"


@_line.register
def _(event: ClientAnswered) -> str:
    if event.status is Status.ACCEPTED:
        return ""
    who, reason = f"client {event.client}", event.reason
    if who not in reason:
        reason = f"{who} {event.status}: {reason or '-'}"
    return f"round {event.round}: {reason}"


@_line.register
def _(event: ClientsAnswered) -> str:
    missing = {s: n for s, n in event.statuses.items() if s != Status.ACCEPTED and n}
    if not missing:
        return ""
    counts = ", ".join(f"{count} {status}" for status, count in missing.items())
    return f"round {event.round}: {counts} of the clients that are not listed"


@_line.register
def _(event: NetworkCut) -> str:
    return (
        f"{whose(event)}cut after round {event.round}: density {event.density:.3f}, "
        f"accuracy before it {_number(event.accuracy_before, '.4f')}"
    )


@_line.register
def _(event: CutChecked) -> str:
    what = "final network" if event.final else f"cut {event.cycle}"
    where = f"{whose(event)}{what} {event.verdict} in round {event.round}"
    return f"{where}: {change_of(event)}"


def change_of(event: CutChecked) -> str:
    """Return loss and accuracy of a check in words, each with two standard errors."""
    loss = f"validation loss {_number(event.loss_before, '.4f')} -> "
    loss += (
        f"{_number(event.loss_after, '.4f')} +- {_number(event.loss_error, '.4f', 2)}"
    )
    accuracy = f"accuracy {_number(event.accuracy_reference, '.4f')} -> "
    accuracy += _number(event.accuracy_after, ".4f")
    return f"{loss}, {accuracy} +- {_number(event.accuracy_error, '.4f', 2)}"


@_line.register
def _(event: NetworkRestarted) -> str:
    return f"{whose(event)}weights drawn anew after round {event.round}"


@_line.register
def _(event: PrivacySpent) -> str:
    spent = f"epsilon {event.epsilon:.2f} of {event.planned:g} spent"
    return f"{whose(event)}round {event.round}: {spent} (delta {event.delta:g})"


@_line.register
def _(event: WorkerLost) -> str:
    text = f"{whose(event)}round {event.round}: worker {event.worker} was lost: "
    again = f"; run again: {and_more(event.clients, _NAMED)}" if event.clients else ""
    return f"{text}{event.reason}{again}"


@_line.register
def _(event: LateArrived) -> str:
    used = [client for client in event.asked if client in event.used]
    left = [client for client in event.asked if client not in event.used]
    parts = [f"used: {and_more(used, _NAMED)}"] if used else []
    parts += [f"not used: {and_more(left, _NAMED)}"] if left else []
    return f"{whose(event)}round {event.round}: late answers {'; '.join(parts)}"


@_line.register
def _(event: ClientsPutAside) -> str:
    names = and_more(event.clients, _NAMED)
    return (
        f"{whose(event)}round {event.round}: late and put aside: {names}; asked again "
        f"in round {event.back} at the latest"
    )


@_line.register
def _(event: WarningGiven) -> str:
    return f"warning: {whose(event)}{event.text}"


def run_label(run: RunName) -> str:
    """Return the label of a run's rounds on a screen."""
    return "pruned" if run == MAIN else run


def whose(event: OfRound) -> str:
    """Return the name of a control in front of its events; "" of the run itself."""
    return "" if event.run == MAIN else f"{event.run}: "


def figures(event: RoundFinished) -> str:
    """Return cycle, phase, accuracy, loss, density and bytes of a round.

    The accuracy is that on test data, where it was measured, else that of the clients'
    validation; answers are counted where some were not accepted.
    """
    parts = [f"cycle {event.cycle} {event.phase!s:8}"]
    if event.accuracy is not None:
        parts.append(f"accuracy {event.accuracy:.4f}")
    elif event.validation_accuracy is not None:
        parts.append(f"validation accuracy {event.validation_accuracy:.4f}")
    parts.append(f"loss {_number(event.loss, '.4f'):6}")  # "-" keeps the columns
    parts.append(f"density {event.density:.3f}")
    up, down = human_bytes(event.bytes_up), human_bytes(event.bytes_down)
    parts.append(f"up {up} down {down}")
    if event.accepted < event.asked:
        parts.append(f"answers {event.accepted}/{event.asked}")
    return "  ".join(parts)


def short_figures(event: RoundFinished) -> str:
    """Return the figures of a round for a terminal of 80 columns."""
    accuracy = _number(event.accuracy, ".4f")
    up, down = human_bytes(event.bytes_up), human_bytes(event.bytes_down)
    return (
        f"{event.cycle} {event.phase!s:8} acc {accuracy:6} "
        f"density {event.density:.3f} {up} / {down}"
    )


def human_bytes(count: object) -> str:
    """Return a number of bytes in words, for example "1.5 MB".

    >>> human_bytes(900), human_bytes(1500), human_bytes(None)
    ('900 B', '1.5 kB', '-')
    """
    if isinstance(count, bool) or not isinstance(count, int | float):
        return "-"
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < _KILO:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= _KILO
    return f"{size:.1f} TB"


def _number(value: float | None, form: str, times: float = 1) -> str:
    return "-" if value is None else format(times * value, form)
