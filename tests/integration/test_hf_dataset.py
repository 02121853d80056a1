"""Workers of Ray open an hf-dataset for themselves."""

import pytest
from helpers.hf_data import save
from helpers.processes import child, fedprune
from helpers.small_runs import SMALL, as_options, figures, only_run, read_summary
from helpers.small_runs import run_small as run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

WHO = ["bo", "al", "cy", "bo"] * 12
ROWS = {
    "a": [k % 2 - 0.5 for k in range(len(WHO))],
    "b": [k / 64 for k in range(len(WHO))],
    "label": [k % 2 for k in range(len(WHO))],
    "who": WHO,
}
CHANGES = {
    "task.model": "mlp",
    "task.inputs": ["a", "b"],
    "task.partition.kind": "natural",
    "task.partition.column": "who",
    "task.clients": 3,
    "rounds.cohort": 3,
    "rounds.cuts": 1,
    "distill.weight": 0.0,
}


@pytest.mark.long
def test_any_engine_ends_with_equal_bits(tmp_path):
    place = save(tmp_path / "d", train=ROWS, test=ROWS)
    changes = CHANGES | {"task.data": f"hf-dataset:{place}"}
    here = run(tmp_path / "here", changes).summary
    on_ray = {"run.engine": "ray", "run.workers": 2, "run.dir": str(tmp_path / "ray")}
    options = as_options(SMALL | changes | on_ray)
    with child(fedprune("simulate", *options), tmp_path) as started:
        assert started.wait(300) == 0, started.output
    summary = read_summary(only_run(tmp_path / "ray"))
    assert figures(summary) == figures(here)
    assert not list((only_run(tmp_path / "ray") / "clients").glob(".data"))
