"""The weight mask of a run: chosen after the last cut, the same for all clients."""

from dataclasses import replace

from fedprune.common.config import MaskRule
from fedprune.common.methods.kinds import MASK
from fedprune.common.methods.method import Method
from fedprune.common.methods.registry import OFF, find
from fedprune.common.methods.schedule import density_at
from fedprune.common.sparsity.masks import check_mask, full_mask, next_mask
from fedprune.common.spec import Vector
from fedprune.server.rounds.state import RunSpec, ServerState


def take_mask(state: ServerState, run_spec: RunSpec) -> ServerState:
    """Return the state under its next mask, if one is due, with masked weights at zero.

    A mask is due before some of the final rounds (``mask_rounds``), after the last cut
    and its last possible rollback.  Each is nested in the one before; its density
    follows ``prune.mask.schedule``.
    """
    rule, cursor = run_spec.config.prune.mask, state.cursor
    if rule.kind == OFF or cursor.done or not cursor.final:
        return state
    kind = find(MASK, rule.kind)
    rounds = mask_rounds(rule, run_spec.config.rounds.final, kind)
    if cursor.index not in rounds:
        return state
    spec = run_spec.structure.spec(state.keep)
    parent = state.mask or full_mask(spec, state.plan.digest)
    progress = (rounds.index(cursor.index) + 1) / len(rounds)
    density = density_at(rule.schedule, rule.density, progress, power=rule.power)
    mask = next_mask(parent, spec, state.weights, kind, rule, density)
    check_mask(mask, spec, state.plan.digest, mask.digest)
    return replace(
        state,
        mask=mask,
        ledgers=state.ledgers.without_mask(),
        weights=mask.apply(state.weights),
    )


def mask_rounds(rule: MaskRule, final: int, kind: Method) -> list[int]:
    """Return the final rounds, numbered from 1, before which a mask is chosen.

    Every ``frequency`` rounds from ``begin`` to ``end``, by default two thirds of the
    final rounds, rounded down: in the rest the network recovers under the last mask.

    Examples:
        >>> kind = find(MASK, "unstructured")
        >>> mask_rounds(MaskRule(kind="unstructured"), 14, kind)
        [1, 2, 3, 4, 5, 6, 7, 8, 9]
        >>> mask_rounds(MaskRule(begin=2, end=9, frequency=3), 14, kind)
        [2, 5, 8]
    """
    if "one step" in kind.laws:
        return [rule.begin]
    end = rule.end or max(2 * final // 3, rule.begin)
    return list(range(rule.begin, end + 1, rule.frequency))


def under_mask(state: ServerState, weights: Vector) -> Vector:
    """Return the weights, zero where the run's mask is False."""
    return weights if state.mask is None else state.mask.apply(weights)
