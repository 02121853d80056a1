"""Removal of single positions from the tensors and numbers of modules, for a while."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_MULTIPLES = 8  # at most so many positions of one tensor belong to one channel
# Numbers of convolutions that count places.
_PLACES = frozenset({"kernel_size", "stride", "padding", "dilation", "output_padding"})
Modules = Mapping[str, nn.Module]


@dataclass(frozen=True, slots=True)
class Edit:
    """Positions that a tensor loses, or as much as a number in a module loses.

    Attributes:
        module: Name of the module.
        name: Its parameter, buffer or attribute.
        dim: Dimension of the tensor, or place in a tuple; -1 for a plain number.
        gone: Positions of a tensor; a number loses as many as these are.
    """

    module: str
    name: str
    dim: int
    gone: tuple[int, ...]

    @property
    def where(self) -> tuple[str, str, int]:
        """The length that changes."""
        return self.module, self.name, self.dim


Edits = tuple[Edit, ...]


def ways(name: str, module: nn.Module, length: int, channel: int) -> list[Edits]:
    """Return the ways to remove one channel from one module, the likely ones first.

    Args:
        name: Name of the module.
        module: The module.
        length: Number of channels.
        channel: The channel, in [0, length).
    """
    kinds = _by_kind(name, module, length, channel)
    plain, numbers = kinds["plain"], _numbers(name, module, length)
    found = [_inner(plain), _outer(plain), [*_outer(plain), *numbers], plain]
    found.append([*plain, *numbers])
    for more in (kinds["woven"], kinds["blocked"]):
        found += [more, _inner(more), [*plain, *more, *numbers]]
    for more in (kinds["before"], kinds["behind"]):
        found += [_inner(more), _outer(more)]
    # One part of a list of parts, and the layer that takes it.
    for size in dict.fromkeys(_length(module, e) for e in kinds["part"]):
        part = [e for e in kinds["part"] if _length(module, e) == size]
        found += [[*_outer(part), *_numbers(name, module, size)], _outer(part)]
    found += [[e] for e in _parts(name, module, length)]
    found += [[e] for kind in kinds.values() for e in kind]
    found += [[e] for e in numbers]
    return [way for way in dict.fromkeys(tuple(item) for item in found) if way]


def channel_dims(module: nn.Module, item: Tensor) -> torch.Size:
    """Return the leading lengths of a tensor that may count channels.

    Lengths of a convolution's kernel count places.
    """
    kernel = isinstance(module, nn.modules.conv._ConvNd)  # noqa: SLF001 - the base of all convolutions
    return item.shape[:2] if kernel else item.shape


def _by_kind(
    name: str, module: nn.Module, length: int, channel: int
) -> dict[str, list[Edit]]:
    """Return the single edits of a module's tensors by how channels lie in them."""
    found: dict[str, list[Edit]] = {
        kind: [] for kind in ("plain", "blocked", "woven", "before", "behind", "part")
    }
    tensors: list[tuple[str, Tensor]] = [*module.named_parameters(recurse=False)]
    tensors += module.named_buffers(recurse=False)
    for own, item in tensors:
        for dim, size in enumerate(channel_dims(module, item)):
            times, rest = divmod(size, length)
            gone: dict[str, tuple[int, ...]] = {}
            if size == length:
                gone = {"plain": (channel,)}
            elif not rest and 1 < times <= _MULTIPLES:
                gone["blocked"] = tuple(channel + n * length for n in range(times))
                gone["woven"] = tuple(channel * times + n for n in range(times))
            elif not times and size > 1 and length % size == 0:
                gone = {"part": (channel % size,)}
            if size > length:  # beside other channels, before or after them
                gone |= {"before": (channel,), "behind": (size - length + channel,)}
            for kind, places in gone.items():
                found[kind].append(Edit(name, own, dim, places))
    return found


def _inner(edits: list[Edit]) -> list[Edit]:
    return [edit for edit in edits if edit.dim > 0]


def _outer(edits: list[Edit]) -> list[Edit]:
    return [edit for edit in edits if edit.dim == 0]


def _length(module: nn.Module, edit: Edit) -> int:
    item = getattr(module, edit.name)
    assert isinstance(item, Tensor)  # noqa: S101 - edits of tensors are passed
    return item.shape[edit.dim]


@contextmanager
def shortened(modules: Modules, edits: Sequence[Edit]) -> Iterator[None]:
    """Remove what the edits name, and give it back afterwards."""
    before: list[tuple[nn.Module, str, object]] = []
    try:
        for edit in edits:
            module = modules[edit.module]
            value = getattr(module, edit.name)
            before.append((module, edit.name, value))
            setattr(module, edit.name, _shorter(value, edit))
        yield
    finally:
        for module, name, value in reversed(before):
            setattr(module, name, value)


@contextmanager
def zeroed(modules: Modules, edits: Sequence[Edit]) -> Iterator[None]:
    """Set parameters to 0 where the edits remove something, and give them back."""
    before: list[tuple[Tensor, Tensor]] = []
    try:
        for edit in edits:
            item = getattr(modules[edit.module], edit.name)
            if isinstance(item, nn.Parameter):
                before.append((item, item.detach().clone()))
                with torch.no_grad():
                    item.index_fill_(edit.dim, torch.tensor(edit.gone), 0.0)
        yield
    finally:
        with torch.no_grad():
            for item, values in reversed(before):
                item.copy_(values)


def _shorter(value: object, edit: Edit) -> object:
    lost = len(edit.gone)
    if isinstance(value, Tensor):
        gone = set(edit.gone)
        kept = [n for n in range(value.shape[edit.dim]) if n not in gone]
        found = value.detach().index_select(edit.dim, torch.tensor(kept))
        return nn.Parameter(found) if isinstance(value, nn.Parameter) else found
    if isinstance(value, int):
        return value - lost
    assert isinstance(value, tuple | list)  # noqa: S101 - as `_numbers` offers it
    items = [item - lost * (n == edit.dim) for n, item in enumerate(value)]
    return type(value)(items) if type(value) in {tuple, list} else torch.Size(items)


def _numbers(name: str, module: nn.Module, length: int) -> list[Edit]:
    """Return the edits of attributes that count the channels, or multiples of them."""
    found = []
    for own, value in vars(module).items():
        if own.startswith("_") or own in _PLACES:
            continue
        items = value if isinstance(value, tuple | list) else [value]
        for place, item in enumerate(items):
            if type(item) is not int or item % length:
                continue
            times = item // length
            if 0 < times <= _MULTIPLES:
                dim = place if items is value else -1
                found.append(Edit(name, own, dim, (0,) * times))
    return found


def _parts(name: str, module: nn.Module, length: int) -> list[Edit]:
    """Return the edits of lists whose items are parts of the channels."""
    return [
        Edit(name, own, place, (0,))
        for own, value in vars(module).items()
        if isinstance(value, tuple | list) and own[0] != "_" and own not in _PLACES
        for place, item in enumerate(value)
        if type(item) is int and 1 < item < length
    ]
