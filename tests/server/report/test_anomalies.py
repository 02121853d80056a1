"""Clients that stand out are ranked by how far they do."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from helpers.some_events import CLIENT, CUT, at

from fedprune.server.report.tables.anomalies import anomalies, conducts, standing_out
from fedprune.server.rounds.records import Status

NAMES = [f"c{number}" for number in range(6)]


def run_of(*events):
    answers = [e for e in events if type(e) is type(CLIENT)]
    return SimpleNamespace(events=events, answers=lambda: answers)


def answer(name, round_=1, **changes):
    fields = {"status": Status.ACCEPTED, "norm": 1.0, "factor": 1.0, "reason": ""}
    return replace(at(CLIENT, round_), client=name, **(fields | changes))


def cut(votes):
    return replace(CUT, votes=votes, consensus=(0.5, 0.5, 0.0))


HONEST = dict.fromkeys(NAMES, (0.5, 0.5, 0.0))


def ranked(*events):
    return [one.client for _, one in standing_out(conducts(run_of(*events)))]


def test_alike_clients_do_not_stand_out():
    events = [answer(name, r) for name in NAMES for r in (1, 2)]
    assert ranked(*events, cut(HONEST)) == []
    assert anomalies(run_of(*events)).note == "None of 6."


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": 9.0},
        {"factor": 0.5},
        {"status": Status.REFUSED, "norm": None, "reason": "no"},
        {"status": Status.LATE, "norm": None},
    ],
)
def test_a_client_with_odd_answers_stands_out(changes):
    events = [answer(name) for name in NAMES[:-1]]
    assert ranked(*events, answer("odd", **changes)) == ["odd"]


def test_votes_far_from_the_others_stand_out():
    events = [answer(name) for name in NAMES]
    assert ranked(*events, cut(HONEST | {"c3": (0.0, 0.0, 1.0)})) == ["c3"]
    (odd,) = [
        one
        for one in conducts(run_of(*events, cut({"c3": (0.0, 0.0, 1.0)})))
        if one.client == "c3"
    ]
    assert odd.votes == pytest.approx(1.0)


def test_the_farthest_is_first():
    events = [answer(name) for name in NAMES]
    events += [answer("long", norm=4.0), answer("<b>", norm=40.0)]
    assert ranked(*events) == ["<b>", "long"]
    ((_, table),) = anomalies(run_of(*events)).tables
    assert [row[0].text for row in table.rows] == ["<b>", "long"]


def test_a_run_without_lines_of_clients_has_no_section():
    assert anomalies(run_of()) is None
