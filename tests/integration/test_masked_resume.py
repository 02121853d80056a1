"""A run under a weight mask that is stopped and resumed, and clients that lose it."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from helpers.small_runs import events, figures, only_run, run_small, small_settings
from helpers.tiny_federation import forward_to, make_setting, make_task, start

import fedprune.server.runs.loop
from fedprune.common.errors import RoundError
from fedprune.server.rounds.cycle import Cursor
from fedprune.server.rounds.finish import count_failed_attempt, finish_round
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.waiting.collecting import collect
from fedprune.server.runs.events import MaskChosen, WarningGiven
from fedprune.simulations.engines.worker import Worker
from fedprune.simulations.runs.api import simulate

pytestmark = pytest.mark.slow

# Masks are chosen at the ends of rounds 3 and 4; rounds 4 to 7 train under one.
MASKED = {
    "prune.mask.kind": "unstructured",
    "prune.mask.density": 0.3,
    "prune.mask.end": 2,
    "prune.width_multiple": 4,
    "rounds.final": 4,
    "update.update_density": 0.3,
}


class Stop(Exception):  # noqa: N818 - not an error of the program
    """The run ends here, as if it had been killed."""


def stop_after(round_, monkeypatch):
    """Let the next run end before it plans the round after this one."""

    def stopping(state, run_spec, attempt=0):
        if state.round == round_:
            raise Stop
        return plan_round(state, run_spec, attempt)

    monkeypatch.setattr(fedprune.server.runs.loop, "plan_round", stopping)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return run_small(tmp_path_factory.mktemp("masked"), MASKED)


def test_the_masks_are_where_these_tests_expect_them(undisturbed):
    assert [e.round for e in events(undisturbed.directory, MaskChosen)] == [3, 4]
    assert undisturbed.summary["rounds"] == 8


@pytest.mark.parametrize("round_", [3, 4, 6])
def test_a_run_stopped_under_its_mask_is_resumed_to_the_same_bits(
    undisturbed, tmp_path, monkeypatch, round_
):
    stop_after(round_, monkeypatch)
    with pytest.raises(Stop):
        simulate(config=small_settings(tmp_path, MASKED))
    monkeypatch.undo()
    resumed = simulate(resume_from=only_run(tmp_path))
    assert figures(resumed.summary) == figures(undisturbed.summary)
    for run in (resumed, undisturbed):
        masks = events(run.directory, MaskChosen)
        assert len(masks) == 2
    assert [e.digest for e in events(resumed.directory, MaskChosen)] == [
        e.digest for e in events(undisturbed.directory, MaskChosen)
    ]


def test_a_resumed_run_goes_on_when_its_clients_have_lost_everything(
    undisturbed, tmp_path, monkeypatch
):
    stop_after(5, monkeypatch)
    with pytest.raises(Stop):
        simulate(config=small_settings(tmp_path, MASKED))
    monkeypatch.undo()
    run = only_run(tmp_path)
    shutil.rmtree(run / "clients")
    resumed = simulate(resume_from=run)
    said = [e.text for e in events(run, WarningGiven) if e.round == 6]
    failed, lost = said
    assert "0 of 4 answers were accepted" in failed
    assert "send it again" in failed
    assert "residuals are missing or damaged, of client-000, " in lost
    share = undisturbed.summary["weight_density"]
    # What is kept is the same; a kept weight may be 0 all the same.
    assert resumed.summary["weight_density"] == pytest.approx(share, abs=0.02)
    assert resumed.summary["rounds"] == 8


def masked(cursor: Cursor) -> bool:
    """Return whether the masked rounds have begun."""
    return cursor.final and cursor.index == 2


class Devices:
    """Clients that each have a folder of their own, as devices do."""

    def __init__(self, task, root):
        self.task, self.root = task, root

    def ask(self, work):
        for assignment in work.request.assignments:
            worker = Worker(self.task, self.root / assignment.client_id)
            yield worker.play(replace(work.request, assignments=(assignment,)))

    def lose(self, pattern, clients):
        """Remove files of clients; return how many there were."""
        found = [
            path
            for client in clients
            for path in (self.root / client).rglob(pattern)
            if path.is_file()
        ]
        for path in found:
            path.unlink()
        return len(found)


class Federation:
    """A tiny federation of devices, one round under its mask."""

    def __init__(self, root, monkeypatch):
        self.task = make_task(
            prune__mask={"kind": "unstructured", "density": 0.3, "end": 1},
            rounds__final=5,
        )
        self.run_spec = make_setting(self.task)
        self.devices = Devices(self.task, root)
        monkeypatch.setattr("helpers.tiny_federation.InProcessEngine", Devices)
        self.state = forward_to(
            start(self.task, self.run_spec), self.run_spec, self.task, root, masked
        )

    def ask(self):
        """Return a round, its answers, who failed and why, and who was sent what."""
        work = plan_round(self.state, self.run_spec)
        answers = collect(work, self.devices)
        failed = {r.client_id: r.reason for r in answers.records if r.reason}
        sizes = {r.client_id: r.bytes_down for r in answers.records}
        return work, answers, failed, sizes

    def round(self):
        """Play one round; return who failed and why, and who was sent what."""
        work, answers, failed, sizes = self.ask()
        self.state, _ = finish_round(self.state, work, answers, self.run_spec)
        return failed, sizes


LOST = ("client-001",)


def holders(state):
    """Return the clients that have stored the mask, as the server knows it."""
    return [client for client, line in state.ledgers.items() if line.mask]


@pytest.fixture
def federation(tmp_path, monkeypatch):
    return Federation(tmp_path, monkeypatch)


@pytest.mark.parametrize("pattern", ["mask-*", "*"])
def test_a_device_that_lost_its_mask_says_so_once_and_is_sent_it_again(
    federation, pattern
):
    assert {*holders(federation.state)} == {*federation.task.clients}
    assert federation.devices.lose(pattern, LOST) > 0
    failed, before = federation.round()
    assert [*failed] == [*LOST]
    assert "again" in failed[LOST[0]] or "send everything" in failed[LOST[0]]
    failed, after = federation.round()
    assert failed == {}
    others = [size for client, size in after.items() if client not in LOST]
    assert after[LOST[0]] > max(others)
    assert max(before.values()) < after[LOST[0]]
    failed, later = federation.round()
    assert failed == {}
    assert len(set(later.values())) == 1
    state = federation.state
    assert not np.any(state.weights[~state.mask.keep])


def test_a_device_that_restarts_with_its_files_needs_nothing_again(federation):
    # Every round has fresh workers: what is not on the disk is gone.
    failed, sizes = federation.round()
    assert failed == {}
    assert len(set(sizes.values())) == 1


def test_when_all_devices_lost_it_the_next_attempt_of_the_round_sends_it(federation):
    everyone = federation.task.clients
    assert federation.devices.lose("mask-*", everyone) == len(everyone)
    work, answers, failed, _ = federation.ask()
    assert {*failed} == {*everyone}
    with pytest.raises(RoundError, match="send it again"):
        finish_round(federation.state, work, answers, federation.run_spec)
    federation.state = count_failed_attempt(
        federation.state, answers, federation.run_spec
    )
    assert holders(federation.state) == []
    assert all(not ledger.structure for ledger in federation.state.ledgers.values())
    failed, _ = federation.round()
    assert failed == {}
