"""The examples run from a checkout, as the README says."""

import sys

import pytest
from helpers.processes import ROOT, child
from helpers.small_runs import only_run, read_summary

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def run_example(name, folder):
    with child([sys.executable, str(ROOT / "examples" / name)], folder) as example:
        assert example.wait(240) == 0, example.output
        said = example.output
    return said, read_summary(only_run(folder / "runs"))


def test_a_regression_reports_r_squared(tmp_path):
    said, summary = run_example("regression.py", tmp_path)
    assert summary["metric"] == "r2"
    assert "R squared, final" in said
    assert 0.2 < summary["accuracy_final"] < 1.0


@pytest.mark.long
def test_an_own_network_is_pruned_to_a_third_and_still_reads_digits(tmp_path):
    said, summary = run_example("own_model.py", tmp_path)
    assert "report in" in said
    assert summary["params_final"] <= 0.3 * summary["params_dense"]
    assert summary["accuracy_final"] > 0.8


def test_an_own_network_and_data_need_at_most_twelve_lines():
    text = (ROOT / "examples" / "own_model.py").read_text(encoding="utf-8")
    code = [line for line in text[text.index("class Net") :].splitlines() if line]
    assert len(code) <= 12
