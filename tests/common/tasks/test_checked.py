"""What a user's own methods return is checked before a run: no silent wrong figure."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset, random_split

from fedprune import Batch, Task, load_config
from fedprune.common.dry_run import dry_run, first_batch
from fedprune.common.errors import ConfigError, DataError
from fedprune.common.seeding import Use, seed_globals
from fedprune.common.tasks.check_data import check_data
from fedprune.common.tasks.loaded import LoadedTask

OUTPUTS = 3
_DRAWS = random.Random(5)  # noqa: S311 - no secret


def examples(count=40, seed=0):
    draws = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 6, generator=draws)
    return TensorDataset(inputs, torch.arange(count) % OUTPUTS)


class Plain(Task):
    """Numbers and three classes."""

    def network(self):
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, OUTPUTS))

    def train_data(self, client):
        return examples()

    def test_data(self):
        return examples(seed=1)


def tried(task, **settings):
    """Return the remarks of a dry run of a task."""
    config = load_config(None, settings)
    loaded = LoadedTask(config, given=task)
    remarks = check_data(loaded)
    return remarks + dry_run(loaded, loaded.build_model(), first_batch(loaded)).remarks


def test_a_plain_task_has_no_remark():
    assert tried(Plain()) == ()


def test_a_collate_that_drops_items_is_refused():
    class Drops(Plain):
        def collate(self, items):
            return super().collate(items[1:])

    with pytest.raises(DataError, match=r"a batch of 39 of 40 items"):
        tried(Drops())


def cross_entropy(outputs, batch):
    return nn.functional.cross_entropy(outputs, batch.targets, reduction="none")


def of_one(outputs, batch):
    """Return [n, 1] minus [n]: [n, n]."""
    return (outputs[:, :1] - batch.targets).square().mean(1)


@pytest.mark.parametrize(
    ("loss", "mixes"),
    [
        (lambda o, b: cross_entropy(o, b).mean().expand(len(o)), True),
        (of_one, True),
        (cross_entropy, False),
    ],
)
def test_a_loss_or_metric_that_mixes_the_examples_of_a_batch_is_named(loss, mixes):
    class Own(Plain):
        def loss(self, outputs, batch):
            return loss(outputs, batch)

    class Measured(Plain):
        def metrics(self, outputs, batch):
            return {"far": loss(outputs, batch)}

    for task in (Own(), Measured()):
        assert any("mixes the examples" in text for text in tried(task)) == mixes


def test_a_metric_that_is_nan_for_some_examples_is_refused():
    class Some(Plain):
        def metrics(self, outputs, batch):
            return {"f": torch.where(batch.targets == 0, torch.nan, 1.0)}

    with pytest.raises(ConfigError, match=r"'f' of Some is not finite for 3 of 8"):
        tried(Some())


def test_an_optimiser_of_other_weights_is_refused():
    class Other(Plain):
        def optimizer(self, parameters, lr):
            return torch.optim.SGD(self.network().parameters(), lr=lr)

    with pytest.raises(ConfigError, match="moves other weights"):
        tried(Other())


def test_labels_that_are_not_the_targets_of_the_batches_are_named():
    class Sorted(Plain):
        def labels(self, data):
            return np.sort(data.tensors[1].numpy())

    assert any("begin with 0, 0, 0, 0" in text for text in tried(Sorted()))


def test_data_that_differ_between_calls_are_refused():
    class Counts(Plain):
        calls = 0

        def train_data(self, client):
            self.calls += 1
            return examples(seed=self.calls)

    with pytest.raises(DataError, match=r"two calls of Counts\.train_data"):
        tried(Counts())


def test_test_examples_that_are_the_training_examples_are_named():
    class Same(Plain):
        def test_data(self):
            return self.train_data("")

    assert "no figure is a test" in tried(Same())[0]


def test_an_augmentation_with_a_generator_of_its_own_is_refused():
    class Own(Plain):
        def augment(self, batch, generator):
            return batch._replace(inputs=batch.inputs + _DRAWS.random())

    class Given(Plain):
        def augment(self, batch, generator):
            noise = torch.randn(batch.inputs.shape, generator=generator)
            return batch._replace(inputs=batch.inputs.add_(noise))

    with pytest.raises(ConfigError, match=r"two calls of Own\.augment"):
        tried(Own())
    assert tried(Given()) == ()


def test_a_network_that_trains_with_a_generator_of_its_own_is_refused():
    class Noise(nn.Module):
        def forward(self, x):
            return x + _DRAWS.random() if self.training else x

    class Noisy(Plain):
        def network(self):
            return nn.Sequential(Noise(), super().network())

    with pytest.raises(ConfigError, match="two answers in train mode"):
        tried(Noisy())


def test_settings_of_an_optimiser_beside_an_own_one_are_named():
    class Own(Plain):
        def optimizer(self, parameters, lr):
            return torch.optim.SGD(parameters, lr=lr)

    class Nothing(Plain):
        def optimizer(self, parameters, lr):
            return None

    both = {"client.optimizer": "adamw", "client.weight_decay": 0.1}
    text = "client.optimizer and client.weight_decay has no effect: Own.optimizer makes"
    assert tried(Own(), **both)[0].startswith(text)
    assert tried(Own()) == tried(Nothing(), **both) == ()


def test_state_that_the_task_keeps_between_steps_is_named():
    class Keeps(Plain):
        def optimizer(self, parameters, lr):
            self.kept = torch.optim.SGD(parameters, lr=lr)
            return self.kept

    assert any("sets Keeps.kept" in text for text in tried(Keeps()))


def test_examples_without_a_target_that_counts_are_named():
    class Words(Plain):
        def network(self):
            return nn.Sequential(nn.Linear(6, 8), nn.Unflatten(1, (2, 4)))

        def collate(self, items):
            batch = super().collate(items)
            targets = batch.targets[:, None].repeat(1, 2)
            return Batch(batch.inputs, torch.where(targets == 0, -100, targets))

        def labels(self, data):
            return None

    settings = {"task.loss": "next-token", "task.partition.kind": "iid"}
    assert "3 of the first 8" in tried(Words(), **settings)[0]


def test_an_own_loss_without_own_metrics_is_better_when_lower():
    class Own(Plain):
        def loss(self, outputs, batch):
            return cross_entropy(outputs, batch)

    config = load_config(None, {})
    assert not LoadedTask(config, given=Own()).higher_is_better
    assert LoadedTask(config, given=Plain()).higher_is_better


def test_one_random_split_gives_the_same_disjoint_parts_in_every_process():
    class Split(Plain):
        def train_data(self, client):
            return random_split(examples(), [30, 10])[0]

        def test_data(self):
            return random_split(examples(), [30, 10])[1]

    task = LoadedTask(load_config(None, {}), given=Split())
    torch.rand(3)  # another state of the global generator
    again = LoadedTask(load_config(None, {}), given=Split())
    parts = [set(x.data.indices) for x in (task.train, again.test)]
    assert not parts[0] & parts[1]
    assert parts[0] == set(again.train.data.indices)


def test_r_squared_of_data_without_labels_refers_to_their_spread():
    class Values(Plain):
        def train_data(self, client):
            return [(torch.ones(6), torch.tensor([100.0 * n])) for n in range(20)]

        def test_data(self):
            return self.train_data("")

    config = load_config(None, {"task.loss": "mse"})
    task = LoadedTask(config, given=Values()).task
    batch = task.collate(task.test_data())
    means = batch.targets.mean(dim=0, keepdim=True).expand(20, 1)
    assert float(task.metrics(means, batch)["r2"].mean()) == pytest.approx(
        0.0, abs=1e-5
    )


def test_every_global_generator_is_seeded_and_restored():
    def drawn():
        return torch.rand(1).item(), np.random.rand(), random.random()  # noqa: NPY002, S311

    states = torch.get_rng_state(), random.getstate()
    numbers = np.random.get_state()[1].copy()  # noqa: NPY002
    found = []
    for _ in range(2):
        with seed_globals(0, 1, "client-000", Use.DATA):
            found.append(drawn())
    assert found[0] == found[1]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], numbers)  # noqa: NPY002
