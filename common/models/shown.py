"""Types and shapes of a batch in words, for messages."""

from collections.abc import Mapping

from torch import Tensor

from fedprune.common.models.inputs import tensors_in


def shapes(inputs: object) -> str:
    """Return types and shapes of inputs, for a message."""
    if isinstance(inputs, Tensor):
        kind = "" if inputs.is_floating_point() else f" of {type_of(inputs)}"
        return f"a batch{kind} of shape {list(inputs.shape)}"
    if isinstance(inputs, Mapping):
        parts = [f"'{key}' {type_of(x)}{_lengths(x)}" for key, x in inputs.items()]
    else:
        parts = [f"{type_of(x)}{_lengths(x)}" for x in tensors_in(inputs)]
    return f"a batch of {', '.join(parts)}"


def type_of(value: object) -> str:
    """Return the type of a tensor's entries, or of another object."""
    return str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")


def _lengths(value: object) -> str:
    return str(list(getattr(value, "shape", ())))


def hint(inputs: object, error: BaseException) -> str:
    """Return advice about inputs that are easily meant otherwise."""
    if not isinstance(inputs, Tensor):
        return "; want a network that takes them, in this order"
    if isinstance(error, IndexError) and not inputs.is_floating_point():
        lowest, highest = int(inputs.min()), int(inputs.max())
        text = f"; the ids run from {lowest} to {highest}: want ids from 0, and "
        return f"{text}embeddings of {highest + 1} rows"
    if not inputs.is_floating_point():
        return "; integers are ids of tokens or categories: give floats for quantities"
    if inputs.dim() == 3:  # noqa: PLR2004 - [n, channels, length]
        return "; [n, a, b] are series of a channels: give grey images as [n, 1, h, w]"
    if "indices" in str(error):
        return "; floats are quantities: give ids of tokens or categories as integers"
    return f"; want a network of float32 for inputs [n, {_sizes(inputs)}]"


def _sizes(inputs: Tensor) -> str:
    return ", ".join(map(str, inputs.shape[1:]))
