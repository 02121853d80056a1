"""Settings that follow what a run starts from."""

import pytest

from fedprune.common.config import is_pretrained, load_config, penalty_of


@pytest.mark.parametrize(
    ("settings", "pretrained"),
    [
        ({}, False),
        ({"task.weights": "a.safetensors"}, True),
        ({"task.model": "timm:resnet18"}, True),
        ({"task.model": "hf:google/vit[-encoder.layer.1]"}, True),
        ({"task.model": "timm:resnet18@random"}, False),
        ({"task.model": "timm:resnet18@random[-layer1.1]"}, False),
        ({"task.model": "timm:resnet18@random", "task.weights": "a.st"}, True),
        ({"task.model": "network.py:make"}, False),
        ({"task.model": "timm:resnet18", "task.use": "own.py:OnlyLoss"}, True),
        ({"task.use": "own.py:OwnNetwork"}, False),
    ],
)
def test_pretrained_weights_are_known_by_the_keys(settings, pretrained):
    config = load_config(None, settings)
    assert is_pretrained(config.task) is pretrained
    assert penalty_of(config) == ("none" if pretrained else "bn-l1+group")


@pytest.mark.parametrize("penalty", ["none", "l0", "bn-l1+group", "own.py:shrink"])
def test_a_penalty_that_is_named_holds_for_every_start(penalty):
    for weights in ("", "a.safetensors"):
        given = {"client.penalty": penalty, "task.weights": weights}
        assert penalty_of(load_config(None, given)) == penalty
