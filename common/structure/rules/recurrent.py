"""Rules for recurrent layers: RNN, GRU, LSTM.

A hidden unit whose rows are zero in every gate stays at zero: an LSTM's cell keeps its
first value, 0, and a GRU's state is a mean of 0 and 0.  So hidden units are cut like
channels.  ``hidden_size`` is one number for all layers and directions, so all of them
lose the same units.
"""

from math import prod
from typing import cast

from torch import nn

from fedprune.common.errors import StructureError
from fedprune.common.structure.calls import Call, values_in
from fedprune.common.structure.labels import Labels, Value


def recurrent(call: Call) -> object:
    """RNN, GRU, LSTM: the last dimension of inputs and states holds channels."""
    module = cast("nn.RNNBase", call.module)
    value = call.operand()
    if module.proj_size:
        msg = "it projects its outputs"
        raise StructureError(msg)
    for given in values_in((call.args[1:], call.kwargs)):
        call.fix_value(given, "it is a first state")
    last = len(value.shape) - 1
    for dim in sorted(value.labels.keys() - {last}):
        call.fix(value.labels[dim], "it runs along these positions")
    hidden = call.labelling.new(module.hidden_size)
    if call.args[1:] or "hx" in call.kwargs:
        call.fix(hidden, "it starts from a state that may not be 0")
    _record(call, module, value.labels.get(last), hidden)
    both = 2 if module.bidirectional else 1
    return _outputs(call, hidden, both)


def _record(
    call: Call, module: nn.RNNBase, inputs: Labels | None, hidden: Labels
) -> None:
    """Record the weights of every layer and direction."""
    labelling = call.labelling
    both = 2 if module.bidirectional else 1
    positions = prod(call.operand().shape[1:-1])
    for layer in range(module.num_layers):
        for end in ("", "_reverse")[:both]:
            names = [f"{kind}_l{layer}{end}" for kind in ("weight_ih", "weight_hh")]
            given, own = (getattr(module, name) for name in names)
            rows = _tiled(hidden, len(given) // len(hidden))
            labelling.produce(given, 0, rows)
            source = inputs if layer == 0 else _tiled(hidden, both)
            taken = labelling.record(given, 1, source)
            labelling.produce(own, 0, rows)
            state = labelling.record(own, 1, hidden)
            for name in (taken, state):
                labelling.count(name, positions)
            if module.bias:
                for kind in ("bias_ih", "bias_hh"):
                    bias = getattr(module, f"{kind}_l{layer}{end}")
                    labelling.record(bias, 0, rows)
    first = labelling.names[id(module.weight_ih_l0)]
    call.follow("input_size", first, 1)
    call.follow("hidden_size", labelling.names[id(module.weight_hh_l0)], 1)


def _tiled(labels: Labels, times: int) -> Labels:
    """Return labels several times, one run after another."""
    return labels if times == 1 else labels[None].repeat(times, axis=0).reshape(-1)


def _outputs(call: Call, hidden: Labels, both: int) -> object:
    """Return outputs and last states with their labels."""
    outputs, states = cast("tuple[Value, object]", call.result)
    last = len(outputs.shape) - 1
    found = Value(shape=outputs.shape, labels={last: _tiled(hidden, both)}, zero=True)
    return found, _states(states, hidden)


def _states(found: object, hidden: Labels) -> object:
    if isinstance(found, Value):
        return Value(
            shape=found.shape, labels={len(found.shape) - 1: hidden}, zero=True
        )
    return tuple(_states(item, hidden) for item in cast("tuple[object, ...]", found))
