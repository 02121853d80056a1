"""The registered methods, as tests pick them."""

from collections.abc import Callable

import pytest

from fedprune.common.methods.method import Kind, Method, Side
from fedprune.common.methods.registry import methods


def names_on(kind: Kind, side: Side) -> tuple[str, ...]:
    """Return the names of the methods of a kind that one side runs."""
    return tuple(name for name, one in methods(kind).items() if one.side is side)


def names_that_need(kind: Kind, *inputs: str) -> tuple[str, ...]:
    """Return the names of the methods of a kind that ask for one of some inputs."""
    found = methods(kind).items()
    return tuple(name for name, one in found if one.needs & {*inputs})


def with_law(kind: Kind, law: str) -> tuple[str, ...]:
    """Return the names of the methods of a kind that name a law."""
    return tuple(name for name, one in methods(kind).items() if law in one.laws)


def all_methods(kinds: tuple[Kind, ...]) -> dict[str, Method]:
    """Return all methods of some kinds, by kind and name."""
    return {
        f"{kind.name}: {name}": one
        for kind in kinds
        for name, one in methods(kind).items()
    }


def each(
    kind: Kind, only: Callable[[Method], object] = lambda _: True
) -> pytest.MarkDecorator:
    """Run a test for each method of a kind, or for some of them."""
    found = {name: one for name, one in methods(kind).items() if only(one)}
    if not found:
        msg = f"there is no such {kind.name}"
        raise ValueError(msg)
    return pytest.mark.parametrize("method", found.values(), ids=found)
