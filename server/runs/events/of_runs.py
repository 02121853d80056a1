"""Events of a run as a whole, and of what devices do before and after it."""

from collections.abc import Mapping
from dataclasses import dataclass

from fedprune.server.runs.events.base import (
    Count,
    Event,
    Settings,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """A run has started.

    Attributes:
        run_id: Its name.
        directory: Its folder, as it was called then.
        config: Its configuration, all keys.
        clients: Number of clients.
        client_examples: Client id -> training examples; None where clients are
            devices, which have not enrolled yet, or more than 10 000, or hidden.
        params_dense: Parameters of the uncut network.
        flops_dense: FLOPs of one example in it.
        groups: Name of each pruning group -> its channels in the uncut network.
        graph: Digest of the network's computation, without its weights.
        reach: Smallest size that cuts can reach and the reasons for it, and what
            follows from pretrained weights, one line.
        metric: Name of the headline metric, which "accuracy" stands for.
        better: Its direction, "higher" or "lower".
        device: Kind of the device that trains, where this program trains: "cpu", "cuda"
            or "mps".
    """

    run_id: str
    directory: str
    config: Settings
    clients: Count
    client_examples: Mapping[str, Count] | None
    params_dense: Count
    flops_dense: Count
    groups: Mapping[str, Count]
    graph: str
    reach: str
    metric: str
    better: str
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsCounted(Event):
    """The training examples of each class that the clients of a simulation have.

    Devices do not tell; nor does a run under differential privacy.

    Attributes:
        classes: Names of the classes, their numbers where they have none.
        counts: Client id -> its examples of each class.
    """

    classes: tuple[str, ...]
    counts: Mapping[str, tuple[Count, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResumed(Event):
    """A stopped run continues from its last checkpoint.

    Attributes:
        run_id: Its name.
        directory: Its folder, as it is called now.
    """

    run_id: str
    directory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(Event):
    """A run has come to its end.

    Attributes:
        summary: The figures of ``summary.json``.
    """

    summary: Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed(Event):
    """A run of devices has ended with an error.

    Attributes:
        text: Message of the error.
        exit_code: The exit code of its class (``fedprune.common.errors``).
    """

    text: str
    exit_code: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStopped(Event):
    """The operator has stopped a run of devices; it can be resumed.

    Attributes:
        rounds: Rounds that were complete by then.
    """

    rounds: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientsConnected(Event):
    """More clients of a run of devices have connected, or were refused.

    Attributes:
        connected: Ids of the connected clients, in order.
        wanted: Number of clients that the run waits for.
        refused: Reason of each node that was refused, one line each.
    """

    connected: tuple[str, ...]
    wanted: Count
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkDelivered(Event):
    """A device was sent the network that its run ended with.

    Attributes:
        client: Its id.
        bytes_down: Length of the message.
        examples: Examples that it measured the network on; None if it did not.
        accuracy: Accuracy of the network on them; None if it did not state one.
        reason: Why it could not take the network; empty if it could.
    """

    client: str
    bytes_down: Count
    examples: Count | None = None
    accuracy: float | None = None
    reason: str = ""
