"""Figures of ``summary.json`` that are read off the events."""

from helpers.some_events import CUT, ROLLBACK, ROUND, at

from fedprune.simulations.runs.summary import accuracy_after_cut


def test_accuracy_after_the_cut_is_that_of_the_last_one_that_stands():
    first = [at(CUT, 5), at(ROUND, 6, accuracy=0.7)]
    second = [at(CUT, 8, cycle=2), at(ROUND, 9, accuracy=0.2)]
    assert accuracy_after_cut([]) is None
    assert accuracy_after_cut([*first, *second]) == 0.2
    undone = [*first, *second, at(ROLLBACK, 10, cycle=2)]
    assert accuracy_after_cut(undone) == 0.7
    assert accuracy_after_cut([*undone, at(ROLLBACK, 11)]) is None
