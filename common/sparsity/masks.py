"""Masks inside kept tensors: unstructured, N:M and blocks, nested and digest-checked.

A weight mask says which entries of a cut network are not zero.  Unlike a prune plan it
saves no arithmetic by itself: it saves bytes (only its positions hold values), and time
on hardware that knows its form (2:4).  Vectors (biases, scales) are never masked.

Like a plan, a mask names what it belongs to and what it was made from: it is nested in
its parent, and its digest covers both.
"""

from collections.abc import Iterator
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedprune.common.config import MaskRule
from fedprune.common.errors import ConfigError, PayloadError, Reason
from fedprune.common.methods.registry import Method
from fedprune.common.pruning.remap import remap
from fedprune.common.spec import Mask, ModelSpec, TensorSpec, Vector, WeightMask
from fedprune.common.structure.structure import Structure

Scores = NDArray[np.float64]
_POSITION = 1.5  # entries without position for the bytes of one with it


def full_mask(spec: ModelSpec, plan: bytes) -> WeightMask:
    """Return the first mask of a network: everything kept."""
    return WeightMask(plan=plan, keep=np.ones(spec.size, dtype=np.bool_))


def child_mask(parent: WeightMask, keep: Mask) -> WeightMask:
    """Return the mask ``keep``, made from ``parent``.

    Raises:
        ConfigError: If it gives back an entry that the parent has masked.
    """
    regrown = np.flatnonzero(keep & ~parent.keep)
    if regrown.size:
        msg = f"{regrown.size} entries that the parent has masked come back, the first"
        msg += f" is {regrown[0]}; want a mask nested in its parent"
        raise ConfigError(msg)
    return WeightMask(plan=parent.plan, keep=keep.copy(), parent=parent.digest)


def check_mask(mask: WeightMask, spec: ModelSpec, plan: bytes, digest: bytes) -> None:
    """Refuse a mask that is not this network's, or not the one that was agreed on.

    Raises:
        PayloadError: If its plan, length or digest is another, or if it leaves a
            tensor without an entry.
    """
    if mask.plan != plan:
        detail = f"{mask.plan.hex()}; want {plan.hex()}"
        raise PayloadError(Reason.BAD_DIGEST, "mask.plan", detail)
    if mask.keep.dtype != np.bool_ or mask.keep.shape != (spec.size,):
        detail = f"{mask.keep.dtype}{list(mask.keep.shape)}; want bool[{spec.size}]"
        raise PayloadError(Reason.BAD_SIZE, "mask.keep", detail)
    if mask.digest != digest:
        detail = f"{mask.digest.hex()}; want {digest.hex()}"
        raise PayloadError(Reason.BAD_DIGEST, "mask.digest", detail)
    for tensor, part in _parts(spec, mask.keep):
        if not part.any():
            detail = f"'{tensor.name}' keeps no entry; want at least one"
            raise PayloadError(Reason.BAD_VALUE, "mask.keep", detail)


def without_positions(mask: WeightMask | None, update_density: float) -> Mask | None:
    """Return the mask under which an update travels without positions, or None.

    All its entries are sent then, and both ends know where they are.  An entry costs
    about half as much again with its position, so the mask is used so where it has at
    most 1.5 times as many entries as would be sent otherwise.

    Args:
        mask: What the server and the client hold, or None.
        update_density: Share of the entries that an update may send; 0 = it sends
            none.
    """
    if mask is None or update_density <= 0.0:
        return None
    most = _POSITION * ceil(update_density * len(mask.keep))
    return mask.keep if np.count_nonzero(mask.keep) <= most else None


def cut_mask(
    mask: WeightMask, structure: Structure, units: tuple[Mask, Mask], plan: bytes
) -> WeightMask:
    """Return the mask after a cut of channels: it is sliced as the weights are.

    Args:
        mask: A mask of the network before.
        structure: The original network.
        units: What the network kept before, and what it keeps now, bool[units].
        plan: Digest of the new plan.
    """
    kept = remap(mask.keep.astype(np.float32), structure, *units)
    return WeightMask(plan=plan, keep=kept > 0.0, parent=mask.digest)


def next_mask(
    parent: WeightMask,
    spec: ModelSpec,
    weights: Vector,
    kind: Method,
    rule: MaskRule,
    density: float,
) -> WeightMask:
    """Return the mask that a kind of masks makes out of its parent.

    A kind that ranks entries keeps the ``ceil`` of the density times the entries of
    matrices, over all of them together, and at least one entry of each, also where
    these are more; of equals the lower position, or, where entries of equal rank stay
    or go together, all of them.

    Args:
        parent: The mask before.
        spec: The network.
        weights: float32[weights].
        kind: A method of ``fedprune.common.methods.mask``, or a user's own.
        rule: Its settings: n, m, block.
        density: Share of the entries of matrices kept, 0 < density <= 1; never more
            than the parent keeps.

    Raises:
        ConfigError: If a setting is out of its range, or the kind returns what it
            should not.
    """
    if not 0.0 < density <= 1.0:
        msg = f"density is {density}; want 0 < density <= 1"
        raise ConfigError(msg)
    keep = parent.keep.copy()
    ranks = np.full(spec.size, np.inf)
    ranked = np.zeros(spec.size, dtype=np.bool_)
    stays = parent.apply(weights)
    whole = "whole" in kind.laws
    for (tensor, values), (_, kept), (_, rank), (_, inside) in zip(
        _parts(spec, stays),
        _parts(spec, keep),
        _parts(spec, ranks),
        _parts(spec, ranked),
        strict=True,
    ):
        if len(tensor.shape) < 2:  # noqa: PLR2004 - vectors are never masked
            continue
        found = _asked(kind, rule, tensor, values, kept)
        if found.dtype == np.bool_:
            np.logical_and(kept, found.reshape(-1), out=kept)
        else:
            rank[:] = found.reshape(-1)
            inside[:] = True
            # Of each tensor something stays: its best entry, or its best block.
            rank[rank >= rank.max() if whole else int(rank.argmax())] = np.inf
    ranks[~parent.keep] = -1.0
    return child_mask(parent, keep & _greatest(ranks, ranked, density, whole=whole))


def _asked(
    kind: Method, rule: MaskRule, tensor: TensorSpec, values: Vector, kept: Mask
) -> NDArray[Any]:
    """Return what a kind of masks says of one matrix."""
    found = np.asarray(
        kind(
            matrix=values.reshape(tensor.shape).astype(np.float64),
            kept=kept.reshape(tensor.shape),
            n=rule.n,
            m=rule.m,
            block=rule.block,
        )
    )
    known = found.dtype == np.bool_ or np.issubdtype(found.dtype, np.floating)
    if not known or found.shape != tensor.shape or not np.all(np.isfinite(found)):
        msg = (
            f"prune.mask.kind '{kind.name}' returned {found.dtype}{list(found.shape)} "
            f"for '{tensor.name}'; want bool or finite floats of {list(tensor.shape)}"
        )
        raise ConfigError(msg)
    return found


def _greatest(ranks: Scores, ranked: Mask, density: float, *, whole: bool) -> Mask:
    """Return which entries stay by their rank; those without one stay."""
    order = np.flatnonzero(ranked)
    best = int(np.count_nonzero(np.isinf(ranks[order])))  # of each matrix, one at least
    count = max(ceil(density * len(order)), best)
    order = order[np.argsort(-ranks[order], kind="stable")]
    keep: Mask = ~ranked
    if whole and count < len(order):
        keep[order[ranks[order] >= ranks[order[count - 1]]]] = True
    else:
        keep[order[:count]] = True
    return keep


def _parts(
    spec: ModelSpec, flat: NDArray[Any]
) -> Iterator[tuple[TensorSpec, NDArray[Any]]]:
    """Yield each tensor with its part of a flat vector, as a view."""
    start = 0
    for tensor in spec.tensors:
        yield tensor, flat[start : start + tensor.size]
        start += tensor.size
