"""Facts that a user of a network's file needs: names of classes and preprocessing."""

import math
from dataclasses import dataclass
from typing import Any

from fedprune.common.text import printable

MOST_LABELS = 1 << 16
LONGEST_LABEL = 256  # characters

_LARGEST, _SMALLEST = 1e30, 1e-30  # float32 has them, and their products with pixels
_LONGEST_TYPE = 32  # characters
_INTEGERS = ("int64", "int32", "int16", "int8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Facts that a user of the final network needs.

    Attributes:
        labels: Names of the classes, in order; () = numbers only.
        offset: Subtracted from every stored input before the network.
        scale: Multiplied with it after that.
        stored: Type of stored inputs, such as "uint8"; "" = as the network takes them.
    """

    labels: tuple[str, ...] = ()
    offset: float = 0.0
    scale: float = 1.0
    stored: str = ""


def checked(labels: Any, offset: Any, scale: Any, stored: Any) -> Description:  # noqa: ANN401 - not trusted
    """Return a description of values that are not trusted.

    Args:
        labels: A list or tuple of at most ``MOST_LABELS`` printable texts of at most
            ``LONGEST_LABEL`` characters.
        offset: A float of magnitude 0 or 1e-30..1e30.
        scale: A float of magnitude 1e-30..1e30.
        stored: Name of a type: letters, digits and _, at most 32.

    Raises:
        ValueError: If a value is anything else; the message begins with its name.
    """
    if not isinstance(labels, list | tuple) or len(labels) > MOST_LABELS:
        msg = f"labels: want a list of at most {MOST_LABELS} texts"
        raise ValueError(msg)
    for label in labels:
        _check_label(label)
    if not _is_number(offset) and not (type(offset) is float and offset == 0.0):
        msg = f"offset: found {_shown(offset)}; want a finite number"
        raise ValueError(msg)
    if not _is_number(scale):
        msg = f"scale: found {_shown(scale)}; want a finite number other than 0"
        raise ValueError(msg)
    if type(stored) is not str or not _is_type(stored):
        msg = f"stored: found {_shown(stored)}; want the name of a type, such as uint8"
        raise ValueError(msg)
    return Description(
        labels=tuple(labels), offset=offset, scale=scale, stored=str(stored)
    )


def is_scaled(description: Description) -> bool:
    """Return whether stored inputs differ from those that the network takes."""
    if description.stored in _INTEGERS:
        return False
    return (description.offset, description.scale) != (0.0, 1.0)


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
    >>> preprocessing_text(Description(stored="float32"))
    'none: the network takes the float32 values as they are stored'
    """
    if not description.stored:
        return "not known: done by the task's own code, or not recorded"
    if not is_scaled(description):
        kind = input_text(description)
        return f"none: the network takes the {kind} as they are stored"
    offset, scale = description.offset, description.scale
    text = f"(x - {offset:.9g}) * {scale:.9g} for {input_text(description)}"
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


def _is_number(value: object) -> bool:
    if type(value) is not float or not math.isfinite(value):
        return False
    return _SMALLEST <= abs(value) <= _LARGEST


def _is_type(text: str) -> bool:
    short = len(text) <= _LONGEST_TYPE and text.isascii()
    return short and (not text or text.isidentifier())


def _shown(value: object) -> str:
    return printable(repr(value), 60)
