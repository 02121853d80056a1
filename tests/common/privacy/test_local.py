"""A client's own noise: bounds, size, and that only its key takes it off again."""

import numpy as np
import pytest
from helpers.tiny_federation import make_setting, make_task, plan_for, start

from fedprune.common.errors import DataError
from fedprune.common.messages import ClientUpdate, Statistics, Validation
from fedprune.common.privacy.bounded import within
from fedprune.common.privacy.local import LocalNoise
from fedprune.common.privacy.noise import NoiseKey
from fedprune.server.rounds.plan import plan_round

KEY = NoiseKey(bytes(range(32)))
ASKED = {"validated": True, "units": 3}


def noise(multiplier, clip=1.0, key=KEY, purpose=("run", "1", "a")):
    return LocalNoise(key=key, multiplier=multiplier, clip=clip, purpose=purpose)


def answer(**changes):
    fields = {
        "run_id": "run",
        "round": 1,
        "client_id": "a",
        "plan": b"",
        "base": b"",
        "num_examples": 40,
        "loss": 1.5,
        "delta": None,
        "importance": np.array([1.0, 3.0, 0.0], dtype=np.float32),
        "statistics": Statistics(
            num_examples=40,
            mean=np.array([0.5, -0.5], dtype=np.float32),
            variance=np.array([1.0, 2.0], dtype=np.float32),
        ),
        "validation": Validation(loss_sum=8.0, metric_sum=3.0, count=4),
    }
    return ClientUpdate(**(fields | changes))


def test_a_delta_is_shortened_to_the_clip_and_gets_noise_on_each_entry():
    delta = np.zeros(20_000, dtype=np.float32)
    delta[0] = 30.0
    hidden = noise(0.25, clip=2.0).on_delta(delta)
    assert hidden.dtype == np.float32
    assert hidden[1:].std() == pytest.approx(0.5, rel=0.03)
    assert abs(hidden[1:].mean()) < 0.02
    barely = noise(1e-6, clip=2.0).on_delta(delta)
    assert barely[0] == pytest.approx(2.0, abs=1e-4)


def test_a_length_is_summed_in_one_order_whatever_the_number_of_threads():
    """BLAS splits a long sum among its threads: a worker on Ray has one."""
    rows = np.random.default_rng(0).normal(size=(20, 50_000))
    for row in rows:
        length = float(np.sqrt(np.sum(row * row)))
        assert within(row, 1.0).tobytes() == (row / length).tobytes()
        assert within(row, 2.0 * length).tobytes() == (row / (2.0 * length)).tobytes()


def test_a_short_delta_keeps_its_length():
    delta = np.full(100, 0.01, dtype=np.float32)
    assert noise(1e-6).on_delta(delta) == pytest.approx(delta, abs=1e-5)


def test_noise_is_repeated_with_its_key_and_of_another_purpose_it_differs():
    delta = np.ones(50, dtype=np.float32)
    first = noise(1.0).on_delta(delta)
    assert np.array_equal(first, noise(1.0).on_delta(delta))
    others = [
        noise(1.0, key=NoiseKey(bytes(32))),
        noise(1.0, purpose=("run", "2", "a")),
        noise(1.0, purpose=("run", "1", "b")),
    ]
    for other in others:
        assert not np.any(np.isclose(first, other.on_delta(delta), atol=1e-6))


def test_the_other_quantities_count_as_one_example_within_bounds():
    hidden = noise(1e-9).on_figures(answer(), None, **ASKED)
    assert hidden.num_examples == 1
    assert hidden.loss == pytest.approx(1.5, abs=1e-5)
    assert hidden.importance == pytest.approx([0.25, 0.75, 0.0], abs=1e-5)
    assert hidden.validation.count == 1
    assert hidden.validation.loss_sum == pytest.approx(2.0, abs=1e-5)
    assert hidden.validation.metric_sum == pytest.approx(0.75, abs=1e-5)
    assert hidden.statistics.num_examples == 1


def test_moments_near_those_that_are_known_come_through():
    known = Statistics(
        num_examples=9,
        mean=np.array([0.4, -0.5], dtype=np.float32),
        variance=np.array([1.1, 2.0], dtype=np.float32),
    )
    told = noise(1e-9).on_figures(answer(), known, **ASKED).statistics
    assert told.mean == pytest.approx([0.5, -0.5], abs=1e-4)
    assert told.variance == pytest.approx([1.0, 2.0], abs=1e-4)


def test_what_is_far_off_is_brought_within_the_bounds():
    wild = answer(
        loss=900.0, validation=Validation(loss_sum=8e9, metric_sum=-9.0, count=1)
    )
    hidden = noise(1e-9).on_figures(wild, None, **ASKED)
    assert hidden.loss == pytest.approx(4.0, abs=1e-4)
    assert hidden.validation.loss_sum == pytest.approx(4.0, abs=1e-4)
    assert hidden.validation.metric_sum == pytest.approx(-1.0, abs=1e-4)


def test_an_abstaining_vote_is_as_noisy_as_any():
    one_hot = np.array([0.0, 1.0, 0.0], dtype=np.float32)
    hidden = noise(1e-9).on_figures(answer(importance=one_hot), None, **ASKED)
    assert hidden.importance == pytest.approx(np.zeros(3), abs=1e-5)
    loud = noise(5.0).on_figures(answer(importance=one_hot), None, **ASKED)
    assert np.all(loud.importance >= 0)
    assert np.any(loud.importance > 0)


def test_that_a_client_has_no_vote_or_no_validation_part_is_not_told():
    none = Validation(loss_sum=0.0, metric_sum=0.0, count=0)
    silent = answer(importance=None, validation=none)
    hidden = noise(5.0).on_figures(silent, None, **ASKED)
    assert hidden.importance.shape == (3,)
    assert hidden.importance.any()
    assert hidden.validation.count == 1


def test_what_was_not_asked_for_stays_away():
    """A server may ask for less than it said when the client enrolled."""
    hidden = noise(1.0).on_figures(
        answer(statistics=None), None, validated=False, units=0
    )
    assert hidden.validation == Validation(loss_sum=0.0, metric_sum=0.0, count=0)
    assert hidden.importance is None
    assert hidden.statistics is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_and_no_integer(bad):
    delta = np.array([1.0, bad], dtype=np.float32)
    with pytest.raises(DataError, match=r"client a diverged: .*not finite .delta."):
        noise(1.0).on_delta(delta)
    if np.isnan(bad):
        with pytest.raises(DataError, match=r"not finite .figures."):
            noise(1.0).on_figures(answer(loss=bad), None, **ASKED)


def test_each_quantity_has_noise_of_its_own():
    hidden = noise(1.0).on_figures(answer(), None, **ASKED)
    assert hidden.loss != 1.5
    assert not np.allclose(hidden.importance, [0.25, 0.75, 0.0], atol=1e-3)
    assert not np.allclose(hidden.statistics.mean, [0.5, -0.5], atol=1e-3)


def test_the_first_plan_of_a_strict_run_is_one_that_noise_hides():
    task = make_task(privacy__preset="strict", privacy__senders=2)
    run_spec = make_setting(task)
    plan = plan_for(plan_round(start(task, run_spec), run_spec))
    assert not plan.settings.error_feedback
    assert task.config.run.controls == ()
