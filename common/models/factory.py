"""Factories: networks from the caller's own function, with checked results."""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from torch import nn
from torch.nn.parameter import UninitializedParameter

from fedprune.common.errors import ConfigError, FedPruneError
from fedprune.common.text import error_line

Factory: TypeAlias = Callable[[], nn.Module]


def as_factory(given: object, name: str) -> Factory | None:
    """Return a factory whose results are checked; None stays None.

    Args:
        given: The caller's argument.
        name: The argument, for the error.

    Raises:
        ConfigError: If it is a network or cannot be called.
    """
    if given is None:
        return None
    if isinstance(given, nn.Module) or not callable(given):
        message = (
            f"{name}: found {type(given).__name__}, want a function without arguments "
            "that returns a new network, for example: lambda: Net()"
        )
        raise ConfigError(message)
    return partial(checked_network, given)


def checked_network(factory: Callable[[], object], called: str = "") -> nn.Module:
    """Return the network that a factory of the user makes.

    Args:
        factory: Makes it.
        called: The factory, for the errors; "" = by its own name.

    Raises:
        ConfigError: If it fails, or returns something else.
    """
    name = getattr(factory, "__name__", type(factory).__name__)
    called = called or f"the factory '{name}'"
    try:
        model = factory()
    except FedPruneError:
        raise
    except Exception as error:
        message = f"{called} failed: {error_line(error)}"
        raise ConfigError(message) from error
    except SystemExit as error:
        # The program would end without a message.
        message = f"{called} called exit({error.code!r}); want it to return a network"
        raise ConfigError(message) from error
    if not isinstance(model, nn.Module):
        found = type(model).__name__
        message = f"{called} returned {found}; want nn.Module"
        raise ConfigError(message)
    lazy = [name for name, item in model.named_parameters() if _has_no_shape(item)]
    if lazy:
        message = f"{called} returned a network whose '{lazy[0]}' has no shape yet (a "
        message += "lazy module); want it called once on an example before it returns"
        raise ConfigError(message)
    return model


def _has_no_shape(weight: object) -> bool:
    return isinstance(weight, UninitializedParameter)
