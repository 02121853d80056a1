"""The choice among trials made by hand: cost, Pareto set, advice."""

import pytest

from fedprune.simulations.tuning.choice import chosen, cost, pareto
from fedprune.simulations.tuning.record import (
    Figures,
    Record,
    Trial,
    read_record,
    write_record,
)
from fedprune.simulations.tuning.shown import print_search
from fedprune.simulations.tuning.target import parse_target


def figures(drop, params, sent=0.1, error=0.1, latency=None):
    return Figures(
        accuracy=0.9,
        drop=drop,
        error=error,
        clients=8,
        params=params,
        flops=params,
        size=params,
        latency=latency,
        bytes=sent,
    )


def trial(number, found=None, restart="keep", **rest):
    status = "done" if found is not None else "failed"
    values = {"number": number, "point": {"prune.restart": restart}, "figures": found}
    return Trial(**{**values, "status": status, **rest})


def record(*trials, target="accuracy_drop<=1, params<=0.5"):
    found = Record(search="s", target=target, trials_wanted=9, trials=trials)
    return chosen(found, parse_target(target))


def test_with_a_bound_on_accuracy_the_smallest_that_keeps_it_is_chosen():
    found = record(
        trial(1, figures(0.2, 0.5)),
        trial(2, figures(0.9, 0.3)),
        trial(3, figures(1.1, 0.1)),
        trial(4, figures(0.0, 0.6)),
        trial(5),
    )
    assert found.recommended == 2
    assert found.meets_target


def test_without_one_the_most_accurate_that_meets_the_sizes_is_chosen():
    found = record(
        trial(1, figures(0.2, 0.3, sent=0.5)),
        trial(2, figures(0.9, 0.1)),
        trial(3, figures(-0.4, 0.31)),
        trial(4, figures(0.2, 0.3, sent=0.4)),
        target="params<=0.3",
    )
    assert found.recommended == 4  # of equal accuracy, the one that sends less
    assert found.meets_target


def test_where_none_meets_the_target_the_nearest_one_is_named_with_what_it_misses():
    found = record(trial(1, figures(3.0, 0.5)), trial(2, figures(1.5, 0.6, error=None)))
    assert found.recommended == 2
    assert not found.meets_target
    assert "No trial meets the target" in found.advice
    assert "accuracy_drop<=1 (found 1.5), params<=0.5 (found 0.6)" in found.advice


def test_a_figure_that_is_not_known_is_worse_than_any_that_is():
    target = parse_target("accuracy_drop<=0, latency<=0.1")
    unknown = cost(figures(0.0, 0.1), target)
    assert unknown > cost(figures(90.0, 1.0, latency=1.0), target)
    assert cost(figures(0.0, 0.9, latency=0.05), target) == 0.05


def test_nothing_is_recommended_where_no_trial_has_ended():
    found = record(trial(1), trial(2, status="stopped"))
    assert (found.recommended, found.meets_target, found.pareto) == (None, False, ())


def test_the_pareto_set_has_what_no_other_beats_smallest_first():
    trials = [
        trial(1, figures(0.0, 0.5, 0.2)),
        trial(2, figures(0.0, 0.5, 0.2)),  # equal to the first
        trial(3, figures(0.5, 0.2, 0.2)),
        trial(4, figures(0.6, 0.3, 0.3)),  # beaten by 3
        trial(5, figures(0.6, 0.3, 0.1)),
        trial(6),
    ]
    assert [one.number for one in pareto(trials)] == [3, 5, 1]
    assert record(*trials).pareto == (3, 5, 1)


@pytest.mark.parametrize(
    ("small", "words"), [(0.2, "Start small:"), (0.4, "does less well here")]
)
def test_to_start_small_is_recommended_where_it_wins(small, words):
    found = record(
        trial(1, figures(0.2, 0.3)), trial(2, figures(0.2, small), restart="fresh")
    )
    assert found.recommended == (2 if small == 0.2 else 1)
    assert words in found.advice


@pytest.mark.parametrize(
    ("error", "words"),
    [(0.5, "is not resolved"), (0.1, ""), (None, "Too few clients")],
)
def test_a_drop_within_two_errors_of_its_bound_is_not_resolved(error, words):
    found = record(trial(1, figures(0.2, 0.3, error=error)))
    assert found.meets_target
    assert (words in found.advice) if words else (found.advice == "")


def test_a_record_is_read_as_it_was_written(tmp_path):
    rungs = ((4, 0.5), (6, 0.75))
    found = record(trial(1, figures(0.2, 0.3), run="a-1", rungs=rungs), trial(2))
    write_record(tmp_path, found)
    assert read_record(tmp_path) == found


def test_the_table_marks_the_choice_and_says_why_others_ended(tmp_path, capsys):
    found = record(
        trial(1, figures(0.25, 0.3)),
        trial(2, reason="rounds.final: no\x1b[31m"),
        trial(3, figures(0.0, 0.45)),
    )
    print_search(tmp_path, found)
    said = capsys.readouterr().out
    rows = {line.split()[0]: line for line in said.splitlines() if line.strip()}
    assert "0.25 +- 0.10" in rows[">*"]
    assert " 1 " in rows[">*"]
    assert "failed: rounds.final: no\\x1b[31m" in said
    assert "recommended.toml" in said
