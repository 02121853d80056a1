"""A federation from its first or last checkpoint to its end, on any engine."""

from collections.abc import Mapping
from dataclasses import replace

from fedprune.common.config import Config, config_digest
from fedprune.common.errors import IntegrityError
from fedprune.common.messages import Statistics
from fedprune.common.privacy.hiding import privacy_of
from fedprune.common.pruning.latency import LatencyTable
from fedprune.common.pruning.plan import full_plan
from fedprune.common.spec import PrunePlan, Vector
from fedprune.common.structure.structure import Structure
from fedprune.server.rounds.cycle import first_cursor
from fedprune.server.rounds.engine import Engine
from fedprune.server.rounds.state import Draw, RunSpec, ServerState, Snapshot, new_state
from fedprune.server.rounds.steps.mask import take_mask
from fedprune.server.runs.checkpoint import Checkpoints
from fedprune.server.runs.context import Check, Evaluate, RunContext
from fedprune.server.runs.events import (
    EventLog,
    RoundFinished,
    RunName,
    WarningGiven,
    of_run,
    read_events,
)
from fedprune.server.runs.folder import RunFolder
from fedprune.server.runs.loop import drive, sendable
from fedprune.server.runs.record.releases import Releases
from fedprune.server.runs.record.rounds import log_mask


def run_federation(  # noqa: PLR0913 - a federation's whole environment, by keyword
    *,
    name: RunName,
    config: Config,
    clients: tuple[str, ...],
    structure: Structure,
    weights: Vector,
    statistics: Statistics | None = None,
    plan: PrunePlan | None = None,
    draw: Draw | None = None,
    folder: RunFolder,
    engine: Engine,
    log: EventLog,
    evaluate: Evaluate | None,
    enrolled: Mapping[str, int],
    latency: LatencyTable | None = None,
    check: Check | None = None,
    token: str = "",
    higher_is_better: bool = True,
    pause_s: float = 0.0,
) -> tuple[ServerState, Snapshot]:
    """Start or resume a federation and run it to its end.

    Args:
        name: "main" or the name of a control: names checkpoints, events and the
            clients' folders.
        config: Its configuration.
        clients: Ids of all clients.
        structure: The original network.
        weights: Its first weights, float32[n]; used when there is no checkpoint.
        statistics: Its first running values, and batch-norm moments, which frozen
            modules keep; None where there are no running buffers and no batch norm is
            frozen.
        plan: The first prune plan; None = the whole network.
        draw: Draws fresh weights after the last cut, for ``prune.restart``.
        folder: Folder of the checkpoints.
        engine: Delivers round requests.
        log: Event log; events after the checkpoint are dropped first.
        evaluate: Scores networks for the report, or None.
        latency: Latency table of the budget, or None.
        check: Tries the keep mask of each cut before it becomes the state, or None.
        enrolled: Client id -> examples that it enrolled with.
        token: Distinguishes runs of the same configuration; needed where
            clients keep the state of several runs in one place.  Lengths of messages
            are those of a simulation when it has 16 characters.
        higher_is_better: Direction of the task's headline metric.
        pause_s: Seconds before the second attempt of a round; four times as many
            before each later one.

    Returns:
        The last state, and the network as every client would receive it.

    Raises:
        RoundError: If too few clients answer.
        StructureError: If a cut is not exact; the run can be resumed before it.
        IntegrityError: If there are checkpoints and none can be used, or the events
            lack rounds of the one that is.
    """
    identity = config_digest(config)
    run_spec = RunSpec(
        # No federation accepts the answers of another, or has its residuals.
        run_id=f"{name}-{token or identity[:16]}",
        config=config,
        structure=structure,
        clients=clients,
        latency=latency,
        enrolled=enrolled,
        higher_is_better=higher_is_better,
        draw=draw,
        privacy=privacy_of(config, moments=len(structure.moments) > 0),
    )
    hidden = run_spec.privacy
    noise = "" if hidden is None else f"-{hidden.key.name}"
    checkpoints = Checkpoints(folder.checkpoints, name, identity + noise)
    found = checkpoints.restore()
    for why in found.refused:
        text = f"{why}; the one before it is used"
        log.write(WarningGiven(run=name, round=0, text=text))
    state = found.state
    if state is not None:
        _check_played(log, name, state.round)
    else:
        cursor = first_cursor(config.rounds)
        first = full_plan(structure) if plan is None else plan
        state = new_state(structure, weights, cursor, first, statistics)
    state = replace(state, ledgers=state.ledgers.covering(clients))
    log.drop_after(state.round, run=name)
    if found.state is None:
        # Where no round comes before the final ones, the first mask is due now.
        state = take_mask(state, run_spec)
        if state.mask is not None:  # of round 1, so that a resume before it drops it
            log_mask(log, name, 1, state.mask)
    context = RunContext(
        name=name,
        run_spec=run_spec,
        engine=engine,
        log=log,
        checkpoints=checkpoints,
        evaluate=evaluate,
        check=check,
        pause_s=pause_s,
        releases=None if hidden is None else Releases(folder.checkpoints, name),
    )
    last = drive(state, context)
    return last, sendable(last, run_spec)


def _check_played(log: EventLog, name: RunName, rounds: int) -> None:
    """Refuse a log without rounds that a checkpoint has: figures are sums of it."""
    told = {event.round for event in of_run(read_events(log.path), RoundFinished, name)}
    gone = rounds - len(told.intersection(range(1, rounds + 1)))
    if gone:
        msg = f"{log.path} lacks {gone} of the {rounds} rounds of {name} that are in "
        msg += "its checkpoint, and figures are sums over rounds: the file was damaged;"
        msg += " put it back, or start a new run"
        raise IntegrityError(msg)
