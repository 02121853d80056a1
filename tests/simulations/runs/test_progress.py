import io

import pytest
from rich.console import Console

from fedprune.simulations.runs.outcome import print_comparison, print_outcome
from fedprune.simulations.runs.progress import (
    BarProgress,
    LineProgress,
    SilentProgress,
    describe,
    human_bytes,
)

ROUND = {
    "event": "round",
    "run": "main",
    "round": 3,
    "rounds": 9,
    "cycle": 1,
    "phase": "sparsify",
    "accuracy": 0.5,
    "loss": 1.25,
    "density": 0.75,
    "bytes_up": 2048,
    "bytes_down": 3_000_000,
}


def test_a_round_is_one_line_with_its_figures():
    assert describe(ROUND) == (
        "pruned round 3/9     cycle 1 sparsify  accuracy 0.5000  loss 1.2500  "
        "density 0.750  up 2.0 kB down 3.0 MB"
    )


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            {
                "event": "cut",
                "round": 5,
                "density": 0.5,
                "accuracy_before": 0.9,
            },
            "cut after round 5: density 0.500, accuracy before it 0.9000",
        ),
        (
            {"event": "rollback", "round": 6, "loss_before": 1.0, "loss_after": 2.0},
            "cut taken back in round 6: validation loss 1.0000 -> 2.0000",
        ),
        (
            {
                "event": "client",
                "round": 2,
                "client": "c7",
                "status": "refused",
                "reason": "field 'delta': no",
            },
            "round 2: client c7 refused: field 'delta': no",
        ),
        (
            {
                "event": "client",
                "round": 2,
                "client": "c7",
                "status": "failed",
                "reason": "client c7 failed: it diverged",
            },
            "round 2: client c7 failed: it diverged",
        ),
        ({"event": "client", "round": 2, "client": "c7", "status": "accepted"}, ""),
        ({"event": "warning", "text": "slow"}, "warning: slow"),
        ({"event": "run_started", "directory": "runs/x"}, "run runs/x"),
        ({"event": "something new"}, ""),
        ({}, ""),
    ],
)
def test_each_event_has_its_line_or_none(event, line):
    assert describe(event) == line


def test_lines_are_written_one_an_event():
    stream = io.StringIO()
    display = LineProgress(stream)
    for event in (ROUND, {"event": "client", "status": "accepted"}, ROUND):
        display.on_event(event)
    assert stream.getvalue() == 2 * (describe(ROUND) + "\n")


def test_a_missing_figure_is_a_dash():
    assert "loss -" in describe({"event": "round", "round": 1})


def test_the_bar_has_a_row_for_each_run_and_ends_clean():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=160)
    with BarProgress(console) as display:
        display.on_event(ROUND)
        display.on_event({"event": "warning", "text": "a [bold] warning"})
        display.on_event({**ROUND, "run": "control", "round": 9})
    shown = stream.getvalue()
    assert "warning: a [bold] warning" in shown
    last = shown.rsplit("pruned", 1)[1]
    assert "3/9" in last
    assert "dense" in last
    assert "9/9" in last


def test_the_bar_fits_a_terminal_of_80_columns():
    stream = io.StringIO()
    with BarProgress(Console(file=stream, force_terminal=True, width=80)) as display:
        display.on_event({**ROUND, "round": 125, "rounds": 250, "bytes_up": 10**6})
    last = stream.getvalue().rsplit("pruned", 1)[1]
    assert "…" not in last
    for figure in ("125/250", "1 sparsify", "0.5000", "0.750", "1.0 MB", "3.0 MB"):
        assert figure in last


@pytest.mark.parametrize("display", [SilentProgress(), LineProgress(io.StringIO())])
def test_a_display_remembers_the_folder_of_its_run(display):
    assert display.directory == ""
    display.on_event({"event": "run_started", "directory": "runs/x"})
    display.on_event(ROUND)
    assert display.directory == "runs/x"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (2 * 10**15, "2000.0 TB"),
        ("", "-"),
    ],
)
def test_bytes_are_shown_in_decimal_units(count, text):
    assert human_bytes(count) == text


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
