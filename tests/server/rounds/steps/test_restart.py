"""The restart after the last cut: fresh weights, and nothing of the old ones."""

import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from helpers.states import state_from_bytes, state_to_bytes
from helpers.tiny_federation import (
    ask_all,
    forward_to,
    make_setting,
    make_task,
    plan_for,
    start,
    tiny_structure,
)

from fedprune.common.messages import Phase
from fedprune.common.methods.schedule import learning_rate
from fedprune.common.tasks.fresh import draw_fresh
from fedprune.server.rounds.cut import no_cut_follows
from fedprune.server.rounds.cycle import Cursor, after_round
from fedprune.server.rounds.finish import finish_round
from fedprune.server.rounds.plan import plan_round, rate_of
from fedprune.server.rounds.steps.restart import restart

FRESH = {
    "prune__restart": "fresh",
    "rounds__cuts": 1,
    "prune__step_cap": 1.0,
    "prune__max_loss_increase": 0.0,
    "server__optimizer": "momentum",
}


class Run:
    """A tiny run that is driven to the end of the round of its last cut."""

    def __init__(self, folder, **changes):
        self.folder = folder
        self.task = make_task(**FRESH | changes)
        draw = partial(draw_fresh, self.task, tiny_structure())
        self.spec = replace(make_setting(self.task), draw=draw)
        self.states = [start(self.task, self.spec)]
        while not (self.states[-1].restarted or self.states[-1].cursor.final):
            self.states.append(self.one(self.states[-1]))

    @property
    def cut(self):
        return self.states[-1]

    def one(self, state):
        work = plan_round(state, self.spec)
        answers = ask_all(work, self.task, self.folder)
        return finish_round(state, work, answers, self.spec)[0]

    def rest(self, state):
        stop = lambda cursor: cursor.done  # noqa: E731 - one word
        return forward_to(state, self.spec, self.task, self.folder, stop)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("restart"))


def test_after_the_last_cut_the_weights_are_the_fresh_draw(run):
    before, after = run.states[-2:]
    assert after.keep.sum() < before.keep.sum()
    assert after.restarted == after.round
    fresh = draw_fresh(run.task, tiny_structure(), after.keep)
    assert after.weights.tobytes() == fresh.weights.tobytes()


def test_nothing_of_the_old_weights_is_left(run):
    before, after = run.states[-2:]
    assert before.optimizer is not None
    assert before.sent
    assert (after.optimizer, after.sent, after.norm) == (None, (), None)
    assert after.statistics is None
    # The teacher of the fresh network stays.
    assert after.dense is not None


def test_no_client_is_sent_a_change_of_what_it_held(run):
    work = plan_round(run.cut, run.spec)
    plan = plan_for(work)
    assert plan.broadcast.weights == work.encoded.broadcast.weights
    assert plan.settings.since == run.cut.round


@pytest.mark.slow
def test_clients_drop_the_residuals_of_the_rounds_before(run, tmp_path):
    sums = {}
    for since in (run.cut.restarted, 0):  # with 0 they would be sent now
        work = plan_round(replace(run.cut, restarted=since), run.spec)
        for kept in (True, False):
            folder = tmp_path / f"{since}-{kept}"
            shutil.copytree(run.folder, folder)
            residuals = sorted(folder.rglob("round-*.safetensors"))
            assert residuals
            for path in residuals if not kept else ():
                path.unlink()
            answers = ask_all(work, run.task, folder)
            assert len(answers.accepted) == len(answers.records)
            sums[since, kept] = answers.total.delta_sum.tobytes()
    after = run.cut.restarted
    assert sums[after, True] == sums[after, False]
    assert sums[0, True] != sums[0, False]


def test_the_rounds_that_remain_have_a_whole_schedule(run):
    config, rounds = run.task.config, run.task.config.rounds
    left = rounds.finetune + rounds.final
    cut = run.cut.round
    found = [rate_of(cut + late, config, cut) for late in range(1, left + 1)]
    wanted = [
        learning_rate("cosine", config.client.lr, late, left)
        for late in range(1, left + 1)
    ]
    assert found == wanted
    assert found[0] == config.client.lr


@pytest.mark.slow
def test_fresh_weights_are_never_rolled_back(run):
    # As if the network before the cut had been perfect.
    before = run.cut.previous
    perfect = replace(before.validations, losses=before.validations.losses - 100.0)
    state = replace(run.cut, previous=replace(before, validations=perfect))
    assert run.rest(replace(state, restarted=0)).totals.rollbacks > 0
    last = run.rest(state)
    assert last.totals.rollbacks == 0
    assert last.cursor.done
    assert np.array_equal(last.keep, state.keep)


@pytest.mark.slow
def test_a_resume_right_after_the_restart_ends_with_the_same_bits(run, tmp_path):
    whole = Run(tmp_path / "whole")
    stopped = Run(tmp_path / "stopped")
    read = state_from_bytes(state_to_bytes(stopped.cut, "x"), "x", "file")
    assert read.restarted == stopped.cut.restarted
    one, two = whole.rest(whole.cut), stopped.rest(read)
    assert one.weights.tobytes() == two.weights.tobytes()


@pytest.mark.slow
def test_only_the_last_of_several_cuts_draws(tmp_path):
    slow = {"rounds__cuts": 2, "prune__schedule": "linear", "prune__step_cap": 0.4}
    budget = {"params": 0.3}
    run = Run(tmp_path, **slow, prune__budget=budget, prune__max_loss_increase=9.0)
    cuts = [s for s in run.states if s.cursor.cycle == 1]
    assert cuts
    assert not any(state.restarted for state in run.states[:-1])
    assert run.cut.cursor.cycle >= 2
    fresh = draw_fresh(run.task, tiny_structure(), run.cut.keep)
    assert run.cut.weights.tobytes() == fresh.weights.tobytes()


@pytest.mark.parametrize("hidden", [True, False])
def test_noise_ends_the_cuts_above_the_budget_and_weights_are_drawn_then(hidden):
    task = make_task(**FRESH, prune__budget={"params": 0.2})
    spec = replace(
        make_setting(task),
        draw=partial(draw_fresh, task, tiny_structure()),
        privacy="noise" if hidden else None,  # only its presence counts here
    )
    rounds = task.config.rounds
    cutting = Cursor(phase=Phase.SPARSIFY, index=rounds.sparsify, step=1.0)
    before = replace(start(task, spec), round=3, cursor=cutting)
    met = no_cut_follows(before, spec)
    assert met is hidden  # nothing was cut, so the budget is not met
    after = replace(before, cursor=after_round(cutting, rounds, met=met))
    found = restart(before, after, spec)
    assert found.restarted == (3 if hidden else 0)


def test_without_the_key_the_cut_network_goes_on(tmp_path):
    run = Run(tmp_path, prune__restart="keep", rounds__finetune=0)
    assert run.cut.restarted == 0
    fresh = draw_fresh(run.task, tiny_structure(), run.cut.keep)
    assert not np.array_equal(run.cut.weights, fresh.weights)


def test_frozen_modules_stay_those_of_the_first_network(tmp_path):
    run = Run(tmp_path, task__freeze=["fc"])
    spec = tiny_structure().spec(run.cut.keep)
    fresh = draw_fresh(run.task, tiny_structure(), run.cut.keep).weights
    names = np.repeat([t.name for t in spec.tensors], [t.size for t in spec.tensors])
    bias = names == "fc.bias"
    trained = names == "conv1.weight"
    first = run.task.build_model().fc.bias.detach().numpy()
    assert np.array_equal(run.cut.weights[bias], first)
    assert np.array_equal(run.cut.weights[trained], fresh[trained])
