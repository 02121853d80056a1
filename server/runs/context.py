"""The environment of a run's loop, and one round that it has played."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedprune.common.spec import Mask
from fedprune.server.rounds.answers import Answers
from fedprune.server.rounds.engine import Engine, RoundWork
from fedprune.server.rounds.finish import (
    RoundReport,
)
from fedprune.server.rounds.records import Status
from fedprune.server.rounds.state import RunSpec, ServerState, Snapshot
from fedprune.server.runs.checkpoint import Checkpoints
from fedprune.server.runs.events import (
    EventLog,
    RunName,
    WarningGiven,
)
from fedprune.server.runs.record.releases import Releases

Evaluate = Callable[[Snapshot], float]
Check = Callable[[Mask], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """Environment of the loop beside the state.

    Attributes:
        name: "main" or the name of a control.
        run_spec: Configuration, structure, clients.
        engine: Delivers round requests.
        log: Event log.
        checkpoints: Its checkpoints.
        evaluate: Scores a network on test data for the report, or None; no decision
            depends on it.
        check: Tries the network after a cut, given its keep mask, and raises
            StructureError when it computes another function; or None.
        pause_s: Seconds before the second attempt of a round; four times as many
            before each later one.
        releases: What its rounds have released, or None without noise of the server.
    """

    name: RunName
    run_spec: RunSpec
    engine: Engine
    log: EventLog
    checkpoints: Checkpoints
    evaluate: Evaluate | None
    check: Check | None = None
    pause_s: float = 0.0
    releases: Releases | None = None

    def warn(self, round_: int, text: str, clients: Sequence[str] = ()) -> None:
        """Log a warning about the figures of a round."""
        self.log.write(
            WarningGiven(run=self.name, round=round_, text=text, clients=tuple(clients))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One successful round: its states, its request, its answers, its report.

    Attributes:
        before: The state before it, and before its failed attempts.
        after: The state after it.
        work: The round.
        answers: Its answers.
        report: Its decisions.
    """

    before: ServerState
    after: ServerState
    work: RoundWork
    answers: Answers
    report: RoundReport

    def counted(self, name: str) -> float:
        """Return the growth of a count of ``Totals``, in failed attempts too."""
        before, after = self.before.totals, self.after.totals
        return float(getattr(after, name) - getattr(before, name))

    def of_status(self, status: Status) -> int:
        """Return the clients of the successful attempt with an outcome."""
        return sum(record.status is status for record in self.answers.records)
