"""Weight masks inside kept tensors: unstructured, n:m and blocks; nested, with digests.

A weight mask is True at the entries of a cut network that may be other than zero.
Unlike a prune plan it saves no arithmetic by itself: it saves bytes (only its entries
have values), and time on hardware that supports its form (2:4).  Vectors (biases,
scales) are never masked.

Like a plan, a mask names the plan that it belongs to and its parent: it is nested in
its parent, and its digest covers both.
"""

from collections.abc import Iterator
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedprune.common.config import MaskRule
from fedprune.common.errors import ConfigError, PayloadError, Reason
from fedprune.common.methods.method import Method
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
        ConfigError: If it brings back an entry that the parent has masked.
    """
    regrown = np.flatnonzero(keep & ~parent.keep)
    if regrown.size:
        msg = f"{regrown.size} entries that the parent has masked come back, the first"
        msg += f" is {regrown[0]}; want a mask nested in its parent"
        raise ConfigError(msg)
    return WeightMask(plan=parent.plan, keep=keep.copy(), parent=parent.digest)


def check_mask(mask: WeightMask, spec: ModelSpec, plan: bytes, digest: bytes) -> None:
    """Check that a mask belongs to a network and has the wanted digest.

    Raises:
        PayloadError: If its plan, length or digest differs, or if it leaves a tensor
            without an entry.
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

    All entries of the mask are sent then, and both ends know their positions.  A
    position costs about half as much as a value, so the mask is used like this where
    it has at most 1.5 times as many entries as would be sent otherwise.

    Args:
        mask: The mask that server and client have stored, or None.
        update_density: Share of the entries that an update may send, 0..1; 0 = no
            entries.
    """
    if mask is None or update_density <= 0.0:
        return None
    most = _POSITION * ceil(update_density * len(mask.keep))
    return mask.keep if np.count_nonzero(mask.keep) <= most else None


def cut_mask(
    mask: WeightMask, structure: Structure, units: tuple[Mask, Mask], plan: bytes
) -> WeightMask:
    """Return the mask after a cut of units, sliced like the weights.

    Args:
        mask: A mask of the network before the cut.
        structure: The original network.
        units: Keep masks before and after the cut, bool[units].
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
    """Return the mask that a kind of masks makes from its parent.

    A kind that ranks entries keeps the ``ceil`` of the density times the entries of
    matrices, over all of them together, and at least one entry of each, also where
    these are more; of equals the lower position, or, where entries of equal rank stay
    or go together, all of them.

    Args:
        parent: The parent mask.
        spec: Shapes of the network.
        weights: float32[weights].
        kind: A method of ``fedprune.common.methods.mask``, or a user's own.
        rule: Its settings: n, m, block.
        density: Share of the entries of matrices kept, 0 < density <= 1; never more
            than the parent keeps.

    Raises:
        ConfigError: If a setting is out of range, or the kind returns another type or
            shape than it should.
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
        found = _apply_kind(kind, rule, tensor, values, kept)
        if found.dtype == np.bool_:
            np.logical_and(kept, found.reshape(-1), out=kept)
        else:
            rank[:] = np.where(kept, found.reshape(-1), -np.inf)
            inside[:] = True
            # Each tensor keeps at least its best entry, or its best block.
            rank[rank >= rank.max() if whole else int(rank.argmax())] = np.inf
    return child_mask(parent, keep & _greatest(ranks, ranked, density, whole=whole))


def _apply_kind(
    kind: Method, rule: MaskRule, tensor: TensorSpec, values: Vector, kept: Mask
) -> NDArray[Any]:
    """Return the ranks or the mask that a kind of masks gives to one matrix.

    Raises:
        ConfigError: If it returns another type or shape.
    """
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
    best = int(
        np.count_nonzero(np.isposinf(ranks[order]))
    )  # of each matrix, one at least
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
