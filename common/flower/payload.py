"""Payloads in Flower's transport: record names, wrapping, checks; no Flower imports."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from fedprune.common.codec.fields import SEED, VALIDATION
from fedprune.common.config import Config
from fedprune.common.errors import ConfigError, PayloadError, Reason
from fedprune.common.spec import CLIENT_NAME
from fedprune.common.text import label_fault

T = TypeVar("T")

STYPE = "fedprune.msgpack/1"
RECORD = "fedprune"
ARRAY = "payload"
STRUCTURE = "structure"  # beside the payload of a delivery
NOTES = "notes"  # an optional record beside that of an answer
LOST = "residual-lost"  # the note that the client's residual is missing: true
HELLO = "hello"  # a query action: a node answers with its client id
DELIVER = "deliver"  # a query action: a node stores the final network
RUN = "run"  # beside both: the settings of a run that a client needs without a plan
LABELS = "labels"  # in that record: the names of the classes, in order


def about_run(
    config: Config, labels: tuple[str, ...] = ()
) -> dict[str, int | float | list[str]]:
    """Return the settings that fix a client's data split and class numbers in a run.

    Args:
        config: Of the run.
        labels: Names of the classes, in order; () = the server names none.

    Raises:
        ConfigError: If a name cannot be sent.
    """
    fault = label_fault(labels)
    if fault:
        msg = f"the list of class names {fault}"
        raise ConfigError(msg)
    about: dict[str, int | float | list[str]] = {
        "seed": config.run.seed,
        "validation": float(config.client.validation),
    }
    return about | ({LABELS: list(labels)} if labels else {})


def read_about(found: Mapping[str, object]) -> tuple[int, float]:
    """Return seed and validation share of a run.

    Raises:
        PayloadError: If one is missing or out of its range.
    """
    seed = SEED(found.get("seed"), "seed")
    return seed, VALIDATION(found.get("validation"), "validation")


def read_labels(found: Mapping[str, object]) -> tuple[str, ...]:
    """Return the server's names of the classes; () = it names none.

    Raises:
        PayloadError: If they are no list of different names of a bounded length.
    """
    names = found.get(LABELS, [])
    if not isinstance(names, list) or not all(type(name) is str for name in names):
        detail = f"a {type(names).__name__}; want a list of names"
        raise PayloadError(Reason.BAD_FRAME, LABELS, detail)
    fault = label_fault(names)
    if fault:
        raise PayloadError(Reason.BAD_VALUE, LABELS, fault)
    return tuple(names)


def payload_array(
    blob: bytes, array: Callable[[str, tuple[int, ...], str, bytes], T]
) -> T:
    """Return bytes as an array of Flower's transport, with our serialisation type.

    Args:
        blob: The payload.
        array: ``flwr.app.Array``, which the caller imports: this module does not.
    """
    return array("uint8", (len(blob),), STYPE, blob)


def check_payload(stype: str, data: object, max_bytes: int) -> bytes:
    """Return the bytes of one payload array.

    Raises:
        PayloadError: If it is of another type or larger than is accepted.
    """
    if stype != STYPE:
        raise PayloadError(Reason.UNKNOWN, "stype", f"'{stype}'; want '{STYPE}'")
    if not isinstance(data, bytes):
        detail = f"a {type(data).__name__}; want bytes"
        raise PayloadError(Reason.BAD_FRAME, "message", detail)
    if len(data) > max_bytes:
        detail = f"{len(data)} bytes; want at most {max_bytes}"
        raise PayloadError(Reason.TOO_LARGE, "message", detail)
    return data


def check_client_name(name: str) -> None:
    """Refuse an invalid client name.

    Raises:
        ConfigError: Unless it is 1 to 100 letters, digits, ".", "_", "-".
    """
    if not CLIENT_NAME.fullmatch(name):
        msg = f'client "{name}": want 1 to 100 letters, digits, ".", "_", "-"'
        raise ConfigError(msg)
