"""Inputs and outputs of a network: arguments, longer batches, tensors in results."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from inspect import Parameter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fedprune.common.errors import StructureError

EXAMPLES = 4  # a batch norm over two numbers gives +-1, and gradients of rounding only
# Parts of a result that no cut of channels can hide in.
_PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes, Enum),
    *(torch.dtype, torch.device, torch.layout, torch.Size),
)
Arguments = tuple[object, ...]
_BY_PLACE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def without_constants(leaf: object, generator: torch.Generator) -> object:
    """Return an input; floats that are all equal become noise in (0, 1).

    A batch of zeros, as a server without data uses, would hide differences.
    """
    if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
        return leaf
    if leaf.numel() <= 1 or bool(leaf.min() != leaf.max()):
        return leaf
    noise = torch.rand(leaf.shape, generator=generator, dtype=torch.float64)
    return noise.to(leaf.dtype)


def longer_batch(inputs: Arguments) -> Arguments:
    """Return inputs of a batch of at least ``EXAMPLES`` examples.

    Args:
        inputs: Arguments, batch first.  A tensor whose first dimension is not that of
            the first tensor has no batch, and stays as it is.
    """
    size = batch_size(inputs)
    if not 0 < size < EXAMPLES:
        return inputs
    generator = torch.Generator().manual_seed(0)
    times = math.ceil(EXAMPLES / size)

    def longer(leaf: Tensor) -> Tensor:
        if not has_batch(leaf, size):
            return leaf
        if not leaf.is_floating_point():
            return torch.cat([leaf] * times)
        shape = ((times - 1) * size, *leaf.shape[1:])
        noise = torch.rand(shape, generator=generator, dtype=leaf.dtype)
        return torch.cat([leaf, torch.cat([leaf] * (times - 1)) * noise])

    found: Arguments = pytree.tree_map_only(Tensor, longer, inputs)
    return found


def batch_size(inputs: Arguments) -> int:
    """Return the length of the batch: the first dimension of the first tensor."""
    leaves = pytree.tree_leaves(inputs)
    return next((len(x) for x in leaves if isinstance(x, Tensor) and x.dim()), 0)


def has_batch(item: Tensor, size: int) -> bool:
    """Return whether the first dimension of a tensor is the batch, by its length."""
    return item.dim() > 0 and len(item) == size


def arguments(model: nn.Module, example: object) -> Arguments:
    """Return the arguments of ``model`` for an example, by position.

    A tuple has an entry for each argument.  A dict whose keys are all parameters of
    ``forward`` gives keyword arguments, with the defaults for those between them; any
    other dict is the one argument, and so is everything else.

    Args:
        model: The network.
        example: One valid input, batch first.

    Raises:
        StructureError: If the arguments are not those of ``forward``, or tensors lie in
            objects of a class of their own.
    """
    takes = parameters(model)
    if isinstance(example, Mapping):
        example = dict(example)  # a tokenizer's result is no dict
    if isinstance(example, dict) and takes is not None and takes.keys() >= {*example}:
        given = _by_place(example, takes)
    else:
        given = example if isinstance(example, tuple) else (example,)
    _check_leaves(given)
    if takes is not None:
        _check_number(given, takes)
    return given


def copied(given: Arguments) -> Arguments:
    """Return arguments that a network may change: items of dicts, tensors in place."""
    found: Arguments = pytree.tree_map_only(Tensor, Tensor.clone, given)
    return found


def names_of(model: nn.Module, given: Arguments) -> tuple[str, ...]:
    """Return the name of each argument: the parameter of ``forward`` that takes it.

    Arguments of ``*inputs`` are ``inputs_0``, ``inputs_1`` and so on.
    """
    names: list[str] = []
    rest = "input"
    for name, parameter in (parameters(model) or {}).items():
        if parameter.kind is Parameter.VAR_POSITIONAL:
            rest = name
        elif parameter.kind in _BY_PLACE:
            names.append(name)
    more = [f"{rest}_{number}" for number in range(len(given) - len(names))]
    return tuple([*names, *more][: len(given)])


def first_input(given: tuple[Any, ...], named: Mapping[str, Any]) -> Any:  # noqa: ANN401 - of the module
    """Return the first input of a module, also of one that is given keywords only.

    A hook gets what ``self.fc(input=x)`` passes as ``named`` alone.

    >>> first_input((1, 2), {}), first_input((), {"input": 3})
    (1, 3)
    """
    return given[0] if given else next(iter(named.values()))


def tensors_in(
    found: object, kind: type[Any] = Tensor, seen: set[int] | None = None
) -> Iterator[Any]:
    """Yield the tensors in a result, in order: also in objects of any class.

    Args:
        found: Tensors in tuples, lists, mappings, dataclasses or other objects.
        kind: Class of the tensors.
        seen: Ids of the objects that were looked into, which is done once; filled.

    Raises:
        StructureError: If an object cannot be looked into.
    """
    if isinstance(found, kind):
        yield found
        return
    seen = set() if seen is None else seen
    if isinstance(found, _PLAIN) or id(found) in seen:
        return
    if not isinstance(found, Mapping | tuple | list):
        seen.add(id(found))  # objects may refer to each other
    for item in _parts(found):
        yield from tensors_in(item, kind, seen)


def _parts(found: object) -> list[object]:
    """Return what an object consists of."""
    if isinstance(found, Mapping):
        return [*found.values()]
    if isinstance(found, tuple | list | set | frozenset):
        return [*found]
    if isinstance(found, nn.Module) or callable(found):
        return []
    if hasattr(found, "__dict__"):
        return [*vars(found).values()]
    leaves = pytree.tree_leaves(found)
    if any(leaf is found for leaf in leaves):
        msg = f"a {type(found).__name__} among the outputs cannot be looked into; want"
        msg += " tensors in tuples, lists, dicts or dataclasses"
        raise StructureError(msg)
    return leaves


def parameters(model: nn.Module) -> Mapping[str, Parameter] | None:
    """Return name and kind of ``forward``'s parameters; None if Python knows none."""
    forward: Callable[..., object] = model.forward
    try:
        return inspect.signature(forward).parameters
    except (TypeError, ValueError):
        return None


def _by_place(example: dict[str, object], takes: Mapping[str, Parameter]) -> Arguments:
    """Return keyword arguments in the order of the parameters."""
    named = [name for name, item in takes.items() if item.kind in _BY_PLACE]
    others = sorted({*example} - {*named})
    if others:
        msg = f"its forward takes {others} as keywords only; want a forward that takes"
        msg += " every input by position too"
        raise StructureError(msg)
    last = max((named.index(name) for name in example), default=-1)
    missing = [
        name
        for name in named[: last + 1]
        if name not in example and takes[name].default is Parameter.empty
    ]
    if missing:
        raise StructureError(_no_example(missing))
    return tuple(example.get(x, takes[x].default) for x in named[: last + 1])


def _check_number(given: Arguments, takes: Mapping[str, Parameter]) -> None:
    """Refuse arguments that ``forward`` does not take."""
    places = [item for item in takes.values() if item.kind in _BY_PLACE]
    open_end = any(item.kind is Parameter.VAR_POSITIONAL for item in takes.values())
    if len(given) > len(places) and not open_end:
        names = [item.name for item in places]
        msg = f"its forward takes {len(places)} inputs {names}, and the example has"
        msg += f" {len(given)}"
        raise StructureError(msg)
    left = {*takes} - {item.name for item in places[: len(given)]}
    missing = [
        name
        for name, item in takes.items()
        if name in left
        and item.default is Parameter.empty
        and item.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    ]
    if missing:
        raise StructureError(_no_example(missing))


def _no_example(names: list[str]) -> str:
    listed = ", ".join(f"'{name}'" for name in names)
    return f"its forward takes {listed}, for which there is no example"


def _check_leaves(given: Arguments) -> None:
    """Refuse tensors in objects that are neither tuple, list nor dict."""
    for leaf in pytree.tree_leaves(given):
        inside = not isinstance(leaf, Tensor) and next(_inside(leaf), None) is not None
        if inside:
            msg = f"the example holds tensors in a {type(leaf).__name__}; want tensors"
            msg += " in tuples, lists or dicts"
            raise StructureError(msg)


def _inside(leaf: object) -> Iterator[Tensor]:
    try:
        yield from tensors_in(leaf)
    except StructureError:
        return
