"""A finished run of a row, and the images of several rows."""

import numpy as np
import pytest

from fedprune.server.runs.events import MAIN, RoundFinished, of_run
from fedprune.simulations.benchmarks.kit.science import images
from fedprune.simulations.benchmarks.kit.science.compared import by_seed
from fedprune.simulations.benchmarks.kit.science.correct import correct
from fedprune.simulations.benchmarks.kit.science.ended import ended

SHORT = {
    "rounds.warmup": 1,
    "rounds.cuts": 0,
    "rounds.final": 0,
    "client.epochs": 1,
    "task.model": "mlp",
}


@pytest.mark.slow
def test_the_network_of_a_finished_run_has_the_accuracy_of_its_summary():
    with ended(SHORT, 5) as run:
        folder = run.folder
        right = correct(run.network(), run.task)
        assert right.mean() == pytest.approx(run.summary["accuracy_final"])
        assert run.figures("seed") == {"seed": 5}
        rounds = of_run(run.events, RoundFinished, MAIN)
        assert len(rounds) == run.summary["rounds"] == 2
    assert not folder.exists()


def test_a_small_image_has_the_mean_of_each_four_pixels():
    pixels = np.zeros((1, 1, 28, 28), dtype=np.uint8)
    pixels[0, 0, 2:4, 4:6] = [[255, 0], [51, 102]]
    found = images._halved(pixels)
    assert found.shape == (1, 1, 14, 14)
    assert found[0, 0, 1, 2] == pytest.approx(0.4)
    assert found.sum() == pytest.approx(0.4)
    assert images._whole(pixels)[0, 0, 3, 5] == pytest.approx(0.4)


def test_pieces_of_a_name_are_not_those_of_a_longer_one():
    found = {"l1-0": {"a": 1}, "l1-group-0": {"a": 2}, "l1-x": {}, "l1-12": {}}
    assert by_seed(found, "l1") == {0: {"a": 1}, 12: {}}
