"""The rounds of a tiny federation by themselves, with a log and checkpoints."""

from fedprune.server.runs.checkpoint import Checkpoints
from fedprune.server.runs.context import RunContext
from fedprune.server.runs.events import EventLog, read_events
from fedprune.server.runs.loop import drive
from helpers.tiny_federation import start


def driven(folder, run_spec, task, engine, **others):
    """Play all rounds from the start; return the last state and the events.

    Args:
        folder: Folder of the log and of the checkpoints.
        run_spec: Settings of the run.
        task: Its task.
        engine: Asks the clients.
        others: Further fields of the context.
    """
    path = folder / "events.jsonl"
    with EventLog(path) as log:
        log.drop_after(0)
        context = RunContext(
            name="main",
            run_spec=run_spec,
            engine=engine,
            log=log,
            checkpoints=Checkpoints(folder / "checkpoints", "main", "x"),
            evaluate=None,
            **others,
        )
        state = drive(start(task, run_spec), context)
    return state, read_events(path)
