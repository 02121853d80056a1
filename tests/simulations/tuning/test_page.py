"""The page of a search, of trials made by hand."""

from fedprune.simulations.tuning.choice import chosen
from fedprune.simulations.tuning.page import PAGE, document, write_page
from fedprune.simulations.tuning.record import Figures, Record, Trial
from fedprune.simulations.tuning.target import parse_target

TARGET = "accuracy_drop<=1, params<=0.5"


def done(number, accuracy, params, restart="keep", **rest):
    found = {"error": 0.1, "clients": 8, "latency": None, "bytes": params / 10} | rest
    figures = Figures(
        accuracy=accuracy,
        drop=100 * (0.95 - accuracy),
        params=params,
        flops=params,
        size=params,
        **found,
    )
    point = {"prune.restart": restart}
    return Trial(number=number, point=point, status="done", figures=figures)


def record(*trials):
    found = Record(search="s", target=TARGET, trials_wanted=9, trials=trials)
    return chosen(found, parse_target(TARGET))


def test_trials_are_points_and_the_line_joins_those_that_none_beats():
    small = done(3, 0.945, 0.3, restart="fresh")
    shown = document(record(done(1, 0.95, 0.5), done(2, 0.93, 0.4), small))
    views = shown.charts["pareto"]["views"]
    # There is no latency without a table.
    assert list(views) == [
        *("by parameters", "by FLOPs", "by file size", "by bytes sent"),
    ]
    spec = views["by parameters"]
    names = [one["name"] for one in spec["series"]]
    assert names == ["trial 1", "trial 2", "trial 3, starts small"]
    assert spec["series"][0]["points"] == [[0.5, 0.95]]
    assert spec["front"] == [[0.3, 0.945], [0.5, 0.95]]


def test_the_table_marks_the_choice_and_says_why_a_trial_ended():
    failed = Trial(number=3, point={}, status="failed", reason="<b>no luck")
    shown = document(record(done(1, 0.95, 0.5), done(2, 0.944, 0.4), failed))
    (table,) = (table for part in shown.parts for _, table in part.tables)
    rows = [[cell.text for cell in row] for row in table.rows]
    assert {len(row) for row in rows} == {len(table.head)}
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert [row[-2] for row in rows] == ["Pareto", "recommended, Pareto", "-"]
    assert rows[2][-1] == "failed: <b>no luck"
    assert rows[1][1:4] == ["0.944", "0.6", "0.4"]


def test_the_page_is_one_file_in_which_all_text_is_escaped(tmp_path):
    failed = Trial(number=2, point={}, status="failed", reason="<script>alert(1)")
    write_page(tmp_path, record(done(1, 0.95, 0.5), failed))
    page = (tmp_path / PAGE).read_text()
    assert "Trial 1 is recommended; it meets the target." in page
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    write_page(tmp_path, record(failed))
    assert "No trial has come to its end." in (tmp_path / PAGE).read_text()
