"""Facts that a user of a network's file needs: names of classes and preprocessing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedprune.common.errors import DataError
from fedprune.common.text import printable

Numbers: TypeAlias = float | tuple[float, ...]  # of all channels, or of each

MOST_LABELS = 1 << 16
MOST_CHANNELS = 1 << 12  # with a number of their own
LONGEST_LABEL = 256  # characters

_LARGEST, _SMALLEST = 1e30, 1e-30  # float32 has them, and their products with pixels
_LONGEST_TYPE = 32  # characters
_SHOWN = 4  # numbers of channels in a text
_INTEGERS = ("int64", "int32", "int16", "int8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Facts that a user of the final network needs.

    Attributes:
        labels: Names of the classes, in order; () = numbers only.
        offset: Subtracted from every stored input before the network; one number, or
            one for each channel, the first dimension of an input.
        scale: Multiplied with it after that; likewise.
        stored: Type of stored inputs, such as "uint8"; "" = as the network takes them.
    """

    labels: tuple[str, ...] = ()
    offset: Numbers = 0.0
    scale: Numbers = 1.0
    stored: str = ""

    def prepare(self, values: Any) -> Any:  # noqa: ANN401 - array or tensor
        """Return stored values as the network takes them.

        Args:
            values: An array or a tensor of floats, [n, channels, ...] or [n, ...].
        """
        offset, scale = self._numbers(values)
        return (values - offset) * scale

    def restore(self, values: Any) -> Any:  # noqa: ANN401 - array or tensor
        """Return prepared values as they were stored: ``prepare`` undone."""
        offset, scale = self._numbers(values)
        return values / scale + offset

    def _numbers(self, values: Any) -> tuple[Any, Any]:  # noqa: ANN401
        """Return offset and scale in the type of a batch."""
        arrays = [by_channel(x, values.shape) for x in (self.offset, self.scale)]
        if hasattr(values, "new_tensor"):
            return values.new_tensor(arrays[0]), values.new_tensor(arrays[1])
        return arrays[0].astype(values.dtype), arrays[1].astype(values.dtype)


def checked(labels: Any, offset: Any, scale: Any, stored: Any) -> Description:  # noqa: ANN401 - not trusted
    """Return a description of values that are not trusted.

    Args:
        labels: A list or tuple of at most ``MOST_LABELS`` printable texts of at most
            ``LONGEST_LABEL`` characters.
        offset: A float of magnitude 0 or 1e-30..1e30, or a list or tuple of at most
            ``MOST_CHANNELS`` of them.
        scale: A float of magnitude 1e-30..1e30, or several, as many as of offset.
        stored: Name of a type: letters, digits and _, at most 32.

    Raises:
        ValueError: If a value is anything else; the message begins with its name.
    """
    if not isinstance(labels, list | tuple) or len(labels) > MOST_LABELS:
        msg = f"labels: want a list of at most {MOST_LABELS} texts"
        raise ValueError(msg)
    for label in labels:
        _check_label(label)
    if not all(_is_number(x) or _is_zero(x) for x in _each(offset)):
        msg = f"offset: found {_shown(offset)}; want a finite number, or one for each "
        raise ValueError(msg + "channel")
    if not all(map(_is_number, _each(scale))):
        msg = f"scale: found {_shown(scale)}; want a finite number other than 0, or "
        raise ValueError(msg + "one for each channel")
    _check_channels(offset, scale)
    if type(stored) is not str or not _is_type(stored):
        msg = f"stored: found {_shown(stored)}; want the name of a type, such as uint8"
        raise ValueError(msg)
    return Description(
        labels=tuple(labels),
        offset=_frozen(offset),
        scale=_frozen(scale),
        stored=str(stored),
    )


def is_scaled(description: Description) -> bool:
    """Return whether stored inputs differ from those that the network takes."""
    if description.stored in _INTEGERS:
        return False
    return any(x != 0.0 for x in _each(description.offset)) or any(
        x != 1.0 for x in _each(description.scale)
    )


def by_channel(numbers: Numbers, shape: Sequence[int]) -> NDArray[np.float64]:
    """Return numbers in a shape that fits a batch.

    Args:
        numbers: One for all channels, or one for each.
        shape: Shape of the batch, which has the channels in the second dimension; 0 =
            any length.

    Returns:
        float64[], or float64[channels, 1, ...] without the dimension of the batch.

    Raises:
        DataError: If there are numbers of other channels than the batch has.
    """
    found = np.array(numbers, dtype=np.float64)
    if found.ndim == 0:
        return found
    channels = shape[1] if len(shape) > 1 else 1
    if channels not in (0, len(found)):
        msg = f"the preprocessing has numbers for {len(found)} channels, and an input "
        msg += f"has {channels}"
        raise DataError(msg)
    return found.reshape(-1, *(1 for _ in shape[2:]))


def input_text(description: Description) -> str:
    """Return the stored inputs in words, for example "uint8 values 0..255"."""
    if description.stored == "uint8":
        return "uint8 values 0..255"
    if description.stored in _INTEGERS:
        return f"{description.stored} ids"
    kind = description.stored
    return f"{kind} values" if kind else "what the task's own code makes"


def preprocessing_text(description: Description) -> str:
    """Return the preprocessing in words, in one line.

    >>> preprocessing_text(Description(offset=127.5, scale=1 / 127.5, stored="uint8"))
    '(x - 127.5) * 0.00784313725 for uint8 values 0..255, which become -1..1'
    >>> preprocessing_text(Description(offset=(124.0, 116.0), stored="uint8"))
    '(x - [124, 116]) * 1 by channel for uint8 values 0..255'
    >>> preprocessing_text(Description(stored="float32"))
    'none: the network takes the float32 values as they are stored'
    """
    if not description.stored:
        return "not known: done by the task's own code, or not recorded"
    if not is_scaled(description):
        kind = input_text(description)
        return f"none: the network takes the {kind} as they are stored"
    offset, scale = description.offset, description.scale
    text = f"(x - {_listed(offset)}) * {_listed(scale)}"
    if isinstance(offset, tuple) or isinstance(scale, tuple):
        return f"{text} by channel for {input_text(description)}"
    text += f" for {input_text(description)}"
    if description.stored != "uint8":
        return text
    ends = sorted((pixel - offset) * scale for pixel in (0, 255))
    return f"{text}, which become {ends[0]:.4g}..{ends[1]:.4g}"


def labels_text(description: Description, most: int = 10) -> str:
    """Return the labels in one line, cut to the first ``most``."""
    if not description.labels:
        return "none: classes have numbers only"
    shown = ", ".join(printable(x, 40) for x in description.labels[:most])
    more = len(description.labels) - most
    return f"{shown} and {more} more" if more > 0 else shown


def _check_label(label: object) -> None:
    if type(label) is not str or len(label) > LONGEST_LABEL or not label.isprintable():
        msg = f"labels: found {_shown(label)}; want printable texts of at most "
        msg += f"{LONGEST_LABEL} characters"
        raise ValueError(msg)


def _each(value: Any) -> tuple[Any, ...]:  # noqa: ANN401 - not trusted
    """Return the numbers of a value; a value that is no list is the only one."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _frozen(value: Any) -> Numbers:  # noqa: ANN401 - checked before
    return tuple(value) if isinstance(value, list | tuple) else float(value)


def _check_channels(offset: Any, scale: Any) -> None:  # noqa: ANN401 - not trusted
    sizes = {len(x) for x in (offset, scale) if isinstance(x, list | tuple)}
    if not sizes:
        return
    if len(sizes) > 1 or not 1 <= max(sizes) <= MOST_CHANNELS:
        found = " and ".join(map(str, sorted(sizes)))
        msg = f"offset, scale: found numbers of {found} channels; want as many of both,"
        msg += f" 1..{MOST_CHANNELS}"
        raise ValueError(msg)


def _listed(numbers: Numbers) -> str:
    """Return numbers in words, those of many channels cut short."""
    if not isinstance(numbers, tuple):
        return f"{numbers:.9g}"
    more = ", ..." if len(numbers) > _SHOWN else ""
    return f"[{', '.join(f'{x:.9g}' for x in numbers[:_SHOWN])}{more}]"


def _is_zero(value: object) -> bool:
    return type(value) is float and value == 0.0


def _is_number(value: object) -> bool:
    if type(value) is not float or not math.isfinite(value):
        return False
    return _SMALLEST <= abs(value) <= _LARGEST


def _is_type(text: str) -> bool:
    short = len(text) <= _LONGEST_TYPE and text.isascii()
    return short and (not text or text.isidentifier())


def _shown(value: object) -> str:
    return printable(repr(value), 60)
