"""Clients that are put aside: late in two rounds in a row, not asked for a while.

Where late answers are used (``rounds.late``) one round is enough: who has not answered
is busy with it, and an answer counts only if its client is not asked again meanwhile.

A client that hangs costs a round its grace period each time that it is asked.  It is
asked again after ``rounds.put_aside`` rounds, and counted from the start.  A client
whose answer was not waited for, since the round had its goal, was not late.  The second
attempt of a round asks those that are put aside too: it needs every answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fedprune.common.config import Rounds
from fedprune.server.rounds.waiting.closing import Cause, Closing

_ONCE, _TWICE = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateness:
    """The record of a client that was late when it was asked last.

    Attributes:
        rounds: Rounds in a row in which it was late, since it came back, >= 1.
        back: First round that may ask it again; 0 = any.
    """

    rounds: int
    back: int = 0


Absences = Mapping[str, Lateness]


def present(
    clients: Sequence[str],
    absences: Absences,
    round_: int,
    least: int,
    *,
    late: Literal["drop", "use"] = "drop",
) -> tuple[str, ...]:
    """Return the clients that a round may ask, in the order given.

    Where too few would be left, those that come back soonest are asked too; where late
    answers are used those that come back last, whose answers are furthest away.  Of
    equals the one that was late in fewer rounds, then the first.

    Args:
        clients: Ids of all clients.
        absences: Those that were late.
        round_: The round.
        least: The fewest that are left, if there are so many.
        late: ``rounds.late``.
    """
    aside = [c for c in clients if c in absences and absences[c].back > round_]
    if not aside:
        return tuple(clients)
    short = max(least - (len(clients) - len(aside)), 0)
    sign = -1 if late == "use" else 1
    aside.sort(key=lambda c: (sign * absences[c].back, absences[c].rounds))
    out = frozenset(aside[short:])
    return tuple(client for client in clients if client not in out)


def fewest(rounds: Rounds, asked: int) -> int:
    """Return the fewest clients that putting aside leaves.

    At most a quarter of those above the minimum are put aside: a federation of ten with
    a minimum of five keeps nine.  Fewer fail more rounds than their waiting costs
    (docs/decisions/0078).  Where late answers are used at most a half: who is late is
    not back earlier by being asked again, but lost answers look the same.
    """
    above = asked - rounds.minimum
    if rounds.late == "use":
        return rounds.minimum + (above + 1) // 2
    return rounds.minimum + (3 * above + 3) // 4


def lateness(rounds: Rounds) -> int:
    """Return the late rounds in a row after which a client is put aside."""
    return _ONCE if rounds.late == "use" else _TWICE


def noted(
    absences: Absences,
    closing: Closing | None,
    round_: int,
    rounds: int,
    *,
    times: int = _TWICE,
) -> Absences:
    """Return the records after a round, or after a failed attempt of it.

    Args:
        absences: Those before.
        closing: The end of its waiting; None = not known.
        round_: The round.
        rounds: ``rounds.put_aside``; 0 = no client is put aside.
        times: Late rounds in a row after which one is (``lateness``).
    """
    if closing is None:
        return absences
    found = {c: one for c, one in absences.items() if c not in set(closing.counted)}
    if closing.cause is Cause.GOAL:
        return found
    for client in closing.late:
        before = absences.get(client)
        new = before is None or 0 < before.back <= round_
        late = 1 if before is None or new else before.rounds + 1
        aside = rounds > 0 and late >= times
        back = round_ + 1 + rounds if aside else 0
        found[client] = Lateness(rounds=late, back=back)
    return dict(sorted(found.items()))


def back_at_once(absences: Absences) -> Absences:
    """Return the records without the absence of those that were late but once."""
    return {
        client: replace(one, back=0) if one.rounds < _TWICE else one
        for client, one in absences.items()
    }


def newly_aside(before: Absences, after: Absences, round_: int) -> tuple[str, ...]:
    """Return the clients that a round has put aside, in order."""
    known = {client: one.back for client, one in before.items()}
    return tuple(
        client
        for client, one in sorted(after.items())
        if one.back > round_ and one.back != known.get(client)
    )
