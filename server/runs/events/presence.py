"""Clients that are away for some rounds: said when they go, and when they are back."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from fedprune.common.text import printable
from fedprune.server.rounds.records import Status
from fedprune.server.runs.events.base import MAIN, Event
from fedprune.server.runs.events.kinds import ClientAnswered
from fedprune.server.runs.events.render import describe


@dataclass(frozen=True, slots=True)
class Absence:
    """Rounds in a row in which a client was asked and gave no accepted answer.

    Attributes:
        first: The first of them.
        said: The reasons that were said; of all late answers one.
    """

    first: int
    said: frozenset[str]


@dataclass(slots=True)
class Presence:
    """Turns the events of a run into lines, each absence in one line at each end.

    Attributes:
        away: Client id -> its absence, of those that are away.
    """

    away: dict[str, Absence] = field(default_factory=dict)

    def lines(self, event: Event) -> Iterator[str]:
        """Yield the printable lines about an event; most have one, or none."""
        if not isinstance(event, ClientAnswered) or event.run != MAIN:
            if text := describe(event):
                yield text
        elif event.status is Status.ACCEPTED:
            yield from self._came(event)
        else:
            yield from self._missed(event)

    def _came(self, event: ClientAnswered) -> Iterator[str]:
        absence = self.away.pop(event.client, None)
        if absence is None:
            return
        last = event.round - 1
        missed = f"round {absence.first}"
        if last > absence.first:
            missed = f"rounds {absence.first} to {last}"
        client = printable(event.client)
        yield f"round {event.round}: {client} is back; it missed {missed}"

    def _missed(self, event: ClientAnswered) -> Iterator[str]:
        absence = self.away.get(event.client, Absence(event.round, frozenset()))
        # A late answer's reason has the seconds of its round.
        why = event.status if event.status is Status.LATE else event.reason
        if why not in absence.said:
            yield describe(event)
        self.away[event.client] = Absence(absence.first, absence.said | {why})
