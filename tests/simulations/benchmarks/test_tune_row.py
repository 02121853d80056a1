"""The benchmark of searches: its figures, from pieces made by hand."""

import numpy as np
import pytest

from fedprune.common.errors import FedPruneError
from fedprune.simulations.benchmarks import tune
from fedprune.simulations.benchmarks.kit.science.intervals import pack
from fedprune.simulations.tuning.record import Record, Trial


def piece(choice, default, size, *, met=True, small=False):
    return {
        "choice": pack(np.arange(size) < choice),
        "default": pack(np.arange(size) < default),
        "met": met,
        "starts_small": small,
        "settings_chosen": f"trial {choice}",
    }


def test_the_gap_is_paired_by_the_examples_of_each_seeds_own_fold():
    found = {
        "search-0": piece(45, 40, 50),
        "search-1": piece(40, 40, 40, small=True),
        "search-2": piece(36, 45, 60, met=False),
    }
    shown = {one.name: one for one in tune.compared(found)}
    gap = shown["digits: accuracy at params<=0.3, flops<=0.35, choice - default"]
    assert gap.value == pytest.approx((10 + 0 - 15) / 3)
    assert gap.low < gap.value < gap.high
    assert "n = 3" in gap.detail
    assert "trial 45; trial 40; trial 36" in gap.detail
    assert shown["digits: test accuracy, choice"].value == pytest.approx(250 / 3)
    assert shown["digits: test accuracy, default"].value == pytest.approx(255 / 3)
    met = shown["digits: searches whose choice meets the target"]
    assert (met.value, met.detail) == (2, "of 3; 1 of them start small")
    assert tune.compared({}) == []


def test_without_a_piece_the_row_is_not_run(tmp_path, capsys):
    assert tune.main(["--work", str(tmp_path)]) == 0
    assert "not run" in capsys.readouterr().out


def test_a_trial_without_a_network_is_not_compared():
    failed = Trial(number=1, point={}, status="failed", reason="no luck")
    record = Record(search="s", target="size<=1", trials_wanted=1, trials=(failed,))
    with pytest.raises(FedPruneError, match="trial 1 of s has no network: no luck"):
        tune._trial(record, 1)
    with pytest.raises(FedPruneError, match="no trial has come to its end"):
        tune._trial(record, None)
