"""The end of the waiting: when a round closes, and which answers count.

One pure rule for devices, in seconds of a monotonic clock, and for simulations, in
virtual seconds.  A round closes at the first of:

1. all clients that were asked have answered;
2. as many answers as the goal are accepted;
3. ``grace`` times the time at which the quorum had answered, and 10 s after it;
4. the deadline.

The quorum is a share of the asked clients: accepted answers of so many.  Clients that
failed or were refused leave the count of the asked, so that they neither bring the end
forward by answering at once nor hold the round up.  The grace period begins with
``minimum`` accepted answers at the earliest: a round that would fail waits on.

Source of goal, minimum and deadline: Bonawitz et al. 2019, arXiv:1902.01046.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil, inf

NEVER = inf
SLACK_S = 10.0  # a device asks Flower for work every few seconds, however fast it is
_CLOSE = 1e-9  # 0.1 of 30 clients are three, not four


class Cause(StrEnum):
    """The reason why a round closed."""

    ALL = "all"
    GOAL = "goal"
    GRACE = "grace"
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """The time that a round waits, and the clients that it waits for.

    Attributes:
        goal: Accepted answers at which it closes, >= 1.
        minimum: Accepted answers without which it fails, >= 1.
        quorum: Share of the asked clients whose answers start the grace period,
            0 < quorum <= 1.
        grace: Multiple of the time of the quorum at which it closes, >= 1.
        deadline_s: Seconds at which it closes whatever is missing, > 0.
    """

    goal: int
    minimum: int
    quorum: float
    grace: float
    deadline_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """The arrival of one answer.

    Attributes:
        client_id: Id of the client that was asked.
        seconds: Seconds from the request to it, >= 0; inf = not yet, or never.
        accepted: Whether it was accepted; False of a failure or a refused answer.
    """

    client_id: str
    seconds: float
    accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """The end of a round's waiting.

    Attributes:
        seconds: Seconds from the request to it.
        cause: Why it came.
        counted: Ids of the clients whose answers had arrived, in that order.
        late: Ids of the others, in the order in which they were asked.
        last: Seconds to the last answer that counts, 0 without one.
        virtual: Whether the seconds are those of a simulation.
    """

    seconds: float
    cause: Cause
    counted: tuple[str, ...]
    late: tuple[str, ...]
    last: float
    virtual: bool = False


def close(arrivals: Sequence[Arrival], patience: Patience) -> Closing:
    """Return when a round closes, if no answer but these arrives.

    Args:
        arrivals: One for each client that was asked; of those that arrive at the same
            time the earlier one in this order is the first.
        patience: The limits.
    """
    came = [one for one in arrivals if one.seconds < NEVER]
    came.sort(key=lambda one: one.seconds)
    counted: list[str] = []
    accepted = 0
    end, cause = patience.deadline_s, Cause.DEADLINE
    for one in came:
        if one.seconds > end:
            break
        counted.append(one.client_id)
        accepted += one.accepted
        if len(counted) == len(arrivals) or accepted == patience.goal:
            whole = len(counted) == len(arrivals)
            end, cause = one.seconds, Cause.ALL if whole else Cause.GOAL
            break
        lost = len(counted) - accepted
        if accepted >= _needed(len(arrivals) - lost, patience):
            grace = max(patience.grace * one.seconds, one.seconds + SLACK_S)
            if grace < end:
                end, cause = grace, Cause.GRACE
    heard = set(counted)
    return Closing(
        seconds=end,
        cause=cause,
        counted=tuple(counted),
        late=tuple(a.client_id for a in arrivals if a.client_id not in heard),
        last=came[len(counted) - 1].seconds if counted else 0.0,
    )


def _needed(able: int, patience: Patience) -> int:
    """Return the accepted answers that start the grace period, of so many at most."""
    return max(ceil(patience.quorum * able - _CLOSE), patience.minimum)


def why_late(client_id: str, closing: Closing, patience: Patience) -> str:
    """Return the reason why a client's answer does not count, one line."""
    if closing.cause is Cause.GOAL:
        text = f"not waited for: {patience.goal} answers were accepted before its own"
    elif closing.cause is Cause.GRACE:
        text = f"no answer within {closing.seconds:.0f} s, when most had answered "
        text += "(rounds.quorum, rounds.grace)"
    else:
        text = f"no answer within {closing.seconds:.0f} s (rounds.deadline_s)"
    return f"client {client_id}: {text}"
