"""Messages between driver and workers: round requests down, partial aggregates up.

They are not federated traffic and are counted apart (``bytes_simulation``).  Both ends
are trusted, so they are plain msgpack; the clients' own messages inside keep their
frames.  Arrays are raw little-endian bytes.  A sum is the longest by far: its integers
have 4, 6 or 8 bytes, as the greatest needs, and zeros that are many are left out.
"""

from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from fedprune.common.aggregate import Accumulator, Limits
from fedprune.common.codec.frame import Bytes, pack
from fedprune.common.errors import PayloadError, Reason
from fedprune.common.messages import Covariances, Statistics, Validation
from fedprune.common.profiling.plain import profile_in, profile_out
from fedprune.common.text import error_line
from fedprune.server.rounds.engine import (
    Assignment,
    PartialAggregate,
    RoundRequest,
    RoundWork,
    encoded_update,
)
from fedprune.server.rounds.records import ClientRecord, Status

_LOW, _HIGH = 4, (0, 2, 4)  # bytes of the parts of a sum


def encode_job(request: RoundRequest, assignments: tuple[Assignment, ...]) -> bytes:
    """Encode the request of one worker."""
    wanted = sorted({assignment.variant for assignment in assignments})
    return pack(
        [
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
            *(request.variants[number] for number in wanted),
        ],
    )


def decode_job(data: bytes) -> RoundRequest:
    """Decode the request of one worker."""
    fields = _unpack(data, "job", 8)
    rows, limits, max_bytes, individual_updates, *rest = fields
    max_norm, pairs, attempt, *variants = rest
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
    return pack(
        [
            [_record_out(record) for record in part.records],
            [total.num_examples, total.num_clients],
            [
                [individual.client_id, individual.answer]
                for individual in part.individual_updates
            ],
            None if part.profile is None else profile_out(part.profile),
            *_sums_out(total.delta_sum),
        ],
    )


def decode_part(data: bytes, work: RoundWork) -> PartialAggregate:
    """Decode the partial aggregate of one worker; single answers stay encoded.

    Raises:
        PayloadError: If it is malformed, or its sums do not fit the round, or it has
            the answer of a client that was not asked.
    """
    fields = _unpack(data, "part", 8)
    try:
        return _part_in(fields, work)
    except PayloadError:
        raise
    except Exception as error:  # a field of another kind
        raise PayloadError(Reason.BAD_FRAME, "part", error_line(error)) from error


def _part_in(fields: list[Any], work: RoundWork) -> PartialAggregate:
    rows, counts, individual_updates, profile, *deltas = fields
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
            encoded_update(answer, work.expected(asked[client_id]))
            for client_id, answer in individual_updates
        ),
        profile=None if profile is None else profile_in(profile),
    )


def _unpack(data: bytes, name: str, least: int) -> list[Any]:
    try:
        fields = msgpack.unpackb(data, raw=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise PayloadError(Reason.BAD_FRAME, name, f"{error}") from error
    if not isinstance(fields, list) or len(fields) < least:
        raise PayloadError(Reason.BAD_FRAME, name, f"want at least {least} fields")
    return fields


def _sums_out(sums: NDArray[np.int64]) -> list[Bytes | int]:
    """Return length, bits of the sums that are there, low and high parts of these.

    No bits = all are there.  The low part has 4 bytes of each, the high one none, 2 or
    4, as the greatest needs.
    """
    most = max(int(sums.max(initial=0)), -int(sums.min(initial=0)))
    high = next(b for b in _HIGH if most.bit_length() < 8 * (_LOW + b))
    left_out = len(sums) - int(np.count_nonzero(sums))
    places, values = b"", sums
    if left_out * (_LOW + high) > len(sums) // 8:
        filled = sums != 0
        places, values = np.packbits(filled).tobytes(), sums[filled]
    whole = np.ascontiguousarray(values, dtype="<i8")
    parts = [whole.view("<i4")[::2]]
    if high:
        parts += [whole.view(f"<i{high}")[_LOW // high :: 8 // high]]
    low, *rest = [np.ascontiguousarray(part).data.cast("B") for part in parts]
    return [len(sums), places, low, rest[0] if rest else b""]


def _sums_in(row: list[Any], size: int) -> NDArray[np.int64]:
    """Return what ``_sums_out`` was given.

    Raises:
        PayloadError: If a length is not that of this number of sums.
    """
    length, places, low, high = row
    count, filled = size, None
    if places and len(places) == (size + 7) // 8:
        bits = np.frombuffer(places, dtype=np.uint8)
        filled = np.unpackbits(bits, count=size).astype(np.bool_)
        count = int(np.count_nonzero(filled))
    wide = next((b for b in _HIGH if len(high) == b * count), None)
    if (
        length != size
        or len(low) != _LOW * count
        or wide is None
        or (places and filled is None)
    ):
        detail = f"{length} sums, {len(places)} bytes of places, {len(low)} and "
        detail += f"{len(high)} of {count} sums; want {size}, a bit for each or none, "
        detail += f"{_LOW} and one of {_HIGH} bytes for each"
        raise PayloadError(Reason.BAD_SIZE, "delta_sum", detail)
    parts = np.empty((count, 2), dtype="<i4")
    parts[:, 0] = np.frombuffer(low, dtype="<i4")
    parts[:, 1] = np.frombuffer(high, f"<i{wide}") if wide else parts[:, 0] >> 31
    values = parts.view("<i8").ravel().astype(np.int64, copy=False)
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
