"""The message up: the update of a client, its whole answer to one round."""

from dataclasses import dataclass
from math import ceil, inf

import numpy as np

from fedprune.common.codec import checks
from fedprune.common.codec.delta.coding import decode_fields, delta_bin
from fedprune.common.codec.delta.header import Fields, read_fields
from fedprune.common.codec.delta.quantise import dequantise_delta
from fedprune.common.codec.delta.side_information import SideInformation
from fedprune.common.codec.fields import read_statistics, statistics_fields
from fedprune.common.codec.frame import Kind, seal, unseal
from fedprune.common.errors import DataError, PayloadError, Reason, StaleUpdate
from fedprune.common.messages import (
    ClientUpdate,
    Covariances,
    QuantisedDelta,
    SparseDelta,
    Statistics,
    Validation,
)
from fedprune.common.spec import ModelSpec, Vector, largest_magnitude

_FIELDS = 11
_COVARIANCES = 3  # arrays of a field that only some answers have, the last one
_HALF = "<f2"
_VALIDATION = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedUpdate(ClientUpdate):
    """An answer that was read and checked.

    Attributes:
        sparse: Its dequantised delta.
        fixed: Bytes of the message that do not grow with its number of entries.
    """

    sparse: SparseDelta
    fixed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Properties of a valid answer, which the server knows before it reads one.

    Attributes:
        run_id: The current run.
        round: The current round.
        client_id: The client that was asked.
        plan: Digest of the current prune plan.
        base: Digest of the decoded broadcast.
        side_info: Side information of both ends: the decoded broadcast; under a mask
            also the positions of all entries, which are then not sent.
        values: Value format, as in ``TrainSettings.values``.
        update_density: Largest share of entries that an answer may send.
        scored: Whether an importance may be present.
        measured: Whether batch-norm moments must be present.
        trained: Whether running values must be, where the network has any.
        max_bytes: Largest message accepted.
        max_examples: Largest ``num_examples`` accepted.
        max_value: Largest magnitude of one entry of the delta.
        max_weight: Largest weight in the mean, in examples; a claim beyond it counts
            as this.
        max_norm: Largest L2 norm of the delta; a longer one is shortened to it; inf =
            not known yet.
        covariances: Numbers of channels and of pairs whose covariances may be
            present; (0, 0) = none.
    """

    run_id: str
    round: int
    client_id: str
    plan: bytes
    base: bytes
    side_info: SideInformation
    values: str
    update_density: float
    scored: bool
    measured: bool
    max_bytes: int
    max_examples: int
    max_value: float
    max_weight: int
    trained: bool = True
    max_norm: float = inf
    covariances: tuple[int, int] = (0, 0)

    @property
    def moments(self) -> int:
        """Batch-norm channels whose moments must be present."""
        return self.spec.moments if self.measured else 0

    @property
    def running(self) -> int:
        """Running values that must be present."""
        return self.spec.running_size if self.trained else 0

    @property
    def spec(self) -> ModelSpec:
        """Shapes of the network that was sent."""
        return self.side_info.layout.spec


def encode_update(update: ClientUpdate, side_info: SideInformation) -> bytes:
    """Return an answer as one message; equal answers give equal bytes.

    Moments are sent as float16.  One beyond 65504 is an error, not clamped: a clamped
    moment would silently spoil the network of all clients.  Running values are float32.
    Covariances, float16 too, follow only where there are any.

    Args:
        update: The answer.
        side_info: Side information of both ends: the broadcast that it answers.

    Raises:
        DataError: If a moment does not fit float16, a running value is not finite, or
            sizes do not fit.
    """
    importance = update.importance
    validation = update.validation
    found = update.covariances
    return seal(
        Kind.UPDATE,
        [
            update.run_id,
            int(update.round),
            update.client_id,
            update.plan,
            update.base,
            int(update.num_examples),
            float(update.loss),
            delta_bin(update.delta, side_info),
            None if importance is None else importance.astype("<f4").tobytes(),
            statistics_fields(
                _representable(update.statistics, side_info.layout.spec), _HALF
            ),
            [
                float(validation.loss_sum),
                checks.short_number(validation.metric_sum),
                int(validation.count),
            ],
            *([] if found is None else [_covariance_fields(found)]),
        ],
    )


def decode_update(data: bytes, expected: Expected) -> DecodedUpdate:
    """Return the answer in ``data``; trust nothing in it.

    The whole message is validated before anything is returned.

    Args:
        data: The message.
        expected: Properties of a valid answer.

    Raises:
        StaleUpdate: If it answers another run, round, plan or broadcast.
        PayloadError: If it is not a valid answer for another reason.
    """
    value = unseal(data, Kind.UPDATE, expected.max_bytes)
    told = sum(expected.covariances) > 0 and _tells_covariances(value)
    fields = checks.array(value, "update", _FIELDS + told)
    _check_answers(fields, expected)
    most = expected.max_examples
    num_examples = checks.integer(fields[5], "num_examples", 1, most)
    loss = checks.number(fields[6], "loss", -checks.LARGEST, checks.LARGEST)
    importance = _read_importance(fields[8], expected)
    statistics = _read_statistics(fields[9], expected)
    validation = _read_validation(fields[10], most)
    covariances = _read_covariances(fields[11], expected) if told else None
    # Last: it costs most to decode.
    encoded = read_fields(checks.blob(fields[7], "delta"))
    delta = _read_delta(encoded, expected)
    return DecodedUpdate(
        run_id=expected.run_id,
        round=expected.round,
        client_id=expected.client_id,
        plan=expected.plan,
        base=expected.base,
        num_examples=num_examples,
        loss=loss,
        importance=importance,
        statistics=statistics,
        validation=validation,
        covariances=covariances,
        delta=delta,
        sparse=_read_values(delta, expected),
        fixed=len(data) - encoded.entries,
    )


def _tells_covariances(value: object) -> bool:
    return type(value) is tuple and len(value) == _FIELDS + 1


def _covariance_fields(found: Covariances) -> list[bytes]:
    arrays = (found.mean, found.deviation, found.correlation)
    return [array.astype(_HALF).tobytes() for array in arrays]


def _read_covariances(value: object, expected: Expected) -> Covariances:
    items = checks.array(value, "covariances", _COVARIANCES)
    channels, pairs = expected.covariances
    deviation = checks.floats(items[1], "covariances.deviation", _HALF, channels)
    correlation = checks.floats(items[2], "covariances.correlation", _HALF, pairs)
    if np.any(np.abs(correlation) > 1.0):
        detail = "a correlation beyond 1"
        raise PayloadError(Reason.BAD_VALUE, "covariances.correlation", detail)
    return Covariances(
        mean=checks.floats(items[0], "covariances.mean", _HALF, channels),
        deviation=checks.at_least_zero(deviation, "covariances.deviation"),
        correlation=correlation,
    )


def _check_answers(fields: tuple[object, ...], expected: Expected) -> None:
    """Check that the update answers this run, round, client, plan and broadcast."""
    client_id = checks.name(fields[2], "client_id")
    pairs: list[tuple[str, object, object]] = [
        ("run_id", checks.name(fields[0], "run_id"), expected.run_id),
        ("round", _round(fields[1]), expected.round),
        ("plan", checks.digest(fields[3], "plan").hex(), expected.plan.hex()),
        ("base", checks.digest(fields[4], "base").hex(), expected.base.hex()),
    ]
    if client_id != expected.client_id:
        detail = f"{client_id!r}; want {expected.client_id!r}"
        raise PayloadError(Reason.MISMATCH, "client_id", detail)
    for field, found, wanted in pairs:
        if found != wanted:
            detail = f"{found!r}; want {wanted!r}"
            raise StaleUpdate(Reason.MISMATCH, field, detail)


def _round(value: object) -> int:
    return checks.integer(value, "round", 1, checks.MAX_ROUND)


def _read_delta(encoded: Fields, expected: Expected) -> QuantisedDelta:
    side_info = expected.side_info
    most = ceil(expected.update_density * side_info.layout.size)
    if side_info.mask is not None:
        most = int(np.count_nonzero(side_info.mask))
    return decode_fields(encoded, side_info, values=expected.values, max_entries=most)


def _read_values(delta: QuantisedDelta, expected: Expected) -> SparseDelta:
    sparse = dequantise_delta(delta, expected.spec)
    most = np.float64(expected.max_value)  # a float would be rounded to float32
    if not largest_magnitude(sparse.values) <= most:
        bad = np.flatnonzero(~(np.abs(sparse.values) <= most))
        tensor = expected.spec.tensor_at(int(delta.indices[bad[0]]))
        found = sparse.values[bad[0]]
        detail = f"{found}; want at most {expected.max_value} in magnitude"
        raise PayloadError(Reason.BAD_VALUE, f"delta.values of '{tensor}'", detail)
    return sparse


def _read_importance(value: object, expected: Expected) -> Vector | None:
    if value is None:
        return None
    if not expected.scored:
        detail = "present; this round asked for none"
        raise PayloadError(Reason.MISMATCH, "importance", detail)
    units = expected.spec.units
    found = checks.floats(value, "importance", "<f4", units)
    return checks.at_least_zero(found, "importance")


def _read_statistics(value: object, expected: Expected) -> Statistics | None:
    if (value is not None) != (expected.measured or expected.running > 0):
        found = "missing" if value is None else "present"
        detail = f"{found}; this round asked for {'some' if value is None else 'none'}"
        raise PayloadError(Reason.MISMATCH, "statistics", detail)
    if value is None:
        return None
    return read_statistics(
        value,
        _HALF,
        expected.max_examples,
        moments=expected.moments,
        running=expected.running,
    )


def _read_validation(value: object, max_examples: int) -> Validation:
    items = checks.array(value, "validation", _VALIDATION)
    count = checks.integer(items[2], "validation.count", 0, max_examples)
    return Validation(
        loss_sum=checks.number(items[0], "validation.loss_sum", 0.0, checks.LARGEST),
        metric_sum=checks.read_short(items[1], "validation.metric_sum"),
        count=count,
    )


def _representable(statistics: Statistics | None, spec: ModelSpec) -> Statistics | None:
    """Return the statistics; refuse what a message cannot represent."""
    if statistics is None:
        return None
    lost = np.flatnonzero(~np.isfinite(statistics.running))
    if len(lost):
        msg = f"buffer '{spec.running_at(int(lost[0]))}' is not finite after training"
        raise DataError(msg)
    for field in ("mean", "variance"):
        moments = getattr(statistics, field)
        with np.errstate(over="ignore", under="ignore"):
            bad = int(np.count_nonzero(~np.isfinite(moments.astype(_HALF))))
        if bad:
            largest = float(np.abs(moments).max())
            msg = (
                f"statistics: {bad} entries of {field} do not fit float16 (largest "
                f"{largest:g}; want at most 65504): lower client.lr or scale the data"
            )
            raise DataError(msg)
    return statistics
