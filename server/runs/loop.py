"""The loop over the rounds of a run, until its cycle has no round left."""

import time
from functools import partial

import numpy as np

from fedprune.common.errors import RoundError
from fedprune.common.profiling.activities import Activity
from fedprune.common.profiling.recorder import timed
from fedprune.common.spec import weights_digest
from fedprune.server.rounds.answers import Answers
from fedprune.server.rounds.broadcast import decoded_state
from fedprune.server.rounds.engine import RoundWork
from fedprune.server.rounds.finish import (
    count_failed_attempt,
    finish_round,
)
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.state import RunSpec, ServerState, Snapshot
from fedprune.server.rounds.steps.private import (
    hide_clients,
    withhold_clients,
    without_rare,
)
from fedprune.server.rounds.waiting.collecting import collect
from fedprune.server.runs.context import Played, RunContext
from fedprune.server.runs.record.rounds import (
    log_aside,
    log_clients,
    log_late,
    log_lost,
    log_round,
    log_steps,
)

_ATTEMPTS = 3  # attempts of one round, each with another cohort


def drive(state: ServerState, context: RunContext) -> ServerState:
    """Run all rounds that are left and return the last state.

    Raises:
        RoundError: If every attempt of a round fails.
        StructureError: If a cut is not exact; the state before it is the last one
            that was written.
    """
    while not state.cursor.done:
        state = _one_round(state, context)
        context.checkpoints.write(state)
    return state


def _one_round(state: ServerState, context: RunContext) -> ServerState:
    before, run_spec = state, context.run_spec
    for attempt in range(_ATTEMPTS):
        started = time.monotonic()
        work = plan_round(state, run_spec, attempt)
        answers = collect(work, context.engine, partial(log_lost, context, work))
        answers = _hidden(answers, work, state, context)
        # First: the events of the clients are logged even if the run ends here.
        log_clients(context, work, answers)
        try:
            after, report = finish_round(state, work, answers, run_spec)
        except RoundError as error:
            context.warn(work.plan.round, str(error))
            if attempt == _ATTEMPTS - 1:
                raise
            earlier, state = state, count_failed_attempt(state, answers, run_spec)
            log_aside(context, earlier, state, work)
            time.sleep(context.pause_s * 4.0**attempt)
            continue
        played = Played(
            before=before, after=after, work=work, answers=answers, report=report
        )
        _check_cut(context, played)
        log_aside(context, state, after, work)
        log_late(context, played)
        log_steps(context, played)
        log_round(context, played, time.monotonic() - started)
        return after
    raise AssertionError  # the loop returns or raises


@timed(Activity.AGGREGATION)
def _hidden(
    answers: Answers, work: RoundWork, state: ServerState, context: RunContext
) -> Answers:
    """Return the answers without what is rare, and with noise in place of clients."""
    config, privacy = context.run_spec.config, context.run_spec.privacy
    enough = len(answers.accepted) >= config.rounds.minimum
    if config.privacy.senders > 1 and enough:
        answers = without_rare(answers, work, config.privacy.senders)
    if privacy is None:
        return answers
    if not enough:
        return withhold_clients(answers)
    hidden = hide_clients(answers, work, state.statistics, privacy)
    if context.releases is not None:
        context.releases.note(work.plan.round, hidden)
    return hidden


@timed(Activity.PRUNING)
def _check_cut(context: RunContext, played: Played) -> None:
    """Try the keep mask of a cut before anything of it is written."""
    old, new = played.before.keep, played.after.keep
    cut = played.report.choice is not None and not np.array_equal(old, new)
    if cut and context.check is not None:
        context.check(new)


def sendable(state: ServerState, run_spec: RunSpec) -> Snapshot:
    """Return a state's network as a client would receive it now."""
    spec = run_spec.structure.spec(state.keep)
    weights = decoded_state(state, run_spec.structure, spec, run_spec.config)
    return Snapshot(
        round=state.round,
        plan=state.plan,
        weights=weights,
        digest=weights_digest(weights),
        statistics=state.statistics,
    )
