"""The server's optimiser: its formulas, and its state through cuts and rollbacks."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.states import state_from_bytes, state_to_bytes
from helpers.tiny_federation import (
    ask_all,
    forward_to,
    make_config,
    make_setting,
    make_task,
    start,
)

from fedprune.common.config import Server
from fedprune.common.pruning.remap import remap
from fedprune.server.rounds import guard
from fedprune.server.rounds.finish import finish_round
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.state import OptimizerState
from fedprune.server.rounds.steps.optimizer import server_step
from fedprune.server.runs.controls.settings import dense_config

STATEFUL = ("momentum", "adam", "yogi")


def deltas(rounds=6, size=8):
    """Return deltas of several rounds; what is sent varies, the last entry never is."""
    rng = np.random.default_rng(0)
    found = rng.normal(scale=0.02, size=(rounds, size)).astype(np.float32)
    found[rng.random(found.shape) < 0.3] = 0.0
    found[:, -1] = 0.0
    return found


def by_hand(rule, rounds):
    """Return all changes, number by number, as Algorithm 2 of the paper says them."""
    rows, size = rounds.shape
    changes = np.zeros((rows, size))
    for place in range(size):
        m, v = 0.0, rule.tau**2
        for row in range(rows):
            d = float(rounds[row, place])
            if rule.optimizer == "momentum":
                m = rule.momentum * m + d
                changes[row, place] = rule.lr * m
                continue
            m = rule.momentum * m + (1 - rule.momentum) * d
            if rule.optimizer == "adam":
                v = rule.beta2 * v + (1 - rule.beta2) * d**2
            elif v > d**2:
                v = v - (1 - rule.beta2) * d**2
            elif v < d**2:
                v = v + (1 - rule.beta2) * d**2
            changes[row, place] = rule.lr * m / (v**0.5 + rule.tau)
    return changes


@pytest.mark.parametrize("optimizer", STATEFUL)
def test_the_steps_are_those_of_the_paper(optimizer):
    rule = Server(optimizer=optimizer, lr=0.3, momentum=0.8, beta2=0.9, tau=0.01)
    rounds, state, found = deltas(), None, []
    for delta in rounds:
        change, state = server_step(rule, state, delta)
        assert change.dtype == state.momentum.dtype == np.float32
        found.append(change)
    np.testing.assert_allclose(found, by_hand(rule, rounds), rtol=1e-4, atol=1e-7)


def test_none_adds_the_delta_itself_and_has_no_state():
    delta = deltas()[0]
    change, state = server_step(Server(lr=0.5), None, delta)
    assert change is delta
    assert state is None


def test_without_momentum_at_a_rate_of_1_the_delta_is_added():
    rule = Server(optimizer="momentum", momentum=0.0)
    state = None
    for delta in deltas():
        change, state = server_step(rule, state, delta)
        assert change.tobytes() == (delta + np.float32(0)).tobytes()


@pytest.mark.parametrize("optimizer", STATEFUL)
def test_a_coordinate_that_no_client_sent_counts_as_a_delta_of_zero(optimizer):
    rule = Server(optimizer=optimizer)
    _, state = server_step(rule, None, np.float32([0.5, 0.5]))
    change, after = server_step(rule, state, np.float32([0.5, 0.0]))
    assert after.momentum[1] == pytest.approx(0.9 * state.momentum[1])
    assert change[1] > 0.0
    if optimizer == "adam":
        assert after.variance[1] == pytest.approx(0.99 * state.variance[1])
    never, _ = server_step(rule, None, np.float32([0.0]))
    assert never.tolist() == [0.0]


class Federation:
    """A tiny federation, its states round by round."""

    def __init__(self, root, **changes):
        self.task = make_task(**changes)
        self.run_spec = make_setting(self.task)
        self.root = root
        self.states = [start(self.task, self.run_spec)]
        self.reports = []

    def round(self):
        state = self.states[-1]
        work = plan_round(state, self.run_spec)
        answers = ask_all(work, self.task, self.root)
        state, report = finish_round(state, work, answers, self.run_spec)
        self.states.append(state)
        self.reports.append(report)
        return state, report


def bits(state):
    parts = (state.momentum, state.variance)
    return [None if part is None else part.tobytes() for part in parts]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", STATEFUL)
def test_a_cut_slices_the_state_as_it_slices_the_weights(tmp_path, optimizer):
    federation = Federation(tmp_path, server__optimizer=optimizer, server__lr=0.1)
    while federation.states[-1].keep.all():
        federation.round()
    before, after = federation.states[-2:]
    size = federation.run_spec.structure.spec(after.keep).size
    assert len(after.optimizer.momentum) == len(after.weights) == size
    assert size < len(before.optimizer.momentum)
    if after.optimizer.variance is not None:
        assert len(after.optimizer.variance) == size
    # The way back holds the state in front of the round, the teacher holds none.
    assert bits(after.previous.optimizer) == bits(before.optimizer)
    assert after.dense.optimizer is None
    moved = after.previous.optimizer.momentum
    cut = remap(moved, federation.run_spec.structure, before.keep, after.keep)
    assert not np.array_equal(cut, after.optimizer.momentum)  # of one round later
    federation.round()


@pytest.mark.slow
def test_a_rollback_restores_the_state_that_belongs_to_the_weights(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(guard.Change, "broken", True)
    federation = Federation(tmp_path, server__optimizer="yogi", server__lr=0.01)
    report = None
    while report is None or report.check is None or not report.check.undone:
        _, report = federation.round()
    after = federation.states[-1]
    cutting = next(n for n, one in enumerate(federation.reports) if one.choice)
    before = federation.states[cutting]
    assert after.keep.all()
    assert bits(after.optimizer) == bits(before.optimizer)
    assert len(after.optimizer.momentum) == len(after.weights)
    federation.round()


def test_the_closing_round_takes_no_step(tmp_path):
    federation = Federation(
        tmp_path, rounds__cuts=0, server__optimizer="momentum", server__momentum=0.9
    )
    while not federation.states[-1].cursor.closing:
        federation.round()
    before = federation.states[-1]
    assert before.optimizer.momentum.any()
    after, _ = federation.round()
    assert after.cursor.done
    assert after.weights.tobytes() == before.weights.tobytes()
    assert bits(after.optimizer) == bits(before.optimizer)


@pytest.mark.slow
def test_masked_weights_stay_zero_though_their_momentum_is_not(tmp_path):
    task = make_task(
        server__optimizer="momentum",
        server__lr=0.3,
        prune__mask={"kind": "unstructured", "density": 0.3, "end": 1},
        rounds__final=3,
    )
    run_spec = make_setting(task)
    state = forward_to(
        start(task, run_spec), run_spec, task, tmp_path, lambda cursor: cursor.closing
    )
    gone = ~state.mask.keep
    assert gone.any()
    assert not state.weights[gone].any()
    assert state.optimizer.momentum[gone].any()


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", STATEFUL)
def test_a_state_read_from_a_checkpoint_goes_on_with_the_same_bits(tmp_path, optimizer):
    changes = {"server__optimizer": optimizer, "server__lr": 0.1}
    whole = Federation(tmp_path / "whole", **changes)
    broken = Federation(tmp_path / "broken", **changes)
    for _ in range(4):
        whole.round()
        state, _ = broken.round()
        data = state_to_bytes(state, "x")
        broken.states[-1] = state_from_bytes(data, "x", "x")
    assert not whole.states[-1].keep.all()
    assert bits(whole.states[-1].optimizer) == bits(broken.states[-1].optimizer)
    weights = [one.states[-1].weights.tobytes() for one in (whole, broken)]
    assert weights[0] == weights[1]


def test_a_checkpoint_without_an_optimiser_has_no_entry_for_one(tmp_path):
    federation = Federation(tmp_path)
    state, _ = federation.round()
    assert state.optimizer is None
    assert b"optimizer" not in state_to_bytes(state, "x")
    momentum = OptimizerState(momentum=state.weights)
    assert b"optimizer" in state_to_bytes(replace(state, optimizer=momentum), "x")


def test_the_control_has_the_optimisers_of_the_run():
    config = make_config(server__optimizer="yogi", client__optimizer="adamw")
    control = dense_config(config, 9)
    assert control.server == config.server
    assert control.client.optimizer == "adamw"
