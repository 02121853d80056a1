"""Benchmarks: goals, tables, JSON files, exit codes, and the page of results."""

import io
import json

import pytest
from rich.console import Console

from fedprune.common.errors import ConfigError, DataError, IntegrityError
from fedprune.simulations.benchmarks import results
from fedprune.simulations.benchmarks.kit.harness import (
    Figure,
    benchmark,
    commit,
    cpu,
    print_figures,
    result,
)


def figures():
    return [
        Figure(name="bytes", value=0.9, unit="x", reference="rival|1", goal="<= 1.0"),
        Figure(name="speed", value=1.2, goal=">= 2", detail="median\nof 5"),
        Figure(name="seconds", value=12345.0),
    ]


@pytest.mark.parametrize(
    ("value", "goal", "met"),
    [
        (1.0, "<= 1.0", True),
        (1.1, "<= 1.0", False),
        (2, ">= 2", True),
        (1.9, ">=2", False),
        (1, "< 1", False),
        (0.9, "< 1", True),
        (4, "> 4", False),
        (5, "> 4", True),
        (0, "== 0", True),
        (1e-9, "== 0", False),
        (0.5, "<= 1e-1", False),
        (-2, "< -1.5", True),
        (7, "", None),
    ],
)
def test_a_goal_is_met_at_its_border(value, goal, met):
    assert Figure(name="x", value=value, goal=goal).met is met


@pytest.mark.parametrize("goal", ["1.0", "=< 1", "<= one", "<= 1 or so"])
def test_a_goal_that_cannot_be_read_is_refused(goal):
    with pytest.raises(ConfigError, match="goal of 'x'"):
        Figure(name="x", value=1, goal=goal)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_refused(value):
    with pytest.raises(ConfigError, match="finite"):
        Figure(name="x", value=value)


def test_a_missed_goal_fails_only_a_check(tmp_path, capsys):
    main = benchmark("demo", figures)
    assert main([]) == 0
    assert main(["--check"]) == 1
    assert benchmark("demo", lambda: figures()[:1])(["--check"]) == 0
    assert "MISSED" in capsys.readouterr().out


def test_the_json_file_is_the_object_of_the_design(tmp_path):
    path = tmp_path / "demo.json"
    assert benchmark("demo", figures)(["--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert set(found) == {
        "benchmark",
        "commit",
        "versions",
        "cpu",
        "seconds",
        "figures",
    }
    assert found["figures"][0] == {
        "name": "bytes",
        "value": 0.9,
        "unit": "x",
        "reference": "rival|1",
        "goal": "<= 1.0",
        "detail": "",
        "met": True,
    }
    assert [figure["met"] for figure in found["figures"]] == [True, False, None]


def test_an_error_on_purpose_is_one_line_and_its_exit_code(capsys):
    def fail():
        msg = "no parquet file"
        raise DataError(msg)

    assert benchmark("demo", fail)([]) == 3
    assert capsys.readouterr().err == "error: no parquet file\n"


def test_two_figures_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="named twice: bytes"):
        result("demo", [*figures(), figures()[0]], 1.0)


def test_the_table_shows_brackets_as_they_are():
    out = io.StringIO()
    figure = Figure(name="[bold]x", value=2, detail="range [1, 3]")
    print_figures("demo", [figure], Console(file=out, width=100))
    assert "[bold]x" in out.getvalue()
    assert "range [1, 3]" in out.getvalue()


def test_commit_and_cpu_are_one_line_of_text():
    assert "\n" not in commit() + cpu()
    assert cpu().endswith("cores")


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "results"
    place.mkdir()
    for name in ("b", "a"):
        value = result(name, figures(), 12.3)
        (place / f"{name}.json").write_text(json.dumps(value))
    return place


def test_the_page_names_command_commit_and_verdict_of_each_number(folder, capsys):
    assert results.main([str(folder)]) == 0
    page = folder.with_suffix(".md").read_text()
    assert page.index("## a") < page.index("## b")
    assert "`python -m fedprune.simulations.benchmarks.a`: commit " in page
    assert "2 of 4 goals met." in page
    assert "- a: speed is 1.2, goal >= 2" in page
    assert "| bytes | 0.9 x | <= 1.0 | met | rival\\|1 |  |" in page
    assert "| speed | 1.2 | >= 2 | MISSED |  | median of 5 |" in page
    assert "| seconds | 12,345 | - | - |  |  |" in page


def test_a_check_fails_when_the_page_is_not_what_the_files_say(folder, capsys):
    assert results.main([str(folder), "--check"]) == 1
    results.main([str(folder)])
    assert results.main([str(folder), "--check"]) == 0
    (folder / "a.json").unlink()
    assert results.main([str(folder), "--check"]) == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"benchmark": "a"}'])
def test_a_file_that_is_no_result_is_refused_by_name(folder, text, capsys):
    (folder / "c.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"c\.json"):
        results.read_results(folder)
    assert results.main([str(folder)]) == IntegrityError.exit_code


def test_a_figure_that_lacks_a_key_is_refused(folder):
    value = json.loads((folder / "a.json").read_text())
    del value["figures"][0]["met"]
    (folder / "a.json").write_text(json.dumps(value))
    with pytest.raises(IntegrityError, match="lacks met"):
        results.read_results(folder)
