"""One simulated run, from configuration to report: ``fedprune.simulate``."""

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import nn

from fedprune.client.rounds.score import try_criterion
from fedprune.client.rounds.steps.generations import on_disk, stored_bytes
from fedprune.client.rounds.store import IN_FLIGHT
from fedprune.common.config import Config, ControlName, penalty_of
from fedprune.common.data.places import check_source
from fedprune.common.errors import ConfigError, FedPruneError
from fedprune.common.models.flat import get_weights
from fedprune.common.models.registry import check_model
from fedprune.common.models.training import first_statistics
from fedprune.common.profiling.activities import Activity
from fedprune.common.profiling.recorder import Recorder, during, timed
from fedprune.common.sparsity.gates import try_penalty
from fedprune.common.sparsity.penalty import PenaltySpec
from fedprune.common.structure.structure import Structure
from fedprune.common.system.atomic import drop_unfinished, write_json_atomic
from fedprune.common.tasks.fresh import draw_fresh
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.tasks.task import Task
from fedprune.common.text import as_json
from fedprune.common.trust import named_code, record_code
from fedprune.common.user_code import OWN_CODE, check_reference
from fedprune.server.devices.run_config import run_config
from fedprune.server.report import report_on_end
from fedprune.server.rounds.engine import Engine
from fedprune.server.rounds.plan import asked, update_density
from fedprune.server.rounds.state import ServerState, Snapshot
from fedprune.server.runs.card import write_card
from fedprune.server.runs.controls.names import in_order, kind_of
from fedprune.server.runs.events import (
    DENSE,
    MAIN,
    EventLog,
    RunFinished,
    RunName,
    WarningGiven,
    WorkerLost,
    has_started,
    of_kind,
    read_events,
    write_metrics_csv,
)
from fedprune.server.runs.federation import run_federation
from fedprune.server.runs.folder import RunFolder
from fedprune.server.runs.start import log_start
from fedprune.server.runs.tracking import check_trackers, tracked
from fedprune.server.runs.trying import Tried, cut_check, try_network
from fedprune.simulations.engines.engines import EngineSpec, check_engine, engine_for
from fedprune.simulations.engines.hostile.names import check_attack
from fedprune.simulations.engines.shared_data import remove_shared, share_data
from fedprune.simulations.labels import count_labels
from fedprune.simulations.profiling.files import write_profile
from fedprune.simulations.profiling.record import recording, run_profile
from fedprune.simulations.runs.controls import Compared, Start, run_controls
from fedprune.simulations.runs.evaluate import evaluator_of
from fedprune.simulations.runs.manifest import describe_run
from fedprune.simulations.runs.notebook.result import RunResult
from fedprune.simulations.runs.progress import Progress
from fedprune.simulations.runs.resumption import (
    check_config,
    check_same,
    finished_summary,
)
from fedprune.simulations.runs.summary import Networks, summarise, write_models

Factory = Callable[[], nn.Module]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A run that is checked and can start."""

    task: LoadedTask
    tried: Tried
    folder: RunFolder
    ray_address: str
    progress: Progress | None

    @property
    def structure(self) -> Structure:
        """The structure of the dense network."""
        return self.tried.structure


def run(
    config: Config,
    *,
    ray_address: str = "",
    progress: Progress | None = None,
    factory: Factory | None = None,
    given: Task | None = None,
) -> RunResult:
    """Run one federation from the start.

    Args:
        config: Its configuration.
        ray_address: An existing Ray cluster, or "" for a local one.
        progress: Receives every event.
        factory: Makes the network instead of ``task.model``.
        given: A caller's own task.

    Raises:
        ConfigError: Before any data is loaded, if the configuration cannot work.
        FedPruneError: If the run fails; its folder can be resumed.
    """
    with recording(wanted=config.run.profile) as recorder:
        task = LoadedTask(config, factory, given)
        return _profiled(_prepare(task, ray_address, progress), recorder)


@timed(Activity.STARTING)
def _prepare(task: LoadedTask, ray_address: str, progress: Progress | None) -> Prepared:
    """Check a new run, and make its folder."""
    _check(task)
    task.describe()
    tried = _tried(task)
    config = task.config
    folder = RunFolder.create(
        Path(config.run.dir),
        config.run.name,
        manifest=describe_run(task, tried.graph, sys.argv),
        config=config,
        latency=tried.latency,
        structure=tried.structure.to_json(),
    )
    record_code(folder.run_id, named_code(config, factory=task.factory is not None))
    return Prepared(
        task=task,
        tried=tried,
        folder=folder,
        ray_address=ray_address,
        progress=progress,
    )


def resume(
    run_dir: Path,
    *,
    ray_address: str = "",
    progress: Progress | None = None,
    factory: Factory | None = None,
    given: Task | None = None,
    trust_code: bool = False,
) -> RunResult:
    """Resume a stopped run; its result is bit-identical to one that never stopped.

    A run that has ended stays as it is: its figures are returned.

    Args:
        run_dir: The run folder.
        ray_address: As for ``run``.
        progress: As for ``run``.
        factory: As for ``run``.
        given: As for ``run``.
        trust_code: Run the code that the folder names even if no command of this user
            started the run here (``fedprune.common.trust``).

    Raises:
        ConfigError: If the folder is no run, or names untrusted code.
        IntegrityError: If no checkpoint can be used, or configuration, data or network
            are not those that the run started with.
    """
    folder = RunFolder.open(run_dir)
    summary = finished_summary(folder)
    if summary is not None:
        return RunResult(directory=folder.path, summary=summary, was_finished=True)
    named, own = factory is not None, given is not None
    config = run_config(folder, trust_code=trust_code, factory=named, task=own)
    check_config(folder, config, factory=named, task=own)
    check_trackers(config.run.track)
    with recording(wanted=config.run.profile) as recorder:
        with during(Activity.STARTING):
            task = LoadedTask(config, factory, given)
            tried = _tried(task)
            check_same(folder, task, tried.structure, tried.graph)
        prepared = Prepared(
            task=task,
            tried=tried,
            folder=folder,
            ray_address=ray_address,
            progress=progress,
        )
        return _profiled(prepared, recorder)


def _check(task: LoadedTask) -> None:
    """Refuse a configuration that cannot work, before any data is loaded."""
    check_trackers(task.config.run.track)
    chosen = task.config.task
    if chosen.use and task.given is None:
        check_reference(chosen.use)
    if not task.task.has_own_data:
        check_source(chosen.data, chosen.data_dir)
        if chosen.tokenizer:
            check_reference(chosen.tokenizer)
    if task.factory is None and not task.task.has_own_network:
        check_model(chosen.model)


def _check_clients(task: LoadedTask) -> None:
    """Refuse more clients than examples, and a cohort of more than there are."""
    config = task.config
    # Before they have names: a wrong number may be too large for that.
    if not task.natural and config.task.clients > len(task.train):
        msg = (
            f"task.clients is {config.task.clients}; want at most one for each of the "
            f"{len(task.train)} training examples"
        )
        raise ConfigError(msg)
    count = len(task.clients)
    if config.rounds.cohort > count:
        msg = f"rounds.cohort is {config.rounds.cohort}, and {task.name} has {count} "
        msg += "clients; want at most as many"
        raise ConfigError(msg)


def _tried(task: LoadedTask) -> Tried:
    """Try the network before anything of the run exists."""
    config = task.config
    _check_clients(task)
    model = task.build_model()
    tried = try_network(task, model)
    structure = tried.structure
    if config.rounds.cuts > 0:
        try_criterion(config.prune.importance, task, model, structure)
        spec = PenaltySpec(name=penalty_of(config), strength=config.client.strength)
        try_penalty(structure, get_weights(model), spec)
    _check_state(task, structure)
    _ = task.sizes  # refuses a partition that the labels do not allow
    check_engine(task)
    attack = check_attack(task)
    return replace(tried, remarks=(*tried.remarks, attack)) if attack else tried


def _check_state(task: LoadedTask, structure: Structure) -> None:
    """Refuse a run whose clients' residuals would fill the disk."""
    config = task.config
    needed = residual_bytes(config, len(task.clients), structure)
    limit = config.run.state_limit_mb << 20
    if needed > limit:
        msg = (
            f"residuals of {len(task.clients)} clients need {needed >> 20} MiB; "
            f"run.state_limit_mb is {config.run.state_limit_mb}; raise it, or set "
            "update.stateless = true"
        )
        raise ConfigError(msg)


def residual_bytes(config: Config, clients: int, structure: Structure) -> int:
    """Return the most bytes that the clients' residuals take on the disk.

    Every client has a folder with one generation, and with those of the last rounds
    that a server may be resumed before.  A round that fails and is played again asks
    others, who are not counted.

    Args:
        config: The configuration.
        clients: Number of clients.
        structure: The network: cuts make its residuals smaller.
    """
    update, rounds = config.update, config.rounds
    if not update.keeps_residuals:
        return 0
    spec = structure.spec(structure.full())
    share = update_density(update, spec.size)
    one = stored_bytes(spec, structure.units, update.values, share)
    played = min(IN_FLIGHT, rounds.total) * asked(rounds, clients)
    # Each federation has its own, all but the dense one.
    sent = [name for name in in_order(config.run.controls) if kind_of(name) != DENSE]
    return (1 + len(sent)) * (clients * (one + on_disk(1)) + played * one)


def _profiled(prepared: Prepared, recorder: Recorder | None) -> RunResult:
    """Run it, and write its profile, if there is a recorder; of a failed run too."""
    if recorder is None:
        return _go(prepared)
    folder = prepared.folder
    try:
        result = _go(prepared)
    finally:
        profile = run_profile(recorder)
        write_profile(folder.profile, profile, folder.run_id)
    return replace(result, profile=profile)


def _go(prepared: Prepared) -> RunResult:
    """Run the remaining rounds of a run, and its controls, on one engine."""
    started = time.monotonic()
    folder, config = prepared.folder, prepared.task.config
    listeners = () if prepared.progress is None else (prepared.progress.on_event,)
    with folder.locked(), tracked(folder, config) as tracking:
        with during(Activity.STARTING):
            drop_unfinished(folder.path)
            task = share_data(prepared.task, folder.clients, config.run.engine)
        prepared = replace(prepared, task=task)
        place = EngineSpec(
            task=prepared.task,
            root=folder.clients.resolve(),
            workers=config.run.workers,
            ray_address=prepared.ray_address,
            weights=prepared.structure.spec(prepared.structure.full()).size,
            limit_s=config.run.limit_s,
        )
        with EventLog(folder.events, (*listeners, tracking.on_event)) as log:
            tracking.warn_by(log.write)
            _log_start(prepared, log)
            with _mended(), engine_for(place, config.run.engine) as engine:
                networks = _federations(prepared, engine, log)
            summary = _summarised(prepared, networks, started)
            log.write(RunFinished(summary=summary))
        with during(Activity.RESULTS):
            remove_shared(folder.clients)
            events = read_events(folder.events)
            if any(True for _ in of_kind(events, WorkerLost)):
                drop_unfinished(folder.clients)
            write_metrics_csv(events, folder.metrics)
            _report(folder)
    return RunResult(directory=folder.path, summary=summary)


@timed(Activity.RESULTS)
def _summarised(
    prepared: Prepared, networks: Networks, started: float
) -> dict[str, object]:
    """Write the networks and the figures of a run; return the figures."""
    task, folder = prepared.task, prepared.folder
    write_models(task, prepared.structure, folder, networks)
    figures = summarise(
        task,
        prepared.structure,
        folder,
        read_events(folder.events),
        networks,
        prepared.tried.latency,
    )
    summary = {name: as_json(value) for name, value in figures.items()}
    summary["seconds"] = round(time.monotonic() - started, 2)
    write_json_atomic(folder.summary, summary)
    write_card(folder.model, task, task.describe(), summary)
    return summary


@contextmanager
def _mended() -> Iterator[None]:
    """Add to an error that the user's own code raised how to mend it."""
    try:
        yield
    except FedPruneError as error:
        if OWN_CODE not in str(error):
            raise
        msg = f"{error}; mend the code and start a new run, or resume this one if the "
        msg += "cause lies outside of it"
        raise type(error)(msg) from error


@timed(Activity.STARTING)
def _log_start(prepared: Prepared, log: EventLog) -> None:
    folder, task = prepared.folder, prepared.task
    examples = task.sizes
    config = folder.own(task.config)
    told = not has_started(folder.events)
    log_start(log, folder, config, prepared.tried, examples=examples)
    if told and (labels := count_labels(task)) is not None:
        log.write(labels)


def _federations(prepared: Prepared, engine: Engine, log: EventLog) -> Networks:
    """Run the federation, then its controls."""
    task, structure = prepared.task, prepared.structure
    config = task.config
    with during(Activity.STARTING):
        model = task.build_model()
        weights = get_weights(model)
        first = first_statistics(model, config.task.freeze, structure.running)
        evaluate = evaluator_of(task, structure)
        enrolled = {c: len(task.client_data(c).train) for c in task.clients}

    def federate(
        name: RunName, chosen: Config, start: Start | None
    ) -> tuple[ServerState, Snapshot]:
        return run_federation(
            name=name,
            config=chosen,
            clients=task.clients,
            structure=structure,
            weights=weights if start is None else start.network.weights,
            statistics=first if start is None else start.network.statistics,
            plan=None if start is None else start.plan,
            draw=partial(draw_fresh, task, structure, frozen=config.task.freeze),
            folder=prepared.folder,
            engine=engine,
            log=log,
            evaluate=evaluate,
            enrolled=enrolled,
            latency=prepared.tried.latency,
            check=cut_check(task, structure),
            higher_is_better=task.higher_is_better,
        )

    def warn(control: ControlName, text: str) -> None:
        log.write(WarningGiven(run=control, round=config.rounds.total + 1, text=text))

    state, final = federate(MAIN, config, None)
    compared = Compared(
        config=config,
        structure=structure,
        latency=prepared.tried.latency,
        final=final,
        draw=partial(draw_fresh, task, structure),
        events=lambda: read_events(prepared.folder.events),
        warn=warn,
    )
    controls = run_controls(compared, lambda *given: federate(*given)[1])
    return Networks(final=final, before_cut=state.dense, controls=controls)


def _report(folder: RunFolder) -> None:
    problem = report_on_end(folder)
    if problem:
        warnings.warn(problem, stacklevel=2)
