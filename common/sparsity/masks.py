"""Masks inside kept tensors: unstructured, N:M and blocks, nested and digest-checked.

A weight mask says which entries of a cut network are not zero.  Unlike a prune plan it
saves no arithmetic by itself: it saves bytes (only its positions hold values), and time
on hardware that knows its form (2:4).  Vectors (biases, scales) are never masked.

Like a plan, a mask names what it belongs to and what it was made from: it is nested in
its parent, and its digest covers both.
"""

from collections.abc import Callable, Iterator
from math import ceil, prod

import numpy as np
from numpy.typing import NDArray

from fedprune.common.errors import ConfigError, PayloadError, Reason
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


def unstructured(
    parent: WeightMask,
    spec: ModelSpec,
    weights: Vector,
    density: float,
    *,
    by: str = "sensitivity",
) -> WeightMask:
    """Keep the entries of greatest magnitude, over all tensors together.

    "magnitude" ranks ``|w|``.  "sensitivity" ranks ``|w| / std`` of the tensor, as a
    threshold of a multiple of each layer's standard deviation does (Han et al. 2016,
    arXiv:1510.00149): a layer of small weights is not emptied first.  At least one
    entry of each tensor stays.  Ties: the lower position stays.

    Args:
        parent: The mask before.
        spec: The network.
        weights: float32[weights].
        density: Share of the entries of matrices kept, 0 < density <= 1; exactly
            ``ceil`` of it, and never more than the parent keeps.
        by: "sensitivity" or "magnitude".

    Raises:
        ConfigError: If a setting is out of its range.
    """
    if by not in {"sensitivity", "magnitude"}:
        msg = f"masks are made by '{by}'; want 'sensitivity' or 'magnitude'"
        raise ConfigError(msg)

    def rank(part: Scores) -> Scores:
        spread = float(part.std()) if by == "sensitivity" else 1.0
        return np.abs(part) / (spread if spread > 0.0 else 1.0)

    return _ranked(parent, spec, weights, density, rank)


def blocks(
    parent: WeightMask,
    spec: ModelSpec,
    weights: Vector,
    density: float,
    *,
    shape: tuple[int, int] = (8, 8),
) -> WeightMask:
    """Keep whole blocks of rows x columns by their mean square.

    A weight counts as a matrix of outputs by inputs and places; the blocks at its
    ends may be smaller.  A block that is cut in part by the parent is judged by what
    is left.  Source: Gray et al. 2017, block-sparse kernels.

    Args:
        parent: The mask before.
        spec: The network.
        weights: float32[weights].
        density: Share of the entries kept, 0 < density <= 1.
        shape: Rows and columns of a block, >= 1.

    Raises:
        ConfigError: If a setting is out of its range.
    """
    if min(shape) < 1:
        msg = f"blocks are {shape[0]} x {shape[1]}; want both >= 1"
        raise ConfigError(msg)

    def rank(part: Scores) -> Scores:
        matrix = part.reshape(len(part), -1)
        rows, columns = (
            np.arange(n) // s for n, s in zip(matrix.shape, shape, strict=True)
        )
        across = columns[-1] + 1
        number = rows[:, None] * across + columns
        total = np.bincount(number.ravel(), (matrix**2).ravel())
        mean: Scores = total / np.bincount(number.ravel())
        found: Scores = mean[number].reshape(part.shape)
        return found

    return _ranked(parent, spec, weights, density, rank, whole=True)


def n_of_m(
    parent: WeightMask, spec: ModelSpec, weights: Vector, *, n: int = 2, m: int = 4
) -> WeightMask:
    """Keep the ``n`` greatest of each ``m`` neighbouring input channels.

    That is the 2:4 form that sparse tensor cores run (Mishra et al. 2021,
    arXiv:2104.08378).  Tensors whose input channels are no multiple of ``m`` stay as
    they are.  Ties: the lower channel stays.

    Raises:
        ConfigError: Unless 1 <= n < m.
    """
    if not 1 <= n < m:
        msg = f"a mask of {n}:{m}; want 1 <= n < m"
        raise ConfigError(msg)
    keep = parent.keep.copy()
    for tensor, part in _parts(spec, keep):
        if len(tensor.shape) < 2 or tensor.shape[1] % m:  # noqa: PLR2004 - matrices
            continue
        size = np.abs(_weights_of(spec, weights, tensor)).astype(np.float64)
        size = np.where(part.reshape(tensor.shape), size, -1.0)
        groups = np.moveaxis(size, 1, -1)
        grouped = groups.reshape(*groups.shape[:-1], -1, m)
        order = np.argsort(-grouped, axis=-1, kind="stable")
        best = np.zeros(grouped.shape, dtype=np.bool_)
        np.put_along_axis(best, order[..., :n], values=True, axis=-1)
        chosen = np.moveaxis(best.reshape(groups.shape), -1, 1)
        part[:] = part & chosen.reshape(-1)
    return child_mask(parent, keep)


def _ranked(
    parent: WeightMask,
    spec: ModelSpec,
    weights: Vector,
    density: float,
    rank: Callable[[Scores], Scores],
    *,
    whole: bool = False,
) -> WeightMask:
    """Return the mask that keeps the entries of greatest rank in matrices.

    With ``whole`` entries of equal rank stay or go together, as those of a block.
    """
    if not 0.0 < density <= 1.0:
        msg = f"density is {density}; want 0 < density <= 1"
        raise ConfigError(msg)
    scores = np.full(spec.size, np.inf)
    matrices = np.zeros(spec.size, dtype=np.bool_)
    for (tensor, part), (_, inside) in zip(
        _parts(spec, scores), _parts(spec, matrices), strict=True
    ):
        if len(tensor.shape) > 1:
            values = _weights_of(spec, parent.apply(weights), tensor)
            part[:] = rank(values.astype(np.float64)).reshape(-1)
            inside[:] = True
            # Of each tensor something stays: its best entry, or its best block.
            part[part >= part.max() if whole else int(part.argmax())] = np.inf
    scores[~parent.keep] = -1.0
    count = ceil(density * int(matrices.sum()))
    order = np.flatnonzero(matrices)
    order = order[np.argsort(-scores[order], kind="stable")]
    keep = parent.keep & ~matrices
    if whole and count < len(order):
        keep[order[scores[order] >= scores[order[count - 1]]]] = True
    else:
        keep[order[:count]] = True
    return child_mask(parent, keep & parent.keep)


def _parts(spec: ModelSpec, flat: NDArray) -> Iterator[tuple[TensorSpec, NDArray]]:  # type: ignore[type-arg]
    """Yield each tensor with its part of a flat vector, as a view."""
    start = 0
    for tensor in spec.tensors:
        yield tensor, flat[start : start + tensor.size]
        start += tensor.size


def _weights_of(spec: ModelSpec, weights: Vector, tensor: TensorSpec) -> Vector:
    for found, part in _parts(spec, weights):
        if found is tensor:
            return part.reshape(tensor.shape)
    msg = f"no tensor '{tensor.name}' of {prod(tensor.shape)} entries"
    raise KeyError(msg)
