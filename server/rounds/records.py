"""What became of each client in a round."""

from dataclasses import dataclass
from enum import StrEnum

from fedprune.common.messages import Statistics, Validation
from fedprune.common.spec import Vector
from fedprune.common.text import printable


class Status(StrEnum):
    """What became of a client that was asked."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    FAILED = "failed"
    LATE = "late"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRecord:
    """What the server keeps of one client's round, beside the sum of the deltas.

    Attributes:
        client_id: Who was asked.
        status: What became of it.
        reason: Empty when accepted, else one printable line that names the field, of
            at most 500 characters; made so whatever is given.
        bytes_down: Length of the message that it was sent.
        bytes_up: Length of the message that it answered, 0 if none came.
        bytes_fixed: Bytes of ``bytes_up`` that do not depend on the number of
            entries: statistics, importance, scales, header.
        num_examples: Its weight in means: the examples that it claims, up to what is
            believed; 0 when not accepted.
        norm: L2 norm of its delta, as it came.
        factor: What its delta was multiplied by to be no longer than others.
        loss: Its mean training loss.
        seconds: Time that training and encoding took.
        importance: Its scores, float32[kept units], or None.
        validation: What the broadcast scored there, or None.
        statistics: Its batch-norm moments of the broadcast, or None.
        residual_lost: Whether it did not find what it owes from earlier rounds.
    """

    client_id: str
    status: Status
    reason: str = ""
    bytes_down: int = 0
    bytes_up: int = 0
    bytes_fixed: int = 0
    num_examples: int = 0
    norm: float = 0.0
    factor: float = 1.0
    loss: float = 0.0
    seconds: float = 0.0
    importance: Vector | None = None
    validation: Validation | None = None
    statistics: Statistics | None = None
    residual_lost: bool = False

    def __post_init__(self) -> None:
        # Clients write it, and it goes to terminals, logs and reports.
        object.__setattr__(self, "reason", printable(self.reason))
