"""The row ``smallest``: error and length of the file, from pieces made by hand."""

import numpy as np
import pytest

from fedprune.common.config import load_config
from fedprune.simulations.benchmarks.kit.science.intervals import pack
from fedprune.simulations.benchmarks.kit.science.lenet.smallest import (
    BITS,
    ROW,
    SETTINGS,
)
from fedprune.simulations.experiments import FOLDER


def piece(right, size):
    return {
        "correct": pack(np.arange(200) < right),
        "bytes": size,
        "params_dense": 1000,
        "params_final": 30,
        "weight_density": 0.5,
        "rounds": 9,
    }


def test_error_and_length_stand_beside_their_goals():
    shown = {one.name: one for one in ROW.figures({"run-0": piece(199, 8)})}
    error = shown["smallest: test error of the .fpz"]
    assert (error.value, error.goal) == (pytest.approx(0.5), "<= 1")
    ratio = shown["smallest: dense float32 / .fpz"]
    assert (ratio.value, ratio.goal, ratio.unit) == (500.0, ">= 500", "x")
    assert "8 B, 30 parameters, 0.50 of them not zero, 9 rounds" in ratio.detail
    assert {one.met for one in shown.values()} == {None}  # n = 1: not resolved
    assert ROW.figures({}) == []


def test_the_run_trains_for_the_file_that_is_measured():
    config = load_config(FOLDER / "mnist-lenet5.toml", SETTINGS)
    assert (config.quantise.kind, config.quantise.bits) == ("codebook", BITS)
    assert config.prune.mask.end <= config.rounds.final - config.quantise.rounds
    assert config.task.data == "mnist"  # all of it
