"""The name of a traced network: two runs are of one network if their graphs agree."""

import re
from collections.abc import Iterator
from hashlib import blake2b

import torch
from torch import Tensor, fx, nn

from fedprune.common.models.flat import norm_modules

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def graph_digest(network: nn.Module, graph: fx.Graph) -> str:
    """Return 32 hex digits that name what a traced network computes, but for weights.

    Operations and their arguments, in order; types, settings and shapes of the modules
    and tensors that they use; constant buffers by their values.  Weights and running
    moments count by their shapes alone: training changes them.

    Args:
        network: The network that the graph was traced from.
        graph: Its graph.
    """
    lines = [_line(network, node) for node in graph.nodes]
    lines += [f"{name} {_tensor(item)}" for name, item in network.named_parameters()]
    lines += [f"{name} {_content(item)}" for name, item in _constants(network)]
    return blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def _constants(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the buffers that are part of what is computed: all but running moments."""
    moments = {id(b) for _, norm in norm_modules(network) for b in norm.buffers()}
    for name, item in network.named_buffers():
        if id(item) not in moments:
            yield name, item


def _content(item: Tensor) -> str:
    data = item.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return f"{_tensor(item)} {blake2b(data.tobytes(), digest_size=16).hexdigest()}"


def _line(network: nn.Module, node: fx.Node) -> str:
    target = _plain(node.target)
    if node.op == "call_module":
        module = network.get_submodule(str(node.target))
        target += f" {type(module).__qualname__}({_settings(module)})"
    return f"{node.name} {node.op} {target} {_plain(node.args)} {_plain(node.kwargs)}"


def _settings(module: nn.Module) -> str:
    """Return how a module was made: as it prints itself, else its plain attributes."""
    # Attention, for one, prints nothing of its number of heads.
    return module.extra_repr() or ", ".join(
        f"{name}={value!r}"
        for name, value in sorted(vars(module).items())
        if isinstance(value, bool | int | float | str | tuple)
        and name != "training"
        and not name.startswith("_")
    )


def _plain(value: object) -> str:
    """Return a value as text that does not change between processes."""
    if isinstance(value, slice):
        value = ["slice", value.start, value.stop, value.step]
    if isinstance(value, dict):
        value = ["dict", *value.items()]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, fx.Node):
        return f"%{value.name}"
    if isinstance(value, Tensor):
        return _tensor(value)
    if callable(value):
        name = getattr(value, "__qualname__", type(value).__qualname__)
        return f"{getattr(value, '__module__', '')}.{name}"
    return _ADDRESS.sub("", repr(value))


def _tensor(value: object) -> str:
    if not isinstance(value, Tensor):
        return type(value).__qualname__
    kind = str(value.dtype).removeprefix(f"{torch.__name__}.")
    return f"{kind}{list(value.shape)}"
