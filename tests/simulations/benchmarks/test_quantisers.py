"""Benchmarks of values and of the downlink: what runs give, and what the rows say."""

from dataclasses import replace

import pytest
from helpers.small_runs import SMALL, as_assignments

from fedprune.common.codec import VALUES
from fedprune.common.config import load_config
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.simulations.benchmarks import downlink, quantisers
from fedprune.simulations.benchmarks.quantisers import SHORTER, Ended, ended, figures
from fedprune.simulations.experiments import LENET

TINY = as_assignments(SMALL | {"task.model": "mlp", "rounds.cuts": 1})
ONE = Ended(validation=0.98, examples=600, loss=0.1, test=0.97, bytes_up=400, first=0)


@pytest.fixture(scope="module")
def runs():
    return {kind: ended(kind, 3, TINY, None) for kind in ("int8", "float32")}


@pytest.mark.slow
def test_a_run_is_scored_on_the_validation_parts_of_all_clients(runs):
    task = LoadedTask(load_config(None, [*TINY, "run.seed=3", "client.validation=0.1"]))
    parts = [len(task.client_data(name).validation) for name in task.clients]
    for one in runs.values():
        assert one.examples == sum(parts) > 100
        assert 0.2 < one.validation <= 1.0
        assert 0.2 < one.test <= 1.0
        assert 0.0 < one.loss < 3.0


@pytest.mark.slow
def test_the_first_codec_is_charged_for_every_answer_of_int8_levels(runs):
    assert 0.6 < runs["int8"].bytes_up / runs["int8"].first < 1.0
    assert runs["float32"].first == 0
    assert runs["float32"].bytes_up > runs["int8"].bytes_up


@pytest.mark.slow
def test_nothing_is_counted_when_a_run_has_ended(runs):
    with quantisers._coded() as sizes:
        again = ended("int8", 3, TINY, None)
    assert again == runs["int8"]
    assert sum(sizes) == again.first


def some(**changes):
    """Return three equal runs of each kind, changed as said."""
    found = {kind: [ONE, ONE, ONE] for kind in VALUES}
    found["int8"] = [replace(ONE, first=500)] * 3
    found["step"] = [replace(ONE, first=800)] * 3
    for kind, change in changes.items():
        found[kind] = [replace(one, **change) for one in found[kind]]
    return {figure.name: figure for figure in figures(found)}


def test_rows_of_a_kind_are_means_over_seeds():
    found = some(float32={"validation": 0.97, "bytes_up": 100})
    assert found["float32: validation accuracy"].value == pytest.approx(97)
    assert "97.00, 97.00, 97.00 of 600" in found["float32: validation accuracy"].detail
    assert found["float32: bytes up of a run"].value == pytest.approx(0.1)
    assert found["float32: bytes up of a run"].detail.startswith("0.25 of int8")
    assert len(found) == 2 * len(VALUES) + 5


def test_the_choice_is_the_shortest_of_the_kinds_that_are_as_accurate():
    name = "bytes up, step / shortest other kind as accurate as int8"
    good = {"bytes_up": 300}
    worse = some(step=good, float32={"bytes_up": 100, "validation": 0.9785})[name]
    assert (worse.value, worse.reference, worse.met) == (0.75, "int8", True)
    equal = some(step=good, float32={"bytes_up": 100, "validation": 0.9795})[name]
    assert (equal.value, equal.reference, equal.met) == (3, "float32", False)


def test_the_default_and_int8_stand_against_the_first_codec():
    found = some(step={"bytes_up": 200, "validation": 0.9785})
    same = "bytes up, {} / first codec, same integers"
    assert found[same.format("int8")].value == pytest.approx(0.8)
    assert found[same.format("step")].value == pytest.approx(0.25)
    assert found["bytes up, step / first codec with int8"].value == pytest.approx(0.4)
    gap = found["step - int8: validation accuracy"]
    assert gap.value == pytest.approx(-0.15)
    assert gap.met is False


def test_the_default_is_the_one_of_the_configuration():
    assert load_config(None, []).update.values == quantisers.DEFAULT
    experiment = load_config(LENET, SHORTER)
    assert experiment.update.values == quantisers.DEFAULT
    assert experiment.rounds.total < load_config(LENET, []).rounds.total


def test_rows_of_the_downlink_compare_a_run_with_its_control():
    one = {
        "bytes_down": 10,
        "bytes_down_control": 150,
        "bytes_up": 2,
        "bytes_up_control": 100,
        "accuracy_final": 0.97,
        "accuracy_control": 0.98,
        "params_final": 4,
        "params_dense": 100,
        "rounds": 7,
    }
    down, up, accuracy, params = downlink.figures(one)
    assert (down.value, down.goal, down.met) == (15, ">= 12", True)
    assert up.value == 50
    assert accuracy.value == pytest.approx(-1)
    assert params.value == pytest.approx(0.04)
    assert load_config(downlink.MANY_CLIENTS, []).task.clients == downlink.CLIENTS
