"""Run a network in training mode without chance: dropout and its kind do nothing.

Two networks of different width can be compared in training mode only when neither
draws numbers of its own.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from typing_extensions import override

_DROPS: frozenset[Callable[..., object]] = frozenset(
    {
        *(functional.dropout, functional.dropout1d, functional.dropout2d),
        *(functional.dropout3d, functional.alpha_dropout),
        *(functional.feature_alpha_dropout, torch.dropout, torch.dropout_),
        *(torch.alpha_dropout, torch.feature_dropout, torch.feature_alpha_dropout),
    }
)
# What each draw gives instead.  A kept path is a 1, noise around 0 is none.
_DRAWS: dict[Callable[..., object], float] = {
    **dict.fromkeys((torch.rand, torch.rand_like, Tensor.uniform_), 0.5),
    **dict.fromkeys((torch.randn, torch.randn_like, Tensor.normal_), 0.0),
    **dict.fromkeys((torch.bernoulli, Tensor.bernoulli, Tensor.bernoulli_), 1.0),
    Tensor.exponential_: 1.0,
}
_ATTENTION_DROP = 4  # the place of dropout_p


@contextmanager
def calm(*networks: nn.Module, seed: int = 0) -> Iterator[None]:
    """Let networks run as if nothing in them were drawn; torch's generator is kept.

    Dropout gives back what it gets, every draw a constant; what is drawn in another
    way starts from the same seed.

    Args:
        networks: Lose the dropout that torch's own attention and recurrent layers
            hold as a number: pass copies.
        seed: Where what is still drawn starts.
    """
    for network in networks:
        for module in network.modules():
            if isinstance(module, nn.MultiheadAttention | nn.RNNBase):
                module.dropout = 0.0
    with torch.random.fork_rng(devices=[]), _Calm():
        torch.manual_seed(seed)
        yield


class _Calm(TorchFunctionMode):
    @override
    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in _DROPS:
            return args[0] if args else given["input"]
        if func is functional.scaled_dot_product_attention:
            return func(*_undropped(args), **{**given, **_no_drop(args)})
        found = func(*args, **given)
        if func in _DRAWS and isinstance(found, Tensor):
            with torch.no_grad():
                found.fill_(_DRAWS[func])
        return found


def _undropped(args: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(args) <= _ATTENTION_DROP:
        return args
    return (*args[:_ATTENTION_DROP], 0.0, *args[_ATTENTION_DROP + 1 :])


def _no_drop(args: tuple[Any, ...]) -> dict[str, float]:
    return {} if len(args) > _ATTENTION_DROP else {"dropout_p": 0.0}
