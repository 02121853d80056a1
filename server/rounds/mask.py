"""The weight mask of a run: chosen after the last cut, the same for everybody."""

from collections.abc import Sequence
from dataclasses import replace

from fedprune.common.config import MaskRule
from fedprune.common.schedule import density_at
from fedprune.common.sparsity.masks import (
    blocks,
    check_mask,
    full_mask,
    n_of_m,
    unstructured,
)
from fedprune.common.spec import ModelSpec, Vector, WeightMask
from fedprune.server.rounds.records import ClientRecord, Status
from fedprune.server.rounds.state import RunSpec, ServerState


def take_mask(state: ServerState, run_spec: RunSpec) -> ServerState:
    """Choose the next mask where one is due, and set to zero what it leaves out.

    It is due before each of the first final rounds, when no cut and no rollback comes
    any more.  Each is nested in the one before; its density falls by a cubic schedule.
    """
    rule, cursor = run_spec.config.prune.mask, state.cursor
    steps = mask_steps(rule, run_spec.config.rounds.final)
    if rule.kind == "none" or cursor.done or not cursor.final or cursor.index > steps:
        return state
    spec = run_spec.structure.spec(state.keep)
    parent = state.mask or full_mask(spec, state.plan.digest)
    density = density_at("cubic", rule.density, cursor.index / steps)
    mask = _chosen(parent, spec, state.weights, rule, density)
    check_mask(mask, spec, state.plan.digest, mask.digest)
    return replace(
        state, mask=mask, mask_holders=frozenset(), weights=mask.apply(state.weights)
    )


def mask_steps(rule: MaskRule, final: int) -> int:
    """Return how many masks a run has, one after another, >= 1.

    Unless told otherwise two thirds of the final rounds, rounded down: the rest is for
    the network to recover under the last one.

    Examples:
        >>> mask_steps(MaskRule(kind="unstructured"), 14)
        9
        >>> mask_steps(MaskRule(kind="unstructured", steps=1), 14)
        1
    """
    if rule.kind == "n:m":
        return 1
    return rule.steps or max(2 * final // 3, 1)


def _chosen(
    parent: WeightMask, spec: ModelSpec, weights: Vector, rule: MaskRule, density: float
) -> WeightMask:
    if rule.kind == "n:m":
        return n_of_m(parent, spec, weights, n=rule.n, m=rule.m)
    if rule.kind == "blocks":
        shape = (rule.block, rule.block)
        return blocks(parent, spec, weights, density, shape=shape)
    by = "sensitivity" if rule.kind == "sensitivity" else "magnitude"
    return unstructured(parent, spec, weights, density, by=by)


def under_mask(state: ServerState, weights: Vector) -> Vector:
    """Return the weights with zeros where the run's mask has them."""
    return weights if state.mask is None else state.mask.apply(weights)


def holders(state: ServerState, records: Sequence[ClientRecord]) -> frozenset[str]:
    """Return who holds the mask after these answers; no answer = sent again."""
    if state.mask is None:
        return state.mask_holders
    answered = {r.client_id for r in records}
    accepted = {r.client_id for r in records if r.status is Status.ACCEPTED}
    return (state.mask_holders - answered) | accepted
