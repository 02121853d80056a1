"""L0 gates and targeted dropout: what is drawn, what is paid, what is folded."""

import copy

import numpy as np
import pytest
import torch
from helpers.methods import names_that_need
from helpers.pruning_nets import NETS, build, flat
from torch import nn

from fedprune.common.errors import ConfigError
from fedprune.common.methods.kinds import PENALTY
from fedprune.common.sparsity.gates import ChannelGates, build_gates
from fedprune.common.sparsity.penalty import PenaltySpec, build_penalty
from fedprune.common.structure.tracing.find import find_structure

GATED = names_that_need(PENALTY, "uniform")
PROXIMAL = names_that_need(PENALTY, "threshold")


def gates_of(structure, name="l0", strength=0.5, targets=None, keep=None):
    aim = PenaltySpec(name=name, strength=strength, targets=targets)
    return build_gates(structure, structure.full() if keep is None else keep, aim)


def penalty_of(model, structure, name):
    aim = PenaltySpec(name=name, strength=0.5)
    return build_penalty(structure, structure.full(), flat(model), aim)


def test_a_gate_makes_no_proximal_steps_and_a_proximal_penalty_no_gates():
    model, _, structure = build("resnet")
    assert GATED
    assert PROXIMAL
    for name in GATED:
        assert penalty_of(model, structure, name) is None
        assert gates_of(structure, name) is not None
        assert gates_of(structure, name, strength=0.0) is None
    for name in PROXIMAL:
        assert penalty_of(model, structure, name) is not None
        assert gates_of(structure, name) is None


def test_a_gate_beside_a_proximal_penalty_makes_both():
    model, _, structure = build("resnet")
    assert penalty_of(model, structure, "l0+group") is not None
    assert gates_of(structure, "l0+group").trained


def test_two_gates_at_once_are_refused():
    _, _, structure = build("resnet")
    with pytest.raises(
        ConfigError, match="want one of l0 and targeted-dropout at most"
    ):
        gates_of(structure, "l0+targeted-dropout")


def test_a_gate_is_closed_and_open_at_the_ends_of_its_stretch():
    _, _, structure = build("lenet")
    gates = gates_of(structure)
    edge = np.log(11.0)  # where sigmoid * 1.2 - 0.1 leaves 0..1
    with torch.no_grad():
        gates.log_alpha.zero_()
        gates.log_alpha[:4] = torch.tensor([-edge - 1e-3, edge + 1e-3, -1.0, 0.0])
    found = gates.settled()
    assert found[0] == 0.0
    assert found[1] == 1.0
    assert 0.0 < found[2] < found[3] == pytest.approx(0.5)


@pytest.mark.parametrize("name", NETS)
def test_folded_weights_compute_what_the_gates_do(name):
    model, example, structure = build(name)
    gates = gates_of(structure)
    with torch.no_grad():
        values = torch.linspace(-4.0, 4.0, len(gates.log_alpha))
        gates.log_alpha.copy_(values[torch.randperm(len(values))])
    gated = copy.deepcopy(model)
    with torch.no_grad(), gates.attached(gated):
        wanted = gated(example)
        untouched = model(example)
    found = gated(example)  # the gates were folded when the block ended
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    assert (wanted - untouched).abs().max() > 1e-4


def test_only_targets_get_factors_and_dropout_hits_their_share():
    _, _, structure = build("resnet")
    targets = np.zeros(structure.units, bool)
    targets[structure.groups[1].units] = True
    gates = gates_of(structure, "targeted-dropout", 0.3, targets)
    torch.manual_seed(0)
    drawn = []
    for _ in range(500):
        gates.draw()
        drawn.append(gates._factors.clone())
    share = torch.stack(drawn).mean(0)
    assert set(torch.stack(drawn).unique().tolist()) == {0.0, 1.0}
    assert (share[:-1][~torch.from_numpy(targets)] == 1.0).all()
    np.testing.assert_allclose(share[:-1][torch.from_numpy(targets)], 0.7, atol=0.09)
    assert gates.cost() == 0.0


def test_dropout_leaves_the_weights_alone():
    model, example, structure = build("resnet")
    before = flat(model)
    gates = gates_of(structure, "targeted-dropout")
    with gates.attached(model):
        gates.draw()
        model(example)
    np.testing.assert_array_equal(flat(model), before)


def test_gates_that_cost_close_and_gates_that_matter_stay():
    torch.manual_seed(0)
    _, _, structure = build("lenet")
    gates = gates_of(structure, strength=50.0)
    useful = gates.targets.clone()
    useful[::2] = False
    for _ in range(200):
        gates.draw()
        used = gates._factors[useful]
        (gates.cost() + 10.0 * ((1.0 - used) ** 2).sum()).backward()
        gates.step()
    settled = gates.settled()
    assert (settled[useful] == 1.0).all()
    assert (settled[gates.targets & ~useful] == 0.0).all()


def test_a_unit_measured_at_many_points_has_one_gate():
    _, _, structure = build("resnet")
    gates = gates_of(structure)
    assert isinstance(gates, ChannelGates)
    names = [point.module for point in gates.points]
    assert len(names) == len(set(names)) == 10  # every norm of the network
    shared = {p.module: p.units.tolist() for p in gates.points}
    assert shared["layer2.0.bn2"] == shared["layer2.1.bn2"]


def test_a_cut_network_has_gates_for_what_is_left():
    _, _, structure = build("resnet")
    keep = structure.full()
    keep[::3] = False
    gates = gates_of(structure, keep=keep)
    assert len(gates.log_alpha) == keep.sum() + 1
    assert gates.targets[:-1].all()


class Words(nn.Module):
    """A table of words whose weights may be those of the last layer too."""

    def __init__(self, *, tied=False, by_name=False):
        super().__init__()
        self.words = nn.Embedding(12, 8)
        self.inner = nn.Linear(8, 6)
        self.back = nn.Linear(6, 8)
        self.out = nn.Linear(8, 12, bias=False)
        if tied:
            self.out.weight = self.words.weight
        self.by_name = by_name

    def forward(self, tokens):
        found = self.words(input=tokens) if self.by_name else self.words(tokens)
        return self.out(self.back(torch.relu(self.inner(found.mean(1)))))


def test_a_weight_that_two_modules_share_has_no_gate():
    torch.manual_seed(0)
    model, tokens = Words(tied=True).eval(), torch.arange(24).reshape(4, 6) % 12
    structure = find_structure(model, tokens)
    gates = gates_of(structure)
    assert {p.module for p in gates.points} == {"words", "inner", "back"}
    with torch.no_grad():
        gates.log_alpha.copy_(torch.linspace(-4.0, 4.0, len(gates.log_alpha)))
    gated, before = copy.deepcopy(model), model.words.weight.clone()
    with torch.no_grad(), gates.attached(gated):
        wanted = gated(tokens)
    torch.testing.assert_close(gated(tokens), wanted)
    assert (wanted - model(tokens)).abs().max() > 1e-4
    assert torch.equal(gated.words.weight, before)


def test_dropout_of_words_reads_a_table_that_is_called_by_name():
    torch.manual_seed(0)
    tokens = torch.arange(24).reshape(4, 6) % 12
    found = []
    for by_name in (False, True):
        torch.manual_seed(1)
        model = Words(by_name=by_name).eval()
        structure = find_structure(model, tokens, vocabulary=["words"])
        gates = gates_of(structure, "targeted-dropout")
        assert [p.dim for p in gates.points if p.module == "words"] == [0]
        gates.draw()
        with torch.no_grad(), gates.attached(model):
            found.append(model(tokens))
    assert torch.equal(*found)
