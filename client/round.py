"""The client's half of a round, on one screen: one message in, one message out."""

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from client.bench import Workbench
from client.held import Taken, hold_on, take
from client.masked import open_mask
from client.measure import measure_statistics, validate
from client.score import balanced, score
from client.state import ClientStore, Generation
from client.train import Lesson, teach, train
from common import codec
from common.codec import Known
from common.data.examples import Examples
from common.errors import DataError, IntegrityError, PayloadError, Reason
from common.messages import (
    Broadcast,
    ClientUpdate,
    Mask,
    ModelSpec,
    QuantisedDelta,
    RoundPlan,
    SparseDelta,
    TrainSettings,
    Vector,
    WeightMask,
)
from common.models.flat import get_weights
from common.pruning.plan import check_plan
from common.pruning.remap import remap
from common.pruning.structure import Structure
from common.seeding import Use, generator, seed_torch
from common.sparsity.gates import build_gates
from common.sparsity.masks import without_positions
from common.sparsity.penalty import Aim, build_penalty
from common.sparsity.rate import sparsify_by_rate
from common.sparsity.topk import dense, sparsify


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A plan whose parts have been read and checked against each other.

    Attributes:
        plan: The plan.
        structure: The original network.
        spec: Shapes of the network that was sent.
        taken: Its broadcast, read.
        mask: The weight mask that it is under, or None.
    """

    plan: RoundPlan
    structure: Structure
    spec: ModelSpec
    taken: Taken
    mask: WeightMask | None = None

    @property
    def weights(self) -> Vector:
        """The decoded broadcast, float32[n]."""
        return self.taken.weights

    @property
    def broadcast(self) -> Broadcast:
        """The broadcast in an encoding that stands alone, whichever way it came."""
        return replace(self.plan.broadcast, weights=self.taken.full)


def run_round(plan: RoundPlan, bench: Workbench, store: ClientStore) -> bytes:
    """Answer one plan.

    Raises:
        PayloadError: If the plan does not fit itself or what this client knows.
        DataError: If the client has no example to train on: it abstains.
        IntegrityError: If the server believes that this client holds something that
            it does not: it must be sent again.
    """
    opened = open_plan(plan, bench, store)
    plan = opened.plan
    data = bench.data(plan.client_id)
    if len(data.train) == 0:
        msg = f"client {plan.client_id} holds no training example and abstains"
        raise DataError(msg)
    keep = plan.broadcast.plan.keep
    teacher = _lesson(opened, bench, store, data.train)
    model = bench.network(
        opened.structure, keep, opened.weights, plan.broadcast.statistics
    )
    validation = validate(model, data.validation, bench.task)
    importance = _importance(opened, bench, data.train)
    limit = bench.task.config.client.score_examples
    statistics = (
        measure_statistics(model, data.train, limit) if plan.settings.measure else None
    )
    lesson = Lesson(
        examples=data.train,
        task=bench.task,
        settings=plan.settings,
        penalty=build_penalty(opened.structure, keep, opened.weights, _aim(plan)),
        gates=build_gates(opened.structure, keep, _aim(plan)),
        teacher=teacher,
        mask=None if opened.mask is None else opened.mask.keep,
    )
    seed = bench.task.config.run.seed
    rng = generator(seed, plan.round, plan.client_id, Use.SHUFFLE)
    with seed_torch(seed, plan.round, plan.client_id, Use.DROPOUT):
        loss = train(model, lesson, rng)
    known = codec.hold(opened.spec, opened.weights, mask=_agreed(opened))
    delta = _send(opened, known, store, get_weights(model) - opened.weights)
    update = ClientUpdate(
        run_id=plan.run_id,
        round=plan.round,
        client_id=plan.client_id,
        plan=plan.broadcast.plan.digest,
        base=plan.broadcast.digest,
        num_examples=len(data.train),
        loss=loss,
        delta=delta,
        importance=importance,
        statistics=statistics,
        validation=validation,
    )
    return codec.encode_update(update, known)


def _agreed(opened: Opened) -> Mask | None:
    """Return where all entries of the update are, if no positions travel."""
    settings = opened.plan.settings
    density = settings.update_density if settings.epochs else 0.0
    return without_positions(opened.mask, density)


def _aim(plan: RoundPlan) -> Aim:
    settings = plan.settings
    return Aim(name=settings.penalty, strength=settings.strength, targets=plan.targets)


def open_plan(plan: RoundPlan, bench: Workbench, store: ClientStore) -> Opened:
    """Read structure, plan and weights; keep what the server will not send again."""
    name = f"structure-{plan.structure.hex()}.json"
    text = plan.structure_json or store.load_shared(name)
    if text is None:
        msg = f"structure {plan.structure.hex()} is not held here: send it again"
        raise IntegrityError(msg)
    structure = bench.structure(plan.structure, text)
    if structure.digest != plan.structure:
        detail = f"digest {structure.digest.hex()}; want {plan.structure.hex()}"
        raise PayloadError(Reason.BAD_DIGEST, "structure", detail)
    if plan.structure_json:
        store.save_shared(name, text)
    check_plan(structure, plan.broadcast.plan)
    if plan.targets is not None and len(plan.targets) != structure.units:
        detail = f"{len(plan.targets)} units; want {structure.units}"
        raise PayloadError(Reason.BAD_SIZE, "targets", detail)
    spec = structure.spec(plan.broadcast.plan.keep)
    taken = bench.taken(plan.broadcast, lambda: take(plan.broadcast, structure, store))
    hold_on(taken, plan.broadcast.plan, plan.round, store)
    mask = open_mask(plan, spec, store)
    opened = Opened(plan=plan, structure=structure, spec=spec, taken=taken, mask=mask)
    if plan.keep_broadcast:
        _keep_teacher(opened.broadcast, store)
    return opened


def _keep_teacher(broadcast: Broadcast, store: ClientStore) -> None:
    name = f"broadcast-{broadcast.digest.hex()}.bin"
    store.save_shared(name, codec.encode_broadcast(broadcast))


def _lesson(
    opened: Opened, bench: Workbench, store: ClientStore, examples: Examples
) -> Tensor | None:
    """Return the teacher's outputs on the client's examples, or None without one."""
    plan = opened.plan
    if not plan.teacher or plan.settings.distill_weight <= 0.0:
        return None
    if plan.teacher_broadcast is not None:
        _keep_teacher(plan.teacher_broadcast, store)
    return bench.lesson(
        plan.teacher,
        plan.client_id,
        lambda: _teacher_outputs(opened, bench, store, examples),
    )


def _teacher_outputs(
    opened: Opened, bench: Workbench, store: ClientStore, examples: Examples
) -> Tensor:
    """Build the teacher and return its outputs, float32[n, outputs]."""
    plan = opened.plan
    broadcast = plan.teacher_broadcast
    if broadcast is None:
        data = store.load_shared(f"broadcast-{plan.teacher.hex()}.bin")
        if data is None:
            msg = f"teacher {plan.teacher.hex()} is not held here: send it again"
            raise IntegrityError(msg)
        broadcast = codec.decode_broadcast(data)
    check_plan(opened.structure, broadcast.plan)
    spec = opened.structure.spec(broadcast.plan.keep)
    weights = codec.decode_weights(broadcast.weights, spec)
    codec.check_weights(weights, plan.teacher)
    model = bench.network(
        opened.structure, broadcast.plan.keep, weights, broadcast.statistics
    )
    return teach(model, examples)


def _importance(opened: Opened, bench: Workbench, examples: Examples) -> Vector | None:
    """Score the broadcast; a client with one class or one example abstains."""
    plan = opened.plan
    if not plan.settings.importance:
        return None
    config = bench.task.config
    seed = config.run.seed
    rng = generator(seed, plan.round, plan.client_id, Use.SCORE)
    targets = examples.targets
    if len(np.unique(targets)) < 2:  # noqa: PLR2004 - one class shows no contrast
        return None
    chosen = balanced(targets, config.client.score_examples, rng)
    keep = plan.broadcast.plan.keep
    model = bench.network(
        opened.structure, keep, opened.weights, plan.broadcast.statistics
    )
    return score(
        model,
        examples.take(chosen),
        bench.task,
        opened.structure,
        keep,
        criterion=plan.settings.importance,
    )


def _send(
    opened: Opened, known: Known, store: ClientStore, delta: Vector
) -> QuantisedDelta:
    """Choose what is sent, keep the rest for later, and return what travels."""
    settings = opened.plan.settings
    keep = opened.plan.broadcast.plan.keep
    if settings.epochs == 0:  # nothing was trained, so nothing is owed or sent
        nothing = sparsify(np.zeros_like(delta), settings.update_density)
        return codec.quantise_delta(nothing, opened.spec, settings.values)
    total = delta
    if settings.error_feedback:
        total = delta + _residual(opened, store)
    if opened.mask is not None:
        total = opened.mask.apply(total)  # what was owed to masked weights is dropped
    if not np.all(np.isfinite(total)):
        # Kept back, it would spoil every later round of this client.
        msg = f"client {opened.plan.client_id} diverged: its weights are not finite"
        raise DataError(msg)
    chosen = _choose(total, settings, known)
    quantised = codec.quantise_delta(
        chosen, opened.spec, settings.values, settings.step_error
    )
    sent = codec.dequantise_delta(quantised, opened.spec)
    if settings.error_feedback:
        left = total - dense(sent)
        store.save_generation(
            Generation(round=opened.plan.round, keep=keep, sent=sent, residual=left)
        )
    return quantised


def _choose(total: Vector, settings: TrainSettings, known: Known) -> SparseDelta:
    """Return the entries that are sent, before they are quantised."""
    if known.mask is not None:  # it has chosen already, and no positions travel
        return sparsify(total, 1.0)
    if settings.choice == "magnitude":
        return sparsify(total, settings.update_density)
    bits = codec.value_bits(settings.values)
    return sparsify_by_rate(total, settings.update_density, known.shape, bits)


def _residual(opened: Opened, store: ClientStore) -> Vector:
    """Return what earlier rounds owe, cut or regrown to the current plan.

    Raises:
        PayloadError: If the plan gives units back without saying that it is a
            rollback: plans only shrink.
    """
    plan = opened.plan
    keep = plan.broadcast.plan.keep
    last = store.load_generation(plan.round)
    if last is None:
        return np.zeros(opened.spec.size, dtype=np.float32)
    if bool(np.any(keep & ~last.keep)) and not plan.broadcast.plan.rollback:
        detail = f"gives back units cut before round {last.round} and is no rollback"
        raise PayloadError(Reason.BAD_VALUE, "plan.keep", detail)
    owed = last.residual
    if plan.acknowledged != last.round:
        owed = owed + dense(last.sent)
    owed = owed * np.float32(plan.settings.decay ** (plan.round - last.round))
    return remap(owed, opened.structure, last.keep, keep)
