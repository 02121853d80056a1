"""Files of simulated clients: estimated before a run, and none of stateless clients."""

import numpy as np
import pytest
from helpers.tiny_federation import (
    ask_all,
    make_setting,
    make_task,
    start,
    tiny_structure,
)

from fedprune.client.rounds.steps.generations import on_disk
from fedprune.common import codec
from fedprune.common.errors import ConfigError
from fedprune.server.rounds.finish import finish_round
from fedprune.server.rounds.plan import plan_round
from fedprune.simulations.runs.run import _check_state, residual_bytes

LONG = {"rounds__warmup": 12, "run__controls": []}


def run_rounds(root, count, **changes):
    """Return the work of ``count`` warmup rounds and the state after them."""
    task = make_task(**LONG | changes)
    run_spec = make_setting(task)
    state, works = start(task, run_spec), []
    for _ in range(count):
        works.append(plan_round(state, run_spec))
        answers = ask_all(works[-1], task, root)
        assert len(answers.accepted) == len(answers.records)
        state, _ = finish_round(state, works[-1], answers, run_spec)
    return works, state, task


def residual_files(root):
    return sorted(root.glob("run-1/client-*/round-*"))


@pytest.mark.slow
def test_residuals_take_what_was_estimated(tmp_path):
    _, _, task = run_rounds(tmp_path, 5)
    files = residual_files(tmp_path)
    folders = {path.parent for path in files}
    taken = sum(on_disk(path.stat().st_size) for path in files)
    taken += on_disk(1) * len(folders)
    estimate = residual_bytes(task.config, len(task.clients), tiny_structure())
    assert estimate == pytest.approx(taken, rel=0.05)


def test_the_estimate_counts_federations_clients_and_rounds_in_flight():
    structure = tiny_structure()

    def estimate(clients, **changes):
        config = make_task(**LONG | {"task__clients": clients} | changes).config
        return residual_bytes(config, clients, structure)

    one = estimate(1000, rounds__cohort=1, rounds__minimum=1) / 1003
    # A generation and the folder of each client.
    assert one == pytest.approx(2 * on_disk(1), rel=0.01)
    few, many = (estimate(1000, rounds__cohort=n) for n in (10, 110))
    assert many - few == 100 * 3 * on_disk(1)
    two = estimate(1000, rounds__cohort=10, run__controls=["dense", "scratch"])
    assert two == 2 * few
    assert estimate(1000, update__error_feedback=False) == 0
    assert estimate(1000, update__stateless=True) == 0


def test_more_residuals_than_the_limit_are_refused_with_both_ways_out():
    changes = {"run__state_limit_mb": 1, "task__clients": 120, "rounds__cohort": 100}
    with pytest.raises(ConfigError, match=r"120 clients .*state_limit_mb.*stateless"):
        _check_state(make_task(**changes), tiny_structure())
    _check_state(make_task(**changes, update__stateless=True), tiny_structure())


def test_stateless_clients_keep_no_residual_and_are_sent_everything(tmp_path):
    works, state, task = run_rounds(tmp_path, 3, update__stateless=True)
    assert residual_files(tmp_path) == []
    text = tiny_structure().to_json()
    spec = tiny_structure().spec(state.keep)
    for work in works:
        assert not work.plan.settings.error_feedback
        (variant,) = work.request.variants
        message = codec.address_plan(variant, task.clients[0], 0)
        plan = codec.decode_plan(message, 1 << 20)
        assert plan.structure_json == text
        assert codec.base_name(plan.broadcast.weights, spec) is None
        assert {one.acknowledged for one in work.request.assignments} == {0}


@pytest.mark.slow
def test_a_stateless_client_answers_with_nothing_stored(tmp_path):
    works, state, task = run_rounds(tmp_path / "kept", 3, update__stateless=True)
    for number, work in enumerate(works):
        answers = ask_all(work, task, tmp_path / str(number))  # an empty folder
        assert len(answers.accepted) == 4
    # What was answered is the same as with files, so that the run has the same end.
    run_spec = make_setting(task)
    again = start(task, run_spec)
    for number in range(3):
        work = plan_round(again, run_spec)
        answers = ask_all(work, task, tmp_path / f"again-{number}")
        again, _ = finish_round(again, work, answers, run_spec)
    np.testing.assert_array_equal(again.weights, state.weights)


@pytest.mark.parametrize("feedback", [True, False])
def test_without_stateless_an_empty_folder_fails(tmp_path, feedback):
    works, _, task = run_rounds(tmp_path / "kept", 2, update__error_feedback=feedback)
    answers = ask_all(works[1], task, tmp_path / "empty")
    assert [record.status.value for record in answers.records] == ["failed"] * 4
    assert works[1].plan.settings.error_feedback == feedback
