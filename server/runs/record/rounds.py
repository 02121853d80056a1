"""The events of a round that has ended: answers, decisions, figures."""

from dataclasses import asdict, dataclass

import numpy as np

from fedprune.common.privacy.hiding import Privacy
from fedprune.common.privacy.spending import released_by, spent
from fedprune.common.profiling.activities import Activity
from fedprune.common.profiling.recorder import timed
from fedprune.common.pruning.cost import count_cost, flops, shares
from fedprune.common.spec import Vector, WeightMask
from fedprune.common.text import and_more
from fedprune.server.rounds.answers import Answers
from fedprune.server.rounds.cut import Choice, asks_clients, coarse, fewest_cuts
from fedprune.server.rounds.cycle import rounds_left
from fedprune.server.rounds.engine import LostWorker, RoundWork
from fedprune.server.rounds.guard import Check as GuardCheck
from fedprune.server.rounds.records import Status
from fedprune.server.rounds.state import RunSpec, ServerState, Snapshot
from fedprune.server.rounds.steps.reconstruction import most_tell
from fedprune.server.rounds.waiting.absence import newly_aside
from fedprune.server.runs.context import Played, RunContext
from fedprune.server.runs.events import (
    ClientsPutAside,
    CutChecked,
    CutRolledBack,
    EventLog,
    LateArrived,
    MaskChosen,
    NetworkCut,
    NetworkRestarted,
    PrivacySpent,
    RoundFinished,
    RunName,
    WorkerLost,
)
from fedprune.server.runs.record.answered import MOST_LINES, answer_events

_CLOSE = 1e-6  # of an epsilon, between what was planned and what is counted
_NAMED = 3  # clients that a warning names; its event has all


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    """Sizes of a network.

    Attributes:
        params: Its parameters.
        flops: FLOPs of one example.
        density: Parameters of the dense network that are left, 0..1.
        channel_density: Prunable channels that are left, 0..1.
    """

    params: int
    flops: int
    density: float
    channel_density: float


def log_lost(context: RunContext, work: RoundWork, lost: LostWorker) -> None:
    """Log a worker that was lost in a round."""
    round_ = work.plan.round
    context.log.write(WorkerLost(run=context.name, round=round_, **asdict(lost)))


@timed(Activity.WRITING)
def log_clients(context: RunContext, work: RoundWork, answers: Answers) -> None:
    """Log the answers of an attempt."""
    closing = work.plan.settings.epochs == 0  # it trains nothing
    for event in answer_events(
        context.name, work.plan.round, answers.records, closing=closing
    ):
        context.log.write(event)
    lost = [r.client_id for r in answers.records if r.residual_lost]
    _warn_lost(context, work.plan.round, lost)


def _warn_lost(context: RunContext, round_: int, lost: list[str]) -> None:
    """Warn about the clients that continue without their residuals."""
    if lost:
        text = (
            f"round {round_}: residuals are missing or damaged, of "
            f"{and_more(lost, _NAMED)}: they continue without, so the run ends "
            "with another network than one that lost nothing"
        )
        context.warn(round_, text, lost)


def log_aside(
    context: RunContext, before: ServerState, after: ServerState, work: RoundWork
) -> None:
    """Log the clients that an attempt has put aside, by the round they come back in."""
    round_ = work.plan.round
    aside = newly_aside(before.absences, after.absences, round_)
    if aside:
        back = max(after.absences[client].back for client in aside)
        event = ClientsPutAside(
            run=context.name, round=round_, clients=aside, back=back
        )
        context.log.write(event)


def log_late(context: RunContext, played: Played) -> None:
    """Log the late answers that arrived in a round."""
    late, round_ = played.report.late, played.after.round
    if late.arrived:
        event = LateArrived(
            run=context.name,
            round=round_,
            asked={one.client_id: one.round for one in late.arrived},
            used={one.client_id: one.num_examples for one in late.used},
        )
        context.log.write(event)
    lost = [one.client_id for one in late.used if one.residual_lost]
    _warn_lost(context, round_, lost)


@timed(Activity.WRITING)
def log_steps(context: RunContext, played: Played) -> None:
    """Log what the round decided: a cut, a mask, a rollback, a warning."""
    before, after, report = played.before, played.after, played.report
    if report.choice is not None:
        _warn_unheard(context, after.round, report.choice)
        _warn_untold(context, played)
        _log_cut(context, played, report.choice)
        _warn_coarse(context, after)
    if after.restarted != before.restarted:
        context.log.write(NetworkRestarted(run=context.name, round=after.round))
    if after.mask is not None and after.mask is not before.mask:
        log_mask(context.log, context.name, after.round, after.mask)
    if context.run_spec.privacy is not None:
        _log_privacy(context, after, context.run_spec.privacy)
    if report.check is not None:
        _log_check(context, played, report.check)
    if report.warning:
        context.warn(after.round, report.warning)


def _log_privacy(context: RunContext, after: ServerState, privacy: Privacy) -> None:
    config, planned = context.run_spec.config, privacy.spending
    done = released_by(config, planned, after.round, after.cursor.cycle)
    if context.releases is not None:  # of rounds that were played twice, both
        noted = context.releases.counts()
        done = {key: max(count, noted[key]) for key, count in done.items()}
    epsilon = spent(planned, done)
    if epsilon > planned.epsilon * (1.0 + _CLOSE):
        text = f"round {after.round}: epsilon {epsilon:.4g} is spent, and "
        text += f"{planned.epsilon:g} was wanted: rounds that a stop had taken back "
        context.warn(after.round, text + "were played again with other answers")
    context.log.write(
        PrivacySpent(
            run=context.name,
            round=after.round,
            epsilon=epsilon,
            planned=planned.epsilon,
            delta=planned.delta,
            multiplier=planned.multiplier,
            key=privacy.key.name,
        )
    )


def log_mask(log: EventLog, name: RunName, round_: int, mask: WeightMask) -> None:
    """Log a mask that is chosen after a round, or before round 1."""
    log.write(
        MaskChosen(
            run=name,
            round=round_,
            digest=mask.digest.hex(),
            weight_density=mask.density,
        )
    )


def _log_check(context: RunContext, played: Played, check: GuardCheck) -> None:
    """Log a check of the guard, and the cut that it took back."""
    cursor, round_ = played.before.cursor, played.after.round
    loss, accuracy = check.loss, check.accuracy
    context.log.write(
        CutChecked(
            run=context.name,
            round=round_,
            cycle=cursor.cycle,
            final=int(cursor.closing),
            loss_before=loss.found.before if loss else None,
            loss_after=loss.found.after if loss else None,
            loss_error=loss.found.error if loss else None,
            loss_allowed=loss.allowed if loss else None,
            loss_clients=loss.found.clients if loss else 0,
            loss_comparison=loss.found.comparison if loss else "none",
            accuracy_reference=accuracy.found.before if accuracy else None,
            accuracy_after=accuracy.found.after if accuracy else None,
            accuracy_error=accuracy.found.error if accuracy else None,
            accuracy_allowed=accuracy.allowed if accuracy else None,
            accuracy_clients=accuracy.found.clients if accuracy else 0,
            accuracy_comparison=accuracy.found.comparison if accuracy else "none",
            verdict=check.verdict,
        )
    )
    if check.undone:
        step, name = played.after.cursor.step, context.name
        context.log.write(
            CutRolledBack(run=name, round=round_, cycle=cursor.cycle, step=step)
        )


def _warn_unheard(context: RunContext, round_: int, choice: Choice) -> None:
    """Warn that no client scored, so another criterion replaces the clients'."""
    config = context.run_spec.config
    criterion = config.prune.importance
    heard = any(bool(scores.any()) for scores in choice.votes.values())
    if asks_clients(config) and not heard:
        text = (
            f"round {round_}: no client scored (too few examples, or one class), "
            f"so the cut uses the L2 norm of the weights and not '{criterion}'"
        )
        context.warn(round_, text)


def _warn_untold(context: RunContext, played: Played) -> None:
    """Warn that too few clients told covariances, so nothing was reconstructed."""
    asked, accepted = any(played.work.request.covariances), played.answers.accepted
    if asked and not most_tell(accepted):
        told = sum(record.covariances is not None for record in accepted)
        text = f"round {played.after.round}: {told} of {len(accepted)} clients told "
        text += "covariances (the others have too few examples, or one class), too few "
        context.warn(played.after.round, text + "for prune.reconstruct at this cut")


def _warn_coarse(context: RunContext, after: ServerState) -> None:
    """Warn, after the last cut, of a setting that leaves much of the budget unused."""
    run_spec = context.run_spec
    if after.cursor.progress >= 1.0:
        text = coarse(run_spec.structure, run_spec.config, run_spec.latency, after.keep)
        if text:
            context.warn(after.round, text)


def _log_cut(context: RunContext, played: Played, choice: Choice) -> None:
    before, after, report = played.before, played.after, played.report
    old, new = before.keep, after.keep
    sizes = _sizes(context, after)
    context.log.write(
        NetworkCut(
            run=context.name,
            round=after.round,
            cycle=after.cursor.cycle,
            widths=context.run_spec.structure.widths(new),
            blocks=context.run_spec.structure.dropped(new),
            params=sizes.params,
            flops=sizes.flops,
            density=sizes.density,
            channel_density=sizes.channel_density,
            step=before.cursor.step,
            votes=_votes(choice),
            consensus=_rounded(choice.consensus),
            kept=tuple(new[old].astype(int).tolist()),
            zero_share=report.zero_share,
            accuracy_before=_accuracy(context, report.measured),
        )
    )


def _votes(choice: Choice) -> dict[str, tuple[float, ...]]:
    """Return the votes, each a number a channel; those of many clients are none."""
    if len(choice.votes) > MOST_LINES:
        return {}
    return {client: _rounded(scores) for client, scores in choice.votes.items()}


def _rounded(scores: Vector) -> tuple[float, ...]:
    return tuple(np.round(scores, 6).tolist())


def _accuracy(context: RunContext, snapshot: Snapshot) -> float | None:
    return None if context.evaluate is None else context.evaluate(snapshot)


def _sizes(context: RunContext, state: ServerState) -> _Sizes:
    structure = context.run_spec.structure
    now, reached = count_cost(structure, state.keep), shares(structure, state.keep)
    return _Sizes(
        params=now.params,
        flops=flops(now),
        density=reached["params"],
        channel_density=reached["channel_density"],
    )


@timed(Activity.WRITING)
def log_round(context: RunContext, played: Played, seconds: float) -> None:
    """Log the figures of a round."""
    before, work = played.before, played.work
    answers, report = played.answers, played.report
    config = context.run_spec.config
    # "Accuracy after the cut" is that of the first broadcast after it: its moments are
    # known only now.
    cut = before.previous is not None and before.previous.round == before.round
    due = cut or work.plan.round % max(config.run.evaluate_every, 1) == 0
    sizes = _sizes(context, before)
    context.log.write(
        RoundFinished(
            run=context.name,
            round=work.plan.round,
            rounds=work.plan.round + _rounds_left(context.run_spec, played.after),
            cycle=before.cursor.cycle,
            phase=work.plan.phase,
            # The closing round trains nothing: it has no training loss.
            loss=report.loss if work.plan.settings.epochs else None,
            accuracy=_accuracy(context, report.measured) if due else None,
            validation_loss=report.score.loss,
            validation_accuracy=report.score.accuracy,
            density=sizes.density,
            params=sizes.params,
            flops=sizes.flops,
            channel_density=sizes.channel_density,
            bytes_up=int(played.counted("bytes_up")),
            bytes_down=int(played.counted("bytes_down")),
            bytes_fixed=int(played.counted("bytes_fixed")),
            bytes_simulation=int(played.counted("bytes_simulation")),
            asked=len(answers.records),
            accepted=len(answers.accepted),
            refused=played.of_status(Status.REFUSED),
            failed=played.of_status(Status.FAILED),
            late=played.of_status(Status.LATE),
            zero_share=report.zero_share,
            seconds=round(seconds, 4),
            virtual_seconds=_virtual(played),
        )
    )


def _rounds_left(run_spec: RunSpec, after: ServerState) -> int:
    """Return the rounds that follow, with the cuts that the budget needs at least."""
    config, cursor, cuts = run_spec.config, after.cursor, 0
    if not cursor.final and run_spec.privacy is None:
        cuts = fewest_cuts(run_spec.structure, config, run_spec.latency, after.keep)
    return rounds_left(cursor, config.rounds, cuts=cuts)


def _virtual(played: Played) -> float | None:
    """Return a round's virtual seconds, with its failed attempts; None on devices."""
    closing = played.answers.closing
    if closing is None or not closing.virtual:
        return None
    return round(played.counted("virtual_seconds"), 4)
