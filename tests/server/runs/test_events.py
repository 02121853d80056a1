"""The event log: append-only, crash safe, cut back on resume."""

import csv
import json
from datetime import datetime

import numpy as np
import pytest

from fedprune.common.errors import IntegrityError
from fedprune.server.runs.events import (
    COLUMNS,
    EventLog,
    has_started,
    number_of,
    read_events,
    write_metrics_csv,
)


def kinds(path):
    return [event["event"] for event in read_events(path)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def rounds_of(path):
    return [
        (event.get("run", "main"), event["round"])
        for event in read_events(path)
        if "round" in event
    ]


def test_what_is_written_is_read_back_in_order_with_a_utc_time(path):
    with EventLog(path) as log:
        log.write("round", run="main", round=1, loss=0.5, phase="warmup")
        log.write("warning", text="zwölf\nLines\r")
    first, second = read_events(path)
    assert (first["event"], first["round"], first["loss"]) == ("round", 1, 0.5)
    assert datetime.fromisoformat(first["time"]).utcoffset().total_seconds() == 0
    assert second["text"] == "zwölf\nLines\r"
    assert path.read_bytes().count(b"\n") == 2


def test_a_line_is_on_disk_before_write_returns(path):
    log = EventLog(path)
    log.write("client", round=1, client="c1")
    assert kinds(path) == ["client"]
    log.close()


def test_numpy_values_become_plain_and_non_finite_numbers_become_null(path):
    with EventLog(path) as log:
        log.write(
            "cut",
            round=np.int64(3),
            votes={"a": np.array([0.5, np.nan], np.float32)},
            params=float("inf"),
            place=path,
        )
    (event,) = read_events(path)
    assert event["round"] == 3
    assert event["votes"] == {"a": [0.5, None]}
    assert event["params"] is None
    assert event["place"] == str(path)
    assert b"NaN" not in path.read_bytes()


def test_listeners_hear_every_event_after_it_is_on_disk(path):
    heard = []
    with EventLog(
        path, [lambda event: heard.append((event["event"], kinds(path)))]
    ) as log:
        log.write("warning", text="a")
        log.write("resumed", round=2)
    assert heard == [("warning", ["warning"]), ("resumed", ["warning", "resumed"])]


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_torn_last_line_is_ignored_and_replaced_by_the_next_event(path, cut):
    with EventLog(path) as log:
        log.write("warning", text="whole")
        log.write("round", round=1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert kinds(path) == ["warning"]
    with EventLog(path) as log:
        log.write("resumed", round=0)
    assert kinds(path) == ["warning", "resumed"]


def test_a_last_line_of_zeros_as_a_loss_of_power_leaves_it_is_ignored(path):
    with EventLog(path) as log:
        log.write("warning", text="whole")
    path.write_bytes(path.read_bytes() + bytes(100))
    assert kinds(path) == ["warning"]


def test_a_broken_line_before_the_last_is_refused_with_its_number(path):
    path.write_bytes(b'{"event":"a"}\n{"event":\n{"event":"b"}\n')
    with pytest.raises(IntegrityError, match=r"events.jsonl:2"):
        read_events(path)
    with pytest.raises(IntegrityError, match=r"events.jsonl:2"):
        EventLog(path)


def test_an_absent_log_has_no_events(path):
    assert read_events(path) == []


def test_drop_after_removes_later_rounds_and_the_end_but_nothing_else(path):
    with EventLog(path) as log:
        log.write("run_started", run_id="x")
        for number in (1, 2, 3):
            log.write("client", run="main", round=number, client="a")
            log.write("round", run="main", round=number)
            log.write("round", run="control", round=number)
        log.write("cut", round=3)
        log.write("warning", text="kept")
        log.write("run_finished", summary={})
        log.drop_after(2)
        log.write("resumed", round=2)
    assert max(number for _, number in rounds_of(path)) == 2
    assert len(rounds_of(path)) == 2 * 3 + 1
    assert kinds(path)[0] == "run_started"
    assert kinds(path)[-2:] == ["warning", "resumed"]


def test_drop_after_of_one_run_leaves_the_other(path):
    with EventLog(path) as log:
        for number in (1, 2, 3):
            log.write("round", run="main", round=number)
            log.write("round", run="control", round=number)
        log.write("cut", round=3)
        log.drop_after(1, run="main")
    assert rounds_of(path) == [
        ("main", 1),
        ("control", 1),
        ("control", 2),
        ("control", 3),
    ]


def test_metrics_hold_one_row_per_round_event_with_fixed_columns(path, tmp_path):
    events = [
        {"event": "run_started", "run_id": "x"},
        {"event": "round", "run": "main", "round": 1, "loss": 0.25, "accuracy": None},
        {"event": "round", "run": "control", "round": 1, "extra": 1},
    ]
    out = tmp_path / "metrics.csv"
    write_metrics_csv(events, out)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["run"] for row in rows] == ["main", "control"]
    assert (rows[0]["loss"], rows[0]["accuracy"]) == ("0.25", "")


def test_every_line_is_plain_json(path):
    with EventLog(path) as log:
        log.write("run_started", config={"prune": {"budget": {"params": 0.3}}})
    for line in path.read_text().splitlines():
        assert json.loads(line)["config"]["prune"]["budget"]["params"] == 0.3


@pytest.mark.parametrize(
    "value",
    [b"1", {1, 2}, object(), 1j, "half \ud800 of a pair", {"deep": [b"x"]}],
    ids=["bytes", "set", "object", "complex", "surrogate", "nested"],
)
def test_no_value_keeps_a_line_from_being_written_and_read_back(path, value):
    with EventLog(path) as log:
        log.write("delivered", accuracy=value)
        log.write("round", round=1)
    assert kinds(path) == ["delivered", "round"]


@pytest.mark.parametrize(
    "line", [b"7", b"[]", b'{"event": {}}', b'{"event": 1}', b"[" * 100_000]
)
def test_json_that_is_no_event_is_refused_with_its_number(path, line):
    path.write_bytes(line + b'\n{"event": "resumed"}\n')
    with pytest.raises(IntegrityError, match="jsonl:1: not an event"):
        read_events(path)


@pytest.mark.parametrize("value", [None, "7", True, [7]])
def test_a_figure_that_is_no_number_is_refused_by_its_name(value):
    assert number_of({"event": "round", "bytes_up": 7}, "bytes_up") == 7
    with pytest.raises(IntegrityError, match=r"'round' event holds .* 'bytes_up'"):
        number_of({"event": "round", "bytes_up": value}, "bytes_up")


def test_a_log_with_numbers_that_are_not_finite_can_be_cut_back(path):
    path.write_bytes(b'{"event":"round","round":1,"loss":NaN,"accuracy":1e999}\n')
    with EventLog(path) as log:
        log.drop_after(1)
    (event,) = read_events(path)
    assert (event["loss"], event["accuracy"]) == (None, None)


def test_a_start_that_failed_is_no_start(tmp_path):
    path = tmp_path / "events.jsonl"
    assert not has_started(path)
    with EventLog(path) as log:
        log.write("run_failed", text="no such data", exit_code=3)
    assert not has_started(path)
    with EventLog(path) as log:
        log.write("run_started", run_id="a")
    assert has_started(path)
