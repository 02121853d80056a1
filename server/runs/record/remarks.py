"""Remarks on a run: its warnings, clients put aside, clients seldom accepted."""

from collections import Counter
from collections.abc import Sequence

from fedprune.common.text import and_more
from fedprune.server.rounds.records import Status
from fedprune.server.runs.events import (
    ClientAnswered,
    ClientsAnswered,
    ClientsPutAside,
    Event,
    LateArrived,
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
    texts += [*_put_aside(events), *_seldom_counted(events)]
    return list(dict.fromkeys(texts))


def _put_aside(events: Sequence[Event]) -> list[str]:
    """Return a line about clients that were not asked for a while, being late."""
    times = Counter(c for e in of_run(events, ClientsPutAside) for c in e.clients)
    if not times:
        return []
    named = [f"{client}: {count}" for client, count in sorted(times.items())]
    text = "late and put aside (rounds.put_aside), with the times: "
    return [text + and_more(named, _NAMED)]


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
        pairs = zip(late.clients, late.num_examples, strict=True)
        counted.update(client for client, weight in pairs if weight)
    seldom = [name for name in sorted(asked) if counted[name] < _SELDOM * asked[name]]
    if not seldom:
        return []
    named = [f"{name}: {counted[name]} of {asked[name]}" for name in seldom]
    text = f"{len(seldom)} of {len(asked)} clients counted in few or none of their"
    return [f"{text} rounds ({and_more(named, _NAMED)}); {reasons[seldom[0]]}"]
