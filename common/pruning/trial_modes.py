"""Modes in which networks are compared: without random draws, in double precision.

Two networks of different width can be compared in training mode only if neither draws
random numbers: dropout is off, and random draws are constants.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from fedprune.common.structure.rules.tables import GROUPED

_DROPS: frozenset[Callable[..., object]] = frozenset(
    {
        *(functional.dropout, functional.dropout1d, functional.dropout2d),
        *(functional.dropout3d, functional.alpha_dropout),
        *(functional.feature_alpha_dropout, torch.dropout, torch.dropout_),
        *(torch.alpha_dropout, torch.feature_dropout, torch.feature_alpha_dropout),
    }
)
# The constant for each draw: a kept path is 1, noise around 0 is 0.
_DRAWS: dict[Callable[..., object], float] = {
    **dict.fromkeys((torch.rand, torch.rand_like, Tensor.uniform_), 0.5),
    **dict.fromkeys((torch.randn, torch.randn_like, Tensor.normal_), 0.0),
    **dict.fromkeys((torch.bernoulli, Tensor.bernoulli, Tensor.bernoulli_), 1.0),
    Tensor.exponential_: 1.0,
}
_ATTENTION_DROP = 4  # position of the argument dropout_p


@contextmanager
def calm(*networks: nn.Module, seed: int = 0) -> Iterator[None]:
    """Run networks without randomness while the block runs.

    Dropout returns its input, and every known draw a constant; other draws start from
    the same seed.  Torch's global generator is restored.

    Args:
        networks: The networks; pass copies, because the dropout attribute of torch's
            attention and recurrent layers is set to 0.
        seed: Seed of the draws that are not made constant.
    """
    for network in networks:
        for module in network.modules():
            if isinstance(module, nn.MultiheadAttention | nn.RNNBase):
                module.dropout = 0.0
    with torch.random.fork_rng(devices=[]), _Calm():
        torch.manual_seed(seed)
        yield


def draws() -> bytes:
    """Return the state of torch's global generator: equal after the same draws."""
    return torch.get_rng_state().numpy().tobytes()


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


@contextmanager
def in_double() -> Iterator[None]:
    """Run a network of doubles without the roundings of its own conversions.

    Networks write ``x.float()``, ``dtype=torch.float32`` or ``torch.zeros(n)``: for a
    moment these all mean float64.  Half precision stays as it is.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Double():
            yield
    finally:
        torch.set_default_dtype(before)


class _Double(TorchFunctionMode):
    """A mode in which float32 means float64."""

    @override
    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        called: Any = Tensor.double if func is Tensor.float else func
        if func in GROUPED:  # has no double precision
            called = _grouped_product
        wide = [torch.float64 if item is torch.float32 else item for item in args]
        named = {
            key: torch.float64 if item is torch.float32 else item
            for key, item in (kwargs or {}).items()
        }
        return called(*wide, **named)


def _grouped_product(
    left: Tensor, right: Tensor, *, offs: Tensor, **_: object
) -> Tensor:
    """Return runs of rows times their matrices, float[rows, outputs].

    Args:
        left: float[rows, inputs].
        right: float[runs, inputs, outputs].
        offs: End of each run, int[runs], rising.
    """
    ends = [int(end) for end in offs]
    runs = zip([0, *ends], ends, right, strict=False)
    parts = [left[start:end] @ matrix for start, end, matrix in runs]
    rest = left.new_zeros(len(left) - ends[-1], right.shape[-1])
    return torch.cat([*parts, rest])
