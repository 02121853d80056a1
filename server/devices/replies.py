"""Flower's messages: sending, pulling replies one by one, reading untrusted replies.

A node chooses the content of its reply, so reading one may raise any error.  The error
becomes the reason for which that reply is refused; the other replies are not affected.
"""

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import httpx
from flwr.app import Message
from flwr.serverapp import Grid

from fedprune.common.errors import FedPruneError, PayloadError, Reason
from fedprune.common.flower.payload import ARRAY, LOST, NOTES, RECORD, check_payload
from fedprune.common.text import error_line, printable
from fedprune.server.devices.gate.uploads import OVERSIZED

UNSENT = "Flower did not accept its message"
# Flower's numbers of the errors that it makes itself (``ErrorCode``), in our words.
_WORDS = {
    3: "the message to it has expired before it was fetched",
    4: "its answer has expired before it was fetched",
    5: "it is away: the server has not heard of it for 60 s",
    8: "its executor stopped responding",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The reply to one message.

    Attributes:
        number: Flower's id of the message that was sent.
        message: The reply, or None when it cannot be used.
        reason: Why it cannot be used, one printable line, or empty.
        failed: Whether the node itself reports a failure.
        away: Whether Flower has not heard of the node, which may come back.
    """

    number: str
    message: Message | None
    reason: str = ""
    failed: bool = False
    away: bool = False


def send(grid: Grid, messages: Iterable[Message]) -> list[str | None]:
    """Push messages; return Flower's ids in their order, None for one not accepted."""
    wanted = list(messages)
    sent: list[str | None] = list(grid.push_messages(wanted))
    # All are missing when they exceed Flower's largest message.
    return [*sent, *[None] * (len(wanted) - len(sent))]


def arrived(grid: Grid, numbers: Collection[str]) -> Iterator[Reply]:
    """Yield the replies that have arrived for these messages.

    Pulled one by one: Flower raises when it cannot assemble a reply, and all replies
    pulled in the same call are then lost.

    Raises:
        httpx.HTTPError: If Flower's link cannot be reached, which it retries itself.
    """
    for number in list(numbers):
        found = _pull(grid, number)
        if found is not None:
            yield found


def _pull(grid: Grid, number: str) -> Reply | None:
    try:
        for message in grid.pull_messages([number]):
            if message.has_error():
                code = message.error.code
                why = _WORDS.get(code) or printable(message.error.reason)
                failed = code != OVERSIZED
                return Reply(
                    number=number,
                    message=None,
                    reason=why,
                    failed=failed,
                    away=code in _WORDS,
                )
            return Reply(number=number, message=message)
    except httpx.HTTPError:
        raise  # the server's own connection: not caused by a node
    except Exception as error:  # whatever the node has put into it
        return Reply(number=number, message=None, reason=unreadable(error))
    return None


def unreadable(error: Exception) -> str:
    """Return the reason why a reply cannot be read, one printable line."""
    if isinstance(error, FedPruneError):
        return printable(error)
    return f"its reply cannot be read: {error_line(error)}"


def payload(message: Message, max_bytes: int) -> bytes:
    """Return the bytes of a reply.

    Raises:
        Exception: Of any class, if the reply is malformed.
    """
    array = message.content.array_records[RECORD][ARRAY]
    return check_payload(array.stype, array.data, max_bytes)


def said(message: Message, record: str = RECORD) -> dict[str, object]:
    """Return the plain values of a reply, untrusted.

    Raises:
        Exception: Of any class, if the reply is malformed.
    """
    records = message.content.config_records
    return dict(records[record]) if record in records else {}


def has_lost(message: Message, acknowledged: int) -> bool:
    """Return whether a client notes that its residual is missing.

    Args:
        message: Its answer.
        acknowledged: The last round whose answer was accepted, 0 for none: a
            client without one has no residual.

    Raises:
        Exception: Of any class, if the notes are malformed.
    """
    notes = said(message, NOTES)
    if not notes:
        return False
    value = notes.get(LOST)
    if value is not True or len(notes) > 1:
        raise PayloadError(Reason.BAD_VALUE, LOST, _found(value, "true, alone"))
    if acknowledged == 0:
        detail = "true of a client without an accepted answer"
        raise PayloadError(Reason.BAD_VALUE, LOST, detail)
    return True


def count_of(values: dict[str, object], name: str) -> int:
    """Return a count in a reply.

    Raises:
        PayloadError: If it is not a whole number >= 0.
    """
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise PayloadError(Reason.BAD_VALUE, name, _found(value, "a count"))
    return value


def share_of(values: dict[str, object], name: str) -> float:
    """Return a share in a reply, or NaN from a device without test examples.

    Raises:
        PayloadError: If it is not a number in 0..1.
    """
    value = values.get(name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    share = float(value) if number else math.inf  # type: ignore[arg-type]
    if not (math.isnan(share) or 0.0 <= share <= 1.0):
        raise PayloadError(Reason.BAD_VALUE, name, _found(value, "a share, 0 to 1"))
    return share


def _found(value: object, wanted: str) -> str:
    shown = repr(value) if isinstance(value, int | float) else type(value).__name__
    return f"{shown}; want {wanted}"
