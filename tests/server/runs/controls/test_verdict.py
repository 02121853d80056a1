"""The verdict on hand-made figures: wins, losses, what is not resolved."""

from math import inf, sqrt

import pytest
from helpers.some_events import CLIENT, at

from fedprune.server.runs.controls.verdict import (
    Comparison,
    closing_metrics,
    compare,
    verdict_of,
)
from fedprune.server.runs.events import DENSE, MAIN


def measured(*values, examples=10):
    return {f"c{n}": (value, examples) for n, value in enumerate(values)}


def beside(name, difference, error=0.01):
    return Comparison(
        control=name,
        run_value=0.9,
        control_value=0.9 - difference,
        difference=difference,
        standard_error=error,
        clients=10,
    )


def test_the_difference_is_that_of_the_same_clients_weighted_by_examples():
    ours = {"a": (0.9, 30), "b": (0.5, 10), "only ours": (0.0, 99)}
    theirs = {"a": (0.8, 30), "b": (0.6, 10), "only theirs": (1.0, 99)}
    found = compare("scratch", ours, theirs, higher_is_better=True)
    assert found.clients == 2
    assert found.difference == pytest.approx(0.75 * 0.1 - 0.25 * 0.1)
    mean = found.difference
    spread = (0.75 * (0.1 - mean)) ** 2 + (0.25 * (-0.1 - mean)) ** 2
    assert found.standard_error == pytest.approx(sqrt(2 * spread))


def test_of_equal_weights_it_is_the_standard_error_of_a_mean():
    gaps = [0.1, 0.2, 0.4]
    ours = measured(*(0.5 + gap for gap in gaps))
    found = compare("scratch", ours, measured(0.5, 0.5, 0.5), higher_is_better=True)
    mean = sum(gaps) / 3
    deviation = sqrt(sum((gap - mean) ** 2 for gap in gaps) / 2)
    assert found.standard_error == pytest.approx(deviation / sqrt(3))


def test_where_lower_is_better_a_lower_figure_wins():
    ours, theirs = measured(0.1, 0.11, 0.1), measured(0.3, 0.31, 0.3)
    assert compare("x", ours, theirs, higher_is_better=False).outcome == "won"
    assert compare("x", ours, theirs, higher_is_better=True).outcome == "lost"


@pytest.mark.parametrize(
    ("difference", "outcome"),
    [
        (0.021, "won"),
        (0.02, "not resolved"),
        (0.0, "not resolved"),
        (-0.02, "not resolved"),
        (-0.021, "lost"),
    ],
)
def test_within_two_standard_errors_nothing_is_resolved(difference, outcome):
    assert beside("scratch", difference).outcome == outcome


def test_one_client_resolves_nothing_and_none_is_no_comparison():
    one = compare("x", measured(0.9), measured(0.1), higher_is_better=True)
    assert (one.standard_error, one.outcome) == (inf, "not resolved")
    assert compare("x", measured(0.9), {}, higher_is_better=True) is None
    assert compare("x", {}, {}, higher_is_better=True) is None
    assert "standard error unknown" in told(one_of("scratch", one)).equal_size


def one_of(name, found):
    return [Comparison(**{**fields(found), "control": name})]


def fields(found):
    return {name: getattr(found, name) for name in found.__dataclass_fields__}


def told(found, *, restarted=False):
    return verdict_of(found, "accuracy", restarted=restarted)


def test_a_run_that_beats_all_of_its_size_has_won_against_the_best_of_them():
    verdict = told([beside("scratch", 0.1), beside("uniform", 0.05)])
    assert verdict.equal_size.startswith("At equal size this run won against uniform")
    assert "difference 0.0500, standard error 0.0100" in verdict.equal_size
    assert (verdict.equal_bytes, verdict.advice) == ("", "")


def test_a_run_that_one_of_them_matches_has_not_won():
    verdict = told([beside("scratch", 0.1), beside("uniform", 0.01)])
    assert "not resolved whether this run or uniform is better" in verdict.equal_size


@pytest.mark.parametrize("name", ["scratch", "uniform"])
def test_a_small_network_from_scratch_that_wins_is_named_with_the_key(name):
    verdict = told([beside(name, -0.1), beside("one-shot", 0.1)])
    assert verdict.equal_size.startswith(f"At equal size {name} won")
    assert 'prune.restart = "fresh"' in verdict.advice
    assert "does better here" in verdict.advice
    again = told([beside(name, -0.1)], restarted=True)
    assert "although" in again.advice


def test_a_one_shot_cut_that_wins_is_no_reason_to_start_small():
    verdict = told([beside("one-shot", -0.1), beside("scratch", 0.1)])
    assert verdict.equal_size.startswith("At equal size one-shot won")
    assert verdict.advice == ""


def test_size_and_bytes_are_two_sentences_and_dense_has_not_our_size():
    verdict = told(
        [beside("dense", -0.5), beside("scratch", 0.1), beside("scratch@bytes", -0.1)]
    )
    assert "this run won against scratch" in verdict.equal_size
    assert verdict.equal_bytes.startswith("At equal bytes scratch@bytes won")
    assert verdict.advice
    assert told([beside("dense", -0.5)]).equal_size == ""


def test_only_the_closing_round_of_one_federation_counts():
    told_them = {"validation_loss": 1.0, "validation_examples": 4}
    events = [
        at(CLIENT, 1, validation_metric=0.1, **told_them),
        at(CLIENT, 2, validation_metric=0.7, **told_them),
        at(CLIENT, 2, client="without a part"),
        at(CLIENT, 9, run=DENSE, validation_metric=0.9, **told_them),
    ]
    assert closing_metrics(events, MAIN) == {"a": (0.7, 4)}
    assert closing_metrics(events, DENSE) == {"a": (0.9, 4)}
    assert closing_metrics(events, "scratch") == {}
