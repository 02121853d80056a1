"""Checks of what the methods of a user's own task return."""

from collections.abc import Iterable
from typing import Any

import torch

from fedprune.common.codec import checks
from fedprune.common.errors import ConfigError, DataError, PayloadError
from fedprune.common.models.inputs import tensors_in


def as_names(found: object, whose: str) -> tuple[Any, ...]:
    """Return the names that ``Task.clients`` returned, which are not checked yet.

    Raises:
        DataError: If it is no list.
    """
    if isinstance(found, str) or not isinstance(found, Iterable):
        msg = f"{whose}.clients returns a {type(found).__name__}; want a list of names,"
        msg += " or ()"
        raise DataError(msg)
    return tuple(found)


def check_names(names: tuple[Any, ...], whose: str) -> None:
    """Check the names of clients: they become those of files and lines.

    Raises:
        DataError: If one is no text, is repeated, or has other characters.
    """
    strings = all(isinstance(name, str) and name for name in names)
    if not strings or len(set(names)) != len(names):
        msg = f"the clients of {whose} are {names[:5]}; want different names, as "
        msg += "strings"
        raise DataError(msg)
    for name in names:
        try:
            checks.name(name, "client")
        except PayloadError as error:
            msg = f"the clients of {whose} have the name {name[:100]!r}; want 1 to "
            msg += f"{checks.MAX_NAME} printable characters, no / or \\, no . first"
            raise DataError(msg) from error


def check_example(found: object, whose: str) -> None:
    """Check the inputs of ``Task.example``.

    Raises:
        ConfigError: If there is no tensor in them.
    """
    if next(tensors_in(found), None) is None:
        msg = f"{whose}.example returns a {type(found).__name__}; want the inputs of "
        msg += "two examples, as the network takes them"
        raise ConfigError(msg)


def as_optimizer(found: object, whose: str) -> torch.optim.Optimizer | None:
    """Return what ``Task.optimizer`` returned.

    Raises:
        ConfigError: If it is neither an optimiser nor None.
    """
    if found is None or isinstance(found, torch.optim.Optimizer):
        return found
    kind = type(found).__name__
    msg = f"{whose} returns a {kind}; want a torch.optim.Optimizer, or None"
    raise ConfigError(msg)
