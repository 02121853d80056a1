"""Labels of channel positions, and the ledger of what a walk over a network finds.

Every channel position of every value carries an integer label.  Positions that must
live or die together end with the same root; a root that nothing fixes is a unit.
A union always keeps the smaller root, so the result does not depend on the order in
which unions are made.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from common.errors import StructureError
from common.pruning.parts import STATISTICS, Attribute

Labels: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A tensor that flows through the network.

    Attributes:
        shape: Its shape for the example.
        labels: Labels along each dimension that can be cut, int64[shape[dim]]; a
            dimension that is absent never changes its length.
    """

    shape: tuple[int, ...]
    labels: Mapping[int, Labels] = field(default_factory=dict)


class Ledger:
    """What is known so far: labels of tensors, unions, fixed labels, attributes.

    Attributes:
        names: Name of each trained tensor and running statistic, by identity: tied
            tensors have one name.
        dims: Labels by (tensor, dim), or None for a dimension that never changes.
        fixed: Labels that may never be cut.
        producers: Weights whose dim 0 makes channels.
        norms: Weights that scale channels.
        attributes: Module attributes that follow a dimension.
        multiplies: Output positions of one example, by weight.
    """

    def __init__(self, model: nn.Module) -> None:
        self.names = {id(item): name for name, item in model.named_parameters()}
        buffers = dict(model.named_buffers())
        self.names |= {
            id(item): name
            for name, item in buffers.items()
            if name.endswith(STATISTICS)
        }
        self.dims: dict[tuple[str, int], Labels | None] = {}
        self.fixed: list[int] = []
        self.producers: set[str] = set()
        self.norms: set[str] = set()
        self.attributes: list[Attribute] = []
        self.multiplies: dict[str, int] = {}
        self._parents: list[int] = []

    def new(self, count: int) -> Labels:
        """Return ``count`` fresh consecutive labels."""
        start = len(self._parents)
        self._parents.extend(range(start, start + count))
        return np.arange(start, start + count, dtype=np.int64)

    def find(self, label: int) -> int:
        """Return the root of ``label``."""
        parents = self._parents
        while parents[label] != label:
            parents[label] = parents[parents[label]]
            label = parents[label]
        return label

    def union(self, left: Labels, right: Labels) -> Labels:
        """Let equal positions share their fate; return the labels of both."""
        if len(left) != len(right):
            msg = f"{len(left)} channels meet {len(right)} channels"
            raise StructureError(msg)
        for a, b in zip(left.tolist(), right.tolist(), strict=True):
            low, high = sorted((self.find(a), self.find(b)))
            self._parents[high] = low
        return left

    def fix(self, labels: Labels | None) -> None:
        """Never cut these labels."""
        if labels is not None:
            self.fixed.extend(labels.tolist())

    def fix_value(self, value: Value) -> None:
        """Never cut any dimension of ``value``."""
        for labels in value.labels.values():
            self.fix(labels)

    def join(self, left: Labels | None, right: Labels | None) -> Labels | None:
        """Union two dimensions that must stay equal; None = never changes."""
        if left is None or right is None:
            self.fix(left)
            self.fix(right)
            return None
        return self.union(left, right)

    def record(self, tensor: torch.Tensor, dim: int, labels: Labels | None) -> str:
        """Write down the labels along ``dim`` of ``tensor``; return its name.

        A tensor that is met twice (a shared module, tied tensors) unions both.
        """
        key = (self.names[id(tensor)], dim)
        if labels is not None and len(labels) != tensor.shape[dim]:
            msg = f"'{key[0]}' has length {tensor.shape[dim]} along dim {dim}"
            msg += f", but {len(labels)} channels reach it"
            raise StructureError(msg)
        known = key in self.dims
        self.dims[key] = self.join(self.dims[key], labels) if known else labels
        return key[0]

    def follow(self, attribute: Attribute) -> None:
        """Let a module attribute follow a dimension, once."""
        if attribute not in self.attributes:
            self.attributes.append(attribute)

    def count(self, weight: str, positions: int) -> None:
        """Add output positions of one example to what ``weight`` multiplies."""
        self.multiplies[weight] = self.multiplies.get(weight, 0) + positions

    def roots(self, labels: Labels) -> Labels:
        """Return the root of each label."""
        return np.asarray([self.find(label) for label in labels.tolist()], np.int64)
