"""Messages between driver and workers: round requests down, partial aggregates up.

They are not federated traffic and are counted apart (``bytes_simulation``).  Both ends
are trusted, so they are plain msgpack; the clients' own messages inside keep their
frames.  Arrays are raw little-endian bytes.  A sum is the longest by far: its integers
have as many bytes as the greatest needs, and zeros that are many are left out.
"""

from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from fedprune.common.aggregate import Accumulator, Limits
from fedprune.common.errors import PayloadError, Reason
from fedprune.common.messages import Covariances, Statistics, Validation
from fedprune.common.profiling.plain import profile_in, profile_out
from fedprune.common.text import error_line
from fedprune.server.rounds.engine import (
    Assignment,
    PartialAggregate,
    RoundRequest,
    RoundWork,
    individual_update,
)
from fedprune.server.rounds.records import ClientRecord, Status


def encode_job(request: RoundRequest, assignments: tuple[Assignment, ...]) -> bytes:
    """Encode the request of one worker."""
    wanted = sorted({assignment.variant for assignment in assignments})
    return _pack(
        [
            [request.variants[number] for number in wanted],
            [
                [o.client_id, wanted.index(o.variant), o.acknowledged, o.max_weight]
                for o in assignments
            ],
            [request.limits.clients, request.limits.max_examples],
            request.max_bytes,
            request.individual_updates,
            request.max_norm,
            request.covariances,
            request.attempt,
        ],
    )


def decode_job(data: bytes) -> RoundRequest:
    """Decode the request of one worker."""
    fields = _unpack(data, "job", 8)
    variants, rows, limits, max_bytes, individual_updates, *rest = fields
    max_norm, pairs, attempt = rest
    assignments = tuple(
        Assignment(
            client_id=name, variant=variant, acknowledged=last, max_weight=weight
        )
        for name, variant, last, weight in rows
    )
    return RoundRequest(
        variants=tuple(variants),
        assignments=assignments,
        limits=Limits(clients=limits[0], max_examples=limits[1]),
        max_bytes=max_bytes,
        individual_updates=individual_updates,
        max_norm=max_norm,
        covariances=(pairs[0], pairs[1]),
        attempt=attempt,
    )


def encode_part(part: PartialAggregate) -> bytes:
    """Encode the partial aggregate of one worker."""
    total = part.total
    return _pack(
        [
            [_record_out(record) for record in part.records],
            _sums_out(total.delta_sum),
            [total.num_examples, total.num_clients],
            [
                [individual.client_id, individual.answer]
                for individual in part.individual_updates
            ],
            None if part.profile is None else profile_out(part.profile),
        ],
    )


def decode_part(data: bytes, work: RoundWork) -> PartialAggregate:
    """Decode the partial aggregate of one worker.

    Raises:
        PayloadError: If it is malformed, or its sums or single answers do not fit the
            round.
    """
    fields = _unpack(data, "part", 5)
    try:
        return _part_in(fields, work)
    except PayloadError:
        raise
    except Exception as error:  # a field of another kind
        raise PayloadError(Reason.BAD_FRAME, "part", error_line(error)) from error


def _part_in(fields: list[Any], work: RoundWork) -> PartialAggregate:
    rows, deltas, counts, individual_updates, profile = fields
    size = work.spec.size
    total = Accumulator(size, work.request.limits)
    if counts[1] > 0:
        total.delta_sum = _sums_in(deltas, size)
        total.num_examples, total.num_clients = counts
    asked = {
        assignment.client_id: assignment for assignment in work.request.assignments
    }
    return PartialAggregate(
        records=tuple(_record_in(row) for row in rows),
        total=total,
        individual_updates=tuple(
            individual_update(answer, work.expected(asked[client_id]))
            for client_id, answer in individual_updates
        ),
        profile=None if profile is None else profile_in(profile),
    )


def _pack(fields: list[object]) -> bytes:
    packed: bytes = msgpack.packb(fields, use_bin_type=True)
    return packed


def _unpack(data: bytes, name: str, count: int) -> list[Any]:
    try:
        fields = msgpack.unpackb(data, raw=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise PayloadError(Reason.BAD_FRAME, name, f"{error}") from error
    if not isinstance(fields, list) or len(fields) != count:
        raise PayloadError(Reason.BAD_FRAME, name, f"want {count} fields")
    return fields


def _sums_out(sums: NDArray[np.int64]) -> list[object]:
    """Return length, bytes of a value, bits of the values that are there, values.

    No bits = all values are there.
    """
    filled = sums != 0
    most = int(np.max(np.abs(sums), initial=0))
    width = most.bit_length() // 8 + 1  # with a sign
    left_out = len(sums) - int(np.count_nonzero(filled))
    sparse = left_out * width > len(sums) // 8
    values = (sums[filled] if sparse else sums).astype("<i8", copy=False)
    places = np.packbits(filled).tobytes() if sparse else b""
    low = values.view(np.uint8).reshape(-1, 8)[:, :width]
    return [len(sums), width, places, low.tobytes()]


def _sums_in(row: list[Any], size: int) -> NDArray[np.int64]:
    length, width, places, low = row
    whole = len(places) in (0, (size + 7) // 8)
    if length != size or not whole or not 1 <= width <= 8:  # noqa: PLR2004 - of an int64
        detail = f"{length} sums of {width} bytes, {len(places)} bytes of places; want "
        detail += f"{size} of 1..8, and a bit for each or none"
        raise PayloadError(Reason.BAD_SIZE, "delta_sum", detail)
    count, filled = size, None
    if places:
        bits = np.frombuffer(places, dtype=np.uint8)
        filled = np.unpackbits(bits, count=size).astype(np.bool_)
        count = int(np.count_nonzero(filled))
    wide = np.zeros((count, 8), dtype=np.uint8)
    # The upper bytes, so that the shift back brings the sign.
    wide[:, 8 - width :] = np.frombuffer(low, dtype=np.uint8).reshape(count, width)
    values: NDArray[np.int64] = wide.view("<i8").ravel() >> (8 * (8 - width))
    if filled is None:
        return values
    sums = np.zeros(size, dtype=np.int64)
    sums[filled] = values
    return sums


def _record_out(record: ClientRecord) -> list[object]:
    validation = record.validation
    return [
        record.client_id,
        record.status.value,
        record.reason,
        [record.bytes_down, record.bytes_up, record.bytes_fixed, record.num_examples],
        [float(record.norm), record.factor, float(record.loss), record.seconds],
        None if record.importance is None else record.importance.tobytes(),
        None
        if validation is None
        else [validation.loss_sum, validation.metric_sum, validation.count],
        _moments_out(record.statistics),
        _covariances_out(record.covariances),
        record.residual_lost,
    ]


def _record_in(row: list[object]) -> ClientRecord:
    client_id, status, reason, counts, numbers, importance, validation, *rest = row
    moments, told, lost = rest
    assert isinstance(counts, list | tuple)  # noqa: S101 - our own worker wrote it
    assert isinstance(numbers, list | tuple)  # noqa: S101
    return ClientRecord(
        client_id=str(client_id),
        status=Status(str(status)),
        reason=str(reason),
        bytes_down=counts[0],
        bytes_up=counts[1],
        bytes_fixed=counts[2],
        num_examples=counts[3],
        norm=numbers[0],
        factor=numbers[1],
        loss=numbers[2],
        seconds=numbers[3],
        importance=_floats(importance),
        validation=_validation(validation),
        statistics=_moments_in(moments),
        covariances=_covariances_in(told),
        residual_lost=bool(lost),
    )


def _moments_out(statistics: Statistics | None) -> list[object] | None:
    if statistics is None:
        return None
    mean, variance = statistics.mean.tobytes(), statistics.variance.tobytes()
    return [statistics.num_examples, mean, variance, statistics.running.tobytes()]


def _moments_in(row: object) -> Statistics | None:
    if not isinstance(row, list | tuple):
        return None
    return Statistics(
        num_examples=row[0],
        mean=np.frombuffer(row[1], dtype="<f4"),
        variance=np.frombuffer(row[2], dtype="<f4"),
        running=np.frombuffer(row[3], dtype="<f4"),
    )


def _covariances_out(found: Covariances | None) -> list[bytes] | None:
    if found is None:
        return None
    arrays = (found.mean, found.deviation, found.correlation)
    return [array.astype("<f4").tobytes() for array in arrays]


def _covariances_in(row: object) -> Covariances | None:
    if not isinstance(row, list | tuple):
        return None
    mean, deviation, correlation = (np.frombuffer(one, dtype="<f4") for one in row)
    return Covariances(mean=mean, deviation=deviation, correlation=correlation)


def _floats(data: object) -> NDArray[np.float32] | None:
    return np.frombuffer(data, dtype="<f4") if isinstance(data, bytes) else None


def _validation(row: object) -> Validation | None:
    if not isinstance(row, list | tuple):
        return None
    return Validation(loss_sum=row[0], metric_sum=row[1], count=row[2])
