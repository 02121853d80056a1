"""A network in float64, masked and cut, and the difference of the two.

The weights are the network's initial ones, with vectors that are neither 0 nor 1 and
without matrices of one number: fresh norms and zero layers would hide differences.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fedprune.common.errors import StructureError
from fedprune.common.models.inputs import (
    arguments,
    copied,
    longer_batch,
    tensors_in,
    without_constants,
)
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.trial_modes import calm, draws, in_double
from fedprune.common.spec import Mask
from fedprune.common.structure.blocks import drop_blocks
from fedprune.common.structure.directions import directions
from fedprune.common.structure.structure import Structure, positions_kept
from fedprune.common.structure.tracing.find import Example
from fedprune.common.text import first_line

SCALES = (0.5, 1.5)  # of vectors
_TINY = torch.finfo(torch.float64).tiny
ONLY_TRAINING = (
    "Code that runs in training only is not traced: run it in eval mode too, or name "
    "the modules that its inputs come from in ignore="
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A network to test, and its inputs.

    Attributes:
        dense: A copy in float64; every parameter has gradients.
        structure: Its structure.
        inputs: Its arguments, floats in float64.
    """

    dense: nn.Module
    structure: Structure
    inputs: tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The network under one keep mask, masked and cut.

    Attributes:
        trial: The dense network and its inputs.
        keep: The mask, bool[units].
        masked: The dense network, zero at the cut units.
        cut: The cut network.
    """

    trial: Trial
    keep: Mask
    masked: nn.Module
    cut: nn.Module


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Outputs and gradients of a network in training mode.

    Attributes:
        outputs: All outputs, float64[n].
        buffers: The buffers of floats afterwards: training may have changed them.
        gradients: Gradient of one weighted sum of them by each parameter; zeros for an
            unused parameter.
    """

    outputs: Tensor
    buffers: dict[str, Tensor]
    gradients: dict[str, Tensor]


def prepare(
    model: nn.Module, structure: Structure, example: Example, seed: int
) -> Trial:
    """Return a network to test and its inputs; the model is not changed.

    Args:
        model: The dense network.
        structure: Its structure.
        example: One valid input, batch first (``fedprune.common.models.inputs``).
            Floats that are all equal become noise.
        seed: Seed of noise, scales and shifts.
    """
    dense = copy.deepcopy(model).double().eval()
    generator = torch.Generator().manual_seed(seed)
    _spread(dense, generator)
    for item in dense.parameters():
        item.requires_grad_(item.is_floating_point() or item.is_complex())
    given = arguments(model, example)
    return Trial(
        dense=dense,
        structure=structure,
        inputs=pytree.tree_map(lambda leaf: _wide(leaf, generator), given),
    )


def pair(trial: Trial, keep: Mask) -> Pair:
    """Return the network masked and cut; both lack the blocks that ``keep`` drops."""
    structure = trial.structure
    masked = copy.deepcopy(trial.dense)
    drop_blocks(masked, structure.dropped(keep))
    mask_units(masked, structure, keep)
    # Tensors that are not cut are shared: a large network is not copied twice.
    shared = [*trial.dense.parameters(), *trial.dense.buffers()]
    twin = copy.deepcopy(trial.dense, {id(item): item for item in shared})
    return Pair(
        trial=trial, keep=keep, masked=masked, cut=apply_plan(twin, structure, keep)
    )


def mask_units(model: nn.Module, structure: Structure, keep: Mask) -> None:
    """Set every trained tensor to 0 at the cut units, in place; statistics stay.

    The direction of a weight norm stays as well where its magnitude becomes 0.
    """
    tensors = dict(model.named_parameters())
    lengths = directions(model)
    with torch.no_grad():
        for dim in structure.dims:
            item = tensors.get(dim.tensor)
            if item is not None and lengths.get(id(item)) != dim.dim:
                gone = np.flatnonzero(~positions_kept(dim.units, keep))
                index = torch.from_numpy(gone)
                tensors[dim.tensor].index_fill_(dim.dim, index, 0.0)


def in_eval(found: Pair) -> float:
    """Return the relative difference of the outputs; NaN if they are not finite.

    Raises:
        StructureError: If the cut network does not run.
    """
    inputs = found.trial.inputs
    with torch.no_grad():
        wanted = _flat(_attempt(found.masked, inputs, "the network does not run"))
        why = "the network does not run when channels are cut"
        return distance(wanted, _flat(_attempt(found.cut, inputs, why)))


def in_training(found: Pair, changed: Callable[[Run, Run, Run | None], str]) -> str:
    """Run both in training mode, forward and backward; return the difference, or "".

    The difference is "" as well if runs of the masked network differ with the numbers
    that it draws, unless both networks have drawn the same ones.

    Args:
        found: The masked and the cut network.
        changed: Compares their runs.  If they differ it is asked again, with a third
            run, of the masked network with weights that differ in the last bit: some
            gradients consist of little but rounding, such as those through a batch
            norm over two numbers.

    Raises:
        StructureError: If one of them does not run.
    """
    masked, cut = found.masked.train(), found.cut.train()
    inputs = longer_batch(found.trial.inputs)
    why = "the network does not run in training mode"
    before = {name: item.clone() for name, item in masked.named_buffers()}
    with calm(masked, cut):
        wanted, drawn = _train(masked, inputs, why), draws()
    try:
        with calm():
            got = _train(cut, inputs, "the training forward of a cut network fails")
            same = draws() == drawn
    except StructureError as error:
        msg = f"{error}. {ONLY_TRAINING}"
        raise StructureError(msg) from error
    if not changed(wanted, got, None):
        return ""
    _restore(masked, before)  # a run changes statistics, and what depends on them
    with calm():
        rounded = _train(_rounded(masked), inputs, "the network does not run again")
    text = changed(wanted, got, rounded)
    if not text:
        return ""
    for seed in [0] if same else [0, 1]:
        _restore(masked, before)
        with calm(seed=seed):
            again = _train(masked, inputs, why)
        if distance(wanted.outputs, again.outputs) > 0:
            return ""
    return text


def kept_gradients(found: Pair, run: Run) -> dict[str, Tensor]:
    """Return the entries of the masked network's gradients that the cut one has."""
    names = [name for name, _ in found.cut.named_parameters()]
    return _kept(found, {name: run.gradients[name] for name in names})


def kept_buffers(found: Pair, run: Run) -> dict[str, Tensor]:
    """Return the entries of the masked network's buffers that the cut one has."""
    names = {name for name, _ in found.cut.named_buffers()}
    return _kept(found, {k: item for k, item in run.buffers.items() if k in names})


def _kept(found: Pair, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of tensors of the masked network that the cut one has."""
    structure = found.trial.structure.living(found.keep)
    kept = {}
    for name, tensor in tensors.items():
        item = tensor
        for dim in range(item.dim()):
            if (name, dim) in structure.lookup:
                index = structure.kept_index(name, dim, found.keep)
                item = item.index_select(dim, torch.from_numpy(index))
        kept[name] = item
    return kept


def distance(wanted: Tensor, found: Tensor, least: float = _TINY) -> float:
    """Return the largest difference over the largest entry; inf for other shapes.

    Entries of ``wanted`` that are not finite, such as logits that are masked, count
    for nothing; NaN when none is finite, so that there is nothing to compare with.

    Args:
        wanted: The correct values.
        found: The values to check.
        least: Least scale, used where the largest entry is smaller.
    """
    if wanted.shape != found.shape:
        return math.inf
    if not wanted.numel():
        return 0.0
    known = torch.isfinite(wanted)
    if not bool(known.any()):
        return math.nan
    wanted, found = wanted[known], found[known]
    if not bool(torch.isfinite(found).all()):
        return math.inf
    scale = max(float(wanted.abs().max()), least)
    return float((wanted - found).abs().max()) / scale


def _spread(model: nn.Module, generator: torch.Generator) -> None:
    """Give vectors random positive values, matrices of one number random ones.

    Trained entries that are 0, such as the row of a padding token, become random too.
    """
    low, high = SCALES
    trained = {id(item) for item in model.parameters()}
    for item in model.state_dict(keep_vars=True).values():
        if not isinstance(item, Tensor) or not item.is_floating_point():
            continue
        own = id(item) in trained and item.numel() > 0
        flat = own and item.numel() > 1 and _is_flat(item)
        empty = own and bool((item == 0).any())
        if item.dim() != 1 and not flat and not empty:
            continue
        noise = torch.rand(item.shape, generator=generator, dtype=item.dtype)
        spread = low + (high - low) * noise if item.dim() == 1 else noise - 0.5
        if item.dim() != 1 and not flat:
            spread = torch.where(item == 0, spread, item)
        with torch.no_grad():
            item.copy_(spread)


def _rounded(network: nn.Module) -> nn.Module:
    """Return a copy whose weights differ in the last bit."""
    twin = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for item in twin.parameters():
            if item.is_floating_point():
                signs = torch.randint(0, 2, item.shape, generator=generator).to(item)
                item.mul_(1 + (2 * signs - 1) * torch.finfo(item.dtype).eps)
    return twin


def _restore(network: nn.Module, buffers: Mapping[str, Tensor]) -> None:
    """Set buffers to what they were."""
    with torch.no_grad():
        for name, item in network.named_buffers():
            if name in buffers and item.shape == buffers[name].shape:
                item.copy_(buffers[name])


def _is_flat(item: Tensor) -> bool:
    return bool(item.min() == item.max())


def _wide(leaf: object, generator: torch.Generator) -> object:
    """Return an input in double precision."""
    found = without_constants(leaf, generator)
    if not isinstance(found, Tensor):
        return found
    if found.is_complex():
        return found.to(torch.complex128)
    return found.double() if found.is_floating_point() else found


def _attempt(network: nn.Module, inputs: tuple[object, ...], why: str) -> object:
    inputs = copied(inputs)
    try:
        with in_double():
            return network(*inputs)
    except (Exception, SystemExit) as error:
        # The model's own code runs here, on lengths that it was not written for.
        msg = f"{why}: {first_line(error)}"
        raise StructureError(msg) from error


def _train(network: nn.Module, inputs: tuple[object, ...], why: str) -> Run:
    outputs = _flat(_attempt(network, inputs, why))
    buffers = {
        name: item.detach().clone()
        for name, item in network.named_buffers()
        if item.is_floating_point()
    }
    named = dict(network.named_parameters())
    used = [item for item in named.values() if item.requires_grad]
    gradients: dict[int, Tensor | None] = {}
    if outputs.requires_grad:
        generator = torch.Generator().manual_seed(0)
        share = torch.rand(outputs.shape, generator=generator, dtype=outputs.dtype)
        try:
            total = (outputs * share).sum()
            found = torch.autograd.grad(total, used, allow_unused=True)
        except RuntimeError as error:
            msg = f"{why}: backward: {first_line(error)}"
            raise StructureError(msg) from error
        gradients = {id(p): g for p, g in zip(used, found, strict=True)}
    return Run(
        outputs=outputs.detach(),
        buffers=buffers,
        gradients={
            name: torch.zeros_like(item) if grad is None else grad.to_dense()
            for name, item in named.items()
            for grad in [gradients.get(id(item))]
        },
    )


def _flat(outputs: object) -> Tensor:
    leaves = [*tensors_in(outputs)]
    if not leaves:
        msg = "the network's outputs hold no tensor, so nothing can be compared"
        raise StructureError(msg)
    wide = [torch.view_as_real(x) if x.is_complex() else x for x in leaves]
    nothing = torch.zeros(0, dtype=torch.float64)
    return torch.cat([nothing, *(item.double().reshape(-1) for item in wide)])
