"""``fedprune.Task``: each method that is not overridden follows the configuration."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from fedprune import Batch, Task
from fedprune.common.config import load_config
from fedprune.common.data.examples import ArrayExamples, Dataset
from fedprune.common.errors import ConfigError, DataError
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.tasks.task import NATURAL

CONFIG = load_config(None, {"task.data": "digits", "task.clients": 10})


def configured(**settings):
    named = {key.replace("__", "."): value for key, value in settings.items()}
    return load_config(None, named)


class OwnLoss(Task):
    """Overrides the loss alone."""

    def loss(self, outputs, batch):
        return (outputs.argmax(1) != batch.targets).float() + outputs.square().mean(1)


class Sums(Task):
    """A data set of its own, without a network."""

    def train_data(self, client):
        return [(torch.full((3,), float(n)), n % 2) for n in range(8)]

    def test_data(self):
        return self.train_data("")


def first(task):
    return task.sample.batch(np.arange(6))


def weights(task):
    return torch.cat([value.flatten() for value in task.build_model().parameters()])


def test_a_task_that_overrides_only_the_loss_keeps_the_configured_rest():
    plain, own = LoadedTask(CONFIG), LoadedTask(CONFIG, given=OwnLoss())
    assert own.fingerprint() == plain.fingerprint()
    assert own.clients == plain.clients
    assert {c: p.tolist() for c, p in own.parts.items()} == {
        c: p.tolist() for c, p in plain.parts.items()
    }
    assert torch.equal(weights(own), weights(plain))
    assert own.model_name == plain.model_name
    assert torch.equal(first(own).inputs, first(plain).inputs)


def test_the_metric_of_an_own_loss_is_that_loss():
    task = LoadedTask(CONFIG, given=OwnLoss())
    batch = first(task)
    outputs = task.build_model()(batch.inputs)
    found = task.metrics(outputs, batch)
    assert [*found] == ["loss"]
    assert torch.equal(found["loss"], task.loss(outputs, batch))


def test_r_squared_is_one_minus_the_error_over_the_spread_of_the_test_targets():
    task = LoadedTask(configured(task__data="diabetes", task__loss="mse"))
    batch = task.test.batch(np.arange(len(task.test)))
    outputs = batch.targets.flip(0) * 0.5
    wanted = batch.targets.double().numpy()
    error = ((outputs.numpy() - wanted) ** 2).sum()
    r_squared = 1.0 - error / ((wanted - wanted.mean()) ** 2).sum()
    found = float(task.metrics(outputs, batch)["r2"].double().mean())
    assert found == pytest.approx(r_squared, rel=1e-4)


# Collating: items of map-style data -> inputs and targets.
X, Y = torch.arange(6.0).reshape(2, 3), torch.tensor([4, 7])


def items(make):
    return [make(X[n], int(Y[n])) for n in range(2)]


def ids(x):
    return {"input_ids": x.long(), "mask": x > 1}


COLLATED = {
    "pairs": (items(lambda x, y: (x, y)), X),
    "pairs of arrays": (items(lambda x, y: [x.numpy(), y]), X),
    "pairs with a dict": (items(lambda x, y: (ids(x), y)), ids(X)),
    "pairs with a tuple": (items(lambda x, y: ((x, x + 1), y)), (X, X + 1)),
    "pairs with a list": (items(lambda x, y: ([x, x + 1], y)), [X, X + 1]),
    "a dict with one input": (items(lambda x, y: {"pixels": x, "label": y}), X),
    "a dict with inputs": (items(lambda x, y: ids(x) | {"labels": y}), ids(X)),
}


@pytest.mark.parametrize(("found", "wanted"), COLLATED.values(), ids=COLLATED)
def test_items_are_collated_with_their_types(found, wanted):
    batch = Task().collate(found)
    torch.testing.assert_close(batch.inputs, wanted, rtol=0.0, atol=0.0)
    torch.testing.assert_close(batch.targets, Y)
    assert batch.size == 2


@pytest.mark.parametrize("item", [X, {"pixels": X}, (X, 1, 2), "text"], ids=str)
def test_items_without_a_target_are_refused_in_one_line(item):
    with pytest.raises(DataError, match=r"^an item of the data is a ") as caught:
        Task().collate([item])
    assert "\n" not in str(caught.value)


class Unread:
    """Map-style data whose examples must not be read."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    def __len__(self):
        return 4

    def __getitem__(self, index):
        raise AssertionError


LABELS = [3, 1, 2, 1]
NAMED = {
    "targets": (Unread(targets=LABELS), LABELS),
    "labels": (Unread(labels=np.array(LABELS, np.uint8)), LABELS),
    "tensors": (TensorDataset(torch.zeros(4, 2), torch.tensor(LABELS)), LABELS),
    "a part": (Subset(Unread(targets=torch.tensor(LABELS)), [2, 0]), [2, 3]),
    "values": (Unread(targets=[0.5, 1.5, 2.5, 3.5]), [0.5, 1.5, 2.5, 3.5]),
    "other lengths": (Unread(targets=[1, 2]), None),
    "names": (Unread(targets=["a", "b", "c", "d"]), None),
    "nothing": (Unread(), None),
    "a list": ([(X, 1)] * 4, None),
}


@pytest.mark.parametrize(("data", "wanted"), NAMED.values(), ids=NAMED)
def test_labels_are_known_without_reading_an_example(data, wanted):
    found = Task().labels(data)
    assert (None if found is None else found.tolist()) == wanted
    assert found is None or found.dtype in (np.int64, np.float32)


def test_an_example_is_of_the_declared_shape_or_of_the_data():
    declared = Sums().under(configured(task__input_shape=[3]))
    torch.testing.assert_close(declared.example(), torch.zeros(2, 3))
    found = Sums().under(configured()).example()
    torch.testing.assert_close(found, torch.tensor([[0.0] * 3, [1.0] * 3]))


def test_integer_inputs_stay_integers_in_an_example():
    tokens = np.arange(12).reshape(4, 3)
    examples = ArrayExamples(inputs=tokens, targets=np.zeros(4, np.int64))
    task = Task().under(configured())
    task.__dict__["source"] = Dataset(
        train=examples, test=examples, num_outputs=2, input_shape=(3,), name="tokens"
    )
    assert task.example().tolist() == tokens[:2].tolist()
    assert task.example().dtype == torch.int64


def test_a_configured_network_for_own_data_wants_its_sizes():
    task = LoadedTask(configured(task__model="mlp"), given=Sums())
    message = r"'mlp' needs task\.outputs and task\.input_shape, .* Sums\.network"
    with pytest.raises(ConfigError, match=message):
        task.build_model()
    sizes = configured(task__model="mlp", task__outputs=2, task__input_shape=[3])
    found = LoadedTask(sizes, given=Sums()).build_model()
    assert found(torch.zeros(5, 3)).shape == (5, 2)


def test_natural_clients_need_data_that_name_them():
    split = CONFIG.task.partition.model_copy(update={"kind": NATURAL})
    chosen = CONFIG.task.model_copy(update={"partition": split})
    task = LoadedTask(CONFIG.model_copy(update={"task": chosen}))
    with pytest.raises(DataError, match="'digits' names no client for its examples"):
        _ = task.clients


def test_too_few_outputs_for_the_data_are_refused():
    task = LoadedTask(configured(task__data="digits", task__outputs=9))
    with pytest.raises(DataError, match=r"'digits' needs 10 outputs; task\.outputs is"):
        _ = task.train


def test_a_task_of_another_configuration_is_another_object_with_other_data():
    one = Task().under(CONFIG)
    loaded = one.source
    other = one.under(configured(task__data="diabetes", task__loss="mse"))
    assert other.source.name == "diabetes"
    assert one.source is loaded
    assert one.under(CONFIG).source is not loaded


class Counted(Sums):
    """Counts how often its data are asked for, and keeps what it computed."""

    asked = 0

    def train_data(self, client):
        type(self).asked += 1
        return super().train_data(client)


@pytest.mark.parametrize(
    "given", [None, Sums(), OwnLoss()], ids=["built-in", "sums", "own loss"]
)
def test_a_task_travels_without_its_data(given):
    task = LoadedTask(CONFIG, given=given)
    fingerprint = task.fingerprint()
    sent = pickle.dumps(task)
    assert len(sent) < 16_384
    assert b"numpy" not in sent.lower()
    came = pickle.loads(sent)  # noqa: S301 - as Ray does it
    assert type(came.task) is type(task.task)
    assert came.config == CONFIG
    assert came.fingerprint() == fingerprint


def test_each_process_asks_for_the_data_itself_and_once():
    few = {"task__clients": 2, "rounds__cohort": 2, "rounds__minimum": 2}
    config = configured(task__partition__kind="iid", **few)
    task = LoadedTask(config, given=Counted())
    before = Counted.asked
    came = pickle.loads(pickle.dumps(task))  # noqa: S301 - as Ray does it
    assert Counted.asked == before
    assert sum(len(came.client_data(client).train) for client in came.clients) > 0
    assert Counted.asked == before + 1


def test_rows_of_a_batch_are_rows_of_every_tensor_that_has_them():
    inputs = {"ids": torch.arange(8).reshape(4, 2), "scale": torch.tensor(2.0)}
    batch = Batch(inputs, (torch.arange(4), torch.zeros(3)))
    part = batch.rows(slice(1, 3))
    assert part.inputs["ids"].tolist() == [[2, 3], [4, 5]]
    assert part.inputs["scale"] is inputs["scale"]
    assert part.targets[0].tolist() == [1, 2]
    assert len(part.targets[1]) == 3
    assert (batch.size, part.size) == (4, 2)
