"""The answers of a round on devices as they arrive, and when it closes."""

from fedprune.server.rounds.engine import RoundWork
from fedprune.server.rounds.records import ClientRecord, Status
from fedprune.server.rounds.waiting.closing import (
    NEVER,
    Arrival,
    Cause,
    Closing,
    Patience,
    close,
)


class Arrivals:
    """The answers of a round as they arrive, and the end of the waiting.

    Args:
        work: The round.
    """

    def __init__(self, work: RoundWork) -> None:
        self._patience: Patience = work.patience
        self._missing = {one.client_id: None for one in work.request.assignments}
        self._came: list[Arrival] = []
        self.records: list[ClientRecord] = []
        self.closing: Closing = self._close()

    def add(self, record: ClientRecord, seconds: float) -> None:
        """Add the outcome of a client, of which each has one."""
        del self._missing[record.client_id]
        accepted = record.status is Status.ACCEPTED
        self.records.append(record)
        self._came.append(
            Arrival(client_id=record.client_id, seconds=seconds, accepted=accepted)
        )
        self.closing = self._close()

    @property
    def complete(self) -> bool:
        """True once all clients have answered, or enough of them."""
        return self.closing.cause in (Cause.ALL, Cause.GOAL)

    def _close(self) -> Closing:
        away = [
            Arrival(client_id=client, seconds=NEVER, accepted=False)
            for client in self._missing
        ]
        return close([*self._came, *away], self._patience)
