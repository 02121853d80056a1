"""Whole runs whose last rounds train for quantisation: files, resumption, engines."""

import numpy as np
import pytest
from helpers.processes import on_ray
from helpers.small_runs import (
    figures,
    only_run,
    read_summary,
    run_small,
    small_settings,
)

import fedprune.server.runs.loop
from fedprune.common.artifacts import read_model_file
from fedprune.server.rounds.plan import plan_round
from fedprune.simulations.export.export import export_run
from fedprune.simulations.runs.api import simulate

pytestmark = pytest.mark.slow

# Rounds 7 and 8 train for quantisation, round 9 closes the run.
SHORT = {"rounds.final": 4, "quantise.rounds": 2, "prune.width_multiple": 1}
INT8 = SHORT | {"quantise.kind": "int8", "prune.mask.kind": "n:m", "prune.mask.end": 2}
CODEBOOK = SHORT | {"quantise.kind": "codebook", "quantise.bits": 3}
KINDS = {"int8": INT8, "codebook": CODEBOOK}


class Stop(Exception):  # noqa: N818 - not an error of the program
    """The run ends here, as if it had been killed."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return {k: run_small(tmp_path_factory.mktemp(k), v) for k, v in KINDS.items()}


def weights_of(run):
    tensors, _ = read_model_file(run.directory / "model" / "final.safetensors")
    return {name: np.asarray(tensor) for name, tensor in tensors.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_resumed_in_its_quantised_rounds_to_the_same_bits(
    runs, tmp_path, monkeypatch, kind
):
    def stopping(state, run_spec, attempt=0):
        if state.round == 7:
            raise Stop
        return plan_round(state, run_spec, attempt)

    monkeypatch.setattr(fedprune.server.runs.loop, "plan_round", stopping)
    with pytest.raises(Stop):
        simulate(config=small_settings(tmp_path, KINDS[kind]))
    monkeypatch.undo()
    resumed = simulate(resume_from=only_run(tmp_path))
    assert figures(resumed.summary) == figures(runs[kind].summary)
    found, wanted = weights_of(resumed), weights_of(runs[kind])
    assert all(found[name].tobytes() == wanted[name].tobytes() for name in wanted)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
def test_ray_gives_the_bits_of_one_process(runs, tmp_path, kind):
    found = on_ray(tmp_path, 2, KINDS[kind])
    assert figures(read_summary(found)) == figures(runs[kind].summary)


def test_the_int8_file_has_2_of_4_and_widths_of_4(runs):
    run = runs["int8"]
    found = export_run(run.directory, format_="onnx", check=True, int8=True)
    assert found["mask"] == "2:4 in 2 tensors"
    widths = [t.shape[0] for t in weights_of(run).values() if t.ndim == 4]
    assert [width % 4 for width in widths] == [0, 0]
    assert run.summary["refused"] == run.summary["failed"] == 0


def test_the_fpz_file_finds_the_network_on_its_codebook(runs):
    run = runs["codebook"]
    for tensor in weights_of(run).values():
        if tensor.ndim > 1:
            assert len(np.unique(tensor[tensor != 0])) <= 8
    found = export_run(run.directory, format_="fpz", values="codebook3")
    assert found["max_change"] == 0.0
    assert found["accuracy_fpz"] == found["accuracy_float32"]
    assert run.summary["refused"] == run.summary["failed"] == 0
