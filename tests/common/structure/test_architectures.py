"""The law of exactness on the architectures that people use, in small."""

import copy
import warnings

import pytest
import torch
from helpers.pruning_archs import ARCHITECTURES, encoder, example_of
from helpers.pruning_nets import mask_model, random_mask, randomise
from torch import nn
from torch.nn import functional

from fedprune.common.errors import StructureError
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.verify import check_cut, check_exact
from fedprune.common.structure.after_cut.narrow_attention import NarrowAttention
from fedprune.common.structure.parts import FreeLength
from fedprune.common.structure.structure import Structure
from fedprune.common.structure.tracing.find import examine, find_structure


def build(name, seed=0):
    factory, shape, _ = ARCHITECTURES[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = factory().double().eval()
        randomise(model)
    return model, example_of(shape)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_units_are_those_counted_by_hand(name):
    model, example = build(name)
    structure = find_structure(model, example)
    assert structure.units == ARCHITECTURES[name][2]
    assert Structure.from_json(structure.to_json()) == structure
    other, _ = build(name, seed=3)
    assert find_structure(other.train(), example) == structure


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_cut_network_equals_the_masked_dense_network(name, seed):
    model, example = build(name, seed)
    structure = find_structure(model, example)
    keep = random_mask(structure, seed, density=(0.2, 0.4, 0.6)[seed])
    masked = copy.deepcopy(model)
    mask_model(masked, structure, keep)
    with torch.no_grad():
        wanted, dense = masked(example), model(example)
        found = apply_plan(copy.deepcopy(model), structure, keep)(example)
    scale = wanted.abs().max()
    assert (found - wanted).abs().max() <= 1e-12 * scale
    assert (dense - wanted).abs().max() > 1e-6 * scale


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_cut_network_is_as_small_as_the_spec_says_and_trains(name):
    model, example = build(name)
    structure = find_structure(model, example)
    keep = random_mask(structure, 1)
    cut = apply_plan(model, structure, keep).train()
    found = [(title, tuple(item.shape)) for title, item in cut.named_parameters()]
    spec = structure.spec(keep)
    assert found == [(tensor.name, tensor.shape) for tensor in spec.tensors]
    cut(example).square().sum().backward()
    assert all(item.grad is not None for item in cut.parameters())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_attributes_of_layers_follow_the_cut(name):
    model, example = build(name)
    structure = find_structure(model, example)
    apply_plan(model, structure, random_mask(structure, 2))
    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            given = [module.in_channels, module.out_channels]
            if module.transposed:
                given.reverse()
            wanted = [given[1], given[0] // module.groups]
            if module.transposed:
                wanted = [module.in_channels, module.out_channels // module.groups]
            assert [*module.weight.shape[:2]] == wanted
        elif isinstance(module, nn.Embedding):
            assert module.weight.shape[1] == module.embedding_dim
        elif isinstance(module, nn.PReLU):
            assert len(module.weight) == module.num_parameters


def test_what_a_layer_norm_sees_is_not_cut_and_the_note_says_so():
    model, example = build("ConvNeXt")
    notes = examine(model, example).notes
    assert any("'norm' (LayerNorm)" in note and "not cut" in note for note in notes)


def test_every_group_of_a_grouped_convolution_loses_the_same_places():
    model, example = build("ResNeXt")
    structure = find_structure(model, example)
    rows = structure.lookup["inner.1.0.weight", 0].reshape(4, 2)
    assert (rows == rows[0]).all()
    keep = structure.full()
    keep[rows[0, 0]] = False
    cut = apply_plan(model, structure, keep)
    assert cut.inner[1][0].groups == 4
    assert cut.inner[1][0].weight.shape == (4, 4, 3, 3)


def test_heads_are_cut_whole_and_keep_their_scale():
    model, example = build("vision transformer")
    structure = find_structure(model, example)
    rows = structure.lookup["attention.0.qkv.weight", 0].reshape(3, 4, 4)
    assert (rows == rows[0, :, :1]).all()
    keep = structure.full()
    keep[rows[0, 1, 0]] = False
    cut = apply_plan(model, structure, keep)
    block = cut.attention[0]
    assert (block.num_heads, block.head_dim, block.inner) == (3, 4, 12)
    assert (cut.attention[1].num_heads, cut.attention[1].inner) == (4, 16)


class Calculating(nn.Module):
    """Attention that works its head width out from the number of heads."""

    def __init__(self):
        super().__init__()
        self.heads = 4
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 3)

    def forward(self, x):
        batch, places, channels = x.shape
        width = channels // self.heads
        q, k, v = self.qkv(x).chunk(3, -1)
        shape = (batch, places, self.heads, width)
        q, k, v = (item.view(shape).transpose(1, 2) for item in (q, k, v))
        x = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).flatten(2))


def test_a_width_that_is_the_input_by_the_heads_is_left_to_torch():
    model, example = Calculating(), torch.randn(2, 5, 16)
    structure = find_structure(model, example)
    assert structure.widths(structure.full()) == {"qkv": 4}
    assert structure.free == (FreeLength(module="", rank=4, index=3),)
    for seed in range(4):
        assert check_exact(model, structure, example, seed=seed) <= 1e-12


class Scaling(Calculating):
    """The same with a scale that comes from the number of heads."""

    def forward(self, x):
        return super().forward(x) / self.heads


def test_a_number_of_heads_that_is_calculated_with_keeps_the_heads():
    findings = examine(Scaling(), torch.randn(2, 5, 16))
    assert findings.structure.units == 0
    assert any("calculates with 'heads'" in note for note in findings.notes)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_narrow_attention_is_torchs_own_where_nothing_is_cut(batch_first, need_weights):
    torch.manual_seed(0)
    dense = nn.MultiheadAttention(8, 2, batch_first=batch_first).double()
    twin = copy.deepcopy(dense)
    twin.__class__ = NarrowAttention
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    length = 5 if batch_first else 3
    masks = {
        "attn_mask": torch.ones(length, length, dtype=torch.bool).triu(1),
        "key_padding_mask": torch.zeros(8 - length, length, dtype=torch.bool),
    }
    masks["key_padding_mask"][0, -1] = True
    for given in ({}, masks):
        wanted = dense(x, x, x, need_weights=need_weights, **given)
        found = twin(x, x, x, need_weights=need_weights, **given)
        torch.testing.assert_close(found[0], wanted[0], rtol=1e-12, atol=1e-14)
        assert (found[1] is None) == (wanted[1] is None)
        if need_weights:
            torch.testing.assert_close(found[1], wanted[1], rtol=1e-12, atol=1e-14)


class Led(nn.Module):
    """Attention behind layers whose channels are cut while its heads stay."""

    def __init__(self, **widths):
        super().__init__()
        self.query, self.key, self.value = (
            nn.Linear(6, widths.get(name, 16)) for name in ("", "kdim", "vdim")
        )
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True, **widths)
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        inputs = self.query(x), self.key(x), self.value(x)
        return self.fc(self.attention(*inputs, need_weights=False)[0])


@pytest.mark.parametrize("widths", [{}, {"kdim": 8, "vdim": 12}])
def test_attention_runs_where_only_one_of_the_groups_around_it_is_cut(widths):
    example = torch.randn(2, 5, 6)
    model = Led(**widths)
    structure = find_structure(model, example)
    assert len(structure.groups) == (5 if widths else 3)
    for group in structure.groups:
        for kept in (1, len(group.units) - 1):
            keep = structure.full()
            keep[group.units[kept:]] = False
            check_cut(model, structure, example, keep)


def test_used_attention_weights_keep_the_heads():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.fc = nn.Linear(8, 3)

        def forward(self, x):
            found, weights = self.attention(x, x, x)
            return self.fc(found), weights.sum(-1)

    findings = examine(Both(), torch.randn(2, 5, 8))
    assert findings.structure.widths(findings.structure.full()) == {
        "attention.out_proj": 8
    }
    assert any("attention weights" in note for note in findings.notes)


def test_a_cut_encoder_runs_in_training_and_in_evaluation_alike():
    torch.manual_seed(0)
    model = encoder()
    example = torch.randn(2, 5, 16)
    structure = find_structure(model, example)
    cut = apply_plan(model, structure, random_mask(structure, 4)).eval()
    with torch.no_grad():  # where torch's fused path would be taken
        fast = cut(example)
    torch.testing.assert_close(fast, cut(example))


class Declared(nn.Module):
    """A module that no trace follows, with its channels declared."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.width = outputs
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.register_buffer("shift", torch.randn(inputs))
        self.pruning_hints = {
            "inputs": [{1: "in"}],
            "output": {1: "out"},
            "tensors": {"weight": ["out", "in"], "shift": ["in"]},
            "attributes": {"width": "out"},
        }

    def forward(self, x):
        shifted = (x + self.shift) if bool(x.sum() > -1e9) else x
        found = torch.einsum("oi,ni->no", self.weight, shifted)
        assert found.shape[1] == self.width
        return found


def test_a_module_declares_its_channels_itself():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), Declared(6, 8), nn.ReLU(), nn.Linear(8, 2))
    model = model.double()
    example = torch.randn(3, 4, dtype=torch.float64)
    structure = find_structure(model, example)
    assert structure.widths(structure.full()) == {"0": 6, "1": 8}
    keep = random_mask(structure, 0)
    masked = copy.deepcopy(model)
    mask_model(masked, structure, keep)
    cut = apply_plan(copy.deepcopy(model), structure, keep)
    assert cut[1].width == keep[6:].sum()
    torch.testing.assert_close(cut(example), masked(example), rtol=1e-12, atol=1e-14)


def test_a_dimension_that_hints_do_not_name_is_not_cut():
    declared = Declared(6, 8)
    declared.pruning_hints = {"output": {1: "out"}}
    model = nn.Sequential(nn.Linear(4, 6), declared, nn.ReLU(), nn.Linear(8, 2))
    findings = examine(model, torch.randn(3, 4))
    assert findings.structure.units == 0
    assert any("do not name dimension 1" in note for note in findings.notes)


def test_hooks_and_shared_memory_are_refused_by_name():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    handle = model[0].register_forward_hook(lambda *_: None)
    with pytest.raises(
        StructureError, match=r"module '0' \(Linear\) has forward hooks"
    ):
        find_structure(model, torch.randn(2, 4))
    handle.remove()
    assert find_structure(model, torch.randn(2, 4)).units == 4
    model[2].weight = nn.Parameter(model[0].weight.detach())
    with pytest.raises(StructureError, match=r"'0\.weight' and '2\.weight' share"):
        find_structure(model, torch.randn(2, 4))


def test_an_attribute_that_is_no_count_is_never_overwritten():
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    structure = find_structure(model, torch.randn(2, 4))
    text = structure.to_json().replace(b'"in_features"', b'"forward"')
    text = text.replace(b'"version":1', b'"version":2')
    forged = Structure.from_json(text)
    with pytest.raises(StructureError, match="no attribute 'forward' = 6"):
        apply_plan(model, forged, forged.full())
    assert callable(model[1].forward)


def test_old_hooks_of_weights_are_refused_with_the_name_of_the_new_ones():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(8, 8)))
    with pytest.raises(StructureError, match=r"parametrizations\.weight_norm instead"):
        find_structure(model, torch.randn(2, 8))


def recorder(*, name="output_capturing_hook"):
    """Return a hook with the name of the one of transformers."""

    def hook(module, args, output):
        module.seen = len(args)

    hook.__module__ = "transformers.utils.output_capturing"
    hook.__qualname__ = f"install_output_capuring_hook.<locals>.{name}"
    return hook


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        return self.inner(x).relu()


def test_a_recorder_of_outputs_is_let_through_where_code_is_traced():
    model = nn.Sequential(Block(), nn.Linear(8, 3))
    model[0].register_forward_hook(recorder())
    assert find_structure(model, torch.randn(2, 8)).units == 8


HOOKED = {
    "another hook": (lambda m: m[0].register_forward_hook(recorder(name="other"))),
    "a layer of torch": (lambda m: m[1].register_forward_hook(recorder())),
    "the network itself": (lambda m: m.register_forward_hook(recorder())),
}


@pytest.mark.parametrize("hook", HOOKED.values(), ids=HOOKED)
def test_hooks_that_a_trace_does_not_follow_are_refused(hook):
    model = nn.Sequential(Block(), nn.Linear(8, 3))
    hook(model)
    with pytest.raises(StructureError, match="has forward hooks"):
        find_structure(model, torch.randn(2, 8))


def test_multiplications_are_those_of_one_pass():
    class Aux(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(8, 8) for _ in range(3))

        def forward(self, x):
            y = self.a(x)
            return (self.b(y), self.c(y)) if self.training else self.b(y)

    found = find_structure(Aux(), torch.randn(2, 8)).multiplies
    assert found == {"a.weight": 1, "b.weight": 1, "c.weight": 1}
