"""Events with invented figures, of which a test changes what it is about."""

import json
from dataclasses import replace
from pathlib import Path

from fedprune.common.messages import Phase
from fedprune.server.rounds.records import Status, Verdict
from fedprune.server.runs.events import (
    MAIN,
    ClientAnswered,
    ClientsAnswered,
    ClientsConnected,
    ClientsPutAside,
    CutChecked,
    CutRolledBack,
    Event,
    LabelsCounted,
    LateArrived,
    MaskChosen,
    NetworkCut,
    NetworkDelivered,
    NetworkRestarted,
    PrivacySpent,
    RoundFinished,
    RunFailed,
    RunFinished,
    RunResumed,
    RunStarted,
    RunStopped,
    WarningGiven,
    WorkerLost,
)

STARTED = RunStarted(
    metric="accuracy",
    better="higher",
    device="cpu",
    run_id="x",
    directory="runs/x",
    config={"prune": {"budget": {"params": 0.3}}},
    clients=2,
    client_examples={"a": 3, "b": 4},
    params_dense=1000,
    flops_dense=5000,
    groups={"conv": 8, "fc": 4},
    graph="relu",
    reach="the smallest network that the structure allows has 0.1 % of the FLOPs",
)
LABELS = LabelsCounted(classes=("no", "yes"), counts={"a": (1, 2), "b": (4, 0)})
RESUMED = RunResumed(run_id="x", directory="runs/x")
FINISHED = RunFinished(summary={"rounds": 2, "warnings": ["w"], "accuracy_final": 0.5})
FAILED = RunFailed(text="1 of 3 clients", exit_code=4)
STOPPED = RunStopped(rounds=3)
WAITING = ClientsConnected(connected=("a", "b"), wanted=3, refused=())
DELIVERED = NetworkDelivered(client="a", bytes_down=7, examples=3, accuracy=0.5)
CLIENT = ClientAnswered(
    run=MAIN,
    round=1,
    client="a",
    status=Status.ACCEPTED,
    reason="",
    bytes_up=10,
    bytes_down=20,
    num_examples=3,
    norm=1.5,
    factor=1.0,
    loss=0.5,
    seconds=0.25,
)
CLIENTS = ClientsAnswered(
    run=MAIN,
    round=2,
    statuses={"accepted": 300, "refused": 0, "failed": 2, "late": 0},
    means={"loss": 0.5, "norm": 2.0},
    edges={"loss": (0.25, 0.5, 1.0), "norm": (2.0, 2.0)},
    counts={"loss": (100, 200), "norm": (300,)},
)
ROUND = RoundFinished(
    run=MAIN,
    round=3,
    rounds=9,
    cycle=1,
    phase=Phase.SPARSIFY,
    loss=1.25,
    accuracy=0.5,
    validation_loss=1.5,
    validation_accuracy=0.25,
    density=0.75,
    params=750,
    flops=3000,
    channel_density=0.5,
    bytes_up=2048,
    bytes_down=3_000_000,
    bytes_fixed=100,
    bytes_simulation=0,
    asked=2,
    accepted=2,
    refused=0,
    failed=0,
    late=0,
    zero_share=0.125,
    seconds=1.5,
    virtual_seconds=120.5,
)
CUT = NetworkCut(
    run=MAIN,
    round=5,
    cycle=1,
    widths={"conv": 4, "fc": 2},
    blocks=(),
    params=500,
    flops=2000,
    density=0.5,
    channel_density=0.5,
    step=0.25,
    votes={"a": (0.5, 0.25, 0.25)},
    consensus=(0.5, 0.25, 0.25),
    kept=(1, 0, 1),
    zero_share=0.125,
    accuracy_before=0.9,
)
CHECK = CutChecked(
    run=MAIN,
    round=6,
    cycle=1,
    final=0,
    loss_before=1.0,
    loss_after=2.0,
    loss_error=0.125,
    loss_allowed=0.55,
    loss_clients=5,
    loss_comparison="paired",
    accuracy_reference=0.9,
    accuracy_after=0.8,
    accuracy_error=0.01,
    accuracy_allowed=None,
    accuracy_clients=4,
    accuracy_comparison="unpaired",
    verdict=Verdict.ROLLED_BACK,
)
ROLLBACK = CutRolledBack(run=MAIN, round=6, cycle=1, step=0.125)
MASK = MaskChosen(run=MAIN, round=7, digest="00ff", weight_density=0.25)
RESTART = NetworkRestarted(run=MAIN, round=7)
SPENT = PrivacySpent(
    run=MAIN,
    round=7,
    epsilon=2.5,
    planned=8.0,
    delta=1e-5,
    multiplier=1.25,
    key="00ff00ff00ff00ff",
)
LOST = WorkerLost(
    run=MAIN, round=7, worker="12 on a", reason="it ended", clients=("d", "b")
)
ASIDE = ClientsPutAside(run=MAIN, round=7, clients=("a", "b"), back=13)
CAME = LateArrived(run=MAIN, round=7, asked={"a": 5, "c": 6}, used={"a": 70})
WARNING = WarningGiven(run=MAIN, round=0, text="look")

ONE_OF_EACH = (
    STARTED,
    LABELS,
    RESUMED,
    FINISHED,
    FAILED,
    STOPPED,
    WAITING,
    DELIVERED,
    CLIENT,
    CLIENTS,
    ROUND,
    CUT,
    CHECK,
    ROLLBACK,
    MASK,
    RESTART,
    SPENT,
    LOST,
    ASIDE,
    CAME,
    WARNING,
)


def at(event, round_, **changes):
    """Return an event of another round."""
    return replace(event, round=round_, **changes)


def refused(client, reason="no", **changes):
    """Return the event of a client whose answer was refused."""
    return replace(
        CLIENT, client=client, status=Status.REFUSED, reason=reason, **changes
    )


def edit_event(path: Path, kind: str, **changes: object) -> None:
    """Change fields of the first event of a kind in a log, as its file has them."""
    lines = path.read_text(encoding="utf-8").splitlines()
    place = next(n for n, line in enumerate(lines) if json.loads(line)["event"] == kind)
    lines[place] = json.dumps(json.loads(lines[place]) | changes)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_all(log, events: tuple[Event, ...]) -> None:
    """Write events one after another."""
    for event in events:
        log.write(event)
