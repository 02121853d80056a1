"""Sparsification of a delta: the entries that are sent; the others are the residual."""

from collections.abc import Callable
from math import ceil

import numpy as np

from fedprune.common.codec import Layout, positions_of
from fedprune.common.errors import ConfigError
from fedprune.common.messages import SparseDelta
from fedprune.common.methods.kinds import CHOICE
from fedprune.common.methods.method import Method
from fedprune.common.methods.registry import methods
from fedprune.common.spec import Mask, Vector

COMMON = "common"  # input of a choice that all clients make alike


def sparsify(
    total: Vector,
    density: float,
    choice: Method | None = None,
    *,
    layout: Layout | None = None,
    value_bits: float = 1.0,
) -> SparseDelta:
    """Return the entries of a vector that are sent now.

    At most ``k = ceil(density * n)``; exact zeros are never sent.  The other entries
    are the caller's residual (error feedback).

    Args:
        total: Delta plus residual, float32[n], finite.
        density: Share of entries sent, 0 < density <= 1.
        choice: Method that selects the entries; None = the largest.
        layout: Rows and columns of the network; for choices that need it.
        value_bits: Bits of an entry without its position, > 0.

    Raises:
        ConfigError: If the choice is not bool[n], or has more than k entries.

    Examples:
        >>> sent = sparsify(np.float32([1, -3, 0, 3, 2]), 0.4)
        >>> sent.indices.tolist(), sent.values.tolist()
        ([1, 3], [-3.0, 3.0])
    """
    count = _count(density, len(total))
    choice = choice or methods(CHOICE)["magnitude"]
    chosen = choice(total=total, count=count, layout=layout, value_bits=value_bits)
    indices = positions_of(_checked(choice, chosen, len(total), count))
    values = total[indices]
    sent = values != 0
    if not sent.all():
        indices, values = indices[sent], values[sent]
    return SparseDelta(size=len(total), indices=indices, values=values)


def shared_positions(
    choice: Method, density: float, size: int, rng: Callable[[], np.random.Generator]
) -> Mask | None:
    """Return the entries that all clients of a round send, or None if each chooses.

    Args:
        choice: Method that selects the entries; one that needs the delta is each
            client's own.
        density: Share of entries sent, 0..1; 0 = no entries.
        size: Number of weights.
        rng: Makes the generator that all clients of the round share.

    Raises:
        ConfigError: As ``sparsify``.
    """
    count = _count(density, size)
    if COMMON not in choice.needs or not 0 < count < size:
        return None
    return _checked(choice, choice(common=rng().random(size), count=count), size, count)


def _count(density: float, size: int) -> int:
    return min(ceil(density * size), size)


def _checked(choice: Method, chosen: object, size: int, count: int) -> Mask:
    found = np.asarray(chosen)
    fits = found.dtype == np.bool_ and found.shape == (size,)
    if not fits or np.count_nonzero(found) > count:
        msg = (
            f"update.choice '{choice.name}' returned {found.dtype}{list(found.shape)} "
            f"of {np.count_nonzero(found)} entries; want bool[{size}] of at most "
            f"{count}"
        )
        raise ConfigError(msg)
    return found
