"""The events of a run: one frozen dataclass a kind, its fields as they are on disk.

The annotations are the format: ``codec.py`` reads and writes every kind by them.  A
``float`` is finite; ``float | None`` is None where nothing was measured.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias, TypeVar

from fedprune.common.messages import Phase
from fedprune.server.rounds.records import Status, Verdict
from fedprune.server.runs.events.base import (
    MAIN,
    Bit,
    Count,
    Event,
    OfRound,
    Rare,
    Reason,
    RunName,
    Seconds,
    Share,
    Usual,
)
from fedprune.server.runs.events.of_runs import (
    ClientsConnected,
    LabelsCounted,
    NetworkDelivered,
    RunFailed,
    RunFinished,
    RunResumed,
    RunStarted,
    RunStopped,
)

Measured: TypeAlias = Annotated[float | None, Usual(None)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientAnswered(OfRound):
    """Outcome of a client that was asked in a round.

    Attributes:
        client: Its id.
        status: Accepted, refused, failed or late.
        reason: Why it was not accepted, one line; empty if it was.
        bytes_up: Length of its answer, 0 without one.
        bytes_down: Length of the message that it was sent.
        num_examples: Its weight in the mean.
        norm: L2 norm of its delta, as received; figures have 9 digits.
        factor: Factor that the delta was multiplied by.
        loss: Its mean training loss.
        seconds: Time that its training and encoding took.
        validation_loss: Its mean loss of the broadcast on its validation part.
        validation_metric: Its mean headline metric there.
        validation_examples: The examples of that part, 0 without one.
    """

    client: str
    status: Status
    reason: Reason
    bytes_up: Count
    bytes_down: Count
    num_examples: Count
    norm: float | None
    factor: Annotated[Share, Usual(1.0)]
    loss: float | None
    seconds: Seconds
    validation_loss: Measured = None
    validation_metric: Measured = None
    validation_examples: Rare = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientsAnswered(OfRound):
    """Outcomes of the clients of a large round that have no event of their own.

    Figures are those of accepted answers; one that is unknown or not finite counts in
    no bin.  The names are those of ``ClientAnswered``.

    Attributes:
        statuses: Status -> clients.
        means: Name of a figure -> its mean.
        edges: Name of a figure -> borders of its bins, rising, one more than there are
            bins; the first is the least value, the last the greatest.
        counts: Name of a figure -> clients in each bin, which has its lower border, the
            last one both.
    """

    statuses: Mapping[str, Count]
    means: Mapping[str, float]
    edges: Mapping[str, tuple[float, ...]]
    counts: Mapping[str, tuple[Count, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundFinished(OfRound):
    """A round is complete; its sizes and accuracies are those of its broadcast.

    Attributes:
        rounds: Rounds that the run will have, as far as is known.
        cycle: Cuts before it that stand.
        phase: Purpose of the round.
        loss: Mean training loss, weighted by examples.
        accuracy: Accuracy on test data, or R2; None when the round does not measure it.
        validation_loss: Mean loss on the clients' validation parts.
        validation_accuracy: Share classified rightly there.
        density: Parameters of the dense network that are left.
        params: Parameters.
        flops: FLOPs of one example.
        channel_density: Prunable channels that are left.
        bytes_up: Bytes of all answers.
        bytes_down: Bytes of all messages to clients.
        bytes_fixed: Part of ``bytes_up`` that is independent of the number of entries.
        bytes_simulation: Bytes between the workers of a simulation and its driver.
        asked: Clients that were asked: accepted + refused + failed + late.
        accepted: Answers that were accepted.
        refused: Answers that were refused.
        failed: Clients that failed.
        late: Clients whose answers did not arrive in time.
        zero_share: Exactly zero channels at the end of a sparsify phase, else None.
        seconds: Time that the round took.
        virtual_seconds: Time that a simulation's round would have waited; None on
            devices.  Like bytes and seconds it is that of failed attempts too.
    """

    rounds: Count
    cycle: Count
    phase: Phase
    loss: float | None
    accuracy: Measured
    validation_loss: Measured
    validation_accuracy: Measured
    density: Share
    params: Count
    flops: Count
    channel_density: Share
    bytes_up: Count
    bytes_down: Count
    bytes_fixed: Count
    bytes_simulation: Rare
    asked: Count
    accepted: Count
    refused: Rare
    failed: Rare
    late: Rare
    zero_share: Annotated[Share | None, Usual(None)]
    seconds: Seconds
    virtual_seconds: Annotated[Seconds | None, Usual(None)]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkCut(OfRound):
    """Channels were cut at the end of a round.

    Attributes:
        cycle: Number of the cut among those that stand, from 1.
        widths: Name of each pruning group -> channels that it keeps.
        blocks: Names of all blocks that are dropped by now.
        params: Parameters that are left.
        flops: FLOPs of one example that are left.
        density: Parameters of the dense network that are left.
        channel_density: Prunable channels that are left.
        step: Part of the schedule that the cut moved along, 0..1.
        votes: Client id -> its normalised scores of the channels before the cut; empty
            where more than 256 clients voted.
        consensus: Their consensus, one number a channel, in the same order.
        kept: 1 = the channel is kept, in the same order.
        zero_share: Exactly zero channels of the network that was cut.
        accuracy_before: Accuracy on test data of the network that was cut.
    """

    cycle: Count
    widths: Mapping[str, Count]
    blocks: tuple[str, ...]
    params: Count
    flops: Count
    density: Share
    channel_density: Share
    step: Share
    votes: Mapping[str, tuple[float, ...]]
    consensus: tuple[float, ...]
    kept: tuple[Bit, ...]
    zero_share: Share | None
    accuracy_before: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CutRolledBack(OfRound):
    """The last cut that stood was taken back, after a check that says why.

    Attributes:
        cycle: Number of that cut, from 1.
        step: Part of the schedule that the next cut moves along, 0..1.
    """

    cycle: Count
    step: Share


Comparison: TypeAlias = Literal["paired", "unpaired", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CutChecked(OfRound):
    """The guard checked the last cut, or in the closing round the final network.

    Figures are None where no client measured one of the two broadcasts.

    Attributes:
        cycle: Number of the cut, from 1; of the final network the cuts that stand.
        final: 1 = the final network is checked, against that before the first cut.
        loss_before: Validation loss of the last broadcast before this cut.
        loss_after: That of the last broadcast after it.
        loss_error: Standard error of their difference.
        loss_allowed: Largest rise that is accepted; None = any.
        loss_clients: Clients that the losses are of.
        loss_comparison: Whether each client is compared with itself.
        accuracy_reference: Headline metric of the last broadcast before the first cut.
        accuracy_after: That of the last broadcast after this one.
        accuracy_error: Standard error of their difference.
        accuracy_allowed: Largest loss of it that is accepted; None = any.
        accuracy_clients: Clients that the metrics are of.
        accuracy_comparison: Whether each client is compared with itself.
        verdict: Kept; rolled back, to be tried with half the step; warned of, and kept;
            or stopped: taken back, and no more is cut.
    """

    cycle: Count
    final: Bit
    loss_before: float | None
    loss_after: float | None
    loss_error: float | None
    loss_allowed: float | None
    loss_clients: Count
    loss_comparison: Comparison
    accuracy_reference: float | None
    accuracy_after: float | None
    accuracy_error: float | None
    accuracy_allowed: float | None
    accuracy_clients: Count
    accuracy_comparison: Comparison
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskChosen(OfRound):
    """A mask was chosen for the weights of all later rounds.

    Attributes:
        digest: Digest of the mask, in hex.
        weight_density: Weights that it keeps.
    """

    digest: str
    weight_density: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRestarted(OfRound):
    """The weights of the cut network were drawn anew at the end of a round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacySpent(OfRound):
    """Epsilon that all rounds so far have spent.

    Attributes:
        epsilon: Epsilon of all releases so far, for any one client.
        planned: Epsilon of the whole run.
        delta: Delta of both.
        multiplier: Standard deviation of the noise on the sum of the deltas, over
            ``privacy.clip``.
        key: Digest of the key of the noise.
    """

    epsilon: float
    planned: float
    delta: float
    multiplier: float
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost(OfRound):
    """A worker of a simulation was lost in a round, and its clients play it again.

    No result depends on it: their answers are equal bit by bit.

    Attributes:
        worker: Its process and host.
        reason: How it was lost, one line.
        clients: Ids of its clients.
    """

    worker: str
    reason: str
    clients: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LateArrived(OfRound):
    """Answers of earlier rounds arrived in this one (``rounds.late`` is "use").

    Attributes:
        asked: Client id -> the round that asked it.
        used: Client id -> weight of its answer in the mean of this round, of those that
            count; the network of the others is another one by now.
    """

    asked: Mapping[str, Count]
    used: Mapping[str, Count]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientsPutAside(OfRound):
    """Clients that were late are not asked for some rounds.

    Attributes:
        clients: Their ids.
        back: First round that may ask them again.
    """

    clients: tuple[str, ...]
    back: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class WarningGiven(OfRound):
    """A warning about the figures of a round.

    Attributes:
        text: One line.
        clients: Ids of the clients that it concerns; empty where it names none.
    """

    text: str
    clients: tuple[str, ...] = ()


# A kind's name on disk is written here and nowhere else.
KINDS: Final[Mapping[str, type[Event]]] = {
    "run_started": RunStarted,
    "labels": LabelsCounted,
    "resumed": RunResumed,
    "run_finished": RunFinished,
    "run_failed": RunFailed,
    "run_stopped": RunStopped,
    "waiting": ClientsConnected,
    "delivered": NetworkDelivered,
    "client": ClientAnswered,
    "clients": ClientsAnswered,
    "round": RoundFinished,
    "cut": NetworkCut,
    "check": CutChecked,
    "rollback": CutRolledBack,
    "mask": MaskChosen,
    "restart": NetworkRestarted,
    "privacy": PrivacySpent,
    "worker_lost": WorkerLost,
    "late": LateArrived,
    "put_aside": ClientsPutAside,
    "warning": WarningGiven,
}
NAMES: Final[Mapping[type[Event], str]] = {kind: name for name, kind in KINDS.items()}

E = TypeVar("E", bound=Event)
R = TypeVar("R", bound=OfRound)


def of_kind(events: Iterable[Event], kind: type[E]) -> Iterator[E]:
    """Yield the events of one kind, in order."""
    return (event for event in events if isinstance(event, kind))


def of_run(events: Iterable[Event], kind: type[R], run: RunName = MAIN) -> list[R]:
    """Return the events of one kind in the federation, or in a control, in order."""
    return [event for event in of_kind(events, kind) if event.run == run]
