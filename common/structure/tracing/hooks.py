"""Forward hooks of modules: which of them a trace may meet."""

from collections.abc import Set as AbstractSet

from torch import nn
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from fedprune.common.errors import StructureError

# It appends what a module returns to a list and returns nothing; the module and name
# of its code in transformers.
_RECORDER = (
    "transformers.utils.output_capturing",
    "install_output_capuring_hook.<locals>.output_capturing_hook",
)
# Hooks of torch that calculate a weight, and the parametrisation that replaced each.
_REPLACED: dict[type, str] = {WeightNorm: "weight_norm", SpectralNorm: "spectral_norm"}


def check_hooks(model: nn.Module, opened: AbstractSet[str]) -> None:
    """Refuse modules with forward hooks, which may change channels unseen.

    The recorder of outputs of transformers may stand on a module whose code is traced:
    there it runs as a part of that code, on the values that the trace follows.

    Args:
        model: The network.
        opened: Names of the modules whose code is traced; the hooks of the network
            itself, "", are not called by a trace.

    Raises:
        StructureError: If a module has another hook.
    """
    for name, module in model.named_modules():
        hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]  # noqa: SLF001 - torch has no public list of them
        for hook in hooks:
            known = _is_recorder(hook) and bool(name) and name in opened
            if known:
                continue
            msg = f"module '{name}' ({type(module).__name__}) has forward hooks, which"
            msg += f" may change its channels unseen; {_way_out(hook)}"
            raise StructureError(msg)


def _is_recorder(hook: object) -> bool:
    found = (getattr(hook, name, "") for name in ("__module__", "__qualname__"))
    return tuple(found) == _RECORDER


def _way_out(hook: object) -> str:
    name = _REPLACED.get(type(hook))
    if name is None:
        return "remove them before"
    return f"use torch.nn.utils.parametrizations.{name} instead"
