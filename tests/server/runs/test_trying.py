"""Trial of a network on the server, before any client is asked."""

import re

import pytest
import torch
from helpers.tiny_federation import Tiny, make_task, tiny_structure
from torch import nn

from fedprune.common.errors import ConfigError, StructureError
from fedprune.common.structure.structure import Structure
from fedprune.server.runs.trying import try_config, try_network


class Scaled(Tiny):
    """A network with a running scale of its own."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(1))

    def forward(self, x):
        if self.training:
            self.scale = 0.9 * self.scale + 0.1 * x.detach().std()
        return super().forward(x / self.scale)


class Counting(Tiny):
    """A network that counts its steps."""

    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        if self.training:
            self.steps += 1
        return super().forward(x)


class Drawing(Tiny):
    """A network with a random table."""

    def __init__(self, *, persistent):
        super().__init__()
        self.register_buffer("table", torch.rand(3), persistent=persistent)

    def forward(self, x):
        return super().forward(x) + self.table


class Helped(Tiny):
    """A network with a head that only training runs."""

    def __init__(self):
        super().__init__()
        self.aux = nn.Linear(8, 3)

    def forward(self, x):
        y = super().forward(x)
        if self.training:
            y = y + self.aux(torch.relu(self.bn(self.conv(x))).mean((2, 3)))
        return y


class Widened(Tiny):
    """A network whose training forward wants eight channels."""

    def forward(self, x):
        if self.training:
            (self.conv(x) + torch.ones(8, 1, 1)).sum()
        return super().forward(x)


def tried(factory, **changes):
    task = make_task(factory, **changes)
    return try_network(task, task.build_model()).structure


def test_too_few_cuts_for_the_budget_are_told_before_the_first_round():
    settings = {"rounds__cuts": 1, "prune__step_cap": 0.25}
    task = make_task(**settings)  # 8 channels: 6 after a cut, 5, 4
    (said,) = try_network(task, task.build_model()).remarks
    assert said.startswith("rounds.cuts = 1 is too few for the budget")
    assert "step_cap = 0.25" in said
    assert "at least 2 cuts are made, in 8 rounds, not 6" in said
    for enough in ({"rounds__cuts": 2}, {"rounds__cuts": 0}):
        task = make_task(**settings | enough)
        assert not try_network(task, task.build_model()).remarks


def test_what_a_network_can_be_cut_down_to_is_said_in_full():
    task = make_task()
    reach = try_network(task, task.build_model()).reach
    said = r"the smallest network that the structure allows has \d+\.\d % of the FLOPs"
    assert re.match(said, reach)


def test_a_network_that_can_be_cut_passes():
    assert tried(Tiny) == tiny_structure()


@pytest.mark.parametrize("cuts", [0, 1])
def test_a_buffer_of_floats_that_training_changes_is_in_the_structure(cuts):
    structure = tried(Scaled, rounds__cuts=cuts)
    assert structure.running == ("scale",)
    assert structure.spec(structure.full()).running_size == 1
    assert Structure.from_json(structure.to_json()) == structure


@pytest.mark.parametrize(
    ("private", "key"),
    [
        ({"privacy__epsilon": 8.0}, "epsilon"),
        ({"privacy__local_noise": 0.1, "update__stateless": True}, "local_noise"),
    ],
)
def test_a_buffer_that_no_noise_covers_is_refused_where_clients_are_hidden(
    private, key
):
    """It would stay as it was, or tell what clients hold."""
    words = rf"beside batch norm \('scale'\), .*no privacy\.{key}"
    with pytest.raises(ConfigError, match=words):
        tried(Scaled, run__controls=[], **private)


@pytest.mark.parametrize("cuts", [0, 1])
def test_a_counter_that_training_changes_is_refused(cuts):
    with pytest.raises(ConfigError, match=r"training changes 'steps' \(int64\)"):
        tried(Counting, rounds__cuts=cuts)


def test_a_random_buffer_that_no_file_holds_is_refused():
    assert tried(lambda: Drawing(persistent=True)).units
    with pytest.raises(ConfigError, match="draws 'table' at random"):
        tried(lambda: Drawing(persistent=False))


def test_a_head_of_training_alone_is_cut_with_the_rest():
    assert ("aux.weight", 1) in tried(Helped).lookup


def test_a_training_forward_of_another_width_is_refused_where_something_is_cut():
    with pytest.raises(StructureError, match=r"training forward of a cut .* fails"):
        tried(Widened)
    assert tried(Widened, rounds__cuts=0).units


@pytest.mark.slow
def test_a_server_without_data_finds_the_same():
    shaped = {"task__input_shape": [1, 4, 4], "task__outputs": 3}
    assert tried(Scaled, **shaped) == tried(Scaled)
    with pytest.raises(ConfigError, match="training changes 'steps'"):
        tried(Counting, **shaped)
    with pytest.raises(StructureError, match=r"training forward of a cut .* fails"):
        tried(Widened, **shaped)


def test_faults_are_for_simulations_alone():
    task = make_task(faults__crash=0.1, faults__stragglers=0.2)
    wanted = r"^faults\.crash, faults\.stragglers: .* want none in the .* of a server$"
    with pytest.raises(ConfigError, match=wanted):
        try_config(task.config)


class Loading(Tiny):
    """A network whose code gives it the same weights every time."""

    def __init__(self):
        super().__init__()
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(torch.linspace(-1, 1, weight.numel()).view_as(weight))


@pytest.mark.parametrize(
    ("factory", "settings", "said"),
    [
        (Loading, {}, True),
        (Loading, {"client__penalty": "none"}, False),
        (Loading, {"client__penalty": "bn-l1+group"}, False),
        (Loading, {"client__strength": 0.0}, False),
        (Loading, {"prune__importance": "random"}, False),
        (Loading, {"rounds__cuts": 0}, False),
        (Tiny, {}, False),
    ],
)
def test_weights_that_no_seed_changes_are_told_before_a_penalty_moves_them(
    factory, settings, said
):
    task = make_task(factory, **settings)
    remarks = try_network(task, task.build_model()).remarks
    text = (
        "set client.penalty = 'none' and prune.reconstruct = true, else client.penalty"
        " = 'bn-l1+group'"
    )
    assert [one.endswith(text) for one in remarks] == ([True] if said else [])


class Shuffled(Tiny):
    """A network whose code registers its modules in an order that is drawn."""

    def __init__(self):
        super().__init__()
        names = list(self._modules)
        for place in torch.randperm(len(names)).tolist():
            self._modules[names[place]] = self._modules.pop(names[place])


def test_a_network_whose_order_is_drawn_is_tried_as_any_other():
    task = make_task(Shuffled)
    assert try_network(task, task.build_model()).remarks == ()
