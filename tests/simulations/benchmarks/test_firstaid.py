"""The first-aid benchmark: its figures, its stored results, and lies that are valid."""

import json
import math

import numpy as np
import pytest
import torch
from helpers.tiny_federation import (
    make_task,
    tiny_structure,
)

from fedprune.common.errors import IntegrityError
from fedprune.simulations.benchmarks import firstaid
from fedprune.simulations.benchmarks.kit import poisoning, resnet20
from fedprune.simulations.benchmarks.kit.rows import RowStore, interval, spread_text
from fedprune.simulations.benchmarks.kit.votes import loss_rises, spearman


def test_a_kept_result_is_not_measured_again(tmp_path):
    calls = []

    def work():
        calls.append(1)
        return {"accuracy": 0.5}

    for _ in range(2):
        found = RowStore(tmp_path / "new").get("row", work)
        assert found["accuracy"] == 0.5
    assert len(calls) == 1
    RowStore(tmp_path / "other").get("row", work)
    assert len(calls) == 2


@pytest.mark.parametrize("text", ["{", "[]", '{"accuracy": 1}'])
def test_a_broken_kept_result_is_refused_by_its_path(tmp_path, text):
    (tmp_path / "row.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"row\.json.* stored result"):
        RowStore(tmp_path).get("row", dict)


def test_a_measurement_that_fails_leaves_nothing_behind(tmp_path):
    def fails():
        message = "no"
        raise ValueError(message)

    with pytest.raises(ValueError, match="no"):
        RowStore(tmp_path).get("row", fails)
    assert not list(tmp_path.iterdir())


def test_rank_correlations_are_those_worked_out_by_hand():
    assert spearman([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 2, 3], [10, 20, 15]) == pytest.approx(0.5)
    # Ties share their mean rank: 1.5, 1.5, 3 against 1, 2, 3.
    assert spearman([5, 5, 9], [1, 2, 3]) == pytest.approx(math.sqrt(0.75))
    assert spearman([7, 7, 7], [1, 2, 3]) == 0


def test_intervals_are_those_worked_out_by_hand():
    mean, half = interval([1.0, 2.0, 3.0])
    assert (mean, half) == (2.0, pytest.approx(4.302653 / math.sqrt(3)))
    assert math.isnan(interval([1.0])[1])
    assert spread_text([1.0]) == "n = 1, no interval: +1.00"
    assert spread_text([1.0, 1.0]).startswith("95 % interval +1.00 to +1.00, n = 2")


def test_a_unit_that_does_nothing_costs_no_loss_and_the_network_stays():
    task = make_task()
    model = task.build_model().eval()
    with torch.no_grad():
        for tensor in (model.bn1.weight, model.bn1.bias):
            tensor[3] = 0.0  # unit 11: the fourth channel inside the block
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rises = loss_rises(model, tiny_structure(), task.dataset.train, task)
    assert rises[11] == 0.0
    assert np.count_nonzero(rises) == 15
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_rows_are_run_one_by_one_and_the_figures_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(
        firstaid,
        "measure_attack",
        lambda attack, seed: {"accuracy_final": 0.5 if attack else 0.9 + seed / 100},
    )
    arguments = ["--rows", "attacks", "--seeds", "2", "--work", str(tmp_path / "work")]
    target = tmp_path / "figures.json"
    assert firstaid.main([*arguments, "--json", str(target)]) == 0
    found = {f["name"]: f for f in json.loads(target.read_bytes())["figures"]}
    assert len(found) == 1 + len(poisoning.ATTACKS)
    lost = found["attacks: delta x 100, accuracy lost"]
    assert (lost["value"], lost["met"]) == (pytest.approx(40.5), False)
    assert len(list((tmp_path / "work").iterdir())) == 2 * len(found)
    assert firstaid.main([*arguments, "--check"]) == 1


def test_without_the_pretrained_weights_the_row_says_that_it_did_not_run(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("FEDPRUNE_DATA", str(tmp_path))
    assert firstaid.main(["--rows", "pretrained", "--work", str(tmp_path)]) == 0
    assert "not run" in capsys.readouterr().out


def test_the_pretrained_network_has_the_parameters_of_its_weights():
    model = resnet20.ResNet20()
    assert sum(p.numel() for p in model.parameters()) == 269_722
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
