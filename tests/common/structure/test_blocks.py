"""Layer pruning: which blocks are residual, and what is left without them."""

import copy

import pytest
import torch
from helpers.pruning_archs import encoder
from helpers.pruning_nets import LeNet, ResNet, randomise
from torch import nn

from fedprune.common.errors import ConfigError, StructureError
from fedprune.common.models.registry import build_model, check_model
from fedprune.common.structure.blocks import (
    block_scores,
    check_blocks,
    drop_blocks,
    find_blocks,
)
from fedprune.common.structure.tracing.find import find_structure

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(0)
    model = ResNet().eval()
    randomise(model)
    return model


def test_the_blocks_without_a_convolution_in_their_shortcut_are_found():
    model = network()
    before = copy.deepcopy(model.state_dict())
    assert find_blocks(model, IMAGE) == ("layer1.0", "layer1.1", "layer2.1")
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_dropped_block_equals_its_last_norm_at_zero_bit_for_bit():
    model = network()
    zeroed = copy.deepcopy(model)
    for norm in (zeroed.layer1[1].bn2, zeroed.layer2[1].bn2):
        nn.init.zeros_(norm.weight)
        nn.init.zeros_(norm.bias)
    dropped = drop_blocks(copy.deepcopy(model), ["layer1.1", "layer2.1"])
    assert torch.equal(dropped(IMAGE), zeroed(IMAGE))
    assert not torch.equal(dropped(IMAGE), model(IMAGE))
    structure = find_structure(dropped, IMAGE)
    assert structure.units == 8 + 8 + 16 + 16
    whole = find_structure(model, IMAGE)
    assert structure.digest != whole.digest


@pytest.mark.parametrize(
    ("make", "example"),
    [
        (LeNet, torch.randn(2, 1, 14, 14)),
        (encoder, torch.randn(2, 5, 16)),  # a norm behind the sum
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), torch.randn(2, 4)),
    ],
)
def test_what_is_no_identity_without_its_last_layer_is_no_block(make, example):
    assert find_blocks(make(), example) == ()


def test_a_pre_norm_block_of_an_encoder_is_none_either_its_two_sums_are_apart():
    assert find_blocks(encoder(norm_first=True), torch.randn(2, 5, 16)) == ()


def test_blocks_are_scored_by_the_loss_without_them():
    model = network()
    with torch.no_grad():
        model.layer1[1].bn2.weight.zero_()
        model.layer1[1].bn2.bias.zero_()
    wanted = model(IMAGE).detach()

    def loss(found):
        with torch.no_grad():
            return float((found(IMAGE) - wanted).square().sum())

    scores = block_scores(model, ["layer1.1", "layer2.1"], loss)
    assert scores["layer1.1"] == 0.0
    assert scores["layer2.1"] > 0.0


def test_bad_names_are_refused_and_say_which_are_good():
    model = network()
    with pytest.raises(ConfigError, match=r"\['layer9'\] are no modules"):
        drop_blocks(model, ["layer9"])
    with pytest.raises(
        StructureError, match=r"\['layer2\.0'\] cannot be .*'layer2\.1'"
    ):
        check_blocks(model, ["layer2.0"], IMAGE)


def test_a_models_name_drops_blocks_everywhere_it_is_built():
    def build(name):
        return build_model(name, num_outputs=10, input_shape=(1, 8, 8), seed=3)

    small = build("small-resnet[-stages.2.1]")
    assert isinstance(small.stages[2][1], nn.Identity)
    whole = build("small-resnet")
    for name, item in small.named_parameters():
        assert torch.equal(item, whole.get_parameter(name))
    with pytest.raises(StructureError, match="cannot be dropped"):
        build("small-resnet[-stages.1.0]")
    check_model("small-resnet[-stages.2.1]")
    with pytest.raises(ConfigError, match="drops blocks as"):
        check_model("small-resnet[stages.2.1]")
    with pytest.raises(ConfigError, match="did you mean 'small-resnet'"):
        check_model("smal-resnet[-stages.2.1]")
