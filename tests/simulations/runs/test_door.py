"""Inputs that do not fit are refused before a run: one line, its exit code, no file."""

import random
import re

import numpy as np
import pytest
import torch
from helpers.tiny_federation import BASE, Tiny, make_examples, make_task
from torch import nn
from torch.nn import functional

from fedprune import simulate
from fedprune.common.dry_run import dry_run, first_batch
from fedprune.common.errors import DataError, FedPruneError
from fedprune.server.runs.trying import try_network
from fedprune.simulations.cli import run_command_line

EXAMPLES = make_examples(48)
X, Y = EXAMPLES.inputs, EXAMPLES.targets
VALUES = X[:, 0, 0, :2].sum(axis=1)
ONE_HOT = np.eye(3, dtype=np.float32)[Y]
CONFIG, DATA, STRUCTURE = 2, 3, 2
SHORT = {"rounds.cuts": 0, "rounds.final": 1, "run.controls": []}


class Net(Tiny):
    """The tiny network with another number of outputs, or another thing to return."""

    def __init__(self, outputs=3, end=None, *, bfloat16=False):
        super().__init__()
        self.fc = nn.Linear(8, outputs)
        self.end, self.bfloat16 = end, bfloat16

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            y = super().forward(x)
        return y if self.end is None else self.end(y)


class Spectral(nn.Module):
    """A Fourier transform over channels, which cannot be followed through it."""

    def __init__(self):
        super().__init__()
        self.cell = nn.Linear(16, 8)
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(torch.fft.rfft(self.cell(x.flatten(1))).abs())


class Noisy(Tiny):
    """Noise of a written width, in training only."""

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(torch.relu(self.bn(self.conv(x))))))
        if self.training:
            x = x + torch.zeros(1, 8, 1, 1)
        return self.fc(torch.relu(self.bn2(self.conv2(x))).mean((2, 3)))


def returning(end, outputs=3):
    return lambda: Net(outputs, end)


def of(targets):
    return (X, targets, X[:12], targets[:12])


def squeezed(y):
    return y[:, 0]


MSE = {"task.loss": "mse"}
REFUSED = {
    "a mapping without logits": (
        returning(lambda y: {"scores": y, "hidden": y}), of(Y), {}, CONFIG,
        "the network returns a dict with scores, hidden; want one tensor of floats",
    ),
    "a mapping with classes as logits": (
        returning(lambda y: {"logits": y.argmax(1)}), of(Y), {}, CONFIG,
        "the network returns a tensor of int64; want one tensor of floats",
    ),
    "a pair": (
        returning(lambda y: (y, y)), of(Y), {}, CONFIG,
        "the network returns a tuple of 2; want one tensor",
    ),
    "nothing": (
        returning(lambda _: None), of(Y), {}, CONFIG,
        "the network returns a NoneType; want one tensor",
    ),
    "classes instead of scores": (
        returning(lambda y: y.argmax(1)), of(Y), {}, CONFIG,
        "the network returns a tensor of int64; want one tensor of floats",
    ),
    "too few outputs": (
        lambda: Net(2), of(Y), {}, CONFIG,
        "gives 2 outputs for each example, and the classes are 0 to 2: want 3",
    ),
    "one logit": (
        lambda: Net(1), of(Y), {}, CONFIG,
        "gives 1 output for each example, and the classes are 0 to 2: want 3",
    ),
    "one logit without its axis": (
        returning(squeezed, 1), of(Y), {}, CONFIG,
        "gives 1 output for each example, and the classes are 0 to 2: want 3",
    ),
    "outputs with places": (
        returning(lambda y: y[:, :, None, None]), of(Y), {}, CONFIG,
        "the network gives [8, 3, 1, 1] for 8 examples; want [8, 3]",
    ),
    "one output for the whole batch": (
        returning(lambda y: y.mean(0, keepdim=True)), of(Y), {}, CONFIG,
        "the network gives [1, 3] for 8 examples; want [8, 3]",
    ),
    "forward that fails": (
        returning(lambda y: {}[y.dim()]), of(Y), {}, CONFIG,
        "the network does not run on a batch of shape [8, 1, 4, 4]: KeyError: 2",
    ),
    "forward that detaches": (
        returning(torch.Tensor.detach), of(Y), {}, CONFIG,
        "the loss does not depend on any weight that is trained",
    ),
    "a network of doubles": (
        lambda: Net().double(), of(Y), {}, CONFIG,
        "the network does not run on a batch",
    ),
    "classes from 1": (
        lambda: Net(4), of(Y + 1), {}, DATA,
        "the classes run from 1 to 3; count them from 0, or set task.outputs = 4",
    ),
    "classes as floats": (
        Net, of(Y.astype(float)), {}, DATA,
        "the targets are floats and task.loss is 'cross-entropy'",
    ),
    "values": (
        Net, of(VALUES), {}, DATA,
        "give integer classes, or set task.loss = 'mse'",
    ),
    "one-hot rows": (
        Net, of(ONE_HOT), {}, DATA,
        "one-hot rows of 3; give integer classes (targets.argmax(axis=1))",
    ),
    "one-hot rows of integers": (
        Net, of(ONE_HOT.astype(int)), {}, DATA,
        "integer classes [n]; of one-hot rows the classes are targets.argmax(axis=1)",
    ),
    "squared error of classes": (
        Net, of(Y), MSE, DATA,
        "the targets are integers: task.loss is 'mse'; want 'cross-entropy'",
    ),
    "squared error of other widths": (
        Net, of(VALUES), MSE, CONFIG,
        "gives [8, 3] for 8 examples; the targets have 1 for each: want [8, 1]",
    ),
    "another input shape": (
        Net, of(Y), {"task.input_shape": [1, 8, 8]}, DATA,
        "inputs have shape [1, 4, 4]; task.input_shape is [1, 8, 8]",
    ),
    "values that are all equal": (
        lambda: Net(1), (X, VALUES, X[:12], 0 * VALUES[:12]), MSE, DATA,
        "the test data are 12 equal targets, for which R squared is undefined",
    ),
    "no class in common": (
        lambda: Net(6), (X, Y, X[:12], Y[:12] + 3), {}, DATA,
        "classes 0 to 2 in training, 3 to 5 in test; want the same numbering",
    ),
    "one network again and again": (
        lambda shared=Net(): shared, of(Y), {}, CONFIG,  # noqa: B008 - that is the fault
        "returned the same weights twice; want a new network every time",
    ),
    "dropout that is never off": (
        returning(functional.dropout), of(Y), {}, CONFIG,
        "two answers for the same inputs in eval mode: it draws random numbers there",
    ),
    "an unknown operation that keeps all": (
        Spectral, of(Y), {}, CONFIG,
        "nothing of the network can be cut: operation 'fft_rfft' (fft_rfft)",
    ),
    "one layer alone": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), of(Y), {}, CONFIG,
        "can be cut: no channel lies between its modules '1' (Linear)",
    ),
    "training that cannot follow a cut": (
        Noisy, of(Y), {}, STRUCTURE,
        "the training forward of a cut network fails: The size of tensor a (4) must",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("factory", "data", "changes", "code", "message"), REFUSED.values(), ids=REFUSED
)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(
    factory, data, changes, code, message, tmp_path
):
    settings = BASE | {"run.dir": tmp_path / "runs"} | changes
    with pytest.raises(FedPruneError, match=re.escape(message)) as caught:
        simulate(factory, data, settings)
    assert caught.value.exit_code == code
    assert len(str(caught.value).splitlines()) == 1
    assert "budget" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


NET = """\
from torch import nn
from torch.nn import functional

class Two(nn.Sequential):
    def forward(self, x):
        return {"scores": super().forward(x)}

def make():
    return Two(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
"""


def test_the_command_line_says_it_in_one_line_and_makes_no_folder(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    np.savez("own.npz", x_train=X, y_train=Y, x_test=X[:9], y_test=Y[:9])
    words = ["simulate", "--set", "task.model=net.py:make"]
    words += ["--set", "task.data=npz:own.npz"]
    assert run_command_line(words) == CONFIG
    captured = capsys.readouterr()
    assert captured.err.startswith("error: the network returns a dict with scores; ")
    assert captured.err.count("\n") == 1
    assert "--resume" not in captured.err
    assert not (tmp_path / "runs").exists()


def squares(factory, targets):
    """Return the loss of each example of one network."""
    data = make_examples(48)
    examples = type(data)(inputs=data.inputs, targets=targets)
    task = make_task(factory, examples, task__loss="mse")
    batch = first_batch(task)
    model = task.build_model().eval()
    assert dry_run(task, model, batch).remarks == ()
    with torch.no_grad():
        return model, batch, task.loss(model(batch.inputs), batch)


@pytest.mark.parametrize("targets", [VALUES, VALUES[:, None]], ids=["[n]", "[n, 1]"])
@pytest.mark.parametrize("end", [None, squeezed], ids=["[b, 1]", "[b]"])
def test_squared_error_takes_one_value_with_its_axis_or_without(end, targets):
    model, batch, loss = squares(lambda: Net(1, end), targets.astype(np.float32))
    with torch.no_grad():
        wanted = (model(batch.inputs).reshape(-1) - batch.targets.reshape(-1)) ** 2
    torch.testing.assert_close(loss, wanted)


@pytest.mark.slow
def test_a_run_with_squared_error_is_the_same_with_the_axis_or_without(tmp_path):
    found = [
        simulate(
            returning(end, 1),
            of(VALUES),
            BASE | SHORT | MSE | {"run.dir": tmp_path, "run.name": name},
        ).summary
        for end, name in ((None, "with"), (squeezed, "without"))
    ]
    same = [key for key in found[0] if not re.search("second|latency", key)]
    assert [found[0][key] for key in same] == [found[1][key] for key in same]


@pytest.mark.slow
def test_a_forward_in_bfloat16_runs(tmp_path):
    task = make_task(lambda: Net(bfloat16=True))
    assert try_network(task, task.build_model()).remarks == ()
    settings = BASE | SHORT | {"run.dir": tmp_path}
    result = simulate(lambda: Net(bfloat16=True), of(Y), settings)
    assert 0 <= result.summary["accuracy_final"] <= 1


class Drawing(Tiny):
    """A network whose code draws from every global generator."""

    def forward(self, x):
        drawn = random.random() + np.random.rand()  # noqa: NPY002, S311 - the global ones
        scale = 1 + 0 * (drawn + torch.rand(1))
        return super().forward(x) * scale


def everything():
    """Return the state of every global generator, as something to compare."""
    numbers = np.random.get_state()  # noqa: NPY002 - the global one
    return (
        random.getstate(),
        (numbers[0], numbers[1].tobytes(), *numbers[2:]),
        torch.random.get_rng_state().numpy().tobytes(),
    )


def test_a_trial_changes_neither_network_nor_random_state():
    task = make_task(Drawing)
    model = task.build_model()
    weights = {name: item.clone() for name, item in model.state_dict().items()}
    mode, before = model.training, everything()
    dry_run(task, model, first_batch(task))
    assert everything() == before
    assert model.training == mode
    for name, item in model.state_dict().items():
        assert torch.equal(item, weights[name]), name
    assert all(item.grad is None for item in model.parameters())


def test_a_trial_of_the_whole_network_leaves_the_random_state():
    task = make_task()
    model, before = task.build_model(), everything()
    try_network(task, model)
    assert everything() == before


REMARKS = {
    "a softmax at the end": (returning(lambda y: y.softmax(1)), Y, "leave its last so"),
    "more outputs than classes": (lambda: Net(5), Y, "gives 5 outputs for 3 classes"),
    "a single class": (Net, 0 * Y + 2, "all training examples are of class 2"),
}


@pytest.mark.parametrize(("factory", "targets", "text"), REMARKS.values(), ids=REMARKS)
def test_what_is_possible_and_seldom_meant_is_said_in_a_line(factory, targets, text):
    examples = type(EXAMPLES)(inputs=X, targets=targets)
    task = make_task(factory, examples)
    first, *_ = try_network(task, task.build_model()).remarks
    assert text in first


def test_classes_that_no_client_has_may_be_declared():
    examples = type(EXAMPLES)(inputs=X, targets=Y + 1)
    task = make_task(lambda: Net(4), examples, task__outputs=4)
    (remark,) = try_network(task, task.build_model()).remarks
    assert "of the test data do not occur in the training data: 0;" in remark


def test_a_server_without_data_tries_the_declared_shapes():
    declared = {"task__outputs": 3, "task__input_shape": [1, 4, 4]}
    task = make_task(lambda: Net(2), **declared)
    del task.task.__dict__["source"]
    with pytest.raises(FedPruneError, match="gives 2 outputs for each example"):
        try_network(task, task.build_model(), data=False)
    task = make_task(Net, **declared)
    del task.task.__dict__["source"]
    assert try_network(task, task.build_model(), data=False).structure.units == 16


def test_the_order_of_checks_names_the_data_first(tmp_path):
    settings = BASE | {"run.dir": tmp_path / "runs"}
    with pytest.raises(DataError, match="the classes run from 1"):
        simulate(lambda: Net(2), of(Y + 1), settings)
