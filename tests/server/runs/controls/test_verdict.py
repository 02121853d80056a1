"""The verdict on hand-made figures: wins, losses, what is not resolved."""

from math import inf, sqrt

import pytest
from helpers.some_events import CLIENT, at

from fedprune.server.rounds.records import Measured, validations_from
from fedprune.server.runs.controls.verdict import (
    Comparison,
    closing_metrics,
    compare,
    verdict_of,
)
from fedprune.server.runs.events import DENSE, MAIN


def measured(*values, examples=10, first=0):
    """Return the figures of clients c0, c1, ..., or from another number on."""
    return of_clients({f"c{first + n}": (x, examples) for n, x in enumerate(values)})


def of_clients(found):
    return validations_from(
        Measured(client=client, loss=0.0, metric=metric, count=count)
        for client, (metric, count) in found.items()
    )


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
    gaps = {"a": 0.1, "b": -0.1, "c": 0.2, "d": 0.0, "e": 0.1}
    counts = {"a": 30, "b": 10, "c": 10, "d": 10, "e": 40}
    ours = {c: (0.5 + gaps[c], counts[c]) for c in gaps} | {"ours": (0.0, 99)}
    theirs = {c: (0.5, counts[c]) for c in gaps} | {"theirs": (1.0, 99)}
    found = compare(
        "scratch", of_clients(ours), of_clients(theirs), higher_is_better=True
    )
    assert (found.clients, found.paired) == (5, True)
    mean = sum(counts[c] * gaps[c] for c in gaps) / 100
    assert found.difference == pytest.approx(mean)
    spread = sum((counts[c] / 100 * (gaps[c] - mean)) ** 2 for c in gaps)
    assert found.standard_error == pytest.approx(sqrt(5 / 4 * spread))


def test_of_equal_weights_it_is_the_standard_error_of_a_mean():
    gaps = [0.1, 0.2, 0.4, 0.1, 0.0]
    ours = measured(*(0.5 + gap for gap in gaps))
    found = compare("scratch", ours, measured(*[0.5] * 5), higher_is_better=True)
    mean = sum(gaps) / 5
    deviation = sqrt(sum((gap - mean) ** 2 for gap in gaps) / 4)
    assert found.standard_error == pytest.approx(deviation / sqrt(5))


@pytest.mark.parametrize("clients", [2, 4])
def test_few_clients_that_agree_do_not_make_a_difference_sure(clients):
    # One answer more of ten at each client: the spread between them is 0.
    ours, theirs = measured(*[0.6] * clients), measured(*[0.5] * clients)
    found = compare("scratch", ours, theirs, higher_is_better=True)
    assert found.difference == pytest.approx(0.1)
    examples = (0.6 * 0.4 + 0.5 * 0.5) / (10 * clients)
    assert found.standard_error == pytest.approx(sqrt(examples))
    assert found.outcome == "not resolved"


def test_closing_rounds_with_other_clients_are_compared_by_their_means():
    # As of equal bytes: the last round has another number, so another cohort.
    ours, theirs = measured(*[0.9, 0.8] * 3), measured(*[0.1, 0.2] * 3, first=5)
    found = compare("scratch@bytes", ours, theirs, higher_is_better=True)
    assert (found.clients, found.paired) == (6, False)
    assert found.difference == pytest.approx(0.7)
    assert found.outcome == "won"
    # Variance of a mean of six, twice.
    assert found.standard_error == pytest.approx(sqrt(2 * 0.06 * 0.05 / 6))
    assert "mostly other ones for each" in told([found]).equal_bytes


def test_where_lower_is_better_a_lower_figure_wins():
    ours, theirs = measured(*[0.1] * 6), measured(*[0.3, 0.31] * 3)
    assert compare("x", ours, theirs, higher_is_better=False).outcome == "won"
    assert compare("x", ours, theirs, higher_is_better=True).outcome == "lost"


def test_a_figure_of_any_size_can_be_compared():
    huge = measured(*[1e200] * 5)
    assert compare("x", huge, measured(*[1.0] * 5), higher_is_better=False).outcome == (
        "lost"
    )


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
    assert compare("x", measured(0.9), measured(), higher_is_better=True) is None
    assert compare("x", measured(), measured(), higher_is_better=True) is None
    assert "standard error unknown" in told(one_of("scratch", one)).equal_size


def one_of(name, found):
    return [Comparison(**{**fields(found), "control": name})]


def fields(found):
    return {name: getattr(found, name) for name in found.__dataclass_fields__}


def told(found, **changes):
    return verdict_of(found, "accuracy", **{"restarted": False} | changes)


def test_a_run_that_beats_all_of_its_size_has_won_against_the_best_of_them():
    verdict = told([beside("scratch", 0.1), beside("uniform", 0.05)])
    assert verdict.equal_size.startswith("At equal size this run won against uniform")
    assert "difference 0.0500, standard error 0.0100" in verdict.equal_size
    assert (verdict.equal_bytes, verdict.advice) == ("", "")


def test_a_run_that_one_of_them_matches_has_not_won():
    verdict = told([beside("scratch", 0.1), beside("uniform", 0.01)])
    assert "not resolved whether this run or uniform is better" in verdict.equal_size


@pytest.mark.parametrize(
    ("found", "pick"),
    [
        ([("scratch", 0.1), ("uniform", 0.01)], ""),
        ([("scratch", 0.0)], ""),
        ([("scratch", -0.01), ("uniform", 0.01)], "scratch"),
        ([("scratch", -0.01), ("uniform", -0.015)], "uniform"),
        ([("scratch", -0.03), ("uniform", -0.02)], "scratch"),
        ([], ""),
        ([("dense", -0.5), ("scratch@bytes", -0.5)], ""),
    ],
)
def test_the_pick_is_the_best_mean_of_the_size_of_the_run(found, pick):
    assert told([beside(name, value) for name, value in found]).pick == pick


def test_one_that_surely_won_is_picked_before_a_larger_difference():
    found = [beside("uniform", -0.06, error=0.05), beside("scratch", -0.05)]
    assert told(found).pick == "scratch"


def test_where_nothing_is_resolved_the_better_mean_is_named():
    better = told([beside("uniform", -0.01)]).equal_size
    assert better.endswith("The better mean is that of uniform.")
    worse = told([beside("uniform", 0.01)]).equal_size
    assert worse.endswith("The better mean is that of this run.")


def test_equal_means_are_told_as_equal():
    # One answer more at one client, one less at another: as many of all.
    ours = measured(0.7, 0.1, 0.3, 0.6, 0.9, 0.2)
    theirs = measured(0.6, 0.2, 0.3, 0.6, 0.9, 0.2)
    found = compare("scratch", ours, theirs, higher_is_better=True)
    verdict = told(one_of("scratch", found))
    assert "not resolved" in verdict.equal_size
    assert verdict.equal_size.endswith("Both means are equal.")


def test_the_better_mean_is_not_told_against_one_that_had_fewer_bytes():
    capped = ["scratch@bytes"]
    ahead, behind = (beside("scratch@bytes", value) for value in (-0.01, 0.01))
    assert told([behind]).equal_bytes.endswith("The better mean is that of this run.")
    text = told([behind], capped=capped).equal_bytes
    assert "not resolved" in text
    assert "better mean" not in text
    text = told([ahead], capped=capped).equal_bytes
    assert text.endswith("The better mean is that of scratch@bytes.")


def test_one_that_surely_won_is_not_hidden_by_one_that_is_not_resolved():
    verdict = told([beside("uniform", -0.06, error=0.05), beside("scratch", -0.05)])
    assert verdict.equal_size.startswith("At equal size scratch won")


def test_a_run_whose_cuts_were_all_taken_back_is_not_told_to_start_small():
    found = [beside("scratch", -0.1)]
    assert told(found).advice
    assert told(found, smaller=False).advice == ""


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


def test_a_run_has_not_won_at_equal_bytes_against_one_that_had_fewer():
    capped = ["scratch@bytes"]
    won, other = beside("scratch@bytes", 0.1), beside("uniform@bytes", 0.2)
    assert told([won]).equal_bytes.startswith("At equal bytes this run won")
    assert told([won], capped=capped).equal_bytes == ""
    both = told([won, other], capped=capped)
    assert "this run won against uniform@bytes:" in both.equal_bytes
    assert len(both.comparisons) == 2
    # One that won with fewer bytes has won with as many.
    lost = told([beside("scratch@bytes", -0.1)], capped=capped)
    assert lost.equal_bytes.startswith("At equal bytes scratch@bytes won")


def test_only_the_closing_round_of_one_federation_counts():
    told_them = {"validation_loss": 1.0, "validation_examples": 4}
    events = [
        at(CLIENT, 1, validation_metric=0.1, **told_them),
        at(CLIENT, 2, validation_metric=0.7, **told_them),
        at(CLIENT, 2, client="without a part"),
        at(CLIENT, 9, run=DENSE, validation_metric=0.9, **told_them),
    ]
    assert figures(closing_metrics(events, MAIN)) == {"a": (0.7, 4)}
    assert figures(closing_metrics(events, DENSE)) == {"a": (0.9, 4)}
    assert figures(closing_metrics(events, "scratch")) == {}


def figures(found):
    rows = zip(found.clients, found.metrics, found.counts, strict=True)
    return {client: (metric, count) for client, metric, count in rows}
