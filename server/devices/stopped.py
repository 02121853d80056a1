"""A run that its operator has stopped: the event that says so."""

import time
from typing import TypeAlias

from fedprune.common.errors import ConfigError
from fedprune.server.runs.events import (
    EventLog,
    RoundFinished,
    RunFailed,
    RunFinished,
    RunStopped,
    of_run,
    read_events,
)
from fedprune.server.runs.folder import RunFolder

_END_S = 90.0  # Flower tells the run's process with its next heartbeat
_POLL_S = 0.2


End: TypeAlias = RunFinished | RunFailed | RunStopped


def note_stop(folder: RunFolder) -> End:
    """Write that a run was stopped, once its process has ended.

    A run that came to another end by itself, or whose stop is noted, stays as it is.

    Returns:
        Its last event.

    Raises:
        ConfigError: If its process does not end in time.
    """
    end = time.monotonic() + _END_S
    while True:
        try:
            with folder.locked():
                return _noted(folder)
        except ConfigError:
            if time.monotonic() > end:
                raise
        time.sleep(_POLL_S)


def _noted(folder: RunFolder) -> End:
    events = read_events(folder.events)
    last = events[-1] if events else None
    if isinstance(last, End):
        return last
    rounds = of_run(events, RoundFinished)
    event = RunStopped(rounds=rounds[-1].round if rounds else 0)
    with EventLog(folder.events) as log:
        log.write(event)
    return event
