"""Selection of the entries that a client sends, and the residual that it stores."""

from math import isfinite

import numpy as np

from fedprune.client.rounds.opened import OpenedPlan
from fedprune.client.rounds.steps.generations import Generation
from fedprune.client.rounds.store import ClientStore
from fedprune.common import codec
from fedprune.common.codec import SideInformation
from fedprune.common.errors import DataError, PayloadError, Reason
from fedprune.common.messages import QuantisedDelta, SparseDelta, TrainSettings
from fedprune.common.methods.kinds import CHOICE
from fedprune.common.methods.registry import find
from fedprune.common.pruning.remap import remap
from fedprune.common.sparsity.shared import CODEBOOK
from fedprune.common.sparsity.sparsify import sparsify
from fedprune.common.spec import Vector, all_positions, largest_magnitude


def send(opened: OpenedPlan, store: ClientStore, delta: Vector) -> QuantisedDelta:
    """Return the quantised entries that are sent; store the residual (error feedback).

    Law: without a weight mask, sent + residual == delta + earlier residual, up to
    rounding.

    Args:
        opened: The plan that is answered.
        store: Has the earlier residual, and takes the new one.
        delta: Trained weights minus those of the broadcast, float32[n].

    Raises:
        DataError: If the weights are not finite.
        PayloadError: As ``_residual``.
    """
    settings = opened.plan.settings
    keep = opened.plan.broadcast.plan.keep
    if settings.epochs == 0:  # nothing was trained: nothing to send or to store
        nothing = sparsify(np.zeros_like(delta), settings.update_density)
        return codec.quantise_delta(nothing, opened.spec, settings.values)
    total = delta
    if settings.error_feedback:
        total = delta + _residual(opened, store)
    if opened.mask is not None:
        total = opened.mask.apply(total)  # masked weights have no residual
    if not isfinite(largest_magnitude(total)):
        # As a residual it would spoil every later round of this client.
        msg = f"client {opened.plan.client_id} diverged: its weights are not finite;"
        msg += f" want a lower client.lr (it is {settings.lr:g})"
        raise DataError(msg)
    chosen = choose_entries(total, settings, opened.side_info)
    quantised = codec.quantise_delta(
        chosen, opened.spec, settings.values, settings.step_error
    )
    if settings.error_feedback:
        sent = codec.dequantise_delta(quantised, opened.spec)
        left = total  # in place: this round's own
        left[sent.indices] -= sent.values
        round_ = opened.plan.round
        store.save_generation(
            Generation(round=round_, keep=keep, sent=quantised, residual=left)
        )
    return quantised


def choose_entries(
    total: Vector, settings: TrainSettings, side_info: SideInformation
) -> SparseDelta:
    """Return the entries that are sent, before they are quantised."""
    known = side_info.mask
    if known is not None:  # all its entries are sent, without positions
        return sparsify(np.where(known, total, np.float32(0.0)), 1.0)
    if _sends_all(settings):
        every = all_positions(len(total))
        return SparseDelta(size=len(total), indices=every, values=total)
    return sparsify(
        total,
        settings.update_density,
        find(CHOICE, settings.choice),
        layout=side_info.layout,
        value_bits=codec.value_bits(settings.values),
    )


def _sends_all(settings: TrainSettings) -> bool:
    """Return whether zeros travel as they are too, as in dense FedAvg.

    Not where most entries can be 0 by rule: those of frozen modules, and those of a
    codebook but one a value.
    """
    plain = settings.update_density == 1.0 and settings.values == "float32"
    return plain and not settings.frozen and settings.quantise != CODEBOOK


def _residual(opened: OpenedPlan, store: ClientStore) -> Vector:
    """Return the residual of earlier rounds, remapped to the current plan, float32[n].

    Where the last answer was not acknowledged, the entries that it sent are part of it.
    What belongs to weights that are gone (drawn anew, or of an undone cut) is none.

    Raises:
        PayloadError: If the plan brings back units and is not marked as a rollback:
            other plans only shrink.
    """
    plan = opened.plan
    keep = plan.broadcast.plan.keep
    last = store.load_generation(plan.round)
    if last is None or last.round <= plan.settings.since:
        return np.zeros(opened.spec.size, dtype=np.float32)
    if bool(np.any(keep & ~last.keep)) and not plan.broadcast.plan.rollback:
        detail = f"brings back units cut before round {last.round} and is no rollback"
        raise PayloadError(Reason.BAD_VALUE, "plan.keep", detail)
    residual = last.residual
    if plan.acknowledged != last.round:
        residual = residual + last.sent_values(opened.structure.spec(last.keep))
    factor = np.float32(plan.settings.decay ** (plan.round - last.round))
    if factor != 1:
        residual = residual * factor
    return remap(residual, opened.structure, last.keep, keep)
