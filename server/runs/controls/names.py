"""Names of controls: a kind, and whether it has equal rounds or equal bytes."""

from collections.abc import Collection
from typing import Final, get_args

from fedprune.common.config import ControlName

BYTES: Final = "@bytes"
FRESH: Final = ("scratch", "uniform")  # trained from fresh weights alone
SIZED: Final = (*FRESH, "one-shot")  # of the size of the run's final network


ALL: Final[tuple[ControlName, ...]] = get_args(ControlName)


def kind_of(name: str) -> str:
    """Return the kind of a control.

    >>> kind_of("scratch@bytes"), kind_of("dense")
    ('scratch', 'dense')
    """
    return name.removesuffix(BYTES)


def of_equal_bytes(name: str) -> bool:
    """Return whether a control gets as many rounds as fit into the run's bytes."""
    return name.endswith(BYTES)


def in_order(wanted: Collection[str]) -> tuple[ControlName, ...]:
    """Return the controls in the order in which they run, each once.

    A control of equal bytes follows the one of equal rounds, which it is measured by:
    that one runs too.

    >>> in_order(["uniform@bytes", "dense"])
    ('dense', 'uniform', 'uniform@bytes')
    """
    needed = {*wanted, *(kind_of(name) for name in wanted)}
    return tuple(name for name in ALL if name in needed)
