# ruff: noqa: ANN401 - torch.fx has no types for what it passes through
"""Lengths in a network's own code: sizes of values, and integer module attributes.

A network that reshapes names lengths: ``x.view(b, self.num_heads, -1)``.  After a cut
its own code runs again, so a length is right only if it changes with the channels that
it counts.  A size of a value (``x.shape[1]``) and an integer attribute of a module
remember their origin, through products and exact quotients; any other calculation with
them fixes the channels that they count.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from torch import fx, nn
from typing_extensions import override

from fedprune.common.structure.labels import Follower, Labelling, Labels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Length:
    """A size of a value.

    Attributes:
        number: Its value for the example.
        labels: The labels of the dimension that it measures.
        ratio: ``number / len(labels)``.
    """

    number: int
    labels: Labels
    ratio: Fraction = Fraction(1)

    def scaled(self, factor: Fraction) -> "Length | None":
        """Return this length times ``factor``; None unless that is a whole number."""
        number = self.number * factor
        if number.denominator != 1 or number < 1:
            return None
        return Length(number=int(number), labels=self.labels, ratio=self.ratio * factor)


@dataclass(frozen=True, slots=True)
class _Source:
    """``ratio`` times an attribute of a module."""

    module: str
    name: str
    ratio: Fraction


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quotient:
    """A size or number by an attribute: ``c // self.num_heads``, the width of a head.

    It is wrong after a cut of heads if ``c`` stays, so it fixes what its parts count
    wherever it is not a length that a cut leaves to torch.

    Attributes:
        number: Its value for the example.
        parts: Dividend and divisor.
    """

    number: int
    parts: tuple[object, object]


class AttributeSize(int):
    """An integer attribute of a module, or a product of such.

    It is an int in every way.  A calculation other than a product or an exact quotient
    marks the attribute as one that must not change.
    """

    sources: tuple[_Source, ...]
    marks: set[tuple[str, str]]

    def __new__(
        cls, value: int, sources: Iterable[_Source], marks: set[tuple[str, str]]
    ) -> "AttributeSize":
        """Return ``value`` with a memory of its sources."""
        found = super().__new__(cls, value)
        found.sources = tuple(sources)
        found.marks = marks
        return found

    def mark(self) -> None:
        """Never change the attributes that this number comes from."""
        self.marks.update((item.module, item.name) for item in self.sources)

    def _times(self, factor: Fraction) -> "AttributeSize":
        sources = [_Source(s.module, s.name, s.ratio * factor) for s in self.sources]
        return AttributeSize(int(int(self) * factor), sources, self.marks)

    @override
    def __mul__(self, other: Any) -> Any:
        if not isinstance(other, int) or isinstance(other, bool) or int(other) < 1:
            return self._marked("__mul__", other)
        found = self._times(Fraction(int(other)))
        if isinstance(
            other, AttributeSize
        ):  # each of the two may be the one that changes
            more = other._times(Fraction(int(self))).sources
            return AttributeSize(int(found), (*found.sources, *more), self.marks)
        return found

    __rmul__ = __mul__

    @override
    def __floordiv__(self, other: Any) -> Any:
        fits = type(other) is int and other > 0 and int(self) % other == 0
        if fits:
            return self._times(Fraction(1, other))
        if isinstance(other, AttributeSize):
            other.mark()
        return self._marked("__floordiv__", other)

    def _marked(self, name: str, *others: Any) -> Any:
        """Calculate as int does; the result follows nothing."""
        if not all(isinstance(item, int | float) for item in others):
            return NotImplemented  # a proxy calculates, and the walk sees it
        self.mark()
        return getattr(int(self), name)(*others)

    __hash__ = int.__hash__


def _forget(name: str) -> Any:
    def calculate(self: AttributeSize, *others: Any) -> Any:
        return self._marked(name, *others)

    calculate.__name__ = name
    return calculate


for _name in (
    *("add", "radd", "sub", "rsub", "truediv", "rtruediv", "rfloordiv", "mod", "rmod"),
    *("pow", "rpow", "neg", "eq", "ne", "lt", "le", "gt", "ge", "divmod", "rdivmod"),
    *("float", "lshift", "rshift", "and", "or", "xor"),
):
    setattr(AttributeSize, f"__{_name}__", _forget(f"__{_name}__"))


def remember_settings(
    model: nn.Module, own: Iterable[tuple[str, nn.Module]]
) -> set[tuple[str, str]]:
    """Replace the public integer attributes of modules by settings.

    Args:
        model: A copy of the network that no other code uses.
        own: Modules whose code is traced, with their names.

    Returns:
        The set that receives (module, attribute) of attributes that must not change.
    """
    marks: set[tuple[str, str]] = set()
    titles = {id(module): name for name, module in model.named_modules()}
    for _, module in own:
        title = titles[id(module)]
        for name, value in vars(module).items():
            # 1 is no count of channels, and is compared with everywhere.
            if type(value) is int and value > 1 and not name.startswith("_"):
                source = _Source(title, name, Fraction(1))
                vars(module)[name] = AttributeSize(value, [source], marks)
    return marks


def settle(labelling: Labelling, marks: set[tuple[str, str]]) -> None:
    """Fix the labels of attributes that a network calculates with."""
    for module, name in sorted(marks & labelling.followers.keys()):
        why = f"the network calculates with '{name}' of module '{module}'"
        labelling.fix(labelling.followers[module, name].labels, why)


def plain(labelling: Labelling, found: Any) -> Any:
    """Return an argument as plain numbers; fix the channels that they count."""
    if isinstance(found, Length):
        labelling.fix(
            found.labels, f"the network calculates with a size, {found.number}"
        )
        return found.number
    if isinstance(found, AttributeSize):
        found.mark()
        return int(found)
    if isinstance(found, Quotient):
        plain(labelling, found.parts)
        return found.number
    return _plain_parts(labelling, found)


def _plain_parts(labelling: Labelling, found: Any) -> Any:
    if isinstance(found, slice):
        parts = (
            plain(labelling, item) for item in (found.start, found.stop, found.step)
        )
        return slice(*parts)
    if isinstance(found, dict):
        return {key: plain(labelling, item) for key, item in found.items()}
    if type(found) is tuple:
        return tuple(plain(labelling, item) for item in found)
    if isinstance(found, list):  # also the immutable lists of torch.fx
        return [plain(labelling, item) for item in found]
    return found


def plain_quotients(labelling: Labelling, found: Any) -> Any:
    """Return an argument with plain numbers for quotients; other lengths stay."""

    def replaced(item: Any) -> Any:
        return plain(labelling, item) if isinstance(item, Quotient) else item

    return fx.node.map_aggregate(found, replaced)


def follows(labelling: Labelling, length: object, labels: Labels) -> bool:
    """Return whether ``length`` counts what is left of ``labels`` after any cut.

    A setting is made to follow them.  The size of other channels, as many as these, is
    made to follow by cutting both together, as where a gate is reshaped by the channels
    that it multiplies.
    """
    if isinstance(length, Length):
        if _same_fate(labelling, length, labels):
            return True
        if length.ratio != 1 or len(length.labels) != len(labels):
            return False
        labelling.union(length.labels, labels)
        return True
    if isinstance(length, AttributeSize) and int.__eq__(length, len(labels)):
        source = _source_for(labelling, length, labels)
        labelling.follow_labels(
            Follower(
                module=source.module,
                name=source.name,
                labels=labels,
                ratio=1 / source.ratio,
            )
        )
        return True
    return False


def _same_fate(labelling: Labelling, length: Length, labels: Labels) -> bool:
    return labelling.weigh(labels, Fraction(1)) == labelling.weigh(
        length.labels, length.ratio
    )


def _source_for(
    labelling: Labelling, setting: AttributeSize, labels: Labels
) -> _Source:
    """Return the source that follows these labels already, or else the first."""
    for source in setting.sources:
        known = labelling.followers.get((source.module, source.name))
        if known is not None:
            weight = labelling.weigh(known.labels, known.ratio)
            if weight == labelling.weigh(labels, 1 / source.ratio):
                return source
    return setting.sources[0]
