"""Human-readable line of each event."""

from dataclasses import replace

import pytest
from helpers.some_events import (
    ASIDE,
    CAME,
    CHECK,
    CLIENT,
    CLIENTS,
    CUT,
    DELIVERED,
    FAILED,
    FINISHED,
    LABELS,
    LOST,
    MASK,
    ONE_OF_EACH,
    RESTART,
    RESUMED,
    ROLLBACK,
    ROUND,
    SPENT,
    STARTED,
    STOPPED,
    WAITING,
    WARNING,
    refused,
)

from fedprune.server.rounds.records import Status, Verdict
from fedprune.server.runs.events import describe, human_bytes

SHORT = "pruned round 3/9     cycle 1 sparsify  "
LONG = "loss 1.2500  density 0.750  up 2.0 kB down 3.0 MB"
LINES = {
    "started": (STARTED, f"run runs/x: {STARTED.reach}"),
    "labels": (LABELS, ""),
    "resumed": (RESUMED, "resumed runs/x"),
    "finished": (FINISHED, ""),
    "stopped": (STOPPED, "stopped by the operator after round 3"),
    "failed": (FAILED, "1 of 3 clients"),
    "waiting": (WAITING, "2/3 clients: a, b"),
    "waiting, with refusals": (
        replace(WAITING, connected=(), refused=("node 7: no key", "node 8: x")),
        "0/3 clients: ; refused: node 7: no key, node 8: x",
    ),
    "delivered": (DELIVERED, "delivered to a: accuracy 0.500 there"),
    "not delivered": (
        replace(DELIVERED, examples=None, accuracy=None, reason="no answer"),
        "delivered to a: no answer",
    ),
    "many clients": (CLIENTS, "round 2: 2 failed of the clients that are not listed"),
    "many clients, all accepted": (
        replace(CLIENTS, statuses={"accepted": 302, "failed": 0}),
        "",
    ),
    "a round": (ROUND, f"{SHORT}accuracy 0.5000  {LONG}"),
    "a round of the control": (
        replace(ROUND, run="dense"),
        f"{SHORT.replace('pruned', 'dense ')}accuracy 0.5000  {LONG}",
    ),
    "a round without test data": (
        replace(ROUND, accuracy=None),
        f"{SHORT}validation accuracy 0.2500  {LONG}",
    ),
    "a round without any accuracy": (
        replace(ROUND, accuracy=None, validation_accuracy=None, loss=None),
        f"{SHORT}{LONG.replace('1.2500', '-     ')}",
    ),
    "a round that lacks an answer": (
        replace(ROUND, accepted=1),
        f"{SHORT}accuracy 0.5000  {LONG}  answers 1/2",
    ),
    "an accepted answer": (CLIENT, ""),
    "a refused one": (
        refused("c7", "field 'delta': no", round=2),
        "round 2: client c7 refused: field 'delta': no",
    ),
    "a failed client": (
        refused("c7", "client c7 failed: it diverged", round=2),
        "round 2: client c7 failed: it diverged",
    ),
    "a late one without a reason": (
        replace(CLIENT, status=Status.LATE),
        "round 1: client a late: -",
    ),
    "a cut": (CUT, "cut after round 5: density 0.500, accuracy before it 0.9000"),
    "a cut without test data": (
        replace(CUT, accuracy_before=None),
        "cut after round 5: density 0.500, accuracy before it -",
    ),
    "a check": (
        CHECK,
        (
            "cut 1 rolled back in round 6: validation loss 1.0000 -> 2.0000 +- 0.2500, "
            "accuracy 0.9000 -> 0.8000 +- 0.0200"
        ),
    ),
    "a check of the final network without a validation": (
        replace(
            CHECK,
            final=1,
            verdict=Verdict.KEPT,
            loss_after=None,
            loss_error=None,
            accuracy_reference=None,
            accuracy_error=None,
        ),
        (
            "final network kept in round 6: validation loss 1.0000 -> - +- -, "
            "accuracy - -> 0.8000 +- -"
        ),
    ),
    "a rollback": (ROLLBACK, ""),
    "a cut of a control": (
        replace(CUT, run="one-shot"),
        "one-shot: cut after round 5: density 0.500, accuracy before it 0.9000",
    ),
    "privacy": (SPENT, "round 7: epsilon 2.50 of 8 spent (delta 1e-05)"),
    "a restart": (RESTART, "weights drawn anew after round 7"),
    "a mask": (MASK, ""),
    "a lost worker": (
        LOST,
        "round 7: worker 12 on a was lost: it ended; run again: d, b",
    ),
    "a lost worker of a control, with many clients": (
        replace(LOST, run="dense", clients=("a", "b", "c", "d")),
        (
            "dense: round 7: worker 12 on a was lost: it ended; run again: a, b, c and "
            "1 more"
        ),
    ),
    "clients that are put aside": (
        replace(ASIDE, clients=("a", "b", "c", "d")),
        (
            "round 7: late and put aside: a, b, c and 1 more; asked again in round 13 "
            "at the latest"
        ),
    ),
    "late answers": (CAME, "round 7: late answers used: a; not used: c"),
    "a warning": (WARNING, "warning: look"),
}


@pytest.mark.parametrize(("event", "line"), LINES.values(), ids=LINES)
def test_each_event_has_its_line_or_none(event, line):
    assert describe(event) == line


def test_the_lines_are_those_of_every_kind():
    assert {type(event) for event, _ in LINES.values()} == set(map(type, ONE_OF_EACH))


def test_escapes_in_an_event_never_reach_the_terminal():
    hostile = "\x1b[2J\nround 99: accuracy 0.999"
    for event in (
        replace(WARNING, text=hostile),
        replace(FAILED, text=hostile),
        replace(STARTED, directory=hostile),
        replace(WAITING, connected=(hostile,), refused=(hostile,)),
        replace(DELIVERED, client=hostile, reason=hostile),
        refused(hostile, hostile),
    ):
        line = describe(event)
        assert line
        assert line.isprintable()


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
