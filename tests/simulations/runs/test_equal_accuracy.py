"""Bytes of dense FedAvg where it first was as good as a run ends."""

from types import SimpleNamespace

from fedprune.simulations.runs.equal_accuracy import EqualAccuracy, equal_accuracy


def rounds(*accuracies, losses=None):
    losses = losses or [None] * len(accuracies)
    return [
        SimpleNamespace(
            validation_accuracy=accuracy,
            validation_loss=loss,
            bytes_up=10,
            bytes_down=100,
        )
        for accuracy, loss in zip(accuracies, losses, strict=True)
    ]


def test_the_rounds_before_the_first_broadcast_that_is_as_good_count():
    run, control = rounds(0.1, 0.95, 0.9), rounds(0.1, 0.6, 0.9, 0.99)
    found = equal_accuracy(run, control)
    # Two rounds were trained; the third broadcast had to be sent to be as good.
    assert found == EqualAccuracy(rounds=2, bytes_up=20, bytes_down=300)


def test_a_control_that_does_not_get_there_has_none():
    assert equal_accuracy(rounds(0.1, 0.9), rounds(0.1, 0.8)) is None
    assert equal_accuracy([], rounds(0.1)) is None
    assert equal_accuracy(rounds(None), rounds(0.1)) is None


def test_tasks_without_accuracy_are_compared_by_their_loss():
    run = rounds(None, None, losses=[3.0, 1.5])
    control = rounds(None, None, None, losses=[3.0, 1.6, 1.4])
    assert equal_accuracy(run, control).rounds == 2
    assert equal_accuracy(run, rounds(None, losses=[1.6])) is None


def test_a_metric_whose_lower_values_are_better_is_reached_from_above():
    run, control = rounds(9.0, 2.0, 3.0), rounds(9.0, 4.0, 3.0, 1.0)
    assert equal_accuracy(run, control, higher_is_better=False).rounds == 2
    assert equal_accuracy(run, rounds(9.0, 4.0), higher_is_better=False) is None
