"""Small messages of every kind for the tests of the codec, and a forger of messages."""

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import msgpack
import numpy as np
import xxhash

from fedprune.common import codec
from fedprune.common.messages import (
    Broadcast,
    ClientUpdate,
    Phase,
    QuantisedDelta,
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
    weights_digest,
)

SPEC = ModelSpec(
    tensors=(
        TensorSpec(name="conv.weight", shape=(4, 3, 3, 3)),
        TensorSpec(name="conv.bias", shape=(4,)),
        TensorSpec(name="empty.weight", shape=(0, 7)),
        TensorSpec(name="fc.weight", shape=(5, 4)),
        TensorSpec(name="scale", shape=()),
    ),
    moments=4,
    units=6,
)
STRUCTURE = bytes(range(16))
PLAN = PrunePlan(
    structure=STRUCTURE,
    keep=np.array([1, 1, 0, 1, 1, 0, 1, 0, 1, 1], dtype=bool),
    parent=b"p" * 16,
)
BASE: Vector = np.random.default_rng(7).normal(size=SPEC.size).astype(np.float32)
KNOWN = codec.SideInformation.of(SPEC, BASE)
SETTINGS = TrainSettings(
    epochs=2,
    batch=32,
    lr=0.05,
    momentum=0.9,
    penalty="bn-l1+group",
    strength=0.002,
    update_density=0.5,
    choice="magnitude",
    values="int8",
    step_error=0.01,
    error_feedback=True,
    decay=1.0,
    distill_weight=0.5,
    temperature=2.0,
    importance="taylor",
    measure=True,
    freeze=False,
    clip=5.0,
    validation=0.1,
    score_examples=256,
    seed=7,
)


def sparse_delta(count: int, seed: int = 0) -> SparseDelta:
    """Return ``count`` random entries of a delta of the example network."""
    rng = np.random.default_rng(seed)
    indices = np.sort(rng.choice(SPEC.size, count, replace=False))
    values = rng.normal(scale=0.1, size=count).astype(np.float32)
    return SparseDelta(size=SPEC.size, indices=indices, values=values)


def make_update(count: int, values: str = "int8", seed: int = 0) -> ClientUpdate:
    """Return an answer with every optional field present."""
    rng = np.random.default_rng(seed)
    return ClientUpdate(
        run_id="run-1",
        round=3,
        client_id="edge-03",
        plan=PLAN.digest,
        base=weights_digest(BASE),
        num_examples=100,
        loss=0.5,
        delta=codec.quantise_delta(sparse_delta(count, seed), SPEC, values),
        importance=rng.random(SPEC.units).astype(np.float32),
        statistics=Statistics(
            num_examples=90,
            mean=rng.normal(size=SPEC.moments).astype(np.float16).astype(np.float32),
            variance=rng.random(SPEC.moments).astype(np.float16).astype(np.float32),
        ),
        validation=Validation(loss_sum=4.5, metric_sum=7.0, count=10),
    )


def make_expected(values: str = "int8", **changes: Any) -> codec.Expected:
    """Return what the server expects of ``make_update``."""
    fields: dict[str, Any] = {
        "run_id": "run-1",
        "round": 3,
        "client_id": "edge-03",
        "plan": PLAN.digest,
        "base": weights_digest(BASE),
        "side_info": KNOWN,
        "values": values,
        "update_density": 0.5,
        "scored": True,
        "measured": True,
        "max_bytes": 1 << 18,
        "max_examples": 1000,
        "max_value": 10.0,
        "max_weight": 1000,
    }
    return codec.Expected(**(fields | changes))


def make_broadcast(values: str = "grid", seed: int = 1) -> Broadcast:
    """Return a broadcast of random weights."""
    weights = np.random.default_rng(seed).normal(size=SPEC.size).astype(np.float32)
    data = codec.encode_weights(weights, SPEC, values)
    return Broadcast(
        plan=PLAN,
        weights=data,
        digest=weights_digest(codec.decode_weights(data, SPEC)),
        statistics=Statistics(
            num_examples=12345,
            mean=np.float32([0.1, -2.0, 70000.0, 0.0]),
            variance=np.float32([1.0, 0.0, 1e-9, 3.0]),
        ),
    )


def make_plan() -> RoundPlan:
    """Return a plan with every optional field present."""
    teacher = make_broadcast("float32", seed=2)
    return RoundPlan(
        run_id="run-1",
        round=3,
        phase=Phase.FINETUNE,
        client_id="edge-03",
        acknowledged=2,
        settings=SETTINGS,
        structure=STRUCTURE,
        structure_json=b'{"tensors": [], "moments": [], "dims": [], "groups": []}' * 4,
        broadcast=make_broadcast(),
        teacher=teacher.digest,
        teacher_broadcast=teacher,
        teacher_statistics=teacher.statistics,
        keep_broadcast=True,
        targets=~PLAN.keep,
    )


def seal_again(body: bytes) -> bytes:
    """Return a message whose digest is right for a forged body (digest left out)."""
    kind = body[2:3] if body[:1] < b"\xdc" else body[4:5]
    update = kind == bytes([UPDATE_KIND])
    of = xxhash.xxh3_128(body) if update else blake2b(body, digest_size=16)
    return body + b"\xc4\x10" + of.digest()


def body_of(message: bytes) -> bytes:
    """Return a message without its digest."""
    return message[:-18]


def items_of(message: bytes) -> list[Any]:
    """Return the items of a message, its digest left out."""
    items: list[Any] = msgpack.unpackb(message, use_list=True)[:-1]
    return items


def message_of(items: list[Any]) -> bytes:
    """Return a message of any items, with a right digest."""
    body, last = msgpack.packb([*items, bytes(16)])[:-18], items[-1]
    if items[1] != PLAN_KIND or type(last) is not bytes or len(last) < DIGEST:
        return seal_again(body)
    # The digest of the message inside a plan stands for it.
    covered = body[: -len(last)] + body[-DIGEST:]
    return body + b"\xc4\x10" + blake2b(covered, digest_size=16).digest()


def edit(message: bytes, change: Callable[[list[Any]], object]) -> bytes:
    """Return the message with changed items and a right digest."""
    items = items_of(message)
    change(items)
    return message_of(items)


PLAN_KIND, UPDATE_KIND, DIGEST = 12, 13, 16
DELTA_ITEM = 9  # version, kind, run, round, client, plan, base, examples, loss, delta


def edit_delta(message: bytes, change: Callable[[list[Any]], object]) -> bytes:
    """Return an update whose delta has changed items, with a right digest."""
    items = items_of(message)
    parts: list[Any] = msgpack.unpackb(items[DELTA_ITEM], use_list=True)
    change(parts)
    items[DELTA_ITEM] = msgpack.packb(parts)
    return message_of(items)


def assert_same_delta(found: QuantisedDelta, wanted: QuantisedDelta) -> None:
    """Check that two deltas hold the same bits and types."""
    assert found.size == wanted.size
    for name in ("indices", "values", "scales"):
        one, other = getattr(found, name), getattr(wanted, name)
        assert one.dtype == other.dtype, name
        assert one.tobytes() == other.tobytes(), name


def assert_same_statistics(found: Statistics | None, wanted: Statistics | None) -> None:
    """Check that two statistics hold the same numbers."""
    assert (found is None) == (wanted is None)
    if found is not None and wanted is not None:
        assert found.num_examples == wanted.num_examples
        np.testing.assert_array_equal(found.mean, wanted.mean)
        np.testing.assert_array_equal(found.variance, wanted.variance)
        np.testing.assert_array_equal(found.running, wanted.running)


MATRIX = ModelSpec(
    tensors=(TensorSpec(name="w", shape=(2, 2)), TensorSpec(name="b", shape=(1,))),
    moments=0,
    units=0,
)
