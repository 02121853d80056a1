"""A run's rounds: cohorts that fail are tried again, and what they cost is counted."""

from dataclasses import fields, replace

import pytest
from helpers.small_drive import driven
from helpers.tiny_federation import make_setting, make_task, start, tiny_structure

from fedprune.common.errors import RoundError, StructureError
from fedprune.common.structure.structure import Structure
from fedprune.server.rounds.engine import LostWorker
from fedprune.server.rounds.records import Status
from fedprune.server.rounds.waiting.absence import Lateness
from fedprune.server.rounds.waiting.closing import Cause, Closing
from fedprune.server.runs import loop
from fedprune.server.runs.checkpoint import Checkpoints
from fedprune.server.runs.context import RunContext
from fedprune.server.runs.events import (
    ClientAnswered,
    ClientsPutAside,
    EventLog,
    NetworkCut,
    RoundFinished,
    WarningGiven,
    WorkerLost,
    of_kind,
    read_events,
)
from fedprune.server.runs.loop import drive
from fedprune.server.runs.record.answered import outcomes
from fedprune.server.runs.trying import cut_check
from fedprune.simulations.engines.engines import InProcessEngine


class Faulty:
    """An engine that loses all answers of its first asks on the way back.

    Each ask moves 1 000 bytes.
    """

    def __init__(self, inner, failures):
        self.inner, self.failures = inner, failures

    def ask(self, work):
        for found in self.inner.ask(work):
            part = replace(found, bytes_simulation=1000)
            if self.failures == 0:
                yield part
                continue
            self.failures -= 1
            records = tuple(
                replace(r, status=Status.REFUSED, reason="spoilt") for r in part.records
            )
            yield replace(part, records=records)


class Unlucky:
    """An engine that loses a worker before its first answer."""

    def __init__(self, inner):
        self.inner = inner

    def ask(self, work):
        lost = LostWorker(worker="7 on x", reason="it ended", clients=("a", "b"))
        for part in self.inner.ask(work):
            yield replace(part, lost=(lost,) if work.plan.round == 2 else ())


def drive_small(folder, failures):
    folder.mkdir(exist_ok=True)
    task = make_task(rounds__warmup=2, rounds__cuts=0, rounds__final=0)
    inner = InProcessEngine(task, folder / "clients")
    engine = Unlucky(inner) if failures is None else Faulty(inner, failures)
    return driven(folder, make_setting(task), task, engine)


@pytest.mark.slow
def test_bytes_of_a_failed_cohort_are_counted_with_the_round_that_followed(tmp_path):
    calm, quiet = drive_small(tmp_path / "calm", 0)
    state, events = drive_small(tmp_path / "faulty", 1)
    first = next(of_kind(events, RoundFinished))
    clients = [e for e in of_kind(events, ClientAnswered) if e.round == 1]
    assert len(clients) == 2 * 4
    assert first.bytes_down == sum(e.bytes_down for e in clients)
    assert first.bytes_up == sum(e.bytes_up for e in clients)
    assert first.bytes_simulation == 2 * 1000
    moved = [e.bytes_simulation for e in of_kind(events, RoundFinished)]
    assert sum(moved) == state.totals.bytes_simulation
    assert state.totals.bytes_down > calm.totals.bytes_down
    assert state.totals.refused == 4
    rounds = of_kind(quiet, RoundFinished)
    assert calm.totals.bytes_up == sum(e.bytes_up for e in rounds)


@pytest.mark.slow
def test_a_lost_worker_is_an_event_of_its_round_and_changes_nothing_else(tmp_path):
    calm, _ = drive_small(tmp_path / "calm", 0)
    state, events = drive_small(tmp_path / "unlucky", None)
    assert list(of_kind(events, WorkerLost)) == [
        WorkerLost(
            run="main",
            round=2,
            worker="7 on x",
            reason="it ended",
            clients=("a", "b"),
        )
    ]
    assert state.weights.tobytes() == calm.weights.tobytes()


def test_a_round_that_fails_with_every_cohort_ends_the_run_and_keeps_the_state(
    tmp_path,
):
    with pytest.raises(RoundError, match="spoilt"):
        drive_small(tmp_path, 3)
    events = read_events(tmp_path / "events.jsonl")
    assert [e.round for e in of_kind(events, WarningGiven)] == [1, 1, 1]
    assert not list(of_kind(events, RoundFinished))


def drive_cuts(folder, check):
    """Run all rounds, or those that a stopped run left; return the last state."""
    folder.mkdir(exist_ok=True)
    task = make_task()
    run_spec = make_setting(task)
    checkpoints = Checkpoints(folder / "checkpoints", "main", "x")
    with EventLog(folder / "events.jsonl") as log:
        context = RunContext(
            name="main",
            run_spec=run_spec,
            engine=InProcessEngine(task, folder / "clients"),
            log=log,
            checkpoints=checkpoints,
            evaluate=None,
            check=check,
        )
        state = checkpoints.restore().state
        return drive(start(task, run_spec) if state is None else state, context)


@pytest.mark.slow
def test_every_cut_is_tried_once_and_trying_changes_nothing(tmp_path):
    tried = []
    task = make_task()
    exact = cut_check(task, tiny_structure())

    def check(keep):
        tried.append(keep.copy())
        exact(keep)

    with_check = drive_cuts(tmp_path / "tried", check)
    without = drive_cuts(tmp_path / "untried", None)
    events = read_events(tmp_path / "tried" / "events.jsonl")
    cuts = [event.widths for event in of_kind(events, NetworkCut)]
    assert [tiny_structure().widths(keep) for keep in tried] == cuts
    assert cuts
    assert with_check.weights.tobytes() == without.weights.tobytes()
    assert with_check.plan.digest == without.plan.digest
    assert with_check.totals == without.totals


@pytest.mark.slow
def test_a_cut_that_is_refused_is_no_state_and_the_run_goes_on_from_before(tmp_path):
    def refuse(keep):
        msg = "the cut of 'conv1' is not exact"
        raise StructureError(msg)

    with pytest.raises(StructureError, match="'conv1' is not exact"):
        drive_cuts(tmp_path / "refused", refuse)
    events = read_events(tmp_path / "refused" / "events.jsonl")
    assert not list(of_kind(events, NetworkCut))
    checkpoints = Checkpoints(tmp_path / "refused" / "checkpoints", "main", "x")
    before = checkpoints.restore().state
    assert before is not None
    assert before.keep.all()
    answers = [e.round for e in of_kind(events, ClientAnswered)]
    assert answers.count(before.round + 1) == 4, "the answers are all logged"
    found = drive_cuts(tmp_path / "refused", None)
    wanted = drive_cuts(tmp_path / "calm", None)
    assert found.weights.tobytes() == wanted.weights.tobytes()


def test_a_structure_that_pairs_channels_wrongly_is_stopped_at_its_cut(tmp_path):
    right = tiny_structure()
    swapped = tuple(
        replace(dim, units=dim.units[::-1].copy()) if dim.tensor == "fc.weight" else dim
        for dim in right.dims
    )
    wrong = Structure(
        **{f.name: getattr(right, f.name) for f in fields(right)} | {"dims": swapped}
    )
    with pytest.raises(StructureError, match=r"^the cut of 'conv' is not exact: "):
        drive_cuts(tmp_path / "wrong", cut_check(make_task(), wrong))


@pytest.mark.slow
def test_a_cut_without_votes_names_the_criterion_it_used(tmp_path):
    task = make_task(rounds__warmup=1, rounds__sparsify=1, rounds__cuts=1)
    run_spec = make_setting(task)
    with EventLog(tmp_path / "events.jsonl") as log:
        context = RunContext(
            name="main",
            run_spec=run_spec,
            engine=Unheard(task, tmp_path / "clients"),
            log=log,
            checkpoints=Checkpoints(tmp_path / "checkpoints", "main", "same"),
            evaluate=None,
        )
        drive(start(task, run_spec), context)
    said = [e.text for e in of_kind(read_events(log.path), WarningGiven)]
    assert any("no client scored" in text and "'taylor'" in text for text in said)


@pytest.mark.slow
def test_a_cut_that_too_few_told_covariances_for_warns(tmp_path):
    task = make_task(rounds__sparsify=1, rounds__cuts=1, prune__reconstruct=True)
    run_spec = make_setting(task)
    with EventLog(tmp_path / "events.jsonl") as log:
        context = RunContext(
            name="main",
            run_spec=run_spec,
            engine=OneTells(task, tmp_path / "clients"),
            log=log,
            checkpoints=Checkpoints(tmp_path / "checkpoints", "main", "same"),
            evaluate=None,
        )
        drive(start(task, run_spec), context)
    said = [e.text for e in of_kind(read_events(log.path), WarningGiven)]
    (line,) = [text for text in said if "covariances" in text]
    assert "1 of 4 clients told covariances" in line
    assert "prune.reconstruct" in line


class OneTells(InProcessEngine):
    """Clients of which only the first tells covariances."""

    def ask(self, work):
        for part in super().ask(work):
            first, *others = part.records
            records = (first, *(replace(r, covariances=None) for r in others))
            yield replace(part, records=records)


class Unheard(InProcessEngine):
    """Clients that all abstain from votes."""

    def ask(self, work):
        for part in super().ask(work):
            records = tuple(replace(r, importance=None) for r in part.records)
            yield replace(part, records=records)


class Late:
    """An engine that leaves one client out of each round, and says when it closed."""

    def __init__(self, inner, client, failures=0):
        self.inner, self.client, self.failures = inner, client, failures

    def ask(self, work):
        (part,) = self.inner.ask(work)
        self.failures -= 1
        names = [r.client_id for r in part.records]
        out = names if self.failures >= 0 else [self.client]
        records = tuple(
            replace(r, status=Status.LATE) if r.client_id in out else r
            for r in part.records
        )
        closing = Closing(
            seconds=120.0,
            cause=Cause.GRACE,
            counted=tuple(n for n in names if n not in out),
            late=tuple(n for n in names if n in out),
            last=60.0,
            virtual=True,
        )
        yield replace(part, records=records, closing=closing)


def drive_late(folder, monkeypatch, failures=0, pause_s=30.0):
    naps = []
    monkeypatch.setattr(loop.time, "sleep", naps.append)
    few = {"task__clients": 5, "rounds__cohort": 5, "rounds__minimum": 1}
    few["robust__max_norm"] = 0.0
    task = make_task(rounds__warmup=4, rounds__cuts=0, rounds__final=0, **few)
    engine = Late(InProcessEngine(task, folder / "clients"), "client-001", failures)
    return *driven(folder, make_setting(task), task, engine, pause_s=pause_s), naps


@pytest.mark.slow
def test_late_clients_are_counted_and_put_aside_with_an_event(tmp_path, monkeypatch):
    state, events, naps = drive_late(tmp_path, monkeypatch)
    rounds = list(of_kind(events, RoundFinished))
    assert [(r.asked, r.accepted, r.late) for r in rounds] == [
        (5, 4, 1),
        (5, 4, 1),
        *[(4, 4, 0)] * 3,
    ]
    assert all(r.asked == r.accepted + r.refused + r.failed + r.late for r in rounds)
    assert [r.virtual_seconds for r in rounds] == [120.0] * 5
    assert list(of_kind(events, ClientsPutAside)) == [
        ClientsPutAside(run="main", round=2, clients=("client-001",), back=8)
    ]
    assert state.absences == {"client-001": Lateness(rounds=2, back=8)}
    assert naps == []
    checkpoints = Checkpoints(tmp_path / "checkpoints", "main", "x")
    found = checkpoints.restore().state
    assert (found.absences, found.pace) == (state.absences, state.pace)
    assert found.pace == (60.0,) * 4  # the closing round trains nothing


@pytest.mark.slow
def test_attempts_of_a_round_wait_longer_each_time_and_count_their_time(
    tmp_path, monkeypatch
):
    _, events, naps = drive_late(tmp_path, monkeypatch, failures=2)
    assert naps == [30.0, 120.0]
    first = next(of_kind(events, RoundFinished))
    assert first.virtual_seconds == 3 * 120.0
    assert first.asked == first.accepted + first.late == 5
    assert outcomes(events, "main") == {"late": 2 * 5 + 1, "accepted": 4 * 5}
    (told,) = of_kind(events, ClientsPutAside)
    assert (told.round, len(told.clients)) == (1, 5)
