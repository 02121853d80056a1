"""``metrics.csv``: one row a round, its columns fixed."""

import csv
from dataclasses import replace

from helpers.some_events import ROUND, STARTED

from fedprune.server.runs.events import COLUMNS, write_metrics_csv


def test_there_is_one_row_a_round_with_fixed_columns(tmp_path):
    events = [STARTED, replace(ROUND, accuracy=None), replace(ROUND, run="dense")]
    out = tmp_path / "metrics.csv"
    write_metrics_csv(events, out)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["run"] for row in rows] == ["main", "dense"]
    assert (rows[0]["loss"], rows[0]["accuracy"]) == ("1.25", "")
    assert (rows[0]["phase"], rows[0]["bytes_down"]) == ("sparsify", "3000000")


def test_the_bytes_of_a_row_never_change(tmp_path):
    write_metrics_csv([ROUND], tmp_path / "metrics.csv")
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines[0] == (
        "run,round,cycle,phase,loss,accuracy,validation_loss,validation_accuracy,"
        "density,params,flops,channel_density,bytes_up,bytes_down,bytes_fixed,"
        "bytes_simulation,asked,accepted,refused,failed,late,zero_share,seconds,"
        "virtual_seconds"
    )
    assert lines[1] == (
        "main,3,1,sparsify,1.25,0.5,1.5,0.25,0.75,750,3000,0.5,2048,3000000,100,0,2,2,"
        "0,0,0,0.125,1.5,120.5"
    )
