"""A round does each thing once: opens, encodes, stores, decodes, dequantises."""

from collections import Counter
from dataclasses import replace

import pytest
from helpers.tiny_federation import ask_all, make_setting, make_task, start

from fedprune.client.rounds import opened, store
from fedprune.common import codec
from fedprune.common.codec.messages import update
from fedprune.common.messages import Phase
from fedprune.server.rounds.cycle import Cursor
from fedprune.server.rounds.finish import finish_round
from fedprune.server.rounds.ledger import ClientLedger, Ledgers
from fedprune.server.rounds.plan import plan_round

CUTTING = Cursor(phase=Phase.SPARSIFY, index=1, step=0.5)


class Watch:
    """Counts calls, each by a name and by what it was done to."""

    def __init__(self, monkeypatch):
        self.patch, self.seen, self.kept = monkeypatch, Counter(), []

    def count(self, owner, name, key):
        real = getattr(owner, name)

        def counted(*given, **named):
            self.kept.append(given)  # so that no other object gets its id
            self.seen[name, key(*given, **named)] += 1
            return real(*given, **named)

        self.patch.setattr(owner, name, counted)

    def times(self, name):
        """Return how often it was done to each object."""
        return sorted(n for (what, _), n in self.seen.items() if what == name)


@pytest.fixture
def watch(monkeypatch):
    found = Watch(monkeypatch)
    found.count(opened, "OpenedPlan", lambda **named: named["plan"].client_id)
    found.count(store, "write_bytes_atomic", lambda path, *_, **__: path)
    found.count(update, "dequantise_delta", lambda delta, _: id(delta))
    found.count(codec, "dequantise_delta", lambda delta, _: id(delta))
    found.count(codec, "decode_update", lambda data, _: data)
    found.count(codec, "encode_full", lambda grid, _: grid.name)
    found.count(codec, "encode_weights", lambda weights, *_: weights.tobytes())
    found.count(codec, "encode_stored", lambda _, grid: grid.name)
    found.count(codec, "encode_broadcast", lambda broadcast: broadcast.digest)
    return found


class Federation:
    """The tiny federation in front of a cut: its broadcast is kept as a teacher."""

    def __init__(self, root, **changes):
        self.root, self.task = root, make_task(**changes)
        self.run_spec = make_setting(self.task)
        self.state = replace(start(self.task, self.run_spec), cursor=CUTTING)

    def round(self):
        work = plan_round(self.state, self.run_spec)
        answers = ask_all(work, self.task, self.root)
        assert len(answers.accepted) == 4
        self.state, _ = finish_round(self.state, work, answers, self.run_spec)
        return work


@pytest.mark.parametrize("rule", ["mean", "median"])
@pytest.mark.parametrize("max_norm", [0.0, 3.0], ids=["free", "clipped"])
def test_a_round_does_each_thing_once(tmp_path, watch, rule, max_norm):
    robust = {"robust__aggregate": rule, "robust__max_norm": max_norm}
    work = Federation(tmp_path, **robust).round()
    assert work.plan.keep_broadcast
    assert work.request.individual_updates == (rule == "median" or max_norm > 0)
    assert watch.times("OpenedPlan") == [1] * 4
    assert watch.times("decode_update") == [1] * 4
    # Four that clients have quantised, and four that the server has decoded.
    assert watch.times("dequantise_delta") == [1] * 8
    assert watch.times("encode_full") == [1]
    assert watch.times("encode_stored") == [1]
    assert watch.times("encode_broadcast") == [1]
    written = [path for (name, path) in watch.seen if name == "write_bytes_atomic"]
    # Structure; broadcast as base and as teacher; four residuals.
    assert len(written) == 3 + 4
    assert watch.times("write_bytes_atomic") == [1] * 7


def test_what_several_variants_of_a_plan_hold_is_encoded_once(tmp_path, watch):
    federation = Federation(tmp_path)
    federation.round()
    first, second, *_ = federation.run_spec.clients
    ledgers = dict(federation.state.ledgers)
    ledgers |= {first: ClientLedger(), second: replace(ledgers[second], teacher=b"")}
    federation.state = replace(federation.state, ledgers=Ledgers.of(ledgers))
    watch.seen.clear()
    work = federation.round()
    assert work.plan.teacher
    assert len(work.request.variants) == 3
    assert watch.times("encode_weights") == [1]
    assert watch.times("encode_full") == [1]
    assert watch.times("encode_stored") == [1]
    assert watch.times("encode_broadcast") == []
