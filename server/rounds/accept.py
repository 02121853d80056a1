"""What happens to one answer: read it, judge it whole, only then add it."""

from fedprune.common import codec
from fedprune.common.aggregate import Accumulator
from fedprune.common.errors import FedPruneError
from fedprune.common.messages import ClientRecord, ClientUpdate, Expected, Status
from fedprune.common.text import told
from fedprune.server.rounds.influence import check_moments, clip_delta, delta_norm


def accept_answer(
    data: bytes,
    expected: Expected,
    total: Accumulator,
    *,
    bytes_down: int,
    seconds: float,
) -> tuple[ClientRecord, ClientUpdate | None]:
    """Add one answer to the sum, or refuse it whole and say why.

    Args:
        data: The answer as it came; nothing in it is trusted.
        expected: What a valid answer looks like.
        total: Changed only when the answer is accepted.
        bytes_down: Length of the message that the client was sent.
        seconds: Time between question and answer.

    Returns:
        The client's record, and the update when it was accepted.
    """
    try:
        update = codec.decode_update(data, expected)
        delta = codec.dequantise_delta(update.delta, expected.spec)
        if update.statistics is not None:
            check_moments(update.statistics)
        weight = min(update.num_examples, expected.max_weight)
        clipped, factor = clip_delta(delta, expected.max_norm)
        total.add(clipped, weight)
    except FedPruneError as error:
        return refusal(expected.client_id, str(error), data, bytes_down), None
    except Exception as error:  # bytes from outside may find any fault of ours
        return refusal(expected.client_id, told(error), data, bytes_down), None
    record = ClientRecord(
        client_id=expected.client_id,
        status=Status.ACCEPTED,
        bytes_down=bytes_down,
        bytes_up=len(data),
        bytes_fixed=codec.fixed_bytes(data),
        num_examples=weight,
        norm=delta_norm(delta),
        factor=factor,
        loss=update.loss,
        seconds=seconds,
        importance=update.importance,
        validation=update.validation,
        statistics=update.statistics,
    )
    return record, update


def refusal(client_id: str, why: str, data: bytes, bytes_down: int) -> ClientRecord:
    """Return the record of a refused answer."""
    return ClientRecord(
        client_id=client_id,
        status=Status.REFUSED,
        reason=f"refused update of client {client_id}: {why}",
        bytes_down=bytes_down,
        bytes_up=len(data),
    )


def failure(client_id: str, why: str, bytes_down: int) -> ClientRecord:
    """Return the record of a client that could not answer."""
    return ClientRecord(
        client_id=client_id,
        status=Status.FAILED,
        reason=f"client {client_id} failed: {why}",
        bytes_down=bytes_down,
    )
