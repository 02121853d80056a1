"""Valid messages of every kind, for the mutants of ``fuzz``."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fedprune.common import codec
from fedprune.common.messages import (
    Broadcast,
    ClientUpdate,
    Phase,
    RoundPlan,
    SparseDelta,
    Statistics,
    TrainSettings,
    Validation,
)
from fedprune.common.spec import (
    ModelSpec,
    PrunePlan,
    TensorSpec,
    Vector,
    WeightMask,
    weights_digest,
)

SPEC = ModelSpec(
    tensors=(
        TensorSpec(name="conv.weight", shape=(3, 2, 2, 2)),
        TensorSpec(name="conv.bias", shape=(3,)),
        TensorSpec(name="fc.weight", shape=(3, 4)),
    ),
    moments=2,
    units=3,
)
_RNG = np.random.default_rng(7)
BASE: Vector = _RNG.normal(size=SPEC.size).astype(np.float32)
MOVED: Vector = (0.1 * _RNG.normal(size=SPEC.size)).astype(np.float32)
NAME = bytes(range(16))
PLAN = PrunePlan(structure=bytes(16), keep=np.array([1, 1, 0, 1], dtype=bool))
_CAP = 1 << 14
_MASKED = 2000  # weights: enough for their mask to be coded


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A valid message, and its decoder."""

    data: bytes
    decode: Callable[[bytes], object]


def subjects() -> list[Subject]:
    """Return one message of every kind, and of every kind of values and context."""
    found = [_plan(), _weights("float32")]
    found += [_update(values, BASE) for values in codec.VALUES]
    found.append(_update("int8", np.zeros_like(BASE)))
    return [*found, _weights("grid"), _change(), _codebook(), _mask()]


def _update(values: str, base: Vector) -> Subject:
    """Return an answer with every optional field."""
    update, side_info = update_and_side_info(values, base)
    expected = codec.Expected(
        run_id="run-1",
        round=3,
        client_id="edge-03",
        plan=PLAN.digest,
        base=weights_digest(base),
        side_info=side_info,
        values=values,
        update_density=0.6,
        scored=True,
        measured=True,
        max_bytes=_CAP,
        max_examples=1000,
        max_value=10.0,
        max_weight=1000,
    )
    return Subject(
        data=codec.encode_update(update, side_info),
        decode=lambda data: codec.decode_update(data, expected),
    )


def update_and_side_info(
    values: str = "step", base: Vector = BASE
) -> tuple[ClientUpdate, codec.SideInformation]:
    """Return an answer with every optional field, and its side information."""
    rng = np.random.default_rng(1)
    indices = np.flatnonzero(rng.random(SPEC.size) < 0.4)  # noqa: PLR2004 - of all
    sent = (0.02 * rng.normal(size=len(indices))).astype(np.float32)
    sent -= np.float32(0.1) * np.sign(base[indices])
    delta = SparseDelta(size=SPEC.size, indices=indices, values=sent)
    update = ClientUpdate(
        run_id="run-1",
        round=3,
        client_id="edge-03",
        plan=PLAN.digest,
        base=weights_digest(base),
        num_examples=100,
        loss=0.5,
        delta=codec.quantise_delta(delta, SPEC, values),
        importance=np.ones(SPEC.units, np.float32),
        statistics=_statistics(),
        validation=Validation(loss_sum=4.5, metric_sum=7.0, count=10),
    )
    return update, codec.SideInformation.of(SPEC, base)


def _statistics() -> Statistics:
    return Statistics(
        num_examples=90,
        mean=np.array([0.5, -1.0], dtype=np.float32),
        variance=np.array([1.0, 0.25], dtype=np.float32),
    )


def _weights(values: str) -> Subject:
    return Subject(
        data=codec.encode_weights(BASE, SPEC, values),
        decode=lambda data: codec.decode_weights(data, SPEC),
    )


def _change() -> Subject:
    """Return a broadcast encoded as changes on a quantisation grid."""
    base = codec.on_grid(BASE, SPEC, None)
    grid = codec.on_grid(BASE + MOVED, SPEC, base)
    name = codec.BaseName(round=2, name=base.name)
    return Subject(
        data=codec.encode_change(grid, SPEC, name, base),
        decode=lambda data: codec.decode_change(data, SPEC, base, base),
    )


def _codebook() -> Subject:
    return Subject(
        data=codec.encode_codebook(BASE, SPEC, 3),
        decode=lambda data: codec.decode_weights(data, SPEC),
    )


def _mask() -> Subject:
    """Return a weight mask that is worth coding."""
    keep = np.arange(_MASKED) % 9 == 0
    mask = WeightMask(plan=bytes(16), keep=keep, parent=NAME)
    return Subject(
        data=codec.encode_mask(mask),
        decode=lambda data: codec.decode_mask(data, _CAP),
    )


def _plan() -> Subject:
    weights = codec.encode_weights(BASE, SPEC, "grid")
    settings = TrainSettings(
        epochs=2, batch=32, lr=0.05, momentum=0.9, penalty="group", strength=0.5,
        update_density=0.5, choice="rate", values="int8", step_error=0.16,
        error_feedback=True, decay=1.0, distill_weight=0.5, temperature=2.0,
        importance="taylor", measure=True, freeze=False,
        clip=5.0, validation=0.1, score_examples=256, seed=0,
    )  # fmt: skip
    broadcast = Broadcast(
        plan=PLAN,
        weights=weights,
        digest=weights_digest(codec.decode_weights(weights, SPEC)),
        statistics=_statistics(),
    )
    plan = RoundPlan(
        run_id="run-1",
        round=3,
        phase=Phase.FINETUNE,
        client_id="edge-03",
        acknowledged=2,
        settings=settings,
        structure=bytes(16),
        structure_json=b'{"tensors": [], "moments": [], "groups": []}' * 4,
        broadcast=broadcast,
        teacher=broadcast.digest,
        teacher_broadcast=broadcast,
        keep_broadcast=True,
        targets=~PLAN.keep,
    )
    return Subject(
        data=codec.encode_plan(plan), decode=lambda data: codec.decode_plan(data, _CAP)
    )
