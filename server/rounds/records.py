"""Records of a round: status, bytes, loss and measurements of each client."""

from dataclasses import dataclass
from enum import StrEnum

from fedprune.common.messages import Statistics, Validation
from fedprune.common.spec import Vector
from fedprune.common.text import printable


class Status(StrEnum):
    """Outcome of a client that was asked."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    FAILED = "failed"
    LATE = "late"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRecord:
    """One client's round at the server, without its delta.

    Attributes:
        client_id: Id of the client.
        status: Its outcome.
        reason: "" when accepted, else one printable line that names the field, of at
            most 500 characters; any text is made printable and cut.
        bytes_down: Length of the message that it was sent, bytes.
        bytes_up: Length of its answer, bytes; 0 without an answer.
        bytes_fixed: Bytes of ``bytes_up`` that do not depend on the number of
            entries: statistics, importance, scales, header.
        num_examples: Its weight in means: the examples that it reports, up to its
            largest weight; 0 when not accepted.
        norm: L2 norm of its delta before clipping.
        factor: Factor that clips its delta, 0..1.
        loss: Its mean training loss.
        seconds: Seconds of training and encoding.
        importance: Its scores, float32[kept units], or None.
        validation: Its validation of the broadcast, or None.
        statistics: Its batch-norm moments of the broadcast, and its running values
            after training, or None.
        residual_lost: Whether its stored residual of earlier rounds is missing.
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
        # Clients write the reason, and it goes to terminals, logs and reports.
        object.__setattr__(self, "reason", printable(self.reason))
