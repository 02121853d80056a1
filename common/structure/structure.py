"""The structure of a network: its units, and the tensor positions of each.

A *unit* is one prunable channel of the original network, or one attention head, or one
normalisation group.  Every position of every
tensor dimension either belongs to a unit or is fixed (-1).  Removing a unit removes
every position that carries it, in every tensor: that is all of channel pruning.
The structure depends on the architecture only, so the server finds it once
(``fedprune.common.structure.tracing.find``) and clients receive it as canonical JSON.
"""

from collections.abc import Collection, Iterable
from dataclasses import fields, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from fedprune.common.spec import Indices, Mask, ModelSpec, TensorSpec, digest_of
from fedprune.common.structure.announced import Check
from fedprune.common.structure.canonical_json import decode, encode
from fedprune.common.structure.parts import (
    FIXED,
    MEAN,
    STATISTICS,
    VARIANCE,
    Attribute,
    DimUnits,
    Parts,
    PruningGroup,
    inner_units,
    without_blocks,
)

__all__ = [
    "FIXED",
    "MEAN",
    "STATISTICS",
    "VARIANCE",
    "Attribute",
    "DimUnits",
    "PruningGroup",
    "Structure",
    "positions_kept",
]


class Structure(Parts):
    """The parts of a network, with the shapes and indices that follow from a keep mask.

    The attributes are those of ``Parts``.  Two structures are equal when their
    canonical JSON is.
    """

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Structure) and self.digest == other.digest

    @override
    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def lookup(self) -> dict[tuple[str, int], NDArray[np.int32]]:
        """Units by (tensor, dim); dimensions that are never cut are absent."""
        return {(dim.tensor, dim.dim): dim.units for dim in self.dims}

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every trained tensor and listed buffer of the dense network."""
        found = {tensor.name: tensor.shape for tensor in self.tensors}
        found |= {buffer.name: buffer.shape for buffer in self.buffers}
        for moment in self.moments:
            found |= {moment.name + suffix: moment.shape for suffix in STATISTICS}
        return found

    @cached_property
    def group_of(self) -> NDArray[np.int32]:
        """Number of the group of each unit, int32[units]."""
        found = np.zeros(self.units, dtype=np.int32)
        for number, group in enumerate(self.groups):
            found[group.units] = number
        return found

    @cached_property
    def channels(self) -> NDArray[np.int32]:
        """Channels that each unit carries in its producers, int32[units], >= 1."""
        found = np.zeros(self.units, dtype=np.int32)
        for group in self.groups:
            for name in group.producers:
                units = self.lookup[name, self.made_dim(name)]
                # Not bincount, which takes as long as there are units in all groups.
                own, counts = np.unique(units[units != FIXED], return_counts=True)
                found[own] = np.maximum(found[own], counts)
        return found

    @cached_property
    def inner_units(self) -> dict[str, NDArray[np.int32]]:
        """Units inside of each block alone, int32[k], by block."""
        return inner_units(self)

    def dropped(self, keep: Mask) -> tuple[str, ...]:
        """Return the blocks that ``keep`` drops: none of their units is kept."""
        inner = self.inner_units.items()
        return tuple(block for block, units in inner if not keep[units].any())

    def living(self, keep: Mask) -> "Structure":
        """Return the structure without the blocks that ``keep`` drops.

        Units keep their numbers, so masks and importances stay valid.
        """
        gone = self.dropped(keep)
        return _living(self, gone) if gone else self

    def full(self) -> Mask:
        """Return the mask that keeps every unit."""
        return np.ones(self.units, dtype=np.bool_)

    def check_mask(self, keep: Mask) -> None:
        """Raise ValueError unless ``keep`` is bool[units]."""
        if keep.dtype != np.bool_ or keep.shape != (self.units,):
            msg = f"mask is {keep.dtype}{list(keep.shape)}; want bool[{self.units}]"
            raise ValueError(msg)

    def kept_index(self, tensor: str, dim: int, keep: Mask) -> Indices:
        """Return the positions kept along ``dim`` of ``tensor``, int64[k], rising."""
        self.check_mask(keep)
        units = self.lookup.get((tensor, dim))
        if units is None:
            return np.arange(self.shapes[tensor][dim], dtype=np.int64)
        return np.flatnonzero(positions_kept(units, keep)).astype(np.int64)

    def shape(self, tensor: str, keep: Mask) -> tuple[int, ...]:
        """Return the shape of ``tensor`` in the cut network."""
        return tuple(
            length
            if (tensor, dim) not in self.lookup
            else int(positions_kept(self.lookup[tensor, dim], keep).sum())
            for dim, length in enumerate(self.shapes[tensor])
        )

    def spec(self, keep: Mask) -> ModelSpec:
        """Return names and shapes of the network that keeps ``keep``."""
        self.check_mask(keep)
        left = self.living(keep)
        return ModelSpec(
            tensors=tuple(
                TensorSpec(name=tensor.name, shape=left.shape(tensor.name, keep))
                for tensor in left.tensors
            ),
            moments=sum(left.shape(item.name + MEAN, keep)[0] for item in left.moments),
            units=int(keep.sum()),
            running=tuple(
                TensorSpec(name=name, shape=left.shape(name, keep))
                for name in left.running
            ),
        )

    def averaging(
        self, running: Collection[str], buffers: Iterable[TensorSpec]
    ) -> "Structure":
        """Return the structure of a network whose named buffers are averaged.

        Args:
            running: Names of the buffers that training changes.
            buffers: All buffers of the dense network, in model order.
        """
        known = {item.name for item in self.buffers}
        listed = tuple(x for x in buffers if x.name in known or x.name in running)
        names = tuple(item.name for item in listed if item.name in running)
        return replace(self, buffers=listed, running=names)

    def widths(self, keep: Mask) -> dict[str, int]:
        """Return the number of kept units of each group, by group name."""
        self.check_mask(keep)
        return {group.name: int(keep[group.units].sum()) for group in self.groups}

    def empty_groups(self, keep: Mask) -> list[str]:
        """Return the names of the groups that ``keep`` leaves without a unit.

        Groups of a dropped block do not count: they are removed with it.
        """
        gone = np.zeros(self.units, dtype=np.bool_)
        for block in self.dropped(keep):
            gone[self.inner_units[block]] = True
        return [
            group.name for group in self.groups if not (keep | gone)[group.units].any()
        ]

    @cached_property
    def digest(self) -> bytes:
        """Name of this structure: 16 bytes, of the canonical JSON."""
        return digest_of(self.to_json())

    def to_json(self) -> bytes:
        """Return the canonical JSON: equal structures give equal bytes."""
        return encode(self)

    @staticmethod
    def from_json(data: bytes, check: Check | None = None) -> "Structure":
        """Read a structure; trust nothing in ``data``.

        Args:
            data: Its canonical JSON.
            check: Checks the announced sizes before any of them is used
                (``fedprune.common.structure.announced``).

        Law: ``Structure.from_json(s.to_json()) == s``, and bytes that ``to_json``
        would not have written are refused.

        Raises:
            PayloadError: If the bytes are not a structure in canonical form, or
                ``check`` refuses them.
        """
        parts = decode(data, check)
        named = {item.name: getattr(parts, item.name) for item in fields(parts)}
        return Structure(**named)


@lru_cache(maxsize=16)
def _living(structure: Structure, gone: tuple[str, ...]) -> Structure:
    return without_blocks(structure, gone)


def positions_kept(units: NDArray[np.int32], keep: Mask) -> Mask:
    """Return the kept positions of a dimension, bool[len(units)]."""
    # FIXED is -1, so it reads the True that is appended at the end.
    kept: Mask = np.append(keep, True)[units]
    return kept
