"""Positions that both ends of a round know, so that an update travels without them."""

from functools import partial

from fedprune.common.messages import RoundPlan
from fedprune.common.methods.kinds import CHOICE
from fedprune.common.methods.registry import find, resolve
from fedprune.common.seeding import Use, generator
from fedprune.common.sparsity.masks import without_positions
from fedprune.common.sparsity.sparsify import shared_positions
from fedprune.common.spec import Mask, WeightMask

_KEY = "clients"  # owner of the stream: all of them together


def known_positions(
    plan: RoundPlan, mask: WeightMask | None, size: int, own: str
) -> Mask | None:
    """Return the entries that each update of a round brings, or None if it names them.

    They are those of a weight mask that is as thin as an update, or those of a choice
    that all clients make alike.

    Args:
        plan: The plan of the round, with or without an address.
        mask: The agreed weight mask, or None.
        size: Number of weights.
        own: ``update.choice`` of this side's configuration.

    Raises:
        ConfigError: As ``shared_positions``.
    """
    settings = plan.settings
    density = settings.density_sent
    masked = without_positions(mask, density)
    if masked is not None:
        return masked
    choice = find(CHOICE, resolve(CHOICE, settings.choice, own))
    rng = partial(generator, settings.seed, plan.round, _KEY, Use.CHOICE)
    shared = shared_positions(choice, density, size, rng)
    if shared is None or mask is None:
        return shared
    both: Mask = shared & mask.keep
    return both
