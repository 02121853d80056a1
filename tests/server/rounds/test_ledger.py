"""The ledger: lines of clients in arrays, and what a round does to them."""

import tracemalloc
from dataclasses import replace

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


class Counted(dict):
    """Places that count how often one is looked up."""

    times = 0

    def __getitem__(self, client):
        self.times += 1
        return super().__getitem__(client)


@pytest.mark.parametrize("count", [10, 1_000, 50_000])
def test_a_round_copies_the_columns_once_and_looks_each_client_up_once(
    monkeypatch, count
):
    copies, copy = [], Columns.copy
    monkeypatch.setattr(
        Columns, "copy", lambda self: copies.append(len(self.held)) or copy(self)
    )
    clients = tuple(f"client-{number:06d}" for number in range(count))
    places = Counted((client, place) for place, client in enumerate(clients))
    ledgers = Ledgers(clients, Columns.empty(count), places)
    tracemalloc.start()
    ledgers = ledgers.after(
        3, accepted=clients[1:], lost=clients[:1], teacher=b"t" * 16, mask=True
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert copies == [count]
    assert places.times == count
    assert ledgers.places is places
    # Columns of 11 bytes, places of 8, a list of names of 8, and what they are made of.
    assert peak < 200 * count + 20_000
    assert ledgers[clients[-1]].held == 3
