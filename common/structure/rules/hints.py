"""Rule for modules that declare their channels themselves: ``pruning_hints``.

A module whose code cannot be followed names its dimensions::

    class Mixer(nn.Module):
        pruning_hints = {
            "inputs": [{1: "in"}],                # of each tensor that goes in
            "output": {1: "out"},                 # of the tensor that comes out
            "tensors": {"weight": ["out", "in"]}, # of its parameters and buffers
            "attributes": {"width": "out"},       # integers that follow
        }

Equal names mean the same channels; a dimension without a name (absent, or None) is
never cut.  The module has to compute the same function on what is left when positions
of one name are taken out of all of its tensors: the test of exactness in
docs/guide.md checks that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import nn

from fedprune.common.errors import StructureError
from fedprune.common.structure.calls import Call, values_in
from fedprune.common.structure.labels import Follower, Labels

_KEYS = frozenset({"inputs", "output", "tensors", "attributes"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hints:
    """The declaration of one module."""

    inputs: Sequence[Mapping[int, str]] = ()
    output: Mapping[int, str] = field(default_factory=dict)
    tensors: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)


def hinted(call: Call) -> object:
    """Follow the channels through a module as it declares them."""
    module = call.module
    assert module is not None  # noqa: S101 - hints stand on modules
    hints = _read(module)
    names: dict[str, Labels | None] = {}
    for number, value in enumerate(values_in((call.args, call.kwargs))):
        known = hints.inputs[number] if number < len(hints.inputs) else {}
        for dim, row in value.labels.items():
            name = known.get(dim)
            if name is None:
                call.fix(row, f"its hints do not name dimension {dim} of its input")
        for dim, name in known.items():
            found = value.labels.get(dim % len(value.shape))
            names[name] = call.join(names[name], found) if name in names else found
    _record(call, module, hints, names)
    labels = {dim: names.get(name) for dim, name in hints.output.items()}
    return call.value(labels, zero=False)


def _record(
    call: Call, module: nn.Module, hints: _Hints, names: dict[str, Labels | None]
) -> None:
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    unknown = sorted(hints.tensors.keys() - tensors.keys())
    if unknown:
        msg = f"pruning_hints name tensors {unknown}, which it does not have"
        raise StructureError(msg)
    for title, tensor in tensors.items():
        axes = [*hints.tensors.get(title, ())]
        for dim in range(tensor.dim()):
            name = axes[dim] if dim < len(axes) else None
            _record_axis(call, tensor, dim, name, names)
    for attribute, name in hints.attributes.items():
        labels = names.get(name)
        if labels is not None:
            ratio = Fraction(int(getattr(module, attribute)), len(labels))
            call.labelling.follow_labels(
                Follower(
                    module=call.module_name, name=attribute, labels=labels, ratio=ratio
                )
            )


def _record_axis(
    call: Call,
    tensor: torch.Tensor,
    dim: int,
    name: str | None,
    names: dict[str, Labels | None],
) -> None:
    if id(tensor) not in call.labelling.names:
        return
    if name is None:
        call.labelling.record(tensor, dim, None)
    elif name in names:
        call.labelling.record(tensor, dim, names[name])
    else:  # a name that no input has: channels that the module makes
        names[name] = call.labelling.new(tensor.shape[dim])
        call.labelling.produce(tensor, dim, names[name])


def _read(module: nn.Module) -> _Hints:
    given: Any = module.pruning_hints
    if not isinstance(given, Mapping) or not given.keys() <= _KEYS:
        msg = f"its pruning_hints are {given!r}; want a dict of {sorted(_KEYS)}"
        raise StructureError(msg)
    return _Hints(**given)
