"""The first event of a run, or of its resumption."""

from collections.abc import Mapping

from fedprune.common.config import Config, config_changes
from fedprune.common.errors import IntegrityError
from fedprune.common.pruning.cost import count_cost, flops
from fedprune.server.runs.events import (
    MAIN,
    EventLog,
    RunResumed,
    RunStarted,
    WarningGiven,
    has_started,
    of_kind,
    read_events,
)
from fedprune.server.runs.folder import RunFolder
from fedprune.server.runs.trying import Tried

_MOST_TOLD = 10_000  # clients whose examples the event of the start has


def log_start(
    log: EventLog,
    folder: RunFolder,
    config: Config,
    tried: Tried,
    *,
    examples: Mapping[str, int] | None = None,
) -> None:
    """Log that a run starts, with a warning for each unusual setting, or is resumed.

    Args:
        log: Its log.
        folder: Its folder.
        config: Its configuration.
        tried: Its network.
        examples: Client id -> training examples, where they are known.
    """
    directory = str(folder.path)
    if has_started(folder.events):
        log.write(RunResumed(run_id=folder.run_id, directory=directory))
        started = next(of_kind(read_events(folder.events), RunStarted), None)
        if started is not None and started.device != tried.device:
            text = f"resumed on {tried.device}, and it started on {started.device}: "
            text += "sums of another device differ in their last bits"
            log.write(WarningGiven(run=MAIN, round=0, text=text))
        return
    full = tried.structure.full()
    private = config.privacy.hides_clients
    dense = count_cost(tried.structure, full)
    log.write(
        RunStarted(
            run_id=folder.run_id,
            directory=directory,
            config=config.model_dump(mode="json"),
            clients=config.task.clients,
            client_examples=None if private else _told(examples),
            params_dense=dense.params,
            flops_dense=flops(dense),
            groups=tried.structure.widths(full),
            graph=tried.graph,
            reach=tried.reach,
            metric=tried.metric,
            better="higher" if tried.higher_is_better else "lower",
            device=tried.device,
        )
    )
    for text in tried.remarks:
        log.write(WarningGiven(run=MAIN, round=0, text=text))


def refuse_changes(folder: RunFolder, config: Config) -> None:
    """Refuse a configuration that is not the one that the events of a run start with.

    Raises:
        IntegrityError: With each key that can change a result: before and now.
    """
    started = next(of_kind(read_events(folder.events), RunStarted), None)
    changes = [] if started is None else config_changes(started.config, config)
    if changes:
        msg = f"{folder.config} was changed since the run started: {', '.join(changes)}"
        msg += "; put it back, or start a new run with it"
        raise IntegrityError(msg)


def _told(examples: Mapping[str, int] | None) -> Mapping[str, int] | None:
    """Return the examples of each client, None of more than a line can hold."""
    return None if examples is None or len(examples) > _MOST_TOLD else examples
