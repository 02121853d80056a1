"""Labels of channel positions, and the labelling that a walk over a network makes.

Every channel position of every value carries an integer label.  Positions that must
be cut together end with the same root (union-find); a root that nothing fixes is a
unit.
A union always keeps the smaller root, so the result does not depend on the order in
which unions are made.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedprune.common.errors import StructureError
from fedprune.common.structure.directions import directions
from fedprune.common.structure.forms import Claim, Place
from fedprune.common.structure.parts import Attribute, FreeLength

Labels: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Value:
    """A tensor that flows through the network.

    Attributes:
        shape: Its shape for the example.
        labels: Labels along each dimension that can be cut, int64[shape[dim]]; a
            dimension that is absent never changes its length.
        zero: Whether its entries at a masked unit are exactly 0.
        tensor: The parameter or buffer that it is, or None.
        positive: Whether its entries at a masked unit are above 0 for certain.
        sources: Parameters and buffers that it is calculated from, for a weight;
            empty when it depends on the input too, or on no tensor of the network.
    """

    shape: tuple[int, ...]
    labels: Mapping[int, Labels] = field(default_factory=dict)
    zero: bool = True
    tensor: torch.Tensor | None = None
    positive: bool = False
    sources: tuple[torch.Tensor, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Follower:
    """A module attribute whose value is ``ratio`` times the positions of labels."""

    module: str
    name: str
    labels: Labels
    ratio: Fraction


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Freed:
    """A length of a reshape that is left to torch, and the labels that need it."""

    index: int
    labels: list[Labels]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """The dimension that goes on with labels where one of several can.

    Attributes:
        number: Number of the option that was taken.
        dims: The dimensions, the first one being the default.
        labels: The labels that go on.
    """

    number: int
    dims: Sequence[int]
    labels: Labels

    @property
    def is_next_outer(self) -> bool:
        """True if the next option is a dimension before this one, as heads are."""
        return self.dims[self.number + 1] < self.dims[self.number]


class Labelling:
    """The labelling of a network so far: labels, unions, fixed labels, attributes.

    Attributes:
        names: Name of each parameter and floating-point buffer, by identity: tied
            tensors have one name.
        dims: Labels by (tensor, dim), or None for a dimension that never changes.
        producers: Weights that make channels, each with the dimension of those.
        norms: Weights that scale channels.
        attributes: Module attributes that follow a tensor dimension.
        followers: Module attributes that follow labels, by (module, attribute).
        claims: What must be true of numbers in the network's code after any cut.
        layers: Modules whose attributes follow by their own rules only.
        parts: Runs of channels that must not become empty.
        multiplies: Output positions of one example, by weight.
        freed: Lengths that are left to torch, by (module, number of lengths).
        preferred: Options to take instead of the first ones, by operation.
        choices: The options taken, by operation.
        notes: Why dimensions that could be followed are not cut, without repeats.
        directions: Directions of weight norm, which no mask changes, with the
            dimension that their magnitude runs along, by identity.
        vocabulary: Embeddings whose rows are units.
    """

    def __init__(
        self,
        model: nn.Module,
        vocabulary: Iterable[str] = (),
        preferred: Mapping[str, int] | None = None,
    ) -> None:
        self.directions = directions(model)
        self.vocabulary = frozenset(vocabulary)
        self.names = {id(item): name for name, item in model.named_parameters()}
        self.names |= {
            id(item): name
            for name, item in model.named_buffers()
            if item.is_floating_point()
        }
        self.dims: dict[tuple[str, int], Labels | None] = {}
        self.producers: dict[tuple[str, int], None] = {}
        self.norms: set[str] = set()
        self.attributes: dict[Attribute, None] = {}
        self.followers: dict[tuple[str, str], Follower] = {}
        self.claims: list[Claim] = []
        self.layers: frozenset[str] = frozenset()
        self.parts: list[Labels] = []
        self.multiplies: dict[str, int] = {}
        self.freed: dict[tuple[str, int], Freed] = {}
        self.preferred = preferred or {}
        self.choices: dict[str, Choice] = {}
        self.notes: dict[str, None] = {}
        self._parents: list[int] = []
        self._fixed: list[bool] = []
        self._reasons: list[str] = []
        self._roots: Labels | None = None  # of every label, while nothing changes
        self._asked = False

    def new(self, count: int) -> Labels:
        """Return ``count`` fresh consecutive labels."""
        self._change()
        start = len(self._parents)
        self._parents.extend(range(start, start + count))
        self._fixed.extend([False] * count)
        self._reasons.extend([""] * count)
        return np.arange(start, start + count, dtype=np.int64)

    def new_fixed(self, count: int) -> Labels:
        """Return ``count`` fresh labels that are never cut."""
        labels = self.new(count)
        self.fix(labels)
        return labels

    def find(self, label: int) -> int:
        """Return the root of ``label``."""
        parents = self._parents
        while parents[label] != label:
            parents[label] = parents[parents[label]]
            label = parents[label]
        return label

    def union(self, left: Labels, right: Labels) -> Labels:
        """Tie equal positions, so that they are cut together; return their labels."""
        if len(left) != len(right):
            msg = f"{len(left)} channels meet {len(right)} channels"
            raise StructureError(msg)
        self._change()
        for a, b in zip(left.tolist(), right.tolist(), strict=True):
            one, other = self.find(a), self.find(b)
            low, high = (one, other) if one < other else (other, one)
            self._parents[high] = low
            self._fixed[low] = self._fixed[low] or self._fixed[high]
            self._reasons[low] = self._reasons[low] or self._reasons[high]
        return left

    def union_rows(self, grid: Labels) -> Labels:
        """Union the rows of ``grid``, int64[rows, k]; return the first, int64[k]."""
        for row in grid[1:]:
            self.union(grid[0], row)
        first: Labels = grid[0]
        return first

    def fix(self, labels: Labels | None, why: str = "") -> None:
        """Never cut these labels; note the reason unless they are fixed already."""
        if labels is None:
            return
        if why and not self.is_fixed(labels):
            self.notes[why] = None
        self.hold(labels, why)

    def hold(self, labels: Labels, why: str) -> None:
        """Never cut these labels, without a note; the first reason counts."""
        self._change()
        for label in labels.tolist():
            root = self.find(label)
            self._fixed[root] = True
            self._reasons[root] = self._reasons[root] or why

    def reason(self, labels: Labels) -> str:
        """Return why most of the labels that are fixed are, "" for none."""
        fixed = labels[self.roots(labels) < 0].tolist()
        found = Counter(self._reasons[self.find(label)] for label in fixed)
        return found.most_common(1)[0][0] if found else ""

    def is_fixed(self, labels: Labels) -> bool:
        """Return whether all of the labels are fixed."""
        find, fixed = self.find, self._fixed
        return all(fixed[find(label)] for label in labels.tolist())

    def fix_value(self, value: Value, why: str = "") -> None:
        """Never cut any dimension of ``value``."""
        for labels in value.labels.values():
            self.fix(labels, why)

    def join(
        self, left: Labels | None, right: Labels | None, why: str = ""
    ) -> Labels | None:
        """Union two dimensions that must stay equal; None = never changes."""
        if left is None or right is None:
            self.fix(left, why)
            self.fix(right, why)
            return None
        return self.union(left, right)

    def record(self, tensor: torch.Tensor, dim: int, labels: Labels | None) -> str:
        """Record the labels along ``dim`` of ``tensor``; return its name.

        A tensor that is used twice (a shared module, tied tensors) unions both.
        """
        name = self.names.get(id(tensor))
        if name is None:
            msg = "one of its tensors is neither a parameter nor a buffer of floats"
            raise StructureError(msg)
        key = (name, dim)
        if labels is not None and len(labels) != tensor.shape[dim]:
            msg = f"'{key[0]}' has length {tensor.shape[dim]} along dim {dim}"
            msg += f", but {len(labels)} channels reach it"
            raise StructureError(msg)
        known = key in self.dims
        self.dims[key] = self.join(self.dims[key], labels) if known else labels
        return key[0]

    def is_masked(self, tensor: torch.Tensor) -> bool:
        """Return whether a mask sets the entries of a tensor at cut units to 0."""
        return isinstance(tensor, nn.Parameter) and id(tensor) not in self.directions

    def produce(self, tensor: torch.Tensor, dim: int, labels: Labels | None) -> str:
        """Record a dimension whose positions make channels; return the name.

        Channels of a buffer are never cut: only trained tensors make units.
        """
        name = self.record(tensor, dim, labels)
        if isinstance(tensor, nn.Parameter):
            self.producers[name, dim] = None
        else:
            self.fix(labels, f"buffer '{name}': it makes channels and is not trained")
        return name

    def credit(self, sources: Iterable[torch.Tensor], labels: Labels) -> None:
        """Let the trained tensors of a calculated weight make its channels.

        Channels that only buffers make are never cut.

        Args:
            sources: Tensors that the weight is calculated from.
            labels: Labels of the channels; those of the sources have met them.
        """
        roots = {self.find(label) for label in labels.tolist()}
        names = [self.names[id(item)] for item in sources]
        trained = [item for item in sources if isinstance(item, nn.Parameter)]
        if names and not trained:
            self.fix(
                labels, f"buffer '{names[0]}': it makes channels and is not trained"
            )
        for item in trained:
            name = self.names[id(item)]
            for dim in range(item.dim()):
                row = self.dims.get((name, dim))
                if row is None or self.directions.get(id(item)) == dim:
                    continue  # the magnitude makes the channels
                if not roots.isdisjoint(self.find(label) for label in row.tolist()):
                    self.producers[name, dim] = None

    def follow(self, attribute: Attribute) -> None:
        """Let a module attribute follow a dimension, once."""
        self.attributes[attribute] = None

    def follow_labels(self, follower: Follower) -> bool:
        """Let a module attribute follow labels; followed twice, both stay equal.

        Returns:
            Whether it follows them; not where it stands for another length already.
        """
        known = self.followers.setdefault((follower.module, follower.name), follower)
        if known is follower:
            return True
        weight = self.weigh(known.labels, known.ratio)
        if weight == self.weigh(follower.labels, follower.ratio):
            return True
        if known.ratio == follower.ratio and len(known.labels) == len(follower.labels):
            self.union(known.labels, follower.labels)
            return True
        return False

    def may_follow(self, place: Place) -> bool:
        """Return whether code may make an attribute follow, and not a layer's rule."""
        # Items of a layer's list are read by its rule alone.
        return place.module not in self.layers or "[" in place.name

    def choose(self, place: str, dims: Sequence[int], rows: Sequence[Labels]) -> int:
        """Return the number of the dimension that goes on, the first by default.

        Args:
            place: The operation.
            dims: The dimensions that can.
            rows: The labels that would go on, of each.
        """
        number = min(self.preferred.get(place, 0), len(dims) - 1)
        self.choices[place] = Choice(number=number, dims=dims, labels=rows[number])
        return number

    def other_choices(self) -> dict[str, int]:
        """Return the next option of each choice of which labels ended fixed.

        Those with a dimension further out come alone: the heads of an attention, whose
        other places have taken heads at once.
        """
        lost = {
            place: choice
            for place, choice in self.choices.items()
            if choice.number + 1 < len(choice.dims)
            and (self.roots(choice.labels) < 0).any()
        }
        outer = {place: one for place, one in lost.items() if one.is_next_outer}
        return {place: one.number + 1 for place, one in (outer or lost).items()}

    def free(self, item: FreeLength, rows: Iterable[Labels]) -> bool:
        """Leave a length to torch where ``rows`` are cut; return whether it can be.

        Of the reshapes of a module to one number of lengths, one length is left.
        """
        freed = Freed(index=item.index, labels=[])
        known = self.freed.setdefault((item.module, item.rank), freed)
        if known.index != item.index:
            return False
        known.labels.extend(rows)
        return True

    def weigh(self, labels: Labels, ratio: Fraction) -> dict[int, Fraction]:
        """Return ``ratio`` times the positions of each root."""
        found = Counter(self.find(label) for label in labels.tolist())
        return {root: count * ratio for root, count in found.items()}

    def count(self, weight: str, positions: int) -> None:
        """Add output positions of one example that ``weight`` is multiplied at."""
        self.multiplies[weight] = self.multiplies.get(weight, 0) + positions

    def roots(self, labels: Labels) -> Labels:
        """Return the root of each label, -1 for one that is never cut."""
        if self._roots is None and not self._asked:
            self._asked = True  # a second question without a change is worth a table
            found = [self.find(label) for label in labels.tolist()]
            fixed = self._fixed
            return np.asarray([-1 if fixed[root] else root for root in found], int)
        if self._roots is None:
            self._roots = self._all_roots()
        known: Labels = self._roots[labels]
        return known

    def _all_roots(self) -> Labels:
        """Return the root of every label, -1 for those that are never cut."""
        roots = np.asarray(self._parents, dtype=np.int64)
        while not np.array_equal(further := roots[roots], roots):
            roots = further
        roots[np.asarray(self._fixed, dtype=np.bool_)[roots]] = -1
        return roots

    def _change(self) -> None:
        """Forget the roots, because of a union, a fixed label or new ones."""
        self._roots, self._asked = None, False
