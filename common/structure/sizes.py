# ruff: noqa: ANN401 - torch.fx has no types for what it passes through
"""Lengths in a network's own code: sizes of values, and integer module attributes.

A network that reshapes names lengths: ``x.view(b, self.num_heads, -1)``.  A size of a
value (``x.shape[1]``) and an integer attribute of a module, also one in a list,
remember what they count through sums, products and exact quotients
(``fedprune.common.structure.forms``); any other calculation with them fixes the
channels that they count.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

from torch import nn
from typing_extensions import override

from fedprune.common.structure.forms import Claim, Form, Length, Place
from fedprune.common.structure.labels import Follower, Labelling, Labels
from fedprune.common.structure.parts import FreeLength


class Recorded(int):
    """A whole number whose calculations are recorded operations of the network."""


class Ledger:
    """The calculations with attributes that a network makes while it is traced.

    Attributes:
        claims: One for each calculation that is not followed.
        open: Whether calculations count; not in code of torch that only runs.
    """

    def __init__(self) -> None:
        self.claims: list[Claim] = []
        self.open = False


class AttributeSize(int):
    """An integer attribute of a module, or a number calculated from such.

    It is an int in every way.  A calculation that is not followed marks the attribute
    as one that must not change.
    """

    forms: tuple[Form, ...]
    ledger: Ledger

    def __new__(
        cls, value: int, forms: tuple[Form, ...], ledger: Ledger
    ) -> "AttributeSize":
        """Return ``value`` with a memory of what it is calculated from."""
        found = super().__new__(cls, value)
        found.forms = forms
        found.ledger = ledger
        return found

    @property
    def length(self) -> Length:
        """The number with its readings."""
        return Length(number=int.__int__(self), forms=self.forms)

    def mark(self) -> None:
        """Never change the attributes that this number comes from."""
        if self.ledger.open:
            self.ledger.claims.append(constant_claim(self.length))

    def _follow(self, name: str, found: Length | None, other: Any) -> Any:
        """Return a calculated number, or the plain one where it is not followed."""
        if found is None:
            return self._marked(name, other)
        if not found.moves:
            return found.number
        return AttributeSize(found.number, found.forms, self.ledger)

    def _marked(self, name: str, *others: Any) -> Any:
        """Calculate as int does; the result follows nothing."""
        if not all(isinstance(item, int | float) for item in others):
            return NotImplemented  # a proxy calculates, and the walk sees it
        for item in (self, *others):
            if isinstance(item, AttributeSize):
                item.mark()
        plain_ones = [_bare(item) for item in others]
        return getattr(int.__int__(self), name)(*plain_ones)

    @override
    def __neg__(self) -> Any:
        return self._follow("__neg__", self.length.scaled(-1), None)

    @override
    def __bool__(self) -> bool:
        """Return whether it is not 0, which must not change."""
        if not self.length.is_above_0:
            self.mark()
        return bool(int.__int__(self))

    @override
    def bit_length(self) -> int:
        self.mark()
        return int.__int__(self).bit_length()

    __hash__ = int.__hash__


def _bare(item: Any) -> Any:
    return int.__int__(item) if isinstance(item, AttributeSize) else item


def _followed(
    name: str, combine: Callable[[Length, Length], Length | None], *, swap: bool = False
) -> Any:
    def calculate(self: AttributeSize, other: Any) -> Any:
        if isinstance(other, Recorded):
            return NotImplemented
        if isinstance(other, list | tuple | str):
            self.mark()  # [0] * n
        if not isinstance(other, int) or isinstance(other, bool):
            return self._marked(name, other)
        pair = (self.length, length_of(other))
        return self._follow(name, combine(*(pair[::-1] if swap else pair)), other)

    calculate.__name__ = name
    return calculate


def _compared(name: str) -> Any:
    def compare(self: AttributeSize, other: Any) -> Any:
        if isinstance(other, Recorded) or not isinstance(other, int | float):
            return NotImplemented
        if not isinstance(other, AttributeSize):
            return self._marked(name, other)
        apart = self.length.minus(other.length)
        if apart is None:
            return self._marked(name, other)
        if apart.moves and self.ledger.open:
            self.ledger.claims.append(constant_claim(apart))
        return getattr(int.__int__(self), name)(int.__int__(other))

    compare.__name__ = name
    return compare


def _forget(name: str) -> Any:
    def calculate(self: AttributeSize, *others: Any) -> Any:
        if any(isinstance(item, Recorded) for item in others):
            return NotImplemented
        return self._marked(name, *others)

    calculate.__name__ = name
    return calculate


_ARITHMETIC = {
    "add": Length.plus,
    "sub": Length.minus,
    "mul": Length.times,
    "floordiv": Length.over,
    "mod": Length.rest,
}
for _name, _combine in _ARITHMETIC.items():
    setattr(AttributeSize, f"__{_name}__", _followed(f"__{_name}__", _combine))
    _swapped = f"__r{_name}__"
    setattr(AttributeSize, _swapped, _followed(_swapped, _combine, swap=True))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(AttributeSize, f"__{_name}__", _compared(f"__{_name}__"))
for _name in (
    *("truediv", "rtruediv", "pow", "rpow", "divmod", "rdivmod", "float", "int"),
    *("lshift", "rshift", "rlshift", "rrshift", "and", "or", "xor"),
    *("rand", "ror", "rxor", "abs", "ceil", "floor", "round", "trunc", "invert"),
):
    setattr(AttributeSize, f"__{_name}__", _forget(f"__{_name}__"))


def remember_settings(model: nn.Module, own: Iterable[tuple[str, nn.Module]]) -> Ledger:
    """Replace the public integer attributes of modules by settings.

    Integers in a plain list or tuple count too, as ``name[index]``.

    Args:
        model: A copy of the network that no other code uses.
        own: Modules whose code is traced, with their names.

    Returns:
        What receives the calculations with them.
    """
    ledger = Ledger()
    titles = {id(module): name for name, module in model.named_modules()}
    for _, module in own:
        title = titles[id(module)]
        for name, value in vars(module).items():
            if name.startswith("_"):
                continue
            if type(value) is int:
                vars(module)[name] = _setting(title, name, value, ledger)
            elif type(value) in {list, tuple}:
                items = [
                    _setting(title, f"{name}[{index}]", item, ledger)
                    for index, item in enumerate(value)
                ]
                vars(module)[name] = type(value)(items)
    return ledger


@contextmanager
def settings_of_layers(
    model: nn.Module, own: Iterable[tuple[str, nn.Module]], ledger: Ledger
) -> Iterator[None]:
    """Let the network's code read settings of layers, such as ``self.fc.in_features``.

    They are plain integers again afterwards.

    Args:
        model: A copy of the network that no other code uses.
        own: Modules whose code is traced: all others are layers.
        ledger: What receives the calculations with them.
    """
    opened = {id(module) for _, module in own}
    ledger.open = True
    before: list[tuple[nn.Module, str, int]] = []
    for title, module in model.named_modules():
        if id(module) in opened:
            continue
        for name, value in vars(module).items():
            if type(value) is int and not name.startswith("_"):
                before.append((module, name, value))
                vars(module)[name] = _setting(title, name, value, ledger)
    try:
        yield
    finally:
        ledger.open = False
        for module, name, value in before:
            vars(module)[name] = value


def _setting(module: str, name: str, value: Any, ledger: Ledger) -> Any:
    """Return an integer with a memory of its place, anything else as it is."""
    # 1 is no count of channels, and is compared with everywhere.
    if type(value) is not int or value <= 1:
        return value
    place = Place(module=module, name=name, value=value)
    return AttributeSize(value, (Form(places=((place, Fraction(1)),)),), ledger)


def item_settings(labelling: Labelling, module: str, name: str, found: Any) -> Any:
    """Return the integers of a layer's list attribute as settings.

    Args:
        labelling: The labelling of the network so far.
        module: Name of the layer.
        name: Its attribute.
        found: The value of that; only a plain list or tuple is followed.
    """
    if type(found) not in {list, tuple}:
        return found
    ledger = Ledger()
    ledger.claims = labelling.claims
    return [
        _setting(module, f"{name}[{index}]", item, ledger)
        for index, item in enumerate(found)
    ]


def length_of(found: object) -> Length:
    """Return a number as a length; one that is plain never changes."""
    if isinstance(found, Length):
        return found
    if isinstance(found, AttributeSize):
        return found.length
    assert isinstance(found, int)  # noqa: S101 - asked of whole numbers only
    return Length.constant(int(found))


def is_length(found: object) -> bool:
    """Return whether a number may change with a cut."""
    return isinstance(found, Length | AttributeSize)


def number_in(found: object) -> int:
    """Return a length as a plain number for the example; nothing is fixed."""
    return length_of(found).number


def numbers_in(found: Any) -> Any:
    """Return the ends of slices as plain numbers for the example; nothing is fixed."""
    if isinstance(found, tuple | list):
        return tuple(numbers_in(item) for item in found)
    if isinstance(found, slice):
        return slice(*map(numbers_in, (found.start, found.stop, found.step)))
    return number_in(found) if is_length(found) else found


def constant_claim(length: Length, number: int | None = None) -> Claim:
    """Return the claim that a number never changes.

    Args:
        length: The number.
        number: The size that the network calculates with, for the note, if another.
    """
    places = [place for form in length.forms for place, _ in form.places]
    places += [
        place
        for form in length.forms
        for inner in form.constant
        for place, _ in inner.places
    ]
    if places and not any(form.counts for form in length.forms):
        place = places[0]
        why = f"the network calculates with '{place.name}' of module '{place.module}'"
    else:
        size = length.number if number is None else number
        why = f"the network calculates with a size, {size}"
    return Claim(length=length, labels=None, why=why)


def plain(labelling: Labelling, found: Any) -> Any:
    """Return an argument as plain numbers; what they count must not change."""
    if isinstance(found, Length | AttributeSize):
        stays(labelling, found)
        return number_in(found)
    if isinstance(found, slice):
        parts = (
            plain(labelling, item) for item in (found.start, found.stop, found.step)
        )
        return slice(*parts)
    if isinstance(found, dict):
        return {key: plain(labelling, item) for key, item in found.items()}
    if isinstance(found, list):  # of torch.fx too
        return [plain(labelling, item) for item in found]
    if type(found) is tuple:
        return tuple(plain(labelling, item) for item in found)
    return found


def stays(labelling: Labelling, found: Length | AttributeSize) -> None:
    """Never change a number: fix the channels that it counts."""
    length = length_of(found)
    claim = constant_claim(length)
    form = length.forms[0]
    if len(length.forms) == 1 and not form.constant:
        for labels, _ in form.counts:
            labelling.fix(labels, claim.why)
        if not form.places:
            return
    labelling.claims.append(claim)


def follows(
    labelling: Labelling,
    found: object,
    labels: Labels,
    why: str,
    free: FreeLength | None = None,
) -> bool:
    """Return whether a number may count what is left of ``labels`` after any cut.

    An attribute is made to follow them.  Anything else is settled when the whole
    network is known: where the number does not count them, they are fixed then.

    Args:
        labelling: The labelling of the network so far.
        found: The number.
        labels: What it stands for.
        why: Why the labels are fixed where it does not count them.
        free: The length of a reshape that it is, if a cut network can leave that to
            torch.
    """
    if not isinstance(found, Length | AttributeSize) or number_in(found) != len(labels):
        return False
    length = length_of(found)
    form = length.forms[0]
    alone = len(length.forms) == 1 and not form.counts and len(form.places) == 1
    if alone and labelling.may_follow(form.places[0][0]):
        follow_place(labelling, form.places[0], labels, why)
        if not (form.whole or form.constant):
            return True
    labelling.claims.append(Claim(length=length, labels=labels, why=why, free=free))
    return True


def follow_place(
    labelling: Labelling, place: tuple[Place, Fraction], labels: Labels, why: str
) -> None:
    """Let an attribute, ``ratio`` times its value, follow labels."""
    found, ratio = place
    follower = Follower(
        module=found.module, name=found.name, labels=labels, ratio=1 / ratio
    )
    if not labelling.follow_labels(follower):
        length = Length(number=len(labels), forms=(Form(places=(place,)),))
        labelling.claims.append(Claim(length=length, labels=labels, why=why))
