"""Bytes of dense FedAvg at the accuracy at which a run ends, not at equal rounds.

Dense FedAvg needs fewer rounds to get as far as the run ends, so a ratio over equal
rounds alone flatters the run.  Where it got there is read off the clients' validation
parts; test figures decide nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fedprune.server.runs.events import RoundFinished


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualAccuracy:
    """Rounds and bytes until dense FedAvg was as good as a run's final network.

    Attributes:
        rounds: Rounds that it had trained by then, >= 0.
        bytes_up: Bytes of the answers in them.
        bytes_down: Bytes of the messages to clients in them, and of that broadcast.
    """

    rounds: int
    bytes_up: int
    bytes_down: int


def equal_accuracy(
    run: Sequence[RoundFinished],
    control: Sequence[RoundFinished],
    *,
    higher_is_better: bool = True,
) -> EqualAccuracy | None:
    """Return where the control first reached the run's last validation figure.

    The figure is the headline metric, or the loss of tasks without one.

    Args:
        run: Rounds of the run, in order; the last one measured its final network.
        control: Rounds of dense FedAvg, in order.
        higher_is_better: Direction of the headline metric.

    Returns:
        None where it did not get there, or one of the two measured nothing.
    """
    goal = _figure(run[-1], higher=higher_is_better) if run else None
    if goal is None:
        return None
    up = down = 0
    for number, event in enumerate(control):
        down += event.bytes_down
        figure = _figure(event, higher=higher_is_better)
        if figure is not None and figure >= goal:
            return EqualAccuracy(rounds=number, bytes_up=up, bytes_down=down)
        up += event.bytes_up
    return None


def _figure(event: RoundFinished, *, higher: bool) -> float | None:
    """Return the validation figure of a round's broadcast; a higher one is better."""
    if event.validation_accuracy is not None:
        return event.validation_accuracy if higher else -event.validation_accuracy
    return None if event.validation_loss is None else -event.validation_loss
