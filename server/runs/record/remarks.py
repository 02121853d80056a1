"""Remarks on a run: its warnings, clients put aside, clients seldom accepted."""

from collections import Counter
from collections.abc import Mapping, Sequence

from fedprune.common.text import and_more
from fedprune.server.rounds.records import Status
from fedprune.server.runs.events import (
    ClientAnswered,
    ClientsAnswered,
    ClientsPutAside,
    Event,
    LateArrived,
    RunStarted,
    WarningGiven,
    of_kind,
    of_run,
)
from fedprune.server.runs.events.render import whose

_NAMED = 3  # clients that a line names
_SELDOM = 0.5  # share of its rounds that a client should count in


def remarks_of(events: Sequence[Event]) -> list[str]:
    """Return each warning of a run once, and lines about clients that do not count."""
    texts = [f"{whose(event)}{event.text}" for event in of_kind(events, WarningGiven)]
    texts += [*_put_aside(events), *_none_used(events), *_seldom_counted(events)]
    return list(dict.fromkeys(texts))


def _put_aside(events: Sequence[Event]) -> list[str]:
    """Return a line about clients that were not asked for a while, being late."""
    times = Counter(c for e in of_run(events, ClientsPutAside) for c in e.clients)
    if not times:
        return []
    named = [f"{client}: {count}" for client, count in sorted(times.items())]
    text = "late and put aside (rounds.put_aside), with the times: "
    return [text + and_more(named, _NAMED)]


def _none_used(events: Sequence[Event]) -> list[str]:
    """Return a line where late answers are used and none of them counted."""
    late = [e for e in of_run(events, ClientAnswered) if e.status is Status.LATE]
    wanted = any(_uses_late(event) for event in of_kind(events, RunStarted))
    if not (wanted and late) or any(e.used for e in of_run(events, LateArrived)):
        return []
    text = "rounds.late is 'use', and no late answer counted: a client that is asked "
    text += "again has none (rounds.put_aside), nor has one of a network before a cut"
    return [text]


def _uses_late(event: RunStarted) -> bool:
    rounds = event.config.get("rounds")
    return isinstance(rounds, Mapping) and rounds.get("late") == "use"


def _seldom_counted(events: Sequence[Event]) -> list[str]:
    """Return a line about clients whose answers were mostly not accepted.

    The network has hardly learned from them, however well it does for the others.
    Large rounds do not say which clients were accepted, so they say nothing here.
    """
    large = {event.round for event in of_run(events, ClientsAnswered)}
    asked, counted = Counter[str](), Counter[str]()
    reasons: dict[str, str] = {}
    listed = (e for e in of_run(events, ClientAnswered) if e.round not in large)
    for event in listed:
        asked[event.client] += 1
        if event.status is Status.ACCEPTED:
            counted[event.client] += 1
        else:
            reasons[event.client] = event.reason
    for late in of_run(events, LateArrived):
        counted.update(c for c in late.used if late.asked.get(c) not in large)
    seldom = [name for name in sorted(asked) if counted[name] < _SELDOM * asked[name]]
    if not seldom:
        return []
    named = [f"{name}: {counted[name]} of {asked[name]}" for name in seldom]
    text = f"{len(seldom)} of {len(asked)} clients counted in few or none of their"
    return [f"{text} rounds ({and_more(named, _NAMED)}); {reasons[seldom[0]]}"]
