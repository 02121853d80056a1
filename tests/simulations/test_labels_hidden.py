"""Counts of labels: told in a simulation, unless noise hides the clients."""

import pytest
from helpers.tiny_federation import make_task

from fedprune.simulations.labels import count_labels

QUIET = {"run__controls": [], "update__stateless": True}


def test_each_client_is_told_with_all_of_its_examples():
    task = make_task()
    found = count_labels(task)
    assert found is not None
    for client in task.clients:
        data = task.client_data(client)
        assert sum(found.counts[client]) == len(data.train) + len(data.validation)


@pytest.mark.parametrize("noise", [{"epsilon": 8.0}, {"local_noise": 0.5}], ids=str)
def test_labels_that_noise_hides_are_not_counted(noise):
    hidden = {f"privacy__{key}": value for key, value in noise.items()}
    assert count_labels(make_task(**QUIET, **hidden)) is None
