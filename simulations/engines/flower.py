"""One opaque blob in a Flower message, and back."""

from fedprune.common.errors import PayloadError, Reason
from fedprune.common.flower.payload import ARRAY, RECORD, STYPE, check_payload
from fedprune.common.text import told
from flwr.app import Array, ArrayRecord, Message, RecordDict


def to_content(blob: bytes) -> RecordDict:
    """Wrap bytes as the content of a message: one array with our own stype."""
    array = Array("uint8", (len(blob),), STYPE, blob)
    return RecordDict({RECORD: ArrayRecord({ARRAY: array})})


def from_content(message: Message, max_bytes: int) -> bytes:
    """Return the bytes of a message.

    Raises:
        PayloadError: If it holds anything else.
    """
    try:
        array = message.content.array_records[RECORD][ARRAY]
    except Exception as error:  # the sender decides what it holds
        raise PayloadError(Reason.BAD_FRAME, "message", told(error)) from error
    return check_payload(array.stype, array.data, max_bytes)
