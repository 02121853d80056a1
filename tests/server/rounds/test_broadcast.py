"""Broadcasts as what changed: everybody reads the same bits, whatever they held."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from helpers.states import state_from_bytes, state_to_bytes
from helpers.tiny_federation import (
    answer_to,
    ask_all,
    make_setting,
    make_task,
    plan_for,
    start,
)

from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.opened import open_plan
from fedprune.client.rounds.store import ClientStore
from fedprune.common import codec
from fedprune.common.errors import IntegrityError, RoundError
from fedprune.common.pruning.plan import child_plan, rollback_plan
from fedprune.common.pruning.remap import remap
from fedprune.server.rounds.broadcast import REMEMBERED, as_sent, base_for, remember
from fedprune.server.rounds.finish import finish_round
from fedprune.server.rounds.ledger import ClientLedger, Ledgers
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.records import Status
from fedprune.server.rounds.state import SentBroadcast

LONG = {"rounds__warmup": 12, "rounds__cuts": 0, "rounds__final": 0}


class Federation:
    """Clients with a store and a model cache each, as devices have them."""

    def __init__(self, root, **changes):
        self.root = root
        self.task = make_task(**(LONG | changes))
        self.run_spec = make_setting(self.task)
        self.state = start(self.task, self.run_spec)

    def plans(self):
        """Return the round's work and the plan that each client is sent."""
        work = plan_round(self.state, self.run_spec)
        plans = [plan_for(work, n) for n in range(len(work.request.assignments))]
        return work, {plan.client_id: plan for plan in plans}

    def store(self, client_id):
        return ClientStore(self.root / client_id, client_id)

    def open(self, plan):
        """Open a plan in a fresh process."""
        return open_plan(plan, ModelCache(self.task), self.store(plan.client_id))

    def round(self, absent=()):
        """Play a round in which some do not answer; return the plans."""
        work, plans = self.plans()
        for client_id, plan in plans.items():
            if client_id not in absent:
                opened = self.open(plan)
                assert opened.weights.tobytes() == work.weights.tobytes()
                # A change, encoded anew, is what a client without a base is sent.
                assert opened.broadcast.weights == work.plan.broadcast.weights
        answers = ask_all(work, self.task, self.root / "answers")
        records = tuple(
            replace(record, status=Status.LATE)
            if record.client_id in absent
            else record
            for record in answers.records
        )
        answers = replace(answers, records=records)
        self.state, _ = finish_round(self.state, work, answers, self.run_spec)
        return {c: kind(plan) for c, plan in plans.items()}


def kind(plan):
    """Return what a plan's broadcast starts from: a round, or 0 for everything."""
    data = plan.broadcast.weights
    items = codec.unseal(data, codec.Kind.CHANGE, len(data)) if is_change(data) else [0]
    return items[0]


def is_change(data):
    return data[2] == codec.Kind.CHANGE


@pytest.mark.slow
def test_a_client_is_sent_everything_first_and_then_what_changed(tmp_path):
    federation = Federation(tmp_path)
    clients = federation.run_spec.clients
    kinds = [federation.round() for _ in range(3)]
    assert kinds == [dict.fromkeys(clients, held) for held in (0, 1, 2)]
    lengths = [len(one.full) for one in federation.state.sent]
    work, plans = federation.plans()
    assert len(work.request.variants) == 1
    (change,) = {plan.broadcast.weights for plan in plans.values()}
    assert len(change) < min(lengths)


def test_the_final_network_is_on_a_fresh_grid(tmp_path):
    federation = Federation(tmp_path)
    federation.round()
    federation.round()
    state, run_spec = federation.state, federation.run_spec
    spec = run_spec.structure.spec(state.keep)
    fresh = codec.grid_values(codec.on_grid(state.weights, spec, None), spec)
    closing = replace(state, cursor=replace(state.cursor, final=True, closing=True))
    assert plan_round(closing, run_spec).weights.tobytes() == fresh.tobytes()
    assert plan_round(state, run_spec).weights.tobytes() != fresh.tobytes()


def test_the_final_rounds_have_a_fine_grid(tmp_path):
    federation = Federation(tmp_path)
    federation.round()
    federation.round()
    state, run_spec = federation.state, federation.run_spec
    final = replace(state, cursor=replace(state.cursor, final=True))

    def lost(state):
        return np.abs(plan_round(state, run_spec).weights - state.weights).sum()

    assert 0 < lost(final) < lost(state) / 2


@pytest.mark.slow
def test_who_missed_rounds_is_told_from_what_it_holds_and_shares_that_with_others(
    tmp_path,
):
    federation = Federation(tmp_path)
    a, b, c, d = federation.run_spec.clients
    federation.round()
    ledgers = federation.state.ledgers
    federation.round()
    # As if c and d had not been asked in round 2.
    held = Ledgers.of({**federation.state.ledgers, c: ledgers[c], d: ledgers[d]})
    federation.state = replace(federation.state, ledgers=held)
    work, plans = federation.plans()
    assert {name: kind(plan) for name, plan in plans.items()} == {
        a: 2, b: 2, c: 1, d: 1,
    }  # fmt: skip
    assert plans[a].broadcast.weights == plans[b].broadcast.weights
    assert plans[c].broadcast.weights == plans[d].broadcast.weights
    assert len(work.request.variants) == 2
    for plan in plans.values():
        assert federation.open(plan).weights.tobytes() == work.weights.tobytes()


@pytest.mark.slow
def test_who_did_not_answer_is_sent_everything(tmp_path):
    federation = Federation(tmp_path)
    clients = federation.run_spec.clients
    federation.round()
    federation.round(absent=clients[:1])
    _, plans = federation.plans()
    assert [kind(plans[name]) for name in clients] == [0, 2, 2, 2]


@pytest.mark.slow
def test_who_holds_a_broadcast_that_is_no_longer_remembered_is_sent_everything(
    tmp_path,
):
    federation = Federation(tmp_path)
    federation.round()
    first = federation.state.ledgers[federation.run_spec.clients[0]]
    for _ in range(REMEMBERED):
        federation.round()
    assert [one.round for one in federation.state.sent] == list(range(2, 10))
    assert base_for(first, federation.state.sent) is None
    for round_ in range(1, 2 + REMEMBERED):
        line = replace(first, held=round_)
        ledgers = Ledgers.of(dict.fromkeys(federation.run_spec.clients, line))
        federation.state = replace(federation.state, ledgers=ledgers)
        work, plans = federation.plans()
        plan = plans[federation.run_spec.clients[0]]
        assert kind(plan) in ({0} if round_ == 1 else {0, round_})
        assert federation.open(plan).weights.tobytes() == work.weights.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["lost", "cut off", "flipped", "another"])
def test_a_client_without_its_file_says_so_and_is_sent_everything(tmp_path, harm):
    federation = Federation(tmp_path)
    federation.round()
    federation.round()
    work, plans = federation.plans()
    name = federation.run_spec.clients[0]
    folder = tmp_path / name / "shared"
    (one, two) = sorted(folder.glob("held-*.bin"))
    data = two.read_bytes()
    match harm:
        case "lost":
            two.unlink()
        case "cut off":
            two.write_bytes(data[:-5])
        case "flipped":
            two.write_bytes(data[:60] + bytes([data[60] ^ 4]) + data[61:])
        case "another":
            two.write_bytes(one.read_bytes())
    with pytest.raises(IntegrityError, match=r"of round 2 .* here.* send everything"):
        answer_to(plans[name], ModelCache(federation.task), federation.store(name))
    # The server takes that as a failure, and forgets what the client holds.
    failed = {name: ClientLedger(acknowledged=2)}
    ledgers = Ledgers.of({**federation.state.ledgers, **failed})
    federation.state = replace(federation.state, ledgers=ledgers)
    work, plans = federation.plans()
    assert [kind(plan) for plan in plans.values()] == [0, 2, 2, 2]
    assert federation.open(plans[name]).weights.tobytes() == work.weights.tobytes()


def test_a_worker_whose_files_are_lost_fails_its_clients_by_name(tmp_path):
    federation = Federation(tmp_path)
    federation.round()
    work, _ = federation.plans()
    folder = tmp_path / "answers"
    for path in folder.rglob("held-*"):
        path.unlink()
    answers = ask_all(work, federation.task, folder)
    assert {record.status for record in answers.records} == {Status.FAILED}
    assert all("send everything" in record.reason for record in answers.records)
    with pytest.raises(RoundError, match="send everything"):
        finish_round(federation.state, work, answers, federation.run_spec)


@pytest.mark.slow
def test_a_change_passes_through_a_cut_and_through_its_rollback(tmp_path):
    federation = Federation(
        tmp_path,
        rounds__warmup=2,
        rounds__cuts=1,
        rounds__final=3,
        client__epochs=1,
    )
    widths = []
    kinds = []
    while not federation.state.cursor.done:
        widths.append(int(federation.state.keep.sum()))
        kinds.append(set(federation.round().values()))
    assert widths[0] > widths[-1]  # there was a cut
    cut = widths.index(widths[-1])
    assert kinds[cut] == {cut}  # encoded against the broadcast before the cut
    assert all(held == {number} for number, held in enumerate(kinds))


@pytest.mark.slow
def test_a_change_gives_back_what_a_rollback_gives_back(tmp_path):
    federation = Federation(tmp_path)
    structure = federation.run_spec.structure
    federation.round()
    before = federation.state
    keep = before.keep.copy()
    keep[[0, 9]] = False
    plan = child_plan(structure, before.plan, keep)
    federation.state = replace(
        before,
        plan=plan,
        weights=remap(before.weights, structure, before.keep, keep),
        statistics=None,
    )
    federation.round()
    back = rollback_plan(structure, plan, before.plan)
    federation.state = replace(
        federation.state, plan=back, weights=before.weights, statistics=None
    )
    work, plans = federation.plans()
    for name, plan_ in plans.items():
        assert kind(plan_) in (0, 2), name
        assert federation.open(plan_).weights.tobytes() == work.weights.tobytes()
    # Encoded against the round before the cut, it is almost empty.
    lines = {c: replace(k, held=1) for c, k in federation.state.ledgers.items()}
    ledgers = Ledgers.of(lines)
    federation.state = replace(federation.state, ledgers=ledgers)
    work, plans = federation.plans()
    assert {kind(plan_) for plan_ in plans.values()} == {1}
    for plan_ in plans.values():
        assert federation.open(plan_).weights.tobytes() == work.weights.tobytes()


def test_other_kinds_of_broadcasts_are_not_remembered(tmp_path):
    federation = Federation(tmp_path, broadcast__values="float32")
    kinds = [federation.round() for _ in range(2)]
    assert {held for one in kinds for held in one.values()} == {0}
    assert federation.state.sent == ()
    assert not list(tmp_path.glob("*/shared/held-*"))


def test_the_same_state_is_on_the_same_grid_and_a_resumed_server_sends_the_same(
    tmp_path,
):
    federation = Federation(tmp_path)
    federation.round()
    federation.round()
    one, _ = federation.plans()
    data = state_to_bytes(federation.state, "i" * 32)
    federation.state = state_from_bytes(data, "i" * 32, "x")
    two, _ = federation.plans()
    assert one.request == two.request


def test_only_the_newest_broadcasts_stay_on_a_client(tmp_path):
    store = ClientStore(tmp_path, "client")
    for round_ in range(1, 30):
        store.save_broadcast(round_, bytes([round_]) * 16, partial(bytes, round_))
    kept = [n for n in range(1, 30) if store.load_broadcast(n, bytes([n]) * 16, len)]
    assert kept == list(range(19, 30))
    assert len(kept) >= REMEMBERED + 3


def test_a_broadcast_is_remembered_as_it_was_sent(tmp_path):
    federation = Federation(tmp_path)
    work, _ = federation.plans()
    (sent,) = remember((), 1, work.encoded)
    assert sent == SentBroadcast(
        round=1, keep=sent.keep, full=work.plan.broadcast.weights
    )
    # At hand, and decoded as after a resume.
    for one in (sent, replace(sent, grid=None)):
        grid = as_sent(one, federation.run_spec.structure)
        assert grid.name == work.encoded.grid.name
        assert codec.grid_values(grid, work.spec).tobytes() == work.weights.tobytes()
    assert np.array_equal(sent.keep, federation.state.keep)
