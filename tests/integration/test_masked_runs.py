"""Whole runs under a weight mask: sent once, kept, and cheaper than positions."""

import numpy as np
import pytest
from helpers.processes import on_ray
from helpers.small_runs import events, figures, read_summary, run_small

import fedprune.common.sparsity.known_positions
from fedprune.common.artifacts import read_model_file
from fedprune.server.runs.events import MaskChosen, RoundFinished
from fedprune.simulations.export.export import export_run

pytestmark = pytest.mark.slow

# Deep Compression in small: cut channels, keep a tenth of what is left, 8 bits.
COMPRESSED = {
    "prune.mask.kind": "unstructured",
    "prune.mask.density": 0.1,
    "prune.mask.end": 1,
    "prune.width_multiple": 4,
    "rounds.final": 4,
    "update.update_density": 0.12,
}
SPARSE_TENSOR_CORE = COMPRESSED | {"prune.mask.kind": "n:m"}


def matrices(directory):
    """Return the matrices of the final network."""
    tensors, _ = read_model_file(directory / "model" / "final.safetensors")
    return [np.asarray(t) for t in tensors.values() if t.ndim > 1]


def final_rounds(directory):
    """Return the events of the rounds under the mask, all of which train."""
    return events(directory, RoundFinished)[-5:-1]


@pytest.fixture(scope="module")
def compressed(tmp_path_factory):
    return run_small(tmp_path_factory.mktemp("compressed"), COMPRESSED)


def test_the_final_network_has_the_zeros_of_the_mask(compressed):
    kept = [np.count_nonzero(m) for m in matrices(compressed.directory)]
    size = sum(m.size for m in matrices(compressed.directory))
    assert 0 < sum(kept) <= np.ceil(0.1 * size)
    assert all(kept)
    assert compressed.summary["weight_density"] < 0.16
    assert compressed.summary["refused"] == 0


def test_the_mask_is_sent_once(compressed):
    (chosen,) = events(compressed.directory, MaskChosen)
    assert chosen.round == final_rounds(compressed.directory)[0].round - 1
    assert 0.1 < chosen.weight_density < 0.2
    down = [e.bytes_down for e in final_rounds(compressed.directory)]
    assert down[0] > max(down[1:])


def test_an_update_without_positions_is_smaller_than_with_them(
    compressed, tmp_path, monkeypatch
):
    place = fedprune.common.sparsity.known_positions
    monkeypatch.setattr(place, "without_positions", lambda mask, density: None)
    other = run_small(tmp_path, COMPRESSED)
    up = [
        sum(e.bytes_up - e.bytes_fixed for e in final_rounds(run.directory))
        for run in (compressed, other)
    ]
    assert up[0] < up[1]
    assert other.summary["refused"] == 0


def test_an_exported_network_has_the_form_of_its_mask(tmp_path):
    run = run_small(tmp_path, SPARSE_TENSOR_CORE).directory
    for format_ in ("safetensors", "onnx"):
        found = export_run(run, format_=format_, check=True)
        assert found["mask"] == "2:4 in 2 tensors"
    found = export_run(run, format_="onnx", check=True, int8=True)
    assert found["mask"] == "2:4 in 2 tensors"


@pytest.mark.long
@pytest.mark.timeout(400)
def test_ray_gives_the_bits_of_one_process(compressed, tmp_path):
    found = on_ray(tmp_path, 2, COMPRESSED)
    assert figures(read_summary(found)) == figures(compressed.summary)
