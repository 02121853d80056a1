"""The description of a network in its file's metadata, and as ``labels.json``.

Metadata keys, all text and all optional: ``labels``, a JSON list of texts, and
``offset``, ``scale`` and ``stored``, which stand together or not at all; the first two
are numbers, or JSON lists of one number for each channel.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from fedprune.common.description import MOST_CHANNELS, Description, Numbers, checked
from fedprune.common.errors import IntegrityError
from fedprune.common.parsing import parse_json
from fedprune.common.system.atomic import write_bytes_atomic

LABELS_FILE = "labels.json"
DESCRIPTION_KEYS = ("labels", "offset", "scale", "stored")

_SCALING = DESCRIPTION_KEYS[1:]
_LONGEST_NUMBER = 32  # characters


def description_metadata(description: Description) -> dict[str, str]:
    """Return a description as metadata; what it does not say has no key."""
    found: dict[str, str] = {}
    if description.labels:
        found["labels"] = json.dumps(list(description.labels), ensure_ascii=False)
    if description.stored:
        found["offset"] = numbers_text(description.offset)
        found["scale"] = numbers_text(description.scale)
        found["stored"] = description.stored
    return found


def numbers_text(numbers: Numbers) -> str:
    """Return a number, or those of the channels as a JSON list."""
    return json.dumps(list(numbers)) if isinstance(numbers, tuple) else repr(numbers)


def read_description(path: Path, metadata: Mapping[str, str]) -> Description:
    """Return the description in a file's metadata; trust nothing in it.

    Raises:
        IntegrityError: If a value is no description, or one of several is missing.
    """
    try:
        return _description(metadata)
    except ValueError as error:
        msg = f"{path}: metadata {error}"
        raise IntegrityError(msg) from error


def _description(metadata: Mapping[str, str]) -> Description:
    missing = [key for key in _SCALING if key not in metadata]
    labels = metadata.get("labels")
    names: object = () if labels is None else _parsed(labels)
    if len(missing) == len(_SCALING):
        return checked(names, 0.0, 1.0, "")
    if missing:
        msg = f"{missing[0]}: missing beside {', '.join(_SCALING)}"
        raise ValueError(msg)
    offset, scale = _numbers(metadata["offset"]), _numbers(metadata["scale"])
    return checked(names, offset, scale, metadata["stored"])


def _parsed(labels: str) -> object:
    try:
        return parse_json(labels)
    except ValueError as error:
        msg = f"labels: {error}"
        raise ValueError(msg) from error


def _numbers(text: str) -> object:
    """Return the number or the numbers of a text; the text where there are none."""
    if len(text) > _LONGEST_NUMBER * MOST_CHANNELS:
        return text[:_LONGEST_NUMBER]
    try:
        if text.startswith("["):
            return parse_json(text)
        return float(text) if len(text) <= _LONGEST_NUMBER else text
    except ValueError:
        return text


def write_labels(path: Path, description: Description) -> bool:
    """Write the names of the classes in order, as a JSON list, where there are any.

    Returns:
        Whether the file was written.

    Raises:
        FedPruneError: If it cannot be written.
    """
    if not description.labels:
        return False
    text = json.dumps(list(description.labels), ensure_ascii=False, indent=1)
    write_bytes_atomic(path, f"{text}\n".encode())
    return True
