"""Figures of the row ``pretrained``, from pieces made by hand."""

import numpy as np
import pytest

from fedprune.simulations.benchmarks.kit.science.intervals import pack
from fedprune.simulations.benchmarks.kit.science.pretrained import (
    METHODS,
    ROW,
    _config,
)


def right(count):
    return pack(np.arange(200) < count)


def piece(count, up=10, **more):
    return {"correct": right(count), "bytes_up": up, "bytes_down": up} | more


FOUND = {
    "pruned-50-0": piece(150, scratch=right(100)),
    "pruned-50-1": piece(152, scratch=right(102)),
    "one-shot-50-0": piece(140),
    "one-shot-50-1": piece(142),
    "dense-100-0": piece(160, up=400),
}


def test_differences_are_paired_by_seed():
    found = {one.name: one for one in ROW.figures(FOUND)}
    gap = found["pretrained, 50 % of the FLOPs: pruned - one-shot"]
    assert gap.value == pytest.approx(5.0)
    assert gap.low <= gap.value <= gap.high
    scratch = found["pretrained, 50 % of the FLOPs: pruned - scratch"]
    assert scratch.value == pytest.approx(25.0)
    dense = found["pretrained, 50 % of the FLOPs: pruned - dense"]
    assert (dense.value, dense.goal) == (pytest.approx(-5.0), ">= -2.5")
    assert "n = 1" in dense.detail
    assert found["pretrained, 50 % of the FLOPs: bytes up, dense / pruned"].value == 40


def test_pieces_that_are_missing_leave_their_figures_out():
    assert ROW.figures({}) == []
    (only,) = ROW.figures({"dense-100-4": piece(100)})
    assert only.value == 50.0


def test_every_method_has_the_same_rounds(tmp_path, monkeypatch):
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "train.parquet").touch()
    monkeypatch.setenv("FEDPRUNE_DATA", str(tmp_path))
    configs = [_config(method, share, 3, str(tmp_path)) for method, share in METHODS]
    assert {config.rounds.total for config in configs} == {20}
    assert len(ROW.pieces([0, 1, 2])) == 3 * len(METHODS)
