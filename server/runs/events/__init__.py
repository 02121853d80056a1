"""Event log of a run, one JSON object a line: the source of report and tables.

``kinds`` has one dataclass a kind of event, ``codec`` reads and writes all of them,
``log`` is the file, ``render`` describes an event in one line.
"""

from fedprune.server.runs.events.base import DENSE, MAIN, Event, OfRound, RunName
from fedprune.server.runs.events.kinds import (
    ClientAnswered,
    ClientsAnswered,
    ClientsPutAside,
    CutChecked,
    CutRolledBack,
    LateArrived,
    MaskChosen,
    NetworkCut,
    NetworkRestarted,
    PrivacySpent,
    RoundFinished,
    WarningGiven,
    WorkerLost,
    of_kind,
    of_run,
)
from fedprune.server.runs.events.log import (
    EventLog,
    Follower,
    has_started,
    read_events,
)
from fedprune.server.runs.events.metrics_csv import COLUMNS, write_metrics_csv
from fedprune.server.runs.events.of_runs import (
    ClientsConnected,
    LabelsCounted,
    NetworkDelivered,
    RunFailed,
    RunFinished,
    RunResumed,
    RunStarted,
    RunStopped,
)
from fedprune.server.runs.events.render import describe, human_bytes

__all__ = [
    "COLUMNS",
    "DENSE",
    "MAIN",
    "ClientAnswered",
    "ClientsAnswered",
    "ClientsConnected",
    "ClientsPutAside",
    "CutChecked",
    "CutRolledBack",
    "Event",
    "EventLog",
    "Follower",
    "LabelsCounted",
    "LateArrived",
    "MaskChosen",
    "NetworkCut",
    "NetworkDelivered",
    "NetworkRestarted",
    "OfRound",
    "PrivacySpent",
    "RoundFinished",
    "RunFailed",
    "RunFinished",
    "RunName",
    "RunResumed",
    "RunStarted",
    "RunStopped",
    "WarningGiven",
    "WorkerLost",
    "describe",
    "has_started",
    "human_bytes",
    "of_kind",
    "of_run",
    "read_events",
    "write_metrics_csv",
]
