"""The ledger: lines of clients in arrays, and what a round does to them."""

import time
from dataclasses import replace
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprune.server.rounds.ledger import ClientLedger, Columns, Ledgers

CLIENTS = ("a", "b", "c", "d")
DIGESTS = (b"", b"s" * 16, b"t" * 16, b"u" * 16)

LINES = st.builds(
    ClientLedger,
    acknowledged=st.integers(0, 2**32 - 1),
    structure=st.booleans(),
    teacher=st.sampled_from(DIGESTS),
    held=st.integers(0, 2**32 - 1),
    mask=st.booleans(),
)


def after_by_line(lines, round_, accepted, lost, teacher, mask):
    """Return the lines after a round, by the rule for one line (the reference)."""
    out = dict(lines)
    for client in accepted:
        old = out.get(client, ClientLedger())
        out[client] = replace(
            old,
            acknowledged=round_,
            structure=True,
            teacher=teacher or old.teacher,
            held=round_,
            mask=mask or old.mask,
        )
    for client in lost:
        old = out.get(client, ClientLedger())
        out[client] = ClientLedger(acknowledged=old.acknowledged)
    return out


@given(lines=st.dictionaries(st.text(max_size=3), LINES, max_size=6))
def test_lines_come_back_as_they_were_given(lines):
    assert dict(Ledgers.of(lines)) == lines


ROUND = st.tuples(
    st.lists(st.sampled_from((*CLIENTS, "")), max_size=5),
    st.sampled_from(DIGESTS),
    st.booleans(),
)


@given(lines=st.dictionaries(st.sampled_from(CLIENTS), LINES), data=st.data())
def test_rounds_do_to_arrays_what_they_do_to_each_line(lines, data):
    ledgers = Ledgers.of(lines)
    for round_, (outcomes, teacher, mask) in enumerate(
        data.draw(st.lists(ROUND, max_size=6)), start=1
    ):
        asked = dict(zip(CLIENTS, outcomes, strict=False))
        accepted = [client for client, outcome in asked.items() if outcome]
        lost = [client for client, outcome in asked.items() if not outcome]
        lines = after_by_line(lines, round_, accepted, lost, teacher, mask)
        before = dict(ledgers)
        new = ledgers.after(
            round_, accepted=accepted, lost=lost, teacher=teacher, mask=mask
        )
        assert dict(ledgers) == before  # a value
        ledgers = new
        assert dict(ledgers) == lines
    assert len(ledgers.columns.teachers) <= len(DIGESTS)


def test_teachers_that_no_client_has_any_more_leave_the_table():
    ledgers = Ledgers.of({})
    for round_ in range(1, 200):
        teacher = bytes([round_]) * 16
        ledgers = ledgers.after(round_, accepted=("a",), lost=(), teacher=teacher)
    assert ledgers["a"].teacher == bytes([199]) * 16
    assert len(ledgers.columns.teachers) <= 2


def test_forgetting_leaves_the_last_acknowledged_round_and_adds_no_client():
    line = ClientLedger(
        acknowledged=7, structure=True, teacher=b"t" * 16, held=7, mask=True
    )
    found = Ledgers.of({"a": line, "b": line}).forgetting(["a", "unknown"])
    assert dict(found) == {"a": ClientLedger(acknowledged=7), "b": line}


def test_without_a_mask_the_rest_stays():
    line = ClientLedger(acknowledged=7, structure=True, held=6, mask=True)
    found = Ledgers.of({"a": line}).without_mask()
    assert found["a"] == replace(line, mask=False)


def test_covering_gives_new_clients_an_empty_line_and_keeps_the_others():
    line = ClientLedger(acknowledged=7, structure=True, held=6)
    old = Ledgers.of({"b": line})
    assert dict(old.covering(("a", "b"))) == {"b": line, "a": ClientLedger()}
    assert old.covering(("b",)) is old


WRONG = {
    "a client twice": (("a", "a"), Columns.empty(2)),
    "too few figures": (("a", "b"), Columns.empty(1)),
    "a teacher without a digest": (
        ("a",),
        replace(Columns.empty(1), teacher=np.ones(1, dtype=np.uint16)),
    ),
}


@pytest.mark.parametrize(("clients", "columns"), WRONG.values(), ids=WRONG)
def test_columns_that_do_not_fit_are_refused(clients, columns):
    with pytest.raises(ValueError, match="ledger"):
        Ledgers(clients, columns)


def seconds_of_a_round(count):
    """Return the CPU seconds that a round of ``count`` clients costs the ledger."""
    clients = tuple(f"client-{number:06d}" for number in range(count))
    ledgers = Ledgers.of({}).covering(clients)
    spent = []
    for round_ in range(1, 6):
        started = time.process_time()
        ledgers = ledgers.after(
            round_, accepted=clients[1:], lost=clients[:1], teacher=bytes([round_])
        )
        spent.append(time.process_time() - started)
    return min(spent)


def test_the_cost_of_a_round_grows_with_the_clients_and_not_with_their_square():
    few, many = 4_000, 128_000
    exponent = log(seconds_of_a_round(many) / seconds_of_a_round(few), many / few)
    assert exponent < 1.5
