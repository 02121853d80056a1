"""Progress display of a run, and the table that it ends with."""

import io
from dataclasses import replace

import pytest
from helpers.some_events import CLIENT, ROLLBACK, ROUND, STARTED, WARNING
from rich.console import Console

from fedprune.server.runs.events import describe
from fedprune.simulations.runs.outcome import print_comparison, print_outcome
from fedprune.simulations.runs.progress import BarProgress, LineProgress, SilentProgress


def test_lines_are_written_one_an_event():
    stream = io.StringIO()
    display = LineProgress(stream)
    for event in (ROUND, CLIENT, ROUND):
        display.on_event(event)
    assert stream.getvalue() == 2 * (describe(ROUND) + "\n")


def test_the_bar_has_a_row_for_each_run_and_ends_clean():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=160)
    with BarProgress(console) as display:
        display.on_event(ROUND)
        display.on_event(replace(WARNING, text="a [bold] warning"))
        display.on_event(replace(ROUND, run="dense", round=9))
    shown = stream.getvalue()
    assert "warning: a [bold] warning" in shown
    last = shown.rsplit("pruned", 1)[1]
    assert "3/9" in last
    assert "dense" in last
    assert "9/9" in last


def test_the_bar_fits_a_terminal_of_80_columns():
    stream = io.StringIO()
    with BarProgress(Console(file=stream, force_terminal=True, width=80)) as display:
        display.on_event(replace(ROUND, round=125, rounds=250, bytes_up=10**6))
    last = stream.getvalue().rsplit("pruned", 1)[1]
    assert "…" not in last
    for figure in ("125/250", "1 sparsify", "0.5000", "0.750", "1.0 MB", "3.0 MB"):
        assert figure in last


def test_the_total_is_known_from_the_first_round_on_and_a_change_is_said():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=160)
    with BarProgress(console) as display:
        display.on_event(replace(ROUND, round=3, rounds=36))
        display.on_event(replace(ROUND, round=4, rounds=32))
        display.on_event(replace(ROUND, round=32, rounds=32))
    shown = stream.getvalue()
    assert "None" not in shown
    assert "pruned: no more is cut: 32 rounds in all, not 36" in shown
    assert "32/32" in shown.rsplit("pruned", 1)[1]


def test_the_time_that_a_run_takes_is_told_once_it_is_measured():
    stream = io.StringIO()
    display = LineProgress(stream)
    config = {"run": {"controls": ["dense"]}}
    display.on_event(replace(STARTED, config=config))
    for round_, seconds in enumerate((90.0, 8.0, 12.0, 500.0), start=1):
        event = replace(ROUND, round=round_, rounds=33, seconds=seconds)
        display.on_event(event)
    lines = [line for line in stream.getvalue().splitlines() if "about" in line]
    # 10 s a round, the first one left out: 30 of its own, 33 of the control.
    text = "about 10 min from here: 30 rounds, and as many as before for each control"
    assert lines == [f"{text} (1)"]


def test_a_run_of_a_few_rounds_tells_no_time():
    stream = io.StringIO()
    display = LineProgress(stream)
    for round_ in (1, 2, 3, 4):
        display.on_event(replace(ROUND, round=round_, rounds=6))
    assert "min from here" not in stream.getvalue()


def test_lines_say_a_change_of_the_total_once():
    stream = io.StringIO()
    display = LineProgress(stream)
    for round_, rounds in ((1, 9), (2, 11), (3, 11)):
        display.on_event(replace(ROUND, round=round_, rounds=rounds))
    lines = [line for line in stream.getvalue().splitlines() if "in all" in line]
    why = "the budget is not met yet, one more cut is made"
    assert lines == [f"pruned: {why}: 11 rounds in all, not 9"]


def test_a_cut_that_is_taken_back_is_the_reason_of_its_own_round_alone():
    stream = io.StringIO()
    display = LineProgress(stream)
    display.on_event(replace(ROUND, round=1, rounds=9))
    display.on_event(replace(ROLLBACK, round=2))
    for round_, rounds in ((2, 11), (3, 13)):
        display.on_event(replace(ROUND, round=round_, rounds=rounds))
    undone, more = [line for line in stream.getvalue().splitlines() if "in all" in line]
    assert undone == "pruned: a cut is taken back: 11 rounds in all, not 9"
    assert more.startswith("pruned: the budget is not met yet")


@pytest.mark.parametrize("display", [SilentProgress(), LineProgress(io.StringIO())])
def test_a_display_remembers_the_folder_of_its_run(display):
    assert display.directory == ""
    display.on_event(STARTED)
    display.on_event(ROUND)
    assert display.directory == "runs/x"


def test_the_table_shows_known_figures_and_dashes():
    stream = io.StringIO()
    summary = {
        "accuracy_control": 0.97,
        "accuracy_final": 0.96,
        "params_dense": 1234567,
        "params_final": 456789,
        "bytes_up": 2048,
        "latency_ms_final": 0.5,
    }
    print_outcome(summary, Console(file=stream, width=100))
    rows = [line.split() for line in stream.getvalue().splitlines()]
    assert ["accuracy", "0.9700", "-", "-", "0.9600"] in rows
    assert ["parameters", "1,234,567", "1,234,567", "-", "456,789"] in rows
    assert ["bytes", "up", "-", "-", "-", "2.0", "kB"] in rows
    assert ["latency", "-", "-", "-", "0.500", "ms"] in rows


def test_what_should_be_known_stands_under_the_table():
    stream = io.StringIO()
    summary = {"accuracy_final": 0.9, "warnings": ["[a] client", *"bcdefg"]}
    print_outcome(summary, Console(file=stream, width=100))
    lines = stream.getvalue().splitlines()
    assert lines[-5:] == [f"warning: {text}" for text in ("[a] client", *"bcde")]


def test_the_comparison_shows_shares_of_the_dense_network():
    stream = io.StringIO()
    summary = {"params_dense": 200, "params_final": 50, "flops_dense": 0}
    print_comparison([("run.seed=1", summary)], Console(file=stream, width=100))
    row = stream.getvalue().splitlines()[-1].split()
    assert row == ["run.seed=1", "-", "-", "0.250", "-", "-"]
