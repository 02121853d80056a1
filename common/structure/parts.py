"""The parts of a structure: plain data, without the questions one asks of it.

``fedprune.common.structure.structure`` has the vocabulary and the methods; it is what the rest of
the program imports.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from fedprune.common.messages import TensorSpec
from numpy.typing import NDArray

FIXED = -1
MEAN = ".running_mean"
VARIANCE = ".running_var"
STATISTICS = (MEAN, VARIANCE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DimUnits:
    """The units along one dimension of one tensor.

    Attributes:
        tensor: Name of the parameter or buffer.
        dim: Dimension.
        units: Unit of each position, int32[shape[dim]]; -1 = never pruned.
    """

    tensor: str
    dim: int
    units: NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PruningGroup:
    """Units whose producers were made together: one width of the network.

    A unit may carry several channels: with GroupNorm it carries every channel of one
    normalisation group.

    Attributes:
        name: Name of the first tensor that produces them, without ``.weight``.
        units: Their numbers, int32[k], rising.
        producers: Weights that make these channels, in model order: along dim 0, or
            along the dimension that ``Parts.made`` names.
        norms: Batch-norm or group-norm weights that scale these channels.
    """

    name: str
    units: NDArray[np.int32]
    producers: tuple[str, ...]
    norms: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """A module attribute that must follow the length of a tensor dimension.

    Attributes:
        module: Dotted module name.
        name: Attribute, for example "out_channels" or "num_groups".
        tensor: The tensor whose dimension it follows.
        dim: Dimension of that tensor.
        divisor: The attribute is ``shape[dim] // divisor`` (GroupNorm's
            num_groups: channels per group), >= 1.
    """

    module: str
    name: str
    tensor: str
    dim: int
    divisor: int = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """All tensors of a network, the units along their dimensions, and the groups.

    Attributes:
        tensors: Trained tensors in model order (``named_parameters``).
        moments: Batch-norm modules with running statistics, in model order, as
            (module name, channels): one TensorSpec each, shape ``(channels,)``.
        units: Number of units.
        dims: Every (tensor, dim) that holds at least one unit, parameters and
            running statistics (named ``module.running_mean``) alike, in model order.
        groups: The groups, in order of their first unit; every unit is in one.
        attributes: Module attributes that follow the cut.
        multiplies: Weight name -> multiplications of one example per weight entry
            (output positions): multiply-accumulates = sum of entries * this.
        buffers: Other buffers that are cut, in model order.
        made: Dimension along which a producer makes channels, where it is not 0
            (embeddings, transposed convolutions).
        blocks: Modules that may be dropped: without the units that live inside one
            alone it is the identity (``fedprune.common.structure.inner``).
    """

    tensors: tuple[TensorSpec, ...]
    moments: tuple[TensorSpec, ...]
    units: int
    dims: tuple[DimUnits, ...]
    groups: tuple[PruningGroup, ...]
    attributes: tuple[Attribute, ...]
    multiplies: Mapping[str, int]
    buffers: tuple[TensorSpec, ...] = ()
    made: Mapping[str, int] = field(default_factory=dict)
    blocks: tuple[str, ...] = ()

    def made_dim(self, producer: str) -> int:
        """Return the dimension along which a producer makes channels."""
        return self.made.get(producer, 0)
