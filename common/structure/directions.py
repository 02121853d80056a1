"""The directions of weight norm, the tensors whose length does not count.

``weight = magnitude * direction / norm(direction)`` (Salimans & Kingma 2016,
arXiv:1602.07868): a channel without magnitude is 0, and one without a direction is
0 / 0.  So a mask sets the magnitude of a cut unit to 0 and leaves its direction.
"""

from torch import nn
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList


def directions(model: nn.Module) -> dict[int, int]:
    """Return the dimension of each direction that its magnitude runs along, by id.

    Directions of one magnitude for the whole tensor are not among them: their cut
    entries can be 0.
    """
    found: dict[int, int] = {}
    for module in model.modules():
        if not isinstance(module, ParametrizationList):
            continue
        norm = module[0]
        if type(norm) is _WeightNorm and norm.dim >= 0:
            found[id(module.original1)] = norm.dim
    return found
