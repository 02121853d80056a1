"""The parts of a structure: plain data without methods for masks.

``fedprune.common.structure.structure`` has the vocabulary and the methods; the rest of
the program imports that.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedprune.common.spec import TensorSpec

FIXED = -1
FREE = -1  # a length of a reshape that torch computes
MEAN = ".running_mean"
VARIANCE = ".running_var"
STATISTICS = (MEAN, VARIANCE)
MAX_RANK = 16  # lengths of a reshape that is named by their number


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
    """A pruning group: units in the same dimensions, one width of the network.

    Every dimension of every tensor has all units of a group or none, so a network in
    which each group keeps a unit has no empty layer.  A unit may carry several
    channels: with GroupNorm it carries every channel of one normalisation group.

    Attributes:
        name: Name of the first tensor that produces them, without ``.weight``; of
            further groups of that tensor with "#2", "#3" and so on.
        units: Their numbers, int32[k], rising.
        producers: Weights that make these channels, in model order: along dim 0, or
            along the dimension that ``Parts.made`` names.  They may make channels of
            other groups too.
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
        name: Attribute, for example "out_channels" or "num_groups", or an item of a
            list or tuple: "sizes[1]".
        tensor: The tensor whose dimension it follows.
        dim: Dimension of that tensor.
        divisor: The attribute is ``shape[dim] // divisor`` (GroupNorm's
            num_groups: channels per group), >= 1.
        start: First position that counts, in the dense tensor.
        stop: The position behind the last one; None = all from ``start``.
    """

    module: str
    name: str
    tensor: str
    dim: int
    divisor: int = 1
    start: int = 0
    stop: int | None = None

    def count(self, positions: NDArray[np.int64]) -> int:
        """Return the attribute where these positions of the dimension are kept."""
        first, end = np.searchsorted(
            positions, [self.start, np.inf if self.stop is None else self.stop]
        )
        return int(end - first) // self.divisor


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class FreeLength:
    """A length that a module's own code writes, and that a cut leaves to torch.

    Attributes:
        module: Dotted name of the module whose code it is; "" = the network.
        rank: Number of lengths of the reshape.
        index: Index of the length among them, 0 <= index < rank.
    """

    module: str
    rank: int
    index: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """All tensors of a network, the units along their dimensions, and the groups.

    Attributes:
        tensors: Trained tensors in model order (``named_parameters``).
        moments: Batch-norm modules with running statistics, in model order, as
            (module name, channels): one TensorSpec each, shape ``(channels,)``.
        units: Number of units.
        dims: Every (tensor, dim) that carries at least one unit, parameters and
            running statistics (named ``module.running_mean``) alike, in model order.
        groups: The groups, in order of their first unit; every unit is in one.
        attributes: Module attributes that follow the cut.
        multiplies: Weight name -> multiplications of one example per weight entry
            (output positions): multiply-accumulates = sum of entries * this.
        buffers: Other buffers that are cut or averaged, in model order.
        made: Dimension along which a producer makes channels, where it is not 0
            (embeddings, transposed convolutions).
        blocks: Modules that may be dropped: without the units inside of it alone, one
            is the identity (``fedprune.common.structure.parts``).
        free: Lengths in the code of modules that a cut leaves to torch, rising; of one
            rank one a module (``fedprune.common.structure.after_cut.free_lengths``).
        running: Names of the buffers that training changes and clients average, in
            the order of ``buffers``.
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
    free: tuple[FreeLength, ...] = ()
    running: tuple[str, ...] = ()

    def made_dim(self, producer: str) -> int:
        """Return the dimension along which a producer makes channels."""
        return self.made.get(producer, 0)


OUTSIDE = ""
P = TypeVar("P", bound=Parts)


def block_of(name: str, blocks: AbstractSet[str]) -> str:
    """Return the block that a module or tensor belongs to, or "" for none.

    The time is linear in the length of the name, for any number of blocks; of nested
    ones the outer one is returned.

    Examples:
        >>> block_of("layer1.0.bn1.weight", {"layer1.0"})
        'layer1.0'
        >>> block_of("layer1.01.weight", {"layer1.0"})
        ''
    """
    end = name.find(".")
    while end >= 0:
        if name[:end] in blocks:
            return name[:end]
        end = name.find(".", end + 1)
    return name if name in blocks else OUTSIDE


def inner_units(parts: Parts) -> dict[str, NDArray[np.int32]]:
    """Return the units inside of each block alone, int32[k], rising."""
    found: dict[str, list[NDArray[np.int32]]] = {block: [] for block in parts.blocks}
    for group, homes in zip(parts.groups, _homes(parts), strict=True):
        if len(homes) == 1 and homes <= found.keys():
            found[min(homes)].append(group.units)
    nothing = np.zeros(0, dtype=np.int32)
    return {
        block: np.sort(np.concatenate([nothing, *units]))
        for block, units in found.items()
    }


def misfit(parts: Parts) -> str:
    """Return the reason why blocks cannot be dropped by their units, or "".

    Args:
        parts: Its groups are a partition of the units.
    """
    inner, blocks = inner_units(parts), frozenset(parts.blocks)
    starts = [int(units[0]) if units.size else -1 for units in inner.values()]
    empty = [block for block, units in inner.items() if not units.size]
    if empty:
        return f"no unit lives inside of block '{empty[0]}' alone"
    if any(a >= b for a, b in pairwise(starts)) or len(starts) < len(parts.blocks):
        return "the blocks are not in order of their first unit"
    for block in parts.blocks:
        if block_of(block, blocks) != block:
            return f"block '{block}' lies inside of another"
    # Other groups need a producer outside, whichever blocks are dropped.
    for group, homes in zip(parts.groups, _homes(parts), strict=True):
        makers = {block_of(name, blocks) for name in group.producers}
        if (len(homes) > 1 or OUTSIDE in homes) and OUTSIDE not in makers:
            return f"group '{group.name}' is made inside of a block only"
    return _misplaced(parts)


def without_blocks(parts: P, blocks: Iterable[str]) -> P:
    """Return the parts without blocks: units keep their numbers, groups their units."""
    gone = frozenset(blocks)

    def stays(name: str) -> bool:
        return block_of(name, gone) == OUTSIDE

    return replace(
        parts,
        tensors=tuple(item for item in parts.tensors if stays(item.name)),
        moments=tuple(item for item in parts.moments if stays(item.name)),
        dims=tuple(item for item in parts.dims if stays(item.tensor)),
        groups=tuple(_outside(group, gone) for group in parts.groups),
        attributes=tuple(item for item in parts.attributes if stays(item.module)),
        multiplies={k: n for k, n in parts.multiplies.items() if stays(k)},
        buffers=tuple(item for item in parts.buffers if stays(item.name)),
        made={name: dim for name, dim in parts.made.items() if stays(name)},
        blocks=tuple(block for block in parts.blocks if block not in gone),
        free=tuple(item for item in parts.free if stays(item.module)),
        running=tuple(name for name in parts.running if stays(name)),
    )


def _outside(group: PruningGroup, gone: AbstractSet[str]) -> PruningGroup:
    return replace(
        group,
        producers=tuple(x for x in group.producers if not block_of(x, gone)),
        norms=tuple(x for x in group.norms if not block_of(x, gone)),
    )


def _homes(parts: Parts) -> list[set[str]]:
    """Return the blocks that each group has tensors in; "" = outside of all."""
    number = np.zeros(parts.units, dtype=np.int64)
    for index, group in enumerate(parts.groups):
        number[group.units] = index
    homes: list[set[str]] = [set() for _ in parts.groups]
    blocks = frozenset(parts.blocks)
    for dim in parts.dims:
        home = block_of(dim.tensor, blocks)
        for index in np.unique(number[dim.units[dim.units != FIXED]]).tolist():
            homes[index].add(home)
    return homes


def _misplaced(parts: Parts) -> str:
    """Return the part outside that a dropped block would break, or ""."""
    blocks = frozenset(parts.blocks)
    for item in parts.attributes:
        home = block_of(item.tensor, blocks)
        if home and block_of(item.module, blocks) != home:
            return f"'{item.module}.{item.name}' follows a tensor of block '{home}'"
    shapes = [(item.name, item.shape) for item in (*parts.tensors, *parts.buffers)]
    shapes += [(m.name + last, m.shape) for m in parts.moments for last in STATISTICS]
    for name, shape in shapes:
        if not shape and block_of(name, blocks):
            return f"'{name}' in a block has no dimension"
    return ""
