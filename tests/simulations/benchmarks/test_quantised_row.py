"""The row ``quantised``: losses against the float network, from pieces made by hand."""

import numpy as np
import pytest

from fedprune.common.config import load_config
from fedprune.simulations.benchmarks.kit.science.intervals import pack
from fedprune.simulations.benchmarks.kit.science.quantised import (
    BASICS,
    BITS,
    ROW,
    RUNS,
)
from fedprune.simulations.experiments import FOLDER


def piece(exact, int8, codebook):
    counts = {"float": exact, "int8": int8, "codebook": codebook}
    right = {key: pack(np.arange(200) < count) for key, count in counts.items()}
    return right | {"params_final": 77}


FOUND = {
    "plain-0": piece(160, 150, 100),
    "plain-1": piece(162, 156, 104),
    "int8-0": piece(158, 157, 0),
    "codebook-1": piece(155, 0, 155),
}


def test_every_file_is_compared_with_the_float_network_that_was_not_trained_for_it():
    shown = {one.name: one for one in ROW.figures(FOUND)}
    after = shown["quantised: points lost, int8 ONNX, quantised after training"]
    assert (after.value, after.goal) == (pytest.approx(4.0), "")
    tuned = shown["quantised: points lost, int8 ONNX, trained for it"]
    assert (tuned.value, tuned.goal) == (pytest.approx(1.5), "<= 0.5")
    assert "n = 1" in tuned.detail
    assert "78.50, 77 parameters; +0.50 against its own float" in tuned.detail
    coded = shown["quantised: points lost, codebook .fpz of 5 bits, trained for it"]
    assert coded.value == pytest.approx(3.5)
    assert shown["quantised: test accuracy, float, plain"].value == 80.5


def test_pieces_that_are_missing_leave_their_figures_out():
    assert ROW.figures({}) == []
    assert ROW.figures({"int8-0": FOUND["int8-0"]}) == []


def test_the_runs_have_the_same_widths_and_rounds_and_differ_in_the_last_ones():
    file = FOLDER / "pretrained-vision.toml"
    configs = [load_config(file, {**BASICS, **own}) for own in RUNS.values()]
    assert {config.width_multiple for config in configs} == {4}
    assert {config.rounds.total for config in configs} == {9}
    assert {config.quantise.kind for config in configs} == {*RUNS} - {"plain"} | {
        "none"
    }
    assert {config.quantise.bits for config in configs} == {BITS}  # the default
    plain = configs[0]
    for config in configs[1:]:
        assert config.model_copy(update={"quantise": plain.quantise}) == plain
