"""Aggregation rules: the number that each gives."""

import numpy as np

from fedprune.common.methods.kinds import AGGREGATION
from fedprune.common.methods.registry import find

ROWS = ({0: 1.0, 5: 8.0}, {0: 2.0, 5: -2.0}, {0: 600.0}, {0: 4.0, 9: 3.0})


def test_the_median_is_taken_over_the_senders_and_scaled_by_their_share():
    deltas, sent = np.zeros((4, 10), np.float32), np.zeros((4, 10), bool)
    for number, row in enumerate(ROWS):
        deltas[number, list(row)] = list(row.values())
        sent[number, list(row)] = True
    wanted = np.zeros(10)
    wanted[0] = 3.0  # the middle of 1, 2, 4, 600
    wanted[5] = 3.0 * 2 / 4  # two of four sent it
    wanted[9] = 3.0 * 1 / 4
    found = find(AGGREGATION, "median")(deltas=deltas, sent=sent)
    assert found.dtype == np.float32
    assert found.tolist() == wanted.tolist()


def test_the_median_of_a_weight_that_was_sent_as_zero_counts_its_sender():
    deltas = np.float32([[4.0], [0.0], [0.0]])
    sent = np.array([[True], [True], [False]])
    found = find(AGGREGATION, "median")(deltas=deltas, sent=sent)
    assert found[0] == np.float32(2.0 * 2 / 3)
