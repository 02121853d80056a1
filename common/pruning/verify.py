"""Test of exactness of a cut: the masked dense network and the cut one agree.

Tracing knows operations one by one; this tests the whole network, before a run for
masks of several densities and for training too, and again for the mask of each cut.
"""

import math
from collections.abc import Iterator

import numpy as np
from torch import nn

from fedprune.common.errors import StructureError
from fedprune.common.pruning.trial import (
    ONLY_TRAINING,
    Pair,
    Run,
    distance,
    in_eval,
    in_training,
    kept_buffers,
    kept_gradients,
    pair,
    prepare,
)
from fedprune.common.spec import Mask
from fedprune.common.structure.structure import Structure
from fedprune.common.structure.tracing.find import Example
from fedprune.common.text import and_more

LIMIT = 1e-12  # relative, float64; the difference of another function is far larger
# Batch statistics of a few examples divide by small differences.
TRAINING_LIMIT = 1e-7
DENSITIES = (0.25, 0.5, 0.75)  # shares of the units of each group that stay
_DRAWS = 2  # masks of each density, beside the first and the last half
_ROUNDING = 16.0  # times what the last bit of the weights changes in a gradient
_SMALLEST = 1e-6  # of the largest gradient: smaller ones count as zero
_NAMED = 5  # groups in a message


def check_exact(
    model: nn.Module, structure: Structure, example: Example, *, seed: int = 0
) -> float:
    """Return the largest relative difference of a cut network from the masked one.

    NaN when the network is not finite under any mask, so that it cannot be tested.

    Eight masks in eval mode: two at random of each density, the first and the last
    half of each group; then one in training mode, forward and backward, where the
    kept entries of gradients and buffers are compared too, without dropout and other
    random draws, and with batch norms on the batch.  The test uses a copy in float64
    with norms whose scales, shifts and statistics are neither 0 nor 1; the model is
    not changed.

    Args:
        model: The dense network.
        structure: Its structure.
        example: One valid input, batch first; a tuple for several inputs, a dict for
            keyword arguments, or for one that is a dict.
        seed: Seed of the masks and of the scales of norms.

    Raises:
        StructureError: If a difference is above ``LIMIT`` (``TRAINING_LIMIT`` in
            training), or a cut network does not run: cutting would change the
            function that it computes, or what it learns.
    """
    trial = prepare(model, structure, example, seed)
    worst = math.nan
    if structure.units:
        for keep in trial_masks(structure, seed):
            worst = float(np.fmax(worst, _small(in_eval(pair(trial, keep)))))
    _check_training(pair(trial, half_mask(structure, seed)))
    return worst if structure.units else 0.0


def check_cut(
    model: nn.Module, structure: Structure, example: Example, keep: Mask
) -> None:
    """Test one cut in eval mode.

    Args:
        model: The dense network; not changed.
        structure: Its structure.
        example: One valid input, as of ``check_exact``.
        keep: Keep mask of the cut, bool[units].

    Raises:
        StructureError: If the cut network computes another function than the masked
            one; the groups that cause it are named.
    """
    trial = prepare(model, structure, example, seed=0)
    try:
        _small(in_eval(pair(trial, keep)))
    except StructureError as error:
        guilty = [
            group
            for group, alone in _one_by_one(structure, keep)
            if not _is_exact(pair(trial, alone))
        ]
        names = guilty or [group for group, _ in _one_by_one(structure, keep)]
        msg = f"the cut of {_listed(names)} is not exact: {error}"
        raise StructureError(msg) from error


def trial_masks(structure: Structure, seed: int) -> Iterator[Mask]:
    """Yield the masks of ``check_exact`` in eval mode; all keep units of each group."""
    rng = np.random.default_rng(seed)
    for density in DENSITIES:
        for number in range(_DRAWS):
            keep = _drawn(structure, density, rng)
            # A layer may be cut while those beside it stay whole.
            for group in structure.groups[1::2] if number else ():
                keep[group.units] = True
            yield keep
    # A wrong pairing of channels by position fails for these at the latest.
    for take in (slice(None), slice(None, None, -1)):
        keep = np.zeros(structure.units, dtype=np.bool_)
        for group in structure.groups:
            keep[group.units[take][: _count(0.5, len(group.units))]] = True
        yield keep


def half_mask(structure: Structure, seed: int) -> Mask:
    """Return a mask that keeps half of the units of each group, at least one."""
    return _drawn(structure, 0.5, np.random.default_rng(seed))


def _drawn(structure: Structure, density: float, rng: np.random.Generator) -> Mask:
    keep = np.zeros(structure.units, dtype=np.bool_)
    for group in structure.groups:
        units = group.units
        keep[rng.permutation(units)[: _count(density, len(units))]] = True
    return keep


def _count(density: float, units: int) -> int:
    return max(1, math.ceil(density * units))


def _small(difference: float) -> float:
    """Return a difference that is within the limit, or NaN.

    Raises:
        StructureError: If it is above the limit.
    """
    # NaN, which random norms may cause, passes: it proves nothing.
    if difference > LIMIT:
        msg = f"a cut network differs by {difference:.1e} of the largest output from"
        msg += f" the masked one; want at most {LIMIT:g}. Its operations mix channels"
        msg += " in a way that tracing does not follow: name them in ignore="
        raise StructureError(msg)
    return difference


def _check_training(found: Pair) -> None:
    def changed(wanted: Run, got: Run, rounded: Run | None) -> str:
        apart = distance(wanted.outputs, got.outputs)
        if apart > TRAINING_LIMIT:
            return f"the outputs by {apart:.1e} of the largest"
        for name, item in kept_buffers(found, wanted).items():
            apart = distance(item, got.buffers[name])
            if apart > TRAINING_LIMIT:
                return f"the buffer '{name}' by {apart:.1e} of the largest"
        kept = kept_gradients(found, wanted)
        noisy = kept_gradients(found, rounded) if rounded else {}
        finite = [g for g in kept.values() if g.numel() and g.isfinite().all()]
        top = max((float(item.abs().max()) for item in finite), default=0.0)
        least = max(_SMALLEST * top, np.finfo(np.float64).tiny)
        for name, item in kept.items():
            apart = distance(item, got.gradients[name], least)
            noise = distance(item, noisy.get(name, item), least)
            if apart > max(TRAINING_LIMIT, _ROUNDING * noise):
                return f"the gradient of '{name}' by {apart:.1e} of the largest"
        return ""

    text = in_training(found, changed)
    if text:
        msg = "the training forward of a cut network does not match that of the masked"
        msg += f" one: they differ in {text}. {ONLY_TRAINING}"
        raise StructureError(msg)


def _is_exact(found: Pair) -> bool:
    try:
        _small(in_eval(found))
    except StructureError:
        return False
    return True


def _one_by_one(structure: Structure, keep: Mask) -> Iterator[tuple[str, Mask]]:
    """Yield each group that a cut changes, and the mask that cuts it alone."""
    for group in structure.groups:
        if keep[group.units].all() or not keep[group.units].any():
            continue
        alone = structure.full()
        alone[group.units] = keep[group.units]
        yield group.name, alone


def _listed(names: list[str]) -> str:
    return and_more([f"'{name}'" for name in names], _NAMED)
