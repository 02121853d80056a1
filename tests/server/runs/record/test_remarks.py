"""Remarks on the figures of a run."""

from dataclasses import replace

from helpers.some_events import ASIDE, CAME, CLIENT, STARTED, WARNING

from fedprune.server.rounds.records import Status
from fedprune.server.runs.record.remarks import remarks_of


def client(name, status="accepted", run="main"):
    reason = "" if status == "accepted" else f"client {name} failed: NaN"
    return replace(CLIENT, client=name, status=Status(status), reason=reason, run=run)


def test_each_warning_is_told_once():
    assert remarks_of([WARNING, client("a"), WARNING]) == ["look"]


def test_a_warning_of_a_control_says_whose_it_is():
    events = [WARNING, replace(WARNING, run="one-shot")]
    assert remarks_of(events) == ["look", "one-shot: look"]


def test_clients_that_seldom_or_never_counted_are_named_with_a_reason():
    events = [client("a"), client("c", "late"), client("c")]
    events += [client("b", "failed")] * 2 + [client("b")]
    events += [client("d", "refused")]
    (line,) = remarks_of(events)
    assert line == (
        "2 of 4 clients counted in few or none of their rounds (b: 1 of 3, d: 0 of 1); "
        "client b failed: NaN"
    )


def test_what_a_client_did_in_the_control_alone_is_no_remark():
    assert remarks_of([client("a"), client("a", "failed", "dense")]) == []


def test_clients_that_were_put_aside_are_named_with_the_times():
    events = [
        client("a"),
        ASIDE,
        replace(ASIDE, round=15, clients=("b",), back=21),
        replace(ASIDE, run="dense", clients=("c",)),
    ]
    (line,) = remarks_of(events)
    assert line == ("late and put aside (rounds.put_aside), with the times: a: 1, b: 2")


def test_many_are_not_all_named():
    (line,) = remarks_of([client(f"c{number}", "refused") for number in range(5)])
    assert "5 of 5 clients" in line
    assert "(c0: 0 of 1, c1: 0 of 1, c2: 0 of 1 and 2 more); client c0" in line


def test_a_run_that_uses_late_answers_and_never_does_says_so():
    config = {"rounds": {"late": "use"}}
    events = [replace(STARTED, config=config), client("a", "late"), client("b")]
    text = "no late answer counted: a client that is asked again has none"
    assert sum(text in one for one in remarks_of(events)) == 1
    assert not any(text in one for one in remarks_of([STARTED, *events[1:]]))
    assert not any(text in one for one in remarks_of([*events, CAME]))
    assert not any(text in one for one in remarks_of([events[0], client("b")]))
