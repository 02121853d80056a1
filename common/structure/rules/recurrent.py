"""Rules for recurrent layers and their cells: RNN, GRU, LSTM.

A hidden unit whose rows are zero in every gate stays at zero if it starts there: an
LSTM's cell keeps half of its value, a GRU's state is a mean of 0 and its last value.
So hidden units are cut like channels, and those of a first state with them.
``hidden_size`` is one number for all layers and directions, so all of them lose the
same units; so is ``proj_size``, the width of the outputs of an LSTM that projects them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import cast

from torch import nn

from fedprune.common.errors import StructureError
from fedprune.common.structure.calls import Call
from fedprune.common.structure.labels import Labels, Value

_MATRIX = 2  # dimensions of the batched input of a cell


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Units:
    """The units of a recurrent layer.

    Attributes:
        inner: Labels of the hidden units: the gates, the cell of an LSTM.
        outer: Labels of the outputs: those of ``inner``, or of their projection.
        zero: Whether the state of a masked unit is exactly 0.
    """

    inner: Labels
    outer: Labels
    zero: bool


def recurrent(call: Call) -> object:
    """RNN, GRU, LSTM: the last dimension of inputs and states holds channels."""
    module = cast("nn.RNNBase", call.module)
    value = call.operand()
    last = len(value.shape) - 1
    for dim in sorted(value.labels.keys() - {last}):
        call.fix(value.labels[dim], "it runs along these positions")
    units = _units(call, module, module.proj_size)
    both = 2 if module.bidirectional else 1
    _record(call, module, value.labels.get(last), units)
    outputs, states = cast("tuple[Value, object]", call.result)
    row = _tiled(units.outer, both)
    found = Value(
        shape=outputs.shape, labels={len(outputs.shape) - 1: row}, zero=units.zero
    )
    return found, _states(states, units)


def cell(call: Call) -> object:
    """RNNCell, GRUCell, LSTMCell: one step."""
    module = cast("nn.RNNCellBase", call.module)
    value = call.operand()
    if len(value.shape) != _MATRIX:
        msg = f"the input has {len(value.shape)} dimensions; want 2, batch first"
        raise StructureError(msg)
    call.fix(value.labels.get(0), "it runs along these positions")
    units = _units(call, module, 0)
    rows = _tiled(units.inner, len(module.weight_ih) // len(units.inner))
    labelling = call.labelling
    labelling.produce(module.weight_ih, 0, rows)
    labelling.produce(module.weight_hh, 0, rows)
    taken = labelling.record(module.weight_ih, 1, value.labels.get(1))
    state = labelling.record(module.weight_hh, 1, units.inner)
    for name in (taken, state):
        labelling.count(name, 1)
    for bias in (module.bias_ih, module.bias_hh):
        if bias is not None:
            labelling.record(bias, 0, rows)
    call.follow("input_size", taken, 1)
    call.follow("hidden_size", state, 1)
    return _states(call.result, units)


def _units(call: Call, module: nn.RNNBase | nn.RNNCellBase, projected: int) -> _Units:
    """Return the units of a layer, joined with those of its first state."""
    inner = call.labelling.new(module.hidden_size)
    outer = call.labelling.new(projected) if projected else inner
    if projected:
        why = "torch knows a projection by a cell that is wider than its outputs"
        call.fix(inner[: projected + 1], why)
    zero = True
    given = call.argument(1, "hx")
    states = given if isinstance(given, tuple | list) else (given,)
    rows = (outer, inner)[: len(cast("Sequence[object]", states))]
    for state, labels in zip(cast("Sequence[object]", states), rows, strict=True):
        if state is None:
            continue
        if not isinstance(state, Value):
            msg = f"its first state is a {type(state).__name__}; want a tensor"
            raise StructureError(msg)
        axis = len(state.shape) - 1
        call.join(state.labels.get(axis), labels)
        for dim in sorted(state.labels.keys() - {axis}):
            call.labelling.hold(state.labels[dim], "it runs along these positions")
        zero = zero and state.zero
    return _Units(inner=inner, outer=outer, zero=zero)


def _record(
    call: Call, module: nn.RNNBase, inputs: Labels | None, units: _Units
) -> None:
    """Record the weights of every layer and direction."""
    labelling = call.labelling
    both = 2 if module.bidirectional else 1
    positions = prod(call.operand().shape[1:-1])
    for layer in range(module.num_layers):
        for end in ("", "_reverse")[:both]:
            names = [f"{kind}_l{layer}{end}" for kind in ("weight_ih", "weight_hh")]
            given, own = (getattr(module, name) for name in names)
            rows = _tiled(units.inner, len(given) // len(units.inner))
            labelling.produce(given, 0, rows)
            source = inputs if layer == 0 else _tiled(units.outer, both)
            labelling.record(given, 1, source)
            labelling.produce(own, 0, rows)
            labelling.record(own, 1, units.outer)
            used = [given, own]
            if module.proj_size:
                used.append(getattr(module, f"weight_hr_l{layer}{end}"))
                labelling.produce(used[-1], 0, units.outer)
                labelling.record(used[-1], 1, units.inner)
            for weight in used:
                labelling.count(labelling.names[id(weight)], positions)
            if module.bias:
                for kind in ("bias_ih", "bias_hh"):
                    bias = getattr(module, f"{kind}_l{layer}{end}")
                    labelling.record(bias, 0, rows)
    _follow(call, module)


def _follow(call: Call, module: nn.RNNBase) -> None:
    names = call.labelling.names
    call.follow("input_size", names[id(module.weight_ih_l0)], 1)
    if module.proj_size:
        projection = names[id(module.weight_hr_l0)]
        call.follow("proj_size", projection, 0)
        call.follow("hidden_size", projection, 1)
    else:
        call.follow("hidden_size", names[id(module.weight_hh_l0)], 1)


def _tiled(labels: Labels, times: int) -> Labels:
    """Return labels several times, one run after another."""
    return labels if times == 1 else labels[None].repeat(times, axis=0).reshape(-1)


def _states(found: object, units: _Units) -> object:
    """Return one last state, or the outputs and the cell of an LSTM."""
    if isinstance(found, Value):
        return _state(found, units.outer, units)
    hidden, inside = cast("tuple[Value, Value]", found)
    return _state(hidden, units.outer, units), _state(inside, units.inner, units)


def _state(found: Value, labels: Labels, units: _Units) -> Value:
    axis = len(found.shape) - 1
    return Value(shape=found.shape, labels={axis: labels}, zero=units.zero)
