"""The end of a round at the server, step by step: answers in, a new state out.

A round with fewer accepted answers than ``rounds.minimum`` fails.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fedprune.common.errors import RoundError
from fedprune.common.messages import Statistics
from fedprune.common.methods.kinds import PENALTY
from fedprune.common.methods.registry import resolve
from fedprune.common.profiling.activities import Activity
from fedprune.common.profiling.recorder import timed
from fedprune.common.pruning.importance import zero_units
from fedprune.common.pruning.remap import remap, remap_moments, remap_running
from fedprune.common.sparsity.penalty import PenaltySpec, build_penalty, shrink_weights
from fedprune.common.sparsity.shared import CODEBOOK, matrices_from, with_shared
from fedprune.common.spec import Mask, Vector
from fedprune.common.structure.structure import Structure
from fedprune.server.rounds.answers import Answers, aggregate
from fedprune.server.rounds.broadcast import decoded_state, remember
from fedprune.server.rounds.cut import Choice, agree, choose, no_cut_follows
from fedprune.server.rounds.cycle import (
    after_round,
    is_coded,
    is_cutting,
    is_previewing,
)
from fedprune.server.rounds.engine import RoundWork
from fedprune.server.rounds.guard import Check, Score, guard, pooled_score
from fedprune.server.rounds.influence import (
    ReportedLoss,
    averaged_running,
    median_norm,
    pooled,
    pooled_moments,
)
from fedprune.server.rounds.ledger import Ledgers
from fedprune.server.rounds.records import ClientRecord, Status, validations_of
from fedprune.server.rounds.state import (
    RunSpec,
    ServerState,
    Snapshot,
    Totals,
    spread,
)
from fedprune.server.rounds.steps.frozen import keep_moments, keep_values
from fedprune.server.rounds.steps.late import (
    Settled,
    after_failure,
    released,
    settle,
    with_late,
)
from fedprune.server.rounds.steps.mask import take_mask, under_mask
from fedprune.server.rounds.steps.optimizer import (
    cut_optimizer,
    server_step,
    without_optimizer,
)
from fedprune.server.rounds.steps.reconstruction import rebuilt_weights
from fedprune.server.rounds.steps.restart import restart
from fedprune.server.rounds.waiting.absence import Absences, lateness, noted
from fedprune.server.rounds.waiting.late import LateUpdate
from fedprune.server.rounds.waiting.pace import after

_ABSTAINS = "abstains"  # word of a client without examples, in its reason


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundReport:
    """Results of a round beside the new state.

    Attributes:
        score: Validation of the broadcast on the clients' validation parts.
        loss: Mean training loss, weighted by examples.
        measured: The network that was sent, with the statistics measured on it: the
            network that an evaluation of this round uses.
        choice: Decision of the cut at the end of this round, or None.
        check: The guard's check of the last cut or of the final network, or None.
        warning: One line of the guard, or "".
        zero_share: Share of exactly zero units when a sparsify phase ends, or None.
        late: The late answers that arrived, and those that are on their way.
    """

    score: Score
    loss: float
    measured: Snapshot
    choice: Choice | None = None
    check: Check | None = None
    warning: str = ""
    zero_share: float | None = field(default=None)
    late: Settled = field(default_factory=Settled)


@timed(Activity.AGGREGATION)
def finish_round(
    state: ServerState, work: RoundWork, answers: Answers, run_spec: RunSpec
) -> tuple[ServerState, RoundReport]:
    """Aggregate the answers and take the steps that end the round.

    Raises:
        RoundError: If fewer than ``rounds.minimum`` answers were accepted; the state
            is unchanged then.
    """
    # 1. Refuse the round when fewer answers than the minimum were accepted.
    _check_minimum(work, answers, run_spec)
    # 2. Score the network that was sent: its statistics and its validation loss.
    scored = _score_broadcast(state, work, answers, run_spec)
    # 3. Add the aggregated delta and record in the ledgers what each client has stored.
    late = settle(state.pending, answers, work, run_spec.config.rounds.staleness)
    averaged = _average(state, work, answers, run_spec, scored, late)
    # 4. Take the last cut back when it cost too much: that ends the round.
    guarded = guard(averaged, scored.measured, run_spec)
    report = replace(scored, check=guarded.check, warning=guarded.warning, late=late)
    if guarded.check is not None and guarded.check.undone:
        undone = take_mask(guarded.state, run_spec)
        return released(state, undone, run_spec), report
    # 5. Cut, at the end of a sparsify phase.
    cut, report = _cut(guarded.state, answers, run_spec, report)
    # 6. Set the targets of the first penalty, at the end of the warmup.
    targeted = _preview(cut, answers, run_spec, report)
    # 7. Advance the cycle; draw fresh weights after the last cut, if they are wanted.
    advanced = restart(targeted, _advance(targeted, run_spec), run_spec)
    # 8. Choose the mask of the later weights.
    advanced = take_mask(advanced, run_spec)
    # 9. Record the norm that the next round's deltas are clipped by.
    norm = _usual_norm(state, advanced, answers, run_spec)
    return released(state, replace(advanced, norm=norm), run_spec), report


def _check_minimum(work: RoundWork, answers: Answers, run_spec: RunSpec) -> None:
    need = run_spec.config.rounds.minimum
    count = len(answers.accepted)
    if count < need:
        found = sorted((r for r in answers.records if r.reason), key=_rank)
        why = found[0].reason if found else "no client answered"
        msg = (
            f"round {work.plan.round}: {why}; {count} of {len(answers.records)} "
            f"answers were accepted, rounds.minimum is {need}"
        )
        raise RoundError(msg)


def _rank(record: ClientRecord) -> tuple[bool, bool]:
    """Return the order of reasons: failures first, clients that abstain last."""
    return _ABSTAINS in record.reason, record.status is not Status.FAILED


def _score_broadcast(
    state: ServerState, work: RoundWork, answers: Answers, run_spec: RunSpec
) -> RoundReport:
    """Pool the clients' measurements on the broadcast: moments, losses."""
    robust = run_spec.config.robust
    score = pooled_score(answers.accepted, robust.max_weight)
    before = state.statistics
    measured = keep_moments(
        before,
        pooled_moments(answers.accepted, robust.max_moment),
        run_spec.structure,
        state.keep,
        work.plan.settings.frozen,
    )
    if measured is not None and before is not None:
        measured = replace(measured, running=before.running)
    sent = Snapshot(
        round=work.plan.round,
        plan=state.plan,
        weights=work.weights,
        digest=work.plan.broadcast.digest,
        statistics=measured or state.statistics,
        validations=validations_of(answers.accepted),
        optimizer=state.optimizer,
    )
    loss = _mean_loss(answers, robust.max_weight)
    return RoundReport(score=score, loss=loss, measured=sent)


def _average(
    state: ServerState,
    work: RoundWork,
    answers: Answers,
    run_spec: RunSpec,
    scored: RoundReport,
    late: Settled,
) -> ServerState:
    """Return the state with the aggregated delta, new ledgers and new totals."""
    settings = work.plan.settings
    summed = with_late(answers, late.used, work)
    change, optimizer = aggregate(summed, work), state.optimizer
    if settings.epochs:  # the closing round has no delta for a step
        change, optimizer = server_step(run_spec.config.server, optimizer, change)
    moved = _shrunken(state, work, run_spec, _moved(state, work, change))
    moved = keep_values(state.weights, moved, work.spec.tensors, settings.frozen)
    return replace(
        state,
        round=work.plan.round,
        weights=under_mask(state, moved),
        optimizer=optimizer,
        statistics=_after_training(scored.measured.statistics, answers, work),
        ledgers=_ledgers(state, work, answers, run_spec, late.used),
        totals=_totals(state.totals, answers, late),
        sent=remember(state.sent, work.plan.round, work.encoded),
        absences=_absences(state, answers, run_spec, late),
        pending=late.pending,
        # The closing round trains nothing: it is faster than the others.
        pace=after(state.pace, answers.closing) if settings.epochs else state.pace,
    )


def _moved(state: ServerState, work: RoundWork, change: Vector) -> Vector:
    """Return the weights after a step; those of a codebook share their values still."""
    moved: Vector = state.weights + change
    if work.plan.settings.quantise != CODEBOOK:
        return moved
    exact = matrices_from(work.weights + change, moved, work.spec)
    return with_shared(work.weights, exact, work.spec)


def _after_training(
    statistics: Statistics | None, answers: Answers, work: RoundWork
) -> Statistics | None:
    """Return the statistics with the running values that the clients ended with."""
    running = averaged_running(answers.accepted, work.robust.max_moment)
    if statistics is None or running is None:
        return statistics
    before, frozen = statistics.running, work.plan.settings.frozen
    kept = keep_values(before, running, work.spec.running, frozen)
    return replace(statistics, running=kept)


def _mean_loss(answers: Answers, multiple: float) -> float:
    reported = [
        ReportedLoss(loss=record.loss, metric=0.0, count=record.num_examples)
        for record in sorted(answers.accepted, key=lambda r: r.client_id)
    ]
    mean = pooled(reported, multiple)
    return 0.0 if mean is None else mean.loss


def _usual_norm(
    before: ServerState, after: ServerState, answers: Answers, run_spec: RunSpec
) -> float | None:
    """Return the median norm of the deltas, or None if the next ones are not like them.

    Deltas of another phase, of a network that was cut, under a new mask or of the
    values of a codebook have another length: the next round is clipped by its own
    median norm then.
    """
    old, new, config = before.cursor, after.cursor, run_spec.config
    coded = [is_coded(one, config.rounds, config.quantise) for one in (old, new)]
    if coded[0] is not coded[1]:
        return None
    same = old.phase is new.phase and old.final == new.final and not new.closing
    same = same and after.plan is before.plan and after.mask is before.mask
    return median_norm(answers.accepted) if same else None


def _shrunken(
    state: ServerState, work: RoundWork, run_spec: RunSpec, weights: Vector
) -> Vector:
    """Apply a whole round's proximal step, which makes exact zeros in the broadcast."""
    settings = work.plan.settings
    penalty_spec = PenaltySpec(
        name=resolve(PENALTY, settings.penalty, run_spec.config.client.penalty),
        strength=settings.strength,
        targets=work.plan.targets,
        frozen=settings.frozen,
    )
    penalty = build_penalty(run_spec.structure, state.keep, work.weights, penalty_spec)
    return weights if penalty is None else shrink_weights(penalty, work.spec, weights)


@timed(Activity.PRUNING)
def _preview(
    moved: ServerState, answers: Answers, run_spec: RunSpec, report: RoundReport
) -> ServerState:
    """Return the state with a first importance, which the first penalty needs."""
    if not is_previewing(moved.cursor, run_spec.config.rounds):
        return moved
    found = agree(
        run_spec.structure,
        run_spec.config,
        moved.plan,
        report.measured.weights,
        moved.round,
        answers.accepted,
    )
    return replace(moved, importance=spread(found.importance, moved.keep))


def _advance(moved: ServerState, run_spec: RunSpec) -> ServerState:
    """Return the state with the cursor on the next round."""
    met = no_cut_follows(moved, run_spec)
    cursor = after_round(moved.cursor, run_spec.config.rounds, met=met)
    return replace(moved, cursor=cursor)


def _ledgers(
    state: ServerState,
    work: RoundWork,
    answers: Answers,
    run_spec: RunSpec,
    late: Sequence[LateUpdate],
) -> Ledgers:
    """Return what each client has stored now; without an answer nothing is assumed."""
    if run_spec.config.update.stateless:
        return state.ledgers
    plan, ledgers = work.plan, state.ledgers
    for one in late:  # its residual is the one behind the answer that counts
        mask = state.mask is not None
        ledgers = ledgers.after(one.round, accepted=[one.client_id], lost=(), mask=mask)
    return ledgers.after(
        plan.round,
        accepted=[record.client_id for record in answers.accepted],
        lost=_lost(answers),
        teacher=plan.broadcast.digest if plan.keep_broadcast else plan.teacher,
        mask=state.mask is not None,
    )


def _lost(answers: Answers) -> list[str]:
    """Return the clients that were asked and have no accepted answer."""
    records = answers.records
    return [r.client_id for r in records if r.status is not Status.ACCEPTED]


def _absences(
    state: ServerState, answers: Answers, run_spec: RunSpec, late: Settled
) -> Absences:
    """Return the clients that were late, with those of the round after ``state``."""
    rounds, back = run_spec.config.rounds, {one.client_id for one in late.arrived}
    before = {c: one for c, one in state.absences.items() if c not in back}
    return noted(
        before,
        answers.closing,
        state.round + 1,
        rounds.put_aside,
        times=lateness(rounds),
    )


def count_failed_attempt(
    state: ServerState, answers: Answers, run_spec: RunSpec
) -> ServerState:
    """Return the state after a failed attempt of a round: its bytes count too.

    A client without an accepted answer is sent everything again: something that it
    should have stored may be missing.
    """
    return replace(
        state,
        ledgers=state.ledgers.forgetting(_lost(answers)),
        totals=_totals(state.totals, answers, Settled()),
        absences=_absences(state, answers, run_spec, Settled()),
        pending=after_failure(state.pending, answers),
    )


def _totals(totals: Totals, answers: Answers, late: Settled) -> Totals:
    records, closing = answers.records, answers.closing
    read: tuple[ClientRecord | LateUpdate, ...] = (*records, *late.arrived)
    virtual = closing.seconds if closing is not None and closing.virtual else 0.0
    return replace(
        totals,
        bytes_up=totals.bytes_up + sum(one.bytes_up for one in read),
        bytes_down=totals.bytes_down + sum(r.bytes_down for r in records),
        bytes_fixed=totals.bytes_fixed + sum(one.bytes_fixed for one in read),
        bytes_simulation=totals.bytes_simulation + answers.bytes_simulation,
        messages_up=totals.messages_up + len(answers.accepted),
        refused=totals.refused + _count(records, Status.REFUSED),
        failed=totals.failed + _count(records, Status.FAILED),
        late=totals.late + _count(records, Status.LATE),
        late_used=totals.late_used + len(late.used),
        virtual_seconds=totals.virtual_seconds + virtual,
    )


def _count(records: Sequence[ClientRecord], status: Status) -> int:
    return sum(r.status is status for r in records)


@timed(Activity.PRUNING)
def _cut(
    moved: ServerState, answers: Answers, run_spec: RunSpec, report: RoundReport
) -> tuple[ServerState, RoundReport]:
    """Cut: consensus, a smaller plan, and the state sliced to it."""
    structure, config = run_spec.structure, run_spec.config
    if not is_cutting(moved.cursor, config.rounds):
        return moved, report
    sent = report.measured
    spec = structure.spec(moved.keep)
    decoded = decoded_state(moved, structure, spec, config)
    dead = zero_units(structure, moved.keep, decoded)
    choice = choose(
        structure=structure,
        config=config,
        latency=run_spec.latency,
        round_=moved.round,
        progress=moved.cursor.target,
        plan=moved.plan,
        weights=sent.weights,
        dead=dead,
        earlier=moved.importance,
        records=answers.accepted,
    )
    old, new = moved.keep, choice.plan.keep
    weights = rebuilt_weights(moved, new, answers.accepted, run_spec)
    share = float(dead[old].mean()) if old.any() else 0.0
    smaller = replace(
        moved,
        plan=choice.plan,
        weights=remap(weights, structure, old, new),
        statistics=_cut_statistics(moved.statistics, structure, old, new),
        optimizer=cut_optimizer(moved.optimizer, structure, old, new),
        importance=choice.importance,
        dense=moved.dense or without_optimizer(sent),
        previous=sent,
        zero_shares=(*moved.zero_shares, share),
    )
    return smaller, replace(report, choice=choice, zero_share=share)


def _cut_statistics(
    statistics: Statistics | None, structure: Structure, old: Mask, new: Mask
) -> Statistics | None:
    """Return the moments and running values of the channels that a cut keeps."""
    if statistics is None:
        return None
    left = statistics
    if left.measured:
        mean = remap_moments(left.mean, structure, old, new)
        variance = remap_moments(left.variance, structure, old, new)
        left = replace(left, mean=mean, variance=variance)
    if len(left.running):
        running = remap_running(left.running, structure, old, new)
        left = replace(left, running=running)
    return left
