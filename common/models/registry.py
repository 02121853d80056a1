"""Registry of networks: the names of ``task.model`` in the configuration."""

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

import torch
from torch import nn

from fedprune.common.errors import ConfigError
from fedprune.common.models.networks import (
    VGG11,
    LeNet5,
    Perceptron,
    resnet18,
    small_resnet,
)
from fedprune.common.models.zoo import LOADERS, check_foreign, load_foreign
from fedprune.common.seeding import Use, seed_globals
from fedprune.common.structure.blocks import check_blocks, drop_blocks
from fedprune.common.user_code import (
    check_reference,
    did_you_mean,
    in_own_code,
    load_function,
    split_blocks,
)

Shape = tuple[int, ...]

NETWORKS: dict[str, Callable[[int, Shape], nn.Module]] = {
    "lenet5": LeNet5,
    "mlp": Perceptron,
    "small-resnet": small_resnet,
    "vgg11_bn": VGG11,
    "resnet18": resnet18,
}


def build_model(
    name: str, *, num_outputs: int, input_shape: Shape, seed: int, fetch: bool = True
) -> nn.Module:
    """Build a network whose first weights depend on ``seed`` alone.

    torch's global generator is left as it was.

    Args:
        name: A name of ``NETWORKS``; ``timm:NAME``, ``torchvision:NAME`` or
            ``hf:NAME`` (see ``fedprune.common.models.zoo``); or ``module:factory`` or
            ``file.py:factory``, where a factory takes no arguments, or any of
            ``num_outputs`` and ``input_shape``.  ``NAME[-BLOCK,-BLOCK]`` drops
            residual blocks (``fedprune.common.structure.blocks``).
        num_outputs: Entries of the output, >= 1.
        input_shape: Shape of one example, without the batch.
        seed: Seed of the run.
        fetch: Whether another library may download the network of a name; if not,
            the weights are random.

    Raises:
        ConfigError: If the name is unknown, the input does not fit the network, or
            the factory fails or returns something else than an ``nn.Module``.
    """
    if num_outputs < 1:
        msg = f"num_outputs is {num_outputs}; want num_outputs >= 1"
        raise ConfigError(msg)
    whole, blocks = split_blocks(name)
    builder = _find(whole, fetch=fetch)
    with seed_globals(seed, 0, "model", Use.INIT):
        model = builder(num_outputs, input_shape)
    if blocks:
        if fetch:  # a network is not run on sizes that a file announces
            check_blocks(model, blocks, torch.zeros(2, *input_shape))
        drop_blocks(model, blocks)
    return model


def check_model(name: str) -> None:
    """Check a model's name before anything is built.

    No user code is run.

    Raises:
        ConfigError: If no network, file or module has this name.
    """
    name, _ = split_blocks(name)
    if name in NETWORKS:
        return
    prefix, colon, _ = name.partition(":")
    if not colon:
        near = did_you_mean(name, NETWORKS)
        msg = (
            f"there is no model '{name}'{near} (known: {', '.join(NETWORKS)}, "
            f"'timm:NAME', 'torchvision:NAME', 'hf:NAME', 'module:factory' and "
            f"'file.py:factory')"
        )
        raise ConfigError(msg)
    if prefix in LOADERS:
        check_foreign(name)
        return
    check_reference(name)


def _find(name: str, *, fetch: bool) -> Callable[[int, Shape], nn.Module]:
    check_model(name)
    if name in NETWORKS:
        return NETWORKS[name]
    if name.partition(":")[0] in LOADERS:
        return lambda num_outputs, shape: load_foreign(
            name, num_outputs, shape, fetch=fetch
        )
    factory = load_function(name)
    return lambda num_outputs, shape: _call(name, factory, num_outputs, shape)


def _call(
    name: str, factory: Callable[..., Any], num_outputs: int, shape: Shape
) -> nn.Module:
    given = {"num_outputs": num_outputs, "input_shape": shape}
    try:
        model = factory(**_accepted(factory, given))
    except (Exception, SystemExit) as error:
        msg = f"the factory '{name}' failed: {type(error).__name__}: {error}"
        msg += in_own_code(error) or _signature(error)
        raise ConfigError(msg) from error
    if not isinstance(model, nn.Module):
        msg = f"the factory '{name}' returned {type(model).__name__}; want nn.Module"
        raise ConfigError(msg)
    return model


def _signature(error: BaseException) -> str:
    """Return what a factory may ask for, if it was called in vain."""
    if not isinstance(error, TypeError):
        return ""
    return "; want one with the arguments num_outputs and input_shape, or without any"


def _accepted(factory: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return those of the given arguments that the factory names."""
    named = {
        key
        for key, parameter in signature(factory).parameters.items()
        if parameter.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    }
    return {key: value for key, value in given.items() if key in named}
