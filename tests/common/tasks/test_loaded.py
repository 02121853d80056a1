"""The task of a run: clients, parts, draws; and a user's faults, each in one line."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.own_tasks import OfMixed, OfTexts, Texts
from helpers.tiny_federation import (
    BASE,
    Tiny,
    answer_to,
    make_config,
    make_examples,
    make_setting,
    plan_for,
    start,
)
from torch import nn

from fedprune import Batch, Task, simulate
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.store import ClientStore
from fedprune.common.data.examples import Dataset
from fedprune.common.errors import DataError, FedPruneError
from fedprune.common.tasks.counted import teacher_distance
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.tasks.task import NATURAL
from fedprune.server.rounds.plan import plan_round

CONFIG, DATA = 2, 3


def loaded(given, **changes):
    return LoadedTask(make_config(**changes), given=given)


# Clients


def test_a_natural_client_has_its_own_examples_alone():
    task = loaded(OfTexts())
    assert task.clients == OfTexts.names
    assert task.sizes == {"ann": 24, "bob": 30, "cid": 36, "dan": 42}
    for number, client in enumerate(task.clients):
        data = task.client_data(client)
        count = len(data.train) + len(data.validation)
        assert count == 24 + 6 * number
        found = data.train.take(np.arange(len(data.train)))
        batch = found.batch(np.arange(len(found)))
        whole = OfTexts().collate(OfTexts().train_data(client))
        rows = {tuple(row.tolist()) for row in whole.inputs["ids"]}
        assert {tuple(row.tolist()) for row in batch.inputs["ids"]} <= rows


def test_fewer_clients_than_the_data_name_are_the_first_of_them():
    few = loaded(OfTexts(), task__clients=3, rounds__cohort=3)
    assert few.clients == OfTexts.names[:3]


def owned(owners):
    """Return a task on data whose examples name their clients."""
    config = make_config()
    split = config.task.partition.model_copy(update={"kind": NATURAL})
    chosen = config.task.model_copy(update={"partition": split})
    task = LoadedTask(config.model_copy(update={"task": chosen}), Tiny)
    task.task.__dict__["source"] = Dataset(
        train=make_examples(len(owners)),
        test=make_examples(9, seed=1),
        num_outputs=3,
        input_shape=(1, 4, 4),
        name="owned",
        owners=tuple(owners),
    )
    return task


def test_data_that_name_their_clients_are_theirs():
    task = owned(["b", "a", "c", "a", "b", "a"] * 5)
    assert task.natural
    assert task.clients == ("a", "b", "c")
    assert task.sizes == {"a": 15, "b": 10, "c": 5}
    everything = task.task.train_data("")
    for client in task.clients:
        rows = [n for n in range(30) if task.dataset.owners[n] == client]
        part = task.task.train_data(client)
        np.testing.assert_array_equal(part.inputs, everything.inputs[rows])


@pytest.mark.parametrize("order", [1, -1], ids=["in order", "backwards"])
def test_the_fingerprint_tells_whose_example_is_whose(order):
    owners = ["a", "b"] * 6
    assert owned(owners).fingerprint() == owned(list(owners)).fingerprint()
    others = ["c", "b"] * 6 if order > 0 else owners[::-1]
    assert owned(owners).fingerprint() != owned(others).fingerprint()


NAMES = {
    "repeated": ["ann", "bob", "ann", "dan"],
    "empty": ["ann", "", "cid", "dan"],
    "numbers": [1, 2, 3, 4],
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_clients_without_names_of_their_own_are_refused(names):
    class Named(OfTexts):
        def clients(self):
            return names

    with pytest.raises(DataError, match=r"the clients of Named are .*; want different"):
        _ = loaded(Named()).clients


def test_only_an_even_deal_does_without_labels():
    with pytest.raises(DataError, match=r"OfMixed name no labels, which the partition"):
        _ = loaded(OfMixed()).parts
    parts = loaded(OfMixed(), task__partition__kind="iid").parts
    everything = np.sort(np.concatenate([*parts.values()]))
    np.testing.assert_array_equal(everything, np.arange(120))


# Draws


class Drawing(Task):
    """Notes the draws of its augmentation."""

    def __init__(self):
        self.draws = []

    def augment(self, batch, generator):
        self.draws.append(float(torch.rand(1, generator=generator)))
        return batch


class Rounds:
    """The plans of one round for four clients, and their common cache."""

    def __init__(self, root, **changes):
        self.root, self.given = root, Drawing()
        self.task = LoadedTask(make_config(**changes), Tiny, self.given)
        self.task.task.__dict__["source"] = Dataset(
            train=make_examples(120),
            test=make_examples(30, seed=1),
            num_outputs=3,
            input_shape=(1, 4, 4),
            name="synthetic",
        )
        setting = make_setting(self.task)
        work = plan_round(start(self.task, setting), setting)
        self.plans = [plan_for(work, number) for number in range(4)]
        self.cache = ModelCache(self.task)

    def draws_of(self, number, round_number=1):
        plan = replace(self.plans[number], round=round_number)
        seen = self.task.task.draws
        before = len(seen)
        store = ClientStore(self.root / f"{number}", plan.client_id)
        answer_to(plan, self.cache, store)
        return seen[before:]


def test_draws_of_an_augmentation_depend_on_seed_round_and_client_alone(tmp_path):
    one, two = Rounds(tmp_path / "1"), Rounds(tmp_path / "2")
    forth = {number: one.draws_of(number) for number in (0, 1, 2, 3)}
    torch.manual_seed(99)
    back = {number: two.draws_of(number) for number in (3, 1, 0, 2)}
    assert forth == back
    assert two.draws_of(1) == forth[1]
    assert two.draws_of(1, round_number=2) != forth[1]
    firsts = [draws[0] for draws in forth.values()]
    assert len({*firsts}) == 4
    other = Rounds(tmp_path / "3", run__seed=1)
    assert other.draws_of(0)[0] != forth[0][0]


# Faults


def data(found):
    """Return a task whose training data are what a function returns."""

    class Mine(OfTexts):
        def train_data(self, client):
            return found()

    return Mine()


def doing(**methods):
    """Return a task with some methods of its own."""
    return type("Mine", (OfTexts,), methods)()


def fails(*_):
    message = "as\nintended"
    raise ValueError(message)


FAULTS = {
    "data that fail": (
        data(fails), DATA, "Mine.train_data('ann') failed: ValueError: as",
    ),
    "test data that fail": (
        doing(test_data=fails), DATA, "Mine.test_data() failed: ValueError: as",
    ),
    "data that exit": (
        data(lambda: sys.exit(3)), DATA, "Mine.train_data('ann') failed: SystemExit: 3",
    ),
    "data without a length": (
        data(lambda: iter([1])), DATA, "the data of Mine are a list_iterator; want",
    ),
    "data that are nothing": (
        data(lambda: None), DATA, "the data of Mine are a NoneType; want map-style",
    ),
    "no examples": (data(list), DATA, "Mine has no training example"),
    "no test examples": (
        doing(test_data=lambda _: []), DATA, "Mine has no test example",
    ),
    "items that are no pairs": (
        data(lambda: [1.0] * 30), DATA, "an item of the data is a float; want a pair",
    ),
    "items that fail": (
        doing(collate=fails), DATA, "Mine.collate failed: ValueError: as",
    ),
    "items of different lengths": (
        data(lambda: [(torch.zeros(n + 1), 0) for n in range(30)]),
        DATA, "Mine.collate failed: RuntimeError: stack expects each tensor",
    ),
    "a collate that returns a pair": (
        doing(collate=lambda _, items: (1, 2)),
        DATA, "Mine.collate returns a tuple; want a fedprune.Batch",
    ),
    "an example that cannot be read": (
        data(lambda: dict.fromkeys(range(1, 30), 0)),
        DATA, "example 0 of the data cannot be read: KeyError: 0",
    ),
    "clients that fail": (
        doing(clients=fails), DATA, "Mine.clients() failed: ValueError: as",
    ),
    "clients that are none": (
        doing(clients=lambda _: None), DATA, "Mine.clients returns a NoneType; want a",
    ),
    "clients that are one word": (
        doing(clients=lambda _: "anna"), DATA, "Mine.clients returns a str; want a li",
    ),
    "clients named twice": (
        doing(clients=lambda _: ["ann"] * 4), DATA, "the clients of Mine are ('ann', ",
    ),
    "labels that fail": (
        doing(labels=fails), DATA, "Mine.labels() failed: ValueError: as",
    ),
    "labels of other examples": (
        doing(labels=lambda *_: [0, 1]),
        DATA, "Mine.labels returns a list; want an integer class or a value for each",
    ),
    "an example that fails": (
        doing(example=fails), DATA, "Mine.example() failed: ValueError: as",
    ),
    "a network that fails": (
        doing(network=fails), CONFIG, "Mine.network failed: ValueError: as",
    ),
    "a network that is none": (
        doing(network=lambda _: 3), CONFIG, "Mine.network returned int; want nn.Module",
    ),
    "a loss of the whole batch": (
        doing(loss=lambda _, found, batch: found["logits"].mean()),
        CONFIG, "the loss of Mine is [] for 8 examples; want one number for each exam",
    ),
    "a loss of each output": (
        doing(loss=lambda _, found, batch: found["logits"] ** 2),
        CONFIG, "the loss of Mine is [8, 3] for 8 examples; want one number for each",
    ),
    "a loss that is no tensor": (
        doing(loss=lambda *_: 0.5), CONFIG, "the loss of Mine is float for 8 examples",
    ),
    "a loss that fails": (doing(loss=fails), CONFIG, "the loss fails on "),
    "metrics without names": (
        doing(metrics=lambda _, found, batch: found["logits"][:, 0]),
        CONFIG, "Mine.metrics returns a Tensor; want a dict name -> one number for ea",
    ),
    "no metric": (
        doing(metrics=lambda *_: {}), CONFIG, "Mine.metrics returns a dict; want a d",
    ),
    "a metric of the whole batch": (
        doing(metrics=lambda _, found, batch: {"f1": found["logits"].mean()}),
        CONFIG, "the metric 'f1' of Mine is [] for 8 examples; want one number for",
    ),
    "metrics that fail": (
        doing(metrics=fails), CONFIG, "Mine.metrics failed: ValueError: as",
    ),
    "an augmentation of the inputs alone": (
        doing(augment=lambda _, batch, generator: batch.inputs),
        CONFIG, "Mine.augment returns a dict; want the Batch",
    ),
    "an augmentation that fails": (
        doing(augment=fails), CONFIG, "Mine.augment failed: ValueError: as",
    ),
    "an optimiser that is none": (
        doing(optimizer=lambda *_: "adam"),
        CONFIG, "Mine.optimizer returns a str; want a torch.optim.Optimizer, or None",
    ),
    "inputs that the network does not take": (
        doing(network=lambda _: nn.Linear(6, 3)), CONFIG, "the network does not run on",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "code", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_a_task_is_one_line_and_leaves_nothing(
    given, code, message, tmp_path
):
    settings = BASE | {"run.dir": tmp_path / "runs"}
    with pytest.raises(FedPruneError) as caught:
        simulate(given, settings)
    assert message in str(caught.value)
    assert caught.value.exit_code == code
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# Learning


def test_an_own_loss_is_distilled_by_the_outputs_squared_difference():
    class Mine(OfTexts):
        def loss(self, outputs, batch):
            return outputs["logits"].square().mean(1)

    one, two = torch.randn(5, 3), torch.randn(5, 3)
    pair = {"logits": one}, {"logits": two}
    batch = Batch(torch.zeros(5, 2), torch.zeros(5, dtype=torch.int64))
    far = teacher_distance(loaded(Mine()), *pair, batch, 2.0)
    torch.testing.assert_close(far, ((one - two) ** 2).mean())
    soft = teacher_distance(loaded(OfTexts()), *pair, batch, 2.0)
    assert not torch.isclose(soft, far)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_losses_and_metrics_are_summed_in_float32(kind):
    task = loaded(OfTexts())
    batch = task.sample.batch(np.arange(8))
    outputs = {"logits": Texts()(**batch.inputs)["logits"].to(kind)}
    assert task.loss(outputs, batch).dtype == torch.float32
    assert task.metrics(outputs, batch)["accuracy"].dtype == torch.float32


def test_a_batch_of_the_data_is_what_collate_made():
    batch = loaded(OfTexts()).sample.batch(np.array([2, 0]))
    assert isinstance(batch, Batch)
    assert [*batch.inputs] == ["ids", "mask"]
    assert batch.inputs["ids"].dtype == torch.int64
    assert batch.inputs["mask"].dtype == torch.bool
    assert batch.targets.tolist() == [2, 0]
