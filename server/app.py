"""The Flower app of the server: the same rounds, one client for each node.

A submitted run names its run folder (``run``), which holds the configuration and, when
it was stopped before, the checkpoints to go on from.  A plain ``flwr run`` makes one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedprune.common import codec
from fedprune.common.artifacts import LABELS_FILE, write_labels, write_plan_file
from fedprune.common.artifacts.load import write_network
from fedprune.common.config import refuse_faults
from fedprune.common.errors import FedPruneError, IntegrityError
from fedprune.common.flower.bundle import NAMES_KEY, RUN_KEY
from fedprune.common.flower.run_config import read_app_config
from fedprune.common.models.flat import get_weights, set_state, set_weights
from fedprune.common.models.training import first_statistics
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.spec import digest_of
from fedprune.common.structure.structure import Structure
from fedprune.common.system.atomic import (
    drop_unfinished,
    write_bytes_atomic,
    write_json_atomic,
)
from fedprune.common.tasks.described import declared_description
from fedprune.common.tasks.fresh import draw_fresh
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.text import error_line, say
from fedprune.common.trust import named_code, record_code
from fedprune.server.devices.flower_engine import FlowerEngine, deliver, enrol
from fedprune.server.devices.run_config import run_config
from fedprune.server.report import report_on_end
from fedprune.server.rounds.broadcast import encode_network
from fedprune.server.rounds.cut import within_budget
from fedprune.server.rounds.influence import ReportedLoss, pooled
from fedprune.server.rounds.state import ServerState, Snapshot, model_sha256
from fedprune.server.runs.card import write_card
from fedprune.server.runs.events import (
    EventLog,
    NetworkDelivered,
    RoundFinished,
    RunFailed,
    RunFinished,
    of_run,
    read_events,
    write_metrics_csv,
)
from fedprune.server.runs.federation import run_federation
from fedprune.server.runs.finished import finished_summary
from fedprune.server.runs.folder import RunFolder, read_json_object
from fedprune.server.runs.record.remarks import remarks_of
from fedprune.server.runs.record.spent import privacy_figures
from fedprune.server.runs.start import log_start, refuse_changes
from fedprune.server.runs.tracking import check_trackers, tracked
from fedprune.server.runs.trying import Tried, check_unchanged, cut_check, try_network

app = ServerApp()

_PAUSE_S = 30.0  # a network that is away is not back at once
_TOKEN = 16  # as many characters as a simulation's run id has at that place


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A run that can start.

    Attributes:
        task: What is learned.
        tried: The original network.
        folder: The run folder.
        log: Its events.
        grid: Flower's grid.
        owners: Node id -> client whose key it has; None where nodes have no keys.
    """

    task: LoadedTask
    tried: Tried
    folder: RunFolder
    log: EventLog
    grid: Grid
    owners: Mapping[int, str] | None

    @property
    def structure(self) -> Structure:
        """The structure of the original network."""
        return self.tried.structure


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Enrol the clients, run the federation, deliver the network, leave the folder."""
    folder, task, tried = _open(context)
    if finished_summary(folder) is not None:
        return  # submitted again: it stays as it is
    with (
        folder.locked(),
        tracked(folder, task.config) as tracking,
        EventLog(folder.events, (tracking.on_event,)) as log,
    ):
        drop_unfinished(folder.path)
        tracking.warn_by(log.write)
        try:
            refuse_changes(folder, task.config)
            tried = tried or _try(task)
            check_unchanged(folder, tried)
            write_bytes_atomic(folder.structure, tried.structure.to_json())
            work = Work(
                task=task,
                tried=tried,
                folder=folder,
                log=log,
                grid=grid,
                owners=_owners(str(context.run_config.get(NAMES_KEY) or "")),
            )
            _run(work)
        except FedPruneError as error:
            log.write(RunFailed(text=str(error), exit_code=error.exit_code))
            raise


def _open(context: Context) -> tuple[RunFolder, LoadedTask, Tried | None]:
    """Return the folder of the run, made when it was not submitted with one.

    What is made here has been tried before: a wrong input leaves nothing behind.
    """
    path = str(context.run_config.get(RUN_KEY) or "")
    if path:
        folder = RunFolder.open(Path(path))
        return folder, LoadedTask(run_config(folder)), None
    config = read_app_config(context.run_config)
    task = LoadedTask(config)
    tried = _try(task)
    base = Path(str(context.run_config.get("run-dir") or config.run.dir))
    folder = RunFolder.create(
        base, config.run.name, config=config, latency=tried.latency
    )
    record_code(folder.run_id, named_code(config))
    return folder, LoadedTask(folder.own(config)), tried


def _try(task: LoadedTask) -> Tried:
    refuse_faults(task.config.faults, "a server")
    check_trackers(task.config.run.track)
    declared_description(task)
    return try_network(task, task.build_model(), data=False)


def _owners(path: str) -> dict[int, str] | None:
    """Return node id -> client of the keys that the server has registered."""
    if not path:
        return None
    entries = read_json_object(Path(path)).items()
    try:
        return {int(e["node"]): name for name, e in entries if isinstance(e, dict)}
    except (KeyError, TypeError, ValueError) as error:
        why = error_line(error)
        msg = f"{path}: an entry names no node ({why}); register the keys anew"
        raise IntegrityError(msg) from error


def _run(work: Work) -> None:
    config, log, folder = work.task.config, work.log, work.folder
    log_start(log, folder, config, work.tried)
    labels = work.task.task.class_names
    enrolled = enrol(work.grid, config, log, work.owners, labels)
    nodes = {name: client.node for name, client in enrolled.items()}
    model = work.task.build_model()
    state, final = run_federation(
        name="main",
        config=config,
        clients=tuple(sorted(nodes)),
        structure=work.structure,
        weights=get_weights(model),
        statistics=first_statistics(model, config.task.freeze, work.structure.running),
        folder=folder,
        engine=FlowerEngine(work.grid, nodes),
        log=log,
        evaluate=None,
        enrolled={name: client.examples for name, client in enrolled.items()},
        latency=work.tried.latency,
        draw=partial(draw_fresh, work.task, work.structure, frozen=config.task.freeze),
        check=cut_check(work.task, work.structure),
        token=digest_of(folder.run_id.encode()).hex()[:_TOKEN],
        higher_is_better=work.tried.higher_is_better,
        pause_s=_PAUSE_S,
    )
    _keep(work, final)
    delivered = _deliver(work, nodes, final)
    summary = _summary(work, state, final, delivered)
    write_metrics_csv(read_events(folder.events), folder.metrics)
    write_json_atomic(folder.summary, summary)
    write_card(folder.model, work.task, declared_description(work.task), summary)
    log.write(RunFinished(summary=summary))
    problem = report_on_end(folder)
    if problem:
        say(problem)


def _keep(work: Work, final: Snapshot) -> None:
    """Write the final network and its plan into the run folder."""
    model = work.task.build_model()
    apply_plan(model, work.structure, final.plan.keep)
    set_weights(model, final.weights)
    set_state(model, final.statistics, work.structure.living(final.plan.keep).running)
    write_plan_file(work.folder.plan, final.plan, work.structure)
    description = declared_description(work.task)
    write_network(
        work.folder.model / "final.safetensors",
        model.eval(),
        work.task,
        structure=work.structure,
        plan=final.plan,
        run_id=work.folder.run_id,
        description=description,
    )
    write_labels(work.folder.model / LABELS_FILE, description)


def _deliver(
    work: Work, nodes: dict[str, int], final: Snapshot
) -> list[NetworkDelivered]:
    spec = work.structure.spec(final.plan.keep)
    parts = (final.plan, final.weights, final.statistics, spec)
    broadcast, _ = encode_network(*parts, work.task.config.broadcast.values)
    if broadcast.digest != final.digest:  # not on its own grid: as it is, then
        broadcast, _ = encode_network(*parts, "float32")
    blob = codec.encode_broadcast(broadcast)
    results = deliver(
        work.grid,
        nodes,
        work.structure.to_json(),
        blob,
        config=work.task.config,
    )
    for result in results:
        work.log.write(result)
    return results


def _of_delivery(
    delivered: Iterable[NetworkDelivered], multiple: float
) -> ReportedLoss | None:
    """Return what devices measured of the network that they were sent, bounded.

    The metric is the mean over their test examples, none of which trained it; its
    batch norms have the moments that it was delivered with.

    Args:
        delivered: What each device answered.
        multiple: ``robust.max_weight``, which bounds the count of one device.

    Returns:
        The mean metric and the number of examples, with a loss of 0; None where nothing
        was measured.
    """
    told = [
        ReportedLoss(loss=0.0, metric=one.accuracy, count=one.examples)
        for one in delivered
        if one.accuracy is not None and one.examples
    ]
    return pooled(told, multiple)


def _summary(
    work: Work,
    state: ServerState,
    final: Snapshot,
    delivered: list[NetworkDelivered],
) -> dict[str, object]:
    """Return the figures of ``summary.json``; bytes are lengths of messages."""
    events = read_events(work.folder.events)
    rounds = of_run(events, RoundFinished)
    full = work.structure.spec(work.structure.full()).size
    tested = _of_delivery(delivered, work.task.config.robust.max_weight)
    return {
        "rounds": state.round,
        "clients": work.task.config.task.clients,
        "metric": work.tried.metric,
        "validation_accuracy_final": rounds[-1].validation_accuracy if rounds else None,
        "accuracy_delivered": tested.metric if tested else None,
        "examples_delivered": tested.count if tested else 0,
        "params_dense": full,
        "params_final": work.structure.spec(final.plan.keep).size,
        "budget_met": within_budget(
            work.structure, work.task.config, work.tried.latency, final.plan.keep
        ),
        "bytes_up": state.totals.bytes_up,
        "bytes_down": state.totals.bytes_down,
        "bytes_delivery": sum(result.bytes_down for result in delivered),
        "delivered": sum(not result.reason for result in delivered),
        "refused": state.totals.refused,
        "failed": state.totals.failed,
        "privacy": privacy_figures(events),
        "late": state.totals.late,
        "late_used": state.totals.late_used,
        "warnings": remarks_of(events),
        "rollbacks": state.totals.rollbacks,
        "model_sha256": model_sha256(final),
    }
