"""Events of a round's answers: a line a client, or counts by bin of many."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.some_events import CLIENT, ROUND
from hypothesis import given
from hypothesis import strategies as st

from fedprune.common.messages import Validation
from fedprune.server.rounds.records import ClientRecord, Status
from fedprune.server.runs.events import (
    MAIN,
    ClientAnswered,
    ClientsAnswered,
    EventLog,
    read_events,
)
from fedprune.server.runs.record.answered import MOST_LINES, answer_events, histogram
from fedprune.server.runs.record.remarks import remarks_of


def record(number, status=Status.ACCEPTED):
    fine = status is Status.ACCEPTED
    return ClientRecord(
        client_id=f"client-{number:05d}",
        status=status,
        reason="" if fine else f"client-{number:05d} failed: no power",
        bytes_up=100 + number if fine else 0,
        bytes_down=7,
        num_examples=3 if fine else 0,
        norm=float(number) if fine else 0.0,
        loss=0.5,
        seconds=0.25,
        validation=Validation(loss_sum=4.0, metric_sum=1.0, count=2),
    )


def records(count, missing=0):
    return [
        record(n, Status.FAILED if n < missing else Status.ACCEPTED)
        for n in range(count)
    ]


def events_of(found, *, closing=False):
    return answer_events(MAIN, 4, found, closing=closing)


@pytest.mark.parametrize("closing", [False, True])
@pytest.mark.parametrize("count", [1, MOST_LINES, MOST_LINES + 1, 1000])
def test_the_events_of_a_round_are_few_but_in_the_closing_round(count, closing):
    found = events_of(records(count), closing=closing)
    if closing or count <= MOST_LINES:
        assert [type(event) for event in found] == [ClientAnswered] * count
    else:
        (event,) = found
        assert isinstance(event, ClientsAnswered)


def test_a_line_has_the_figures_of_its_client():
    (event,) = events_of([record(5)])
    assert event == ClientAnswered(
        run=MAIN,
        round=4,
        client="client-00005",
        status=Status.ACCEPTED,
        reason="",
        bytes_up=105,
        bytes_down=7,
        num_examples=3,
        norm=5.0,
        factor=1.0,
        loss=0.5,
        seconds=0.25,
        validation_loss=2.0,
        validation_metric=0.5,
        validation_examples=2,
    )


def test_clients_that_were_not_accepted_have_a_line_with_the_reason():
    *lines, rest = events_of(records(1000, missing=300))
    assert len(lines) == MOST_LINES
    assert all(line.reason and line.status is Status.FAILED for line in lines)
    # No client counts twice.
    assert rest.statuses == {
        "accepted": 700, "refused": 0, "failed": 300 - MOST_LINES, "late": 0,
    }  # fmt: skip
    assert sum(rest.counts["loss"]) == 700


def test_counts_and_means_are_those_of_the_accepted_answers():
    (event,) = events_of(records(1000))
    assert event.means["norm"] == pytest.approx(499.5)
    assert event.edges["norm"][0] == 0.0
    assert event.edges["norm"][-1] == 999.0
    assert sum(event.counts["norm"]) == 1000
    assert max(event.counts["norm"]) - min(event.counts["norm"]) <= 1
    assert event.edges["validation_loss"] == (2.0, 2.0)
    assert event.counts["validation_loss"] == (1000,)


def test_figures_that_are_not_finite_or_unknown_count_nowhere():
    found = records(300)
    found[0] = replace(found[0], loss=float("nan"), validation=None)
    found[1] = replace(found[1], loss=float("inf"))
    (event,) = events_of(found)
    assert sum(event.counts["loss"]) == 298
    assert sum(event.counts["validation_metric"]) == 299


def test_a_round_of_failures_alone_has_no_figures():
    *_, event = events_of(records(600, missing=600))
    assert event.statuses["failed"] == 600 - MOST_LINES
    assert (event.means, event.edges, event.counts) == ({}, {}, {})


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(values=st.lists(FINITE, min_size=1, max_size=50))
def test_every_value_is_in_one_bin(values):
    edges, counts = histogram(values)
    assert (edges[0], edges[-1]) == (min(values), max(values))
    assert sum(counts) == len(values)
    assert len(edges) == len(counts) + 1
    assert list(edges) == sorted(edges)
    if len(set(values)) > 1 and np.isfinite(edges[-1] - edges[0]):
        for low, high, count in zip(edges[:-2], edges[1:-1], counts, strict=False):
            assert count == sum(low <= value < high for value in values)
        assert counts[-1] == sum(value >= edges[-2] for value in values)


def test_a_log_of_a_large_round_is_short_and_read_back(tmp_path):
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        for event in events_of(records(20_000)):
            log.write(event)
    assert path.stat().st_size < 8_000
    (event,) = read_events(path)
    assert sum(event.counts["norm"]) == 20_000


def test_large_rounds_accuse_no_client():
    # Of a client that failed in one large round it is not known where it counted.
    events = [*events_of(records(1000, missing=2)), ROUND]
    assert remarks_of(events) == []
    line = replace(CLIENT, status=Status.FAILED, reason="no power")
    assert "counted in few" in remarks_of([line, ROUND])[0]
