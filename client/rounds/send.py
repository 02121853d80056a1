"""What a client sends of what it learned, and what it owes to later rounds."""

import numpy as np

from fedprune.client.rounds.opened import Opened
from fedprune.client.rounds.store import ClientStore, Generation
from fedprune.common import codec
from fedprune.common.codec import SideInformation
from fedprune.common.errors import DataError, PayloadError, Reason
from fedprune.common.messages import QuantisedDelta, SparseDelta, TrainSettings
from fedprune.common.methods.kinds import CHOICE
from fedprune.common.methods.registry import find
from fedprune.common.pruning.remap import remap
from fedprune.common.sparsity.sparsify import dense, sparsify
from fedprune.common.spec import Vector


def send(opened: Opened, store: ClientStore, delta: Vector) -> QuantisedDelta:
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
        msg = f"client {opened.plan.client_id} diverged: its weights are not finite;"
        msg += f" want a lower client.lr (it is {settings.lr:g})"
        raise DataError(msg)
    chosen = _choose(total, settings, opened.side_info)
    quantised = codec.quantise_delta(
        chosen, opened.spec, settings.values, settings.step_error
    )
    if settings.error_feedback:
        sent = codec.dequantise_delta(quantised, opened.spec)
        left = total - dense(sent)
        store.save_generation(
            Generation(round=opened.plan.round, keep=keep, sent=sent, residual=left)
        )
    return quantised


def _choose(
    total: Vector, settings: TrainSettings, side_info: SideInformation
) -> SparseDelta:
    """Return the entries that are sent, before they are quantised."""
    if side_info.mask is not None:  # it has chosen already, and no positions travel
        return sparsify(total, 1.0)
    return sparsify(
        total,
        settings.update_density,
        find(CHOICE, settings.choice),
        layout=side_info.layout,
        value_bits=codec.value_bits(settings.values),
    )


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
