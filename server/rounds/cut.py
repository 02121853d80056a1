"""The cut: consensus on the importance of units, and the choice of a smaller plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from fedprune.common.config import Config, penalty_of
from fedprune.common.methods.kinds import CONSENSUS, IMPORTANCE
from fedprune.common.methods.method import Side, finite_numbers
from fedprune.common.methods.registry import OFF, find
from fedprune.common.methods.schedule import density_at
from fedprune.common.pruning.choose import choose_keep, smallest_cut
from fedprune.common.pruning.choose_blocks import choose_blocks
from fedprune.common.pruning.cost import is_met, is_near, shares
from fedprune.common.pruning.importance import is_informative, normalise, weight_scores
from fedprune.common.pruning.latency import LatencyTable
from fedprune.common.pruning.nearest import lowest, step_back
from fedprune.common.pruning.plan import child_plan
from fedprune.common.seeding import Use, generator
from fedprune.common.spec import Mask, PrunePlan, Vector
from fedprune.common.structure.structure import Structure
from fedprune.server.rounds.cycle import first_cursor, is_cutting, rounds_left
from fedprune.server.rounds.records import ClientRecord, Status
from fedprune.server.rounds.state import RunSpec, ServerState, spread


def consensus(
    importances: Mapping[str, Vector], weights: Mapping[str, int], rule: str
) -> Vector | None:
    """Return one importance for the kept units, or None when no client scored.

    The codec has refused non-finite scores.  Clients are in the order of their ids, so
    that the order of arrival does not matter.

    Args:
        importances: Client id -> float32[kept units].
        weights: Client id -> number of examples.
        rule: A method of ``fedprune.common.methods.consensus``, or a user's own.

    Returns:
        float32[kept units], made of clients' scores that each sum to 1.

    Raises:
        ConfigError: If the rule does not return a finite number for each unit.
    """
    informative = [c for c in sorted(importances) if is_informative(importances[c])]
    if not informative:
        return None
    scores = np.stack([normalise(importances[c]) for c in informative])
    examples = np.asarray([weights[c] for c in informative], dtype=np.float64)
    method = find(CONSENSUS, rule)
    found = finite_numbers(
        method, method(scores=scores, num_examples=examples), scores.shape[1]
    )
    return found.astype(np.float32)


def asks_clients(config: Config) -> bool:
    """Return whether clients measure the configured importance."""
    return find(IMPORTANCE, config.prune.importance).side is Side.CLIENT


def aimed_penalty(config: Config) -> str:
    """Return the penalty of the channels that later cuts would remove, or "none".

    An importance of draws alone has none, for it says nothing of a channel: random
    channels that had been shrunk before they are cut would be no control of a
    criterion.
    """
    drawn = find(IMPORTANCE, config.prune.importance).needs == frozenset(["draws"])
    never = config.client.strength == 0.0 or config.rounds.cuts == 0
    return OFF if drawn or never else penalty_of(config)


def smooth(earlier: Vector | None, fresh: Vector, weight: float) -> Vector:
    """Return the moving average of importances over cycles, float32[units].

    Args:
        earlier: Average so far over the ORIGINAL units, or None.
        fresh: This cycle's consensus over the original units.
        weight: Share of the earlier average, 0 <= weight < 1.
    """
    if earlier is None:
        return fresh
    return (weight * earlier + (1.0 - weight) * fresh).astype(np.float32)


_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The consensus of a round.

    Attributes:
        importance: float32[kept units], summing to about 1.
        votes: The clients' normalised scores by client id, float32[kept units] each.
    """

    importance: Vector
    votes: dict[str, Vector]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The decision of a cut, and the importance that it is based on.

    Attributes:
        plan: The smaller plan; the old one when nothing could be cut.
        importance: Moving average over the original units, float32[units].
        consensus: Consensus of this round, float32[kept units before the cut].
        votes: The clients' normalised scores by client id, as ``consensus`` each.
    """

    plan: PrunePlan
    importance: Vector
    consensus: Vector
    votes: dict[str, Vector]


def choose(  # noqa: PLR0913 - all that a cut depends on, as keywords
    *,
    structure: Structure,
    config: Config,
    latency: LatencyTable | None,
    round_: int,
    progress: float,
    plan: PrunePlan,
    weights: Vector,
    dead: Mask,
    earlier: Vector | None,
    records: Sequence[ClientRecord],
) -> Choice:
    """Return the decision of a cut: consensus first, then the units that are kept.

    Args:
        structure: The original network.
        config: Criterion, consensus, budget, floor, steps.
        latency: Table for a latency in the budget, or None.
        round_: The round that scored; key of the random control.
        progress: Position on the schedule that this cut aims at, 0..1.
        plan: The plan that is cut further.
        weights: The decoded broadcast that was scored, float32[n].
        dead: bool[units], True = exactly zero after the server's proximal step; these
            are cut first, at no loss.
        earlier: Moving average of earlier cycles, float32[units], or None.
        records: The accepted answers.
    """
    found = agree(structure, config, plan, weights, round_, records)
    average = smooth(earlier, spread(found.importance, plan.keep), config.prune.ema)
    ranking = average.copy()
    ranking[dead] = 0.0
    keep = choose_next(structure, config, latency, plan, ranking, progress=progress)
    smaller = (
        plan if bool(np.all(keep == plan.keep)) else child_plan(structure, plan, keep)
    )
    return Choice(
        plan=smaller,
        importance=average,
        consensus=found.importance,
        votes=found.votes,
    )


def choose_next(
    structure: Structure,
    config: Config,
    latency: LatencyTable | None,
    plan: PrunePlan,
    importance: Vector,
    *,
    progress: float,
) -> Mask:
    """Return the keep mask of a cut towards a position on the schedule, bool[units].

    Whole blocks are dropped first, then units until the targets are met.
    """
    final = budget_targets(config)
    # A block cannot be halved, and a cut after a rollback must be smaller.
    most = 0 if plan.rollback else ceil(progress * config.prune.blocks - _ROUNDING)
    keep = choose_blocks(
        structure, plan.keep, importance, final, most=most, latency=latency
    )
    targets = {
        key: density_at(config.prune.schedule, end, progress, power=config.prune.power)
        for key, end in final.items()
    }
    return choose_keep(
        structure,
        keep,
        importance,
        targets,
        floor=config.prune.floor,
        step_cap=config.prune.step_cap,
        width_multiple=config.width_multiple,
        latency=latency,
        final=final,
    )


def agree(
    structure: Structure,
    config: Config,
    plan: PrunePlan,
    weights: Vector,
    round_: int,
    records: Sequence[ClientRecord],
) -> Agreement:
    """Return the consensus of a round's answers on the kept units.

    It is made of the clients' scores by the configured rule, or of the server's own
    scores of the broadcast where the criterion needs no data or every client abstained.
    """
    votes = {
        r.client_id: r.importance
        for r in records
        if r.status is Status.ACCEPTED and r.importance is not None
    }
    agreed = None
    if asks_clients(config):
        examples = {r.client_id: r.num_examples for r in records}
        agreed = consensus(votes, examples, config.prune.consensus)
    if agreed is None:
        agreed = _own_scores(structure, config, round_, plan, weights)
    return Agreement(
        importance=agreed,
        votes={c: normalise(v).astype(np.float32) for c, v in votes.items()},
    )


def _own_scores(
    structure: Structure, config: Config, round_: int, plan: PrunePlan, weights: Vector
) -> Vector:
    """Score the broadcast at the server: its own criterion, or L2 if all abstained."""
    criterion = config.prune.importance
    if asks_clients(config):
        criterion = "l2"
    rng = generator(config.run.seed, round_, "server", Use.RANDOM_SCORE)
    scores = weight_scores(structure, plan.keep, weights, criterion, rng)
    return normalise(scores[plan.keep]).astype(np.float32)


def budget_targets(config: Config) -> dict[str, float]:
    """Return the budget as {measure: share of the dense network}."""
    given = config.prune.budget.model_dump()
    return {key: float(value) for key, value in given.items() if value is not None}


def within_budget(
    structure: Structure, config: Config, latency: LatencyTable | None, keep: Mask
) -> bool:
    """Return whether a network is within its budget."""
    reached = shares(structure, keep, latency)
    return all(is_met(reached[k], end) for k, end in budget_targets(config).items())


def fewest_cuts(
    structure: Structure, config: Config, latency: LatencyTable | None, keep: Mask
) -> int:
    """Return the fewest cuts that bring a network within its budget, by the caps.

    It is 0 where blocks may be dropped, which no cap holds.
    """
    if config.prune.blocks:
        return 0
    count = 0
    while not within_budget(structure, config, latency, keep):
        smaller = smallest_cut(
            structure,
            keep,
            floor=config.prune.floor,
            step_cap=config.prune.step_cap,
            width_multiple=config.width_multiple,
        )
        if bool(np.all(smaller == keep)):
            break
        keep, count = smaller, count + 1
    return count


def too_few_cuts(
    structure: Structure, config: Config, latency: LatencyTable | None
) -> str:
    """Return a line where the planned cuts cannot meet the budget, else ""."""
    rounds, cap = config.rounds, config.prune.step_cap
    if config.privacy.hides_clients:  # its cuts are counted beforehand
        return ""
    least = fewest_cuts(structure, config, latency, structure.full())
    if least <= rounds.cuts:
        return ""
    total = rounds_left(first_cursor(rounds), rounds, cuts=least)
    return (
        f"rounds.cuts = {rounds.cuts} is too few for the budget: a cut removes at most "
        f"prune.step_cap = {cap:g} of a group's channels, so at least {least} cuts "
        f"are made, in {total} rounds, not {rounds.total + 1}"
    )


def no_cut_follows(moved: ServerState, run_spec: RunSpec) -> bool:
    """Return whether the cuts are over where the schedule is.

    They are within the budget, and with noise in place of clients after the cuts that
    it was planned for.

    Args:
        moved: The state at the end of a round, its cursor still on it; cut already if
            the round cuts.
        run_spec: The run.
    """
    config, cursor = run_spec.config, moved.cursor
    done = cursor.cycle + is_cutting(cursor, config.rounds)
    if run_spec.privacy is not None and done >= config.rounds.cuts:
        return True
    return within_budget(run_spec.structure, config, run_spec.latency, moved.keep)


def budget_used(
    structure: Structure, config: Config, latency: LatencyTable | None, keep: Mask
) -> dict[str, float]:
    """Return the share of the dense network that is left over its target, by kind."""
    reached = shares(structure, keep, latency)
    return {k: reached[k] / end for k, end in budget_targets(config).items()}


def coarse(
    structure: Structure, config: Config, latency: LatencyTable | None, keep: Mask
) -> str:
    """Return the reason why a met budget is not met within 2 %, or ""."""
    used = budget_used(structure, config, latency, keep)
    if not used or is_near(max(used.values())):
        return ""
    prune, targets = config.prune, budget_targets(config)
    kind = max(used, key=lambda k: used[k])
    widths = {"floor": prune.floor, "width_multiple": config.width_multiple}
    msg = (
        f"budget {kind} = {targets[kind]:g} ends at {used[kind] * targets[kind]:.4f}, "
        f"{100 * used[kind]:.1f} % of it: nothing nearer was found"
    )
    back = step_back(structure, keep, targets, **widths, latency=latency)
    if back is not None:
        over = max(targets, key=lambda k: back.shares[k] / targets[k])
        msg += (
            f"; the smallest step back, {back.before} to {back.after} channels of "
            f"'{back.group}', ends at {over} = {back.shares[over]:.4f}"
        )
    stuck = lowest(structure, keep, **widths)
    if stuck:
        msg += f"; at their lowest width (prune.floor = {prune.floor}): "
        msg += ", ".join(f"'{name}'" for name in stuck)
    multiple = config.width_multiple
    if multiple == 0:
        msg += "; widths go by an eighth of each layer's: prune.width_multiple = 1"
        return f"{msg} ends nearer"
    if multiple > max(prune.width_multiple, 1):
        return f"{msg}; widths go by multiples of {multiple}, for int8 or an n:m mask"
    if multiple > 1:
        msg += f"; widths go by multiples of {multiple}: a smaller"
        return f"{msg} prune.width_multiple ends nearer"
    return f"{msg}; a channel here is a large share of the network"
