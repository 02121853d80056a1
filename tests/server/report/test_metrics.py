"""Scores in the report: shares in percent, all else as the number that it is."""

import pytest

from fedprune.server.report.charts.curves import Line, reach
from fedprune.server.report.data import Point
from fedprune.server.report.text import metric_name, points, score


def line(*values, metric):
    shown = [
        Point(rounds=n, accuracy=value, bytes_up=100.0 * (n + 1))
        for n, value in enumerate(values)
    ]
    return Line(name="", role="own", points=shown, metric=metric)


@pytest.mark.parametrize(
    ("metric", "shown", "difference"),
    [
        ("accuracy", "35.00 %", "+35.00 points"),
        ("iou", "35.00 %", "+35.00 points"),
        ("r2", "0.3500", "+0.3500"),
        ("perplexity", "0.3500", "+0.3500"),
    ],
)
def test_only_shares_are_percentages(metric, shown, difference):
    assert score(0.35, metric) == shown
    assert points(0.35, metric) == difference


def test_a_name_from_another_user_is_one_short_line():
    assert metric_name("r2") == "R²"
    assert len(metric_name("x\n\x1b[31m" * 50)) <= 40
    assert "\n" not in metric_name("x\ny")


def test_bytes_to_a_share_of_the_best_are_told_of_known_metrics_alone():
    ours, theirs = (line(0.5, 0.9, metric="accuracy") for _ in range(2))
    assert reach([ours, theirs]) == (pytest.approx(0.882), 200.0, 200.0)
    ours, theirs = (line(90.0, 35.0, metric="perplexity") for _ in range(2))
    assert reach([ours, theirs]) is None
