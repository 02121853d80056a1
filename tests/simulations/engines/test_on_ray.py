"""Flower's simulation in its own thread: lent, noticed when it ends, and ended."""

import threading

import pytest
from helpers.tiny_federation import make_task

from fedprune.common.errors import FedPruneError
from fedprune.simulations.engines.engines import EngineSpec

pytest.importorskip("ray")
from fedprune.simulations.engines import on_ray


class Grid:
    """A grid with two nodes."""

    def get_node_ids(self):
        return [8, 5]


def flower_of(monkeypatch, tmp_path, simulate):
    monkeypatch.setattr(on_ray, "run_simulation", simulate)
    engine_spec = EngineSpec(task=make_task(), root=tmp_path, workers=2, ray_address="")
    return on_ray._Flower(engine_spec, 2)


def lend(server_app, **_):
    """Call a server app back with a grid, as Flower does."""
    server_app._main(Grid(), None)


def test_the_grid_is_lent_until_the_run_has_ended(monkeypatch, tmp_path):
    flower = flower_of(monkeypatch, tmp_path, lend)
    before = threading.active_count()
    assert sorted(flower.start().get_node_ids()) == [5, 8]
    flower.check()
    assert threading.active_count() == before + 1
    flower.end()
    assert threading.active_count() == before
    with pytest.raises(FedPruneError, match="ended before the run"):
        flower.check()


def test_a_simulation_that_fails_ends_the_run_with_its_reason(monkeypatch, tmp_path):
    def fail(**_):
        message = "no actors"
        raise RuntimeError(message)

    flower = flower_of(monkeypatch, tmp_path, fail)
    with pytest.raises(FedPruneError, match="Flower's simulation failed: no actors"):
        flower.start()
    flower.end()


def test_a_simulation_without_a_grid_ends_the_run(monkeypatch, tmp_path):
    flower = flower_of(monkeypatch, tmp_path, lambda **_: None)
    with pytest.raises(FedPruneError, match="Flower's simulation ended before the run"):
        flower.start()


def test_workers_are_told_to_end_and_ray_goes_down_when_a_block_fails(
    monkeypatch, tmp_path
):
    engine_spec = EngineSpec(task=make_task(), root=tmp_path, workers=2, ray_address="")
    monkeypatch.setattr(on_ray, "run_simulation", lend)
    monkeypatch.setattr(on_ray, "_start_ray", lambda *_: None)
    seen = []
    stop = tmp_path / "stop"
    monkeypatch.setattr(on_ray.ray, "shutdown", lambda: seen.append(stop.exists()))
    with pytest.raises(KeyboardInterrupt), on_ray.ray_engine(engine_spec):
        raise KeyboardInterrupt
    assert seen == [True]
    assert not stop.exists()
    with on_ray.ray_engine(engine_spec) as engine:
        assert engine._nodes == [5, 8]
    assert seen == [True, False]


def test_a_process_keeps_the_worker_of_its_run(tmp_path):
    task, resident = make_task(), on_ray._Resident()
    one = resident.worker(task, str(tmp_path / "one"))
    assert resident.worker(task, str(tmp_path / "one")) is one
    assert resident.worker(task, str(tmp_path / "two")) is not one
