"""A run's rounds: cohorts that fail are tried again, and what they cost is counted."""

from dataclasses import replace

import pytest

from common.errors import RoundError
from common.messages import Status
from server.checkpoint import Checkpoints
from server.events import EventLog, read_events
from server.loop import Desk, drive
from simulations.engines import InProcessEngine
from tests.tiny_federation import make_setting, make_task, start


class Faulty:
    """An engine that loses all answers of its first asks on the way back."""

    def __init__(self, inner, failures):
        self.inner, self.failures = inner, failures

    def ask(self, asking, plan, spec, weights):
        for part in self.inner.ask(asking, plan, spec, weights):
            if self.failures == 0:
                yield part
                continue
            self.failures -= 1
            records = tuple(
                replace(r, status=Status.REFUSED, reason="spoilt") for r in part.records
            )
            yield replace(part, records=records)


def drive_small(folder, failures):
    folder.mkdir(exist_ok=True)
    task = make_task(rounds__warmup=2, rounds__cuts=0, rounds__final=0)
    setting = make_setting(task)
    with EventLog(folder / "events.jsonl") as log:
        desk = Desk(
            name="main",
            setting=setting,
            engine=Faulty(InProcessEngine(task, folder / "clients"), failures),
            log=log,
            checkpoints=Checkpoints(folder / "checkpoints", "main", "x"),
            evaluate=None,
        )
        state = drive(start(task, setting), desk)
    return state, read_events(folder / "events.jsonl")


def test_bytes_of_a_failed_cohort_are_counted_with_the_round_that_followed(tmp_path):
    calm, quiet = drive_small(tmp_path / "calm", 0)
    state, events = drive_small(tmp_path / "faulty", 1)
    first = next(e for e in events if e["event"] == "round")
    clients = [e for e in events if e["event"] == "client" and e["round"] == 1]
    assert len(clients) == 2 * 4
    assert first["bytes_down"] == sum(e["bytes_down"] for e in clients)
    assert first["bytes_up"] == sum(e["bytes_up"] for e in clients)
    assert state.totals.bytes_down > calm.totals.bytes_down
    assert state.totals.refused == 4
    rounds = [e for e in quiet if e["event"] == "round"]
    assert calm.totals.bytes_up == sum(e["bytes_up"] for e in rounds)


def test_a_round_that_fails_with_every_cohort_ends_the_run_and_keeps_the_state(
    tmp_path,
):
    with pytest.raises(RoundError, match="spoilt"):
        drive_small(tmp_path, 3)
    events = read_events(tmp_path / "events.jsonl")
    assert [e["round"] for e in events if e["event"] == "warning"] == [1, 1, 1]
    assert not [e for e in events if e["event"] == "round"]
