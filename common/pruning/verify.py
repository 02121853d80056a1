"""Try the law of exactness on a network: masked-dense output equals pruned output.

The walk over a network knows operations one by one; this is the whole network's own
answer.  It costs three runs of the network in float64.
"""

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from common.errors import StructureError
from common.messages import Mask
from common.pruning.plan import apply_plan
from common.pruning.structure import Structure, positions_kept

LIMIT = 1e-12  # of the largest output, float64; a different function is far above it
SCALES = (0.5, 1.5)


def check_exact(
    model: nn.Module,
    structure: Structure,
    example: Tensor | tuple[Tensor, ...],
    *,
    seed: int = 0,
) -> float:
    """Return how far a randomly cut network is from the masked one, relative.

    NaN when the network does not stay finite, so that it cannot be judged.

    Half of the units of each group stay.  The network is tried on a copy in float64,
    with norms whose scales, shifts and statistics are neither 0 nor 1; the model is
    left as it was.

    Args:
        model: The dense network.
        structure: Its structure.
        example: One valid input, batch first; a tuple for several inputs.
        seed: Which units stay, and how norms are scaled.

    Raises:
        StructureError: If the difference is above ``LIMIT``, or the cut network does
            not run: cutting would change the function that it computes.
    """
    dense = copy.deepcopy(model).double().eval()
    _spread(dense, seed)
    examples = example if isinstance(example, tuple) else (example,)
    inputs = [item.double() if item.is_floating_point() else item for item in examples]
    keep = half_mask(structure, seed)
    masked = copy.deepcopy(dense)
    mask_units(masked, structure, keep)
    cut = apply_plan(dense, structure, keep)
    try:
        with torch.no_grad():
            wanted, found = _flat(masked(*inputs)), _flat(cut(*inputs))
    except (Exception, SystemExit) as error:
        # The model's own code runs here, on lengths that it has never seen.
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        msg = f"the network does not run when half of its channels are cut: {text}"
        raise StructureError(msg) from error
    if not bool(torch.isfinite(wanted).all()):
        return math.nan  # as random norms made it; nothing is learned from that
    scale = max(float(wanted.abs().max()), torch.finfo(torch.float64).tiny)
    difference = float((wanted - found).abs().max()) / scale
    # A difference that is not a number is one, too.
    if not difference <= LIMIT:
        msg = f"a cut network differs by {difference:.1e} of the largest output from"
        msg += f" the masked one; want at most {LIMIT:g}. Its operations mix channels"
        msg += " in a way that is not followed: name them in ignore="
        raise StructureError(msg)
    return difference


def half_mask(structure: Structure, seed: int) -> Mask:
    """Return a mask that keeps half of the units of each group, at least one."""
    rng = np.random.default_rng(seed)
    keep = np.zeros(structure.units, dtype=np.bool_)
    for group in structure.groups:
        keep[rng.permutation(group.units)[: (len(group.units) + 1) // 2]] = True
    return keep


def mask_units(model: nn.Module, structure: Structure, keep: Mask) -> None:
    """Set every trained tensor to 0 at the cut units, in place; statistics stay."""
    tensors = dict(model.named_parameters())
    with torch.no_grad():
        for dim in structure.dims:
            if dim.tensor in tensors:
                gone = np.flatnonzero(~positions_kept(dim.units, keep))
                index = torch.from_numpy(gone)
                tensors[dim.tensor].index_fill_(dim.dim, index, 0.0)


def _spread(model: nn.Module, seed: int) -> None:
    """Give vectors random positive values: fresh norms would hide what they do."""
    generator = torch.Generator().manual_seed(seed)
    low, high = SCALES
    for item in model.state_dict().values():
        if item.is_floating_point() and item.dim() == 1:
            share = torch.rand(item.shape, generator=generator, dtype=item.dtype)
            item.copy_(low + (high - low) * share)


def _flat(outputs: object) -> Tensor:
    leaves = [x for x in pytree.tree_leaves(outputs) if isinstance(x, Tensor)]
    return torch.cat([item.double().reshape(-1) for item in leaves])
