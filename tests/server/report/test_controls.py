"""Tables of a run beside its controls; a summary may have been written by anyone."""

from rich.console import Console

from fedprune.server.report.tables.controls import beside, equal_line, sentences
from fedprune.simulations.runs.outcome import print_outcome

FIGURES = {"accuracy": 0.9, "params": 50, "rounds": 7, "bytes_up": 10, "bytes_down": 20}
SUMMARY = {
    "metric": "accuracy",
    "accuracy_final": 0.95,
    "params_final": 50,
    "rounds": 7,
    "bytes_up": 100,
    "bytes_down": 200,
    "controls": {
        "dense": FIGURES,
        "scratch": FIGURES,
        "scratch@bytes": FIGURES | {"capped": True},
        "dense@bytes": FIGURES | {"over": True, "bytes_down": 590},
    },
    "verdict": {
        "equal_size": "At equal size scratch won.",
        "equal_bytes": "",
        "advice": 'Set prune.restart = "fresh".',
        "comparisons": {
            "scratch": {"own": 0.8, "control": 0.85, "outcome": "lost"},
        },
    },
}


def test_equal_rounds_and_equal_bytes_are_two_tables():
    rounds, by_bytes = (beside(SUMMARY, equal_bytes=b) for b in (False, True))
    assert rounds.head == ("", "this run", "dense", "scratch")
    assert by_bytes.head == ("", "this run", "dense@bytes", "scratch@bytes")
    values = {name: cells for name, *cells in rounds.rows}
    assert values["test accuracy"] == ["95.00 %", "90.00 %", "90.00 %"]
    assert values["validation accuracy"][0] == "80.00 %"
    assert values["validation says"] == ["", "-", "better"]


def test_the_verdict_is_followed_by_what_is_not_equal():
    told = sentences(SUMMARY)
    assert told[:2] == ["At equal size scratch won.", 'Set prune.restart = "fresh".']
    assert "dense@bytes does not fit: its fewest rounds need 200 %" in told[2]
    assert "scratch@bytes ended at the largest number of rounds, with 10 %" in told[3]


def test_bytes_at_equal_accuracy_are_one_line_for_all_rounds():
    found = {"rounds": 3, "bytes_up": 3_700, "bytes_down": 100}
    told = "Dense FedAvg was as good on the validation parts after 3 rounds"
    line = equal_line(SUMMARY | {"equal_accuracy": found})
    assert line == f"{told}, 37 x the bytes up, 0.5 x the bytes down."
    assert equal_line(SUMMARY) == ""
    assert equal_line({"equal_accuracy": {"rounds": "many"}}) == ""
    console = Console(record=True, width=200, quiet=True)
    print_outcome(SUMMARY | {"equal_accuracy": found}, console)


def test_a_run_without_controls_has_no_table():
    assert beside({}, equal_bytes=False) is None
    assert sentences({}) == []


def test_what_another_user_wrote_is_no_table_and_no_error():
    wild = {"controls": {"x\x1b": 1, "dense": 3}, "verdict": [1], "metric": "a\nb"}
    found = beside(wild, equal_bytes=False)
    assert found.head == ("", "this run", "dense")
    assert found.rows[0][0] == "test a\\nb"
    assert beside({"controls": "dense"}, equal_bytes=False) is None


def test_the_terminal_has_them_where_more_than_dense_ran(capsys):
    print_outcome(SUMMARY, Console(width=100))
    shown = capsys.readouterr().out
    assert "at equal rounds" in shown
    assert "At equal size scratch won." in shown
    print_outcome(SUMMARY | {"controls": {"dense": FIGURES}}, Console(width=100))
    assert "at equal rounds" not in capsys.readouterr().out


def test_a_warning_is_one_line_also_where_it_is_wide(capsys):
    print_outcome(SUMMARY | {"warnings": ["far " * 30 + "end"]}, Console(width=40))
    assert f"warning: {'far ' * 30}end" in capsys.readouterr().out.splitlines()
