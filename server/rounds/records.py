"""Records of a round: of each client its status and figures; the guard's verdict."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from fedprune.common.messages import Covariances, Statistics, Validation
from fedprune.common.spec import Vector
from fedprune.common.text import printable

_LARGEST = 1e30  # a worse mean loss counts as this one: its square is finite


class Status(StrEnum):
    """Outcome of a client that was asked."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    FAILED = "failed"
    LATE = "late"


class Verdict(StrEnum):
    """Decision of the guard on a cut."""

    KEPT = "kept"
    ROLLED_BACK = "rolled back"
    WARNED = "warned"
    STOPPED = "stopped"


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
        covariances: Of what layers read in the broadcast, or None.
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
    covariances: Covariances | None = None
    residual_lost: bool = False

    def __post_init__(self) -> None:
        # Clients write the reason, and it goes to terminals, logs and reports.
        object.__setattr__(self, "reason", printable(self.reason))


@dataclass(frozen=True, slots=True, kw_only=True)
class Validations:
    """Each client's figures of one broadcast on its validation part.

    Attributes:
        clients: Ids in order, each once.
        losses: Mean loss of an example, float64[clients], -1e30..1e30.
        metrics: Mean headline metric, float64[clients], -1e30..1e30.
        counts: Examples, int64[clients], >= 1.
    """

    clients: tuple[str, ...]
    losses: NDArray[np.float64]
    metrics: NDArray[np.float64]
    counts: NDArray[np.int64]

    def of(self, clients: Iterable[str]) -> "Validations":
        """Return those of some of its clients, in the order given."""
        wanted = tuple(clients)
        where = {client: place for place, client in enumerate(self.clients)}
        places = [where[client] for client in wanted]
        return Validations(
            clients=wanted,
            losses=self.losses[places],
            metrics=self.metrics[places],
            counts=self.counts[places],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Figures of one broadcast on the validation part of one client.

    Attributes:
        client: Its id.
        loss: Mean loss of an example.
        metric: Mean headline metric.
        count: Examples, >= 1.
    """

    client: str
    loss: float
    metric: float
    count: int


def validations_of(records: Iterable[ClientRecord]) -> Validations:
    """Return the validations of all accepted answers that have examples."""
    return validations_from(
        Measured(
            client=record.client_id,
            loss=v.loss_sum / v.count,
            metric=v.metric_sum / v.count,
            count=v.count,
        )
        for record in records
        if record.status is Status.ACCEPTED
        and (v := record.validation) is not None
        and v.count > 0
    )


def validations_from(measured: Iterable[Measured]) -> Validations:
    """Return the validations of clients, of which each is given once."""
    found = sorted(measured, key=lambda one: one.client)
    losses = np.array([one.loss for one in found], dtype=np.float64)
    metrics = np.array([one.metric for one in found], dtype=np.float64)
    return Validations(
        clients=tuple(one.client for one in found),
        losses=np.clip(losses, -_LARGEST, _LARGEST),
        metrics=np.clip(metrics, -_LARGEST, _LARGEST),
        counts=np.array([one.count for one in found], dtype=np.int64),
    )
