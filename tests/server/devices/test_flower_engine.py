"""Rounds over Flower's grid, with a grid of our own in this process."""

import re
from typing import ClassVar

import httpx
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, RecordDict
from flwr.common.constant import ErrorCode
from flwr.supercore.task_identity import TaskIdentity
from helpers.grids import Clock, FakeGrid
from helpers.tiny_federation import (
    answer_to,
    ask_all,
    make_config,
    make_setting,
    make_task,
    start,
)

from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.store import ClientStore
from fedprune.common import codec
from fedprune.common.errors import RoundError
from fedprune.common.flower.payload import ARRAY, LOST, NOTES, RECORD, RUN, STYPE
from fedprune.server.devices import flower_engine as under_test
from fedprune.server.devices.flower_engine import FlowerEngine, deliver, enrol
from fedprune.server.devices.gate.uploads import OVERSIZED
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.records import Status
from fedprune.server.rounds.waiting.closing import Cause
from fedprune.server.rounds.waiting.collecting import collect
from fedprune.server.runs.events import EventLog, NetworkDelivered, read_events


def names(table):
    def answer(node, message):
        said = table[node]
        return ConfigRecordDict(said) if isinstance(said, dict) else said

    return answer


def ConfigRecordDict(values):  # noqa: N802
    return RecordDict({RECORD: ConfigRecord(values)})


@pytest.fixture(autouse=True)
def _identity(monkeypatch):
    """Let messages be made here as in a task of Flower's."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(under_test, "_POLL_S", 0.01)
    monkeypatch.setattr(under_test, "_HELLO_S", 0.05)


@pytest.fixture
def log(tmp_path):
    with EventLog(tmp_path / "events.jsonl") as opened:
        yield opened


def run_of(clients, **changes):
    few = {"task__clients": clients, "rounds__cohort": 1, "rounds__minimum": 1}
    few["rounds__enrol_s"] = 0.3
    return make_config(**few | changes)


def nodes_of(enrolled):
    return {name: client.node for name, client in enrolled.items()}


def test_nodes_are_enrolled_by_the_names_that_they_say(log):
    table = {7: {"client-id": "b", "examples": 9}, 9: {"client-id": "a", "examples": 9}}
    assert nodes_of(enrol(FakeGrid(table, names(table)), run_of(2), log)) == {
        "b": 7,
        "a": 9,
    }
    told = read_events(log.path)[-1]
    assert (told.connected, told.wanted) == (("a", "b"), 2)


def test_a_node_is_told_how_the_run_deals_its_data(log):
    grid = FakeGrid([7], names({7: {"client-id": "b", "examples": 9}}))
    about = {"seed": 2**63 - 1, "validation": 0.25}
    config = run_of(1, run__seed=about["seed"], client__validation=0.25)
    enrol(grid, config, log)
    deliver(grid, {"b": 7}, b"structure", b"blob", config=config)
    records = [dict(message.content.config_records[RUN]) for message in grid.sent]
    assert records == [about, about]


def test_a_node_that_does_not_answer_at_first_is_asked_again(log):
    asked = []

    def answer(node, message):
        asked.append(node)
        late = node == 2 and asked.count(2) < 2
        return (
            None if late else ConfigRecordDict({"client-id": f"c{node}", "examples": 9})
        )

    config = run_of(2, rounds__enrol_s=60.0)
    assert nodes_of(enrol(FakeGrid([1, 2], answer), config, log)) == {
        "c1": 1,
        "c2": 2,
    }
    assert asked.count(1) == 1


def test_a_node_that_was_away_is_asked_until_it_is_back(log):
    asked = []

    def answer(node, message):
        asked.append(node)
        if len(asked) < 4:
            return Error(code=5, reason="Node Unavailable")
        return ConfigRecordDict({"client-id": "a", "examples": 9})

    config = run_of(1, rounds__enrol_s=60.0)
    assert nodes_of(enrol(FakeGrid([1], answer), config, log)) == {"a": 1}
    told = [(event.connected, event.refused) for event in read_events(log.path)]
    assert [connected for connected, _ in told] == [(), ("a",)]
    assert "node 1: it is away" in told[0][1][0]
    assert told[1][1] == ()


def test_a_node_that_stays_away_is_named(log):
    away = Error(code=5, reason="Node Unavailable")
    with pytest.raises(RoundError, match=r"0 of 1 .*\[\]; node 1: it is away"):
        enrol(FakeGrid([1], lambda *_: away), run_of(1), log)


def test_too_few_clients_end_the_run_with_the_names_that_came(log):
    table = {
        1: {"client-id": "a", "examples": 9},
        2: Error(code=0, reason="no such data"),
    }
    with pytest.raises(RoundError, match=r"1 of 3 .*\['a'\]; node 2: no such data"):
        enrol(FakeGrid(table, names(table)), run_of(3), log)


def test_the_second_node_of_a_name_is_left_out(log):
    table = {
        1: {"client-id": "a", "examples": 9},
        2: {"client-id": "a", "examples": 9},
        3: {"client-id": "b", "examples": 9},
    }
    assert nodes_of(enrol(FakeGrid(table, names(table)), run_of(2), log)) == {
        "a": 1,
        "b": 3,
    }
    with pytest.raises(RoundError, match="another node is client 'a' already"):
        enrol(FakeGrid(table, names(table)), run_of(3), log)


def test_a_node_cannot_pose_as_the_client_of_another_key(log):
    table = {
        1: {"client-id": "b", "examples": 9},
        2: {"client-id": "b", "examples": 9},
        3: {"client-id": "c", "examples": 9},
    }
    owners = {1: "a", 2: "b", 3: "c"}
    grid = FakeGrid(table, names(table))
    assert nodes_of(enrol(grid, run_of(2), log, owners)) == {"b": 2, "c": 3}
    with pytest.raises(RoundError, match=r"node 1: .* 'b'; its key is that of 'a'"):
        enrol(FakeGrid(table, names(table)), run_of(3), log, owners)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"client-id": 5},
        {"client-id": b"c"},
        {"client-id": "x" * 101},
        {"client-id": "../c"},
        {"client-id": "c\x1b[2J\nround 9"},
    ],
)
def test_a_node_without_a_usable_name_does_not_count(log, said):
    table = {1: {"client-id": "a", "examples": 9}, 2: said or {"other": 1}}
    with pytest.raises(
        RoundError, match=r"node 2: (it does not state|client .*want 1 to)"
    ):
        enrol(FakeGrid(table, names(table)), run_of(2), log)


class Fleet:
    """Tiny clients behind a fake grid."""

    def __init__(self, root, **changes):
        self.task = make_task(**changes)
        self.run_spec = make_setting(self.task)
        self.work = plan_round(start(self.task, self.run_spec), self.run_spec)
        self.nodes = {name: 10 + i for i, name in enumerate(self.task.clients)}
        self.cache, self.root = ModelCache(self.task), root
        self.spoil = {}

    def answer(self, node, message):
        name = next(n for n, number in self.nodes.items() if number == node)
        if name in self.spoil:
            return self.spoil[name]
        array = message.content.array_records[RECORD][ARRAY]
        assert array.stype == STYPE
        plan = codec.decode_plan(array.data, 1 << 20)
        return payload(answer_to(plan, self.cache, ClientStore(self.root, name)))

    def ask(self):
        grid = FakeGrid(self.nodes.values(), self.answer)
        return collect(self.work, FlowerEngine(grid, self.nodes))


def payload(blob, stype=STYPE):
    array = Array("uint8", (len(blob),), stype, blob)
    return RecordDict({RECORD: ArrayRecord({ARRAY: array})})


def test_a_round_over_the_grid_is_the_round_of_one_process(tmp_path):
    fleet = Fleet(tmp_path / "grid")
    found = fleet.ask()
    wanted = ask_all(fleet.work, fleet.task, tmp_path / "here")
    assert np.array_equal(found.total.delta_sum, wanted.total.delta_sum)
    assert [r.bytes_up for r in found.records] == [r.bytes_up for r in wanted.records]
    down = [r.bytes_down for r in found.records]
    assert down == [r.bytes_down for r in wanted.records]


def test_bad_answers_stay_with_their_client(tmp_path):
    fleet = Fleet(tmp_path, rounds__deadline_s=0.5)
    first, second, third, fourth = fleet.task.clients
    fleet.spoil = {
        first: Error(code=0, reason="its disk is full"),
        second: payload(b"rubbish"),
        third: payload(b"rubbish", "other/1"),
        fourth: None,
    }
    records = {r.client_id: r for r in fleet.ask().records}
    assert records[first].status is Status.FAILED
    assert "its disk is full" in records[first].reason
    assert records[second].status is Status.REFUSED
    assert "other/1" in records[third].reason
    assert records[fourth].status is Status.LATE
    assert "no answer within" in records[fourth].reason


def test_no_client_is_waited_for_once_the_goal_is_reached(tmp_path):
    fleet = Fleet(tmp_path, rounds__cohort=3, rounds__over_select=1.4)
    assert len(fleet.work.request.assignments) == 4
    fleet.spoil = {fleet.task.clients[0]: None}
    records = fleet.ask().records  # the deadline is ten minutes
    assert sum(r.status is Status.ACCEPTED for r in records) == 3
    assert sum(r.status is Status.LATE for r in records) == 1


class LaterGrid(FakeGrid):
    """Hands each reply over at its own second."""

    def __init__(self, nodes, answer, clock, seconds):
        super().__init__(nodes, answer)
        self.clock, self.seconds = clock, seconds

    def pull_messages(self, numbers):
        due = [n for n in numbers if self.seconds[int(n[1:]) - 1] <= self.clock.now]
        return super().pull_messages(due)


def asked_at(fleet, monkeypatch, seconds):
    """Return the records and the closing when the clients answer at these seconds."""
    clock = Clock()
    monkeypatch.setattr(under_test, "time", clock)
    monkeypatch.setattr(under_test, "_POLL_S", 1.0)
    grid = LaterGrid(fleet.nodes.values(), fleet.answer, clock, seconds)
    answers = collect(fleet.work, FlowerEngine(grid, fleet.nodes))
    return {r.client_id: r for r in answers.records}, answers, clock


WAITED = {  # seconds of the answers -> (clients late, seconds waited, cause)
    "all in time": ((10, 20, 30, 40), (0, 40, Cause.ALL)),
    "one slow": ((10, 20, 30, 500), (1, 40, Cause.GRACE)),
    "one in the grace period": ((10, 20, 40, 500), (1, 40, Cause.GRACE)),
    "two slow": ((10, 30, 63, 500), (2, 60, Cause.GRACE)),
    "a fast federation": ((0, 0, 9, 13), (1, 10, Cause.GRACE)),
    "only one answers": ((10, 5000, 5000, 5000), (3, 3600, Cause.DEADLINE)),
}


@pytest.mark.parametrize(("seconds", "wanted"), WAITED.values(), ids=WAITED)
def test_devices_are_waited_for_by_the_rule_of_every_round(
    tmp_path, monkeypatch, seconds, wanted
):
    fleet = Fleet(tmp_path, rounds__minimum=1)
    records, answers, clock = asked_at(fleet, monkeypatch, seconds)
    late, waited, cause = wanted
    assert sum(r.status is Status.LATE for r in records.values()) == late
    assert answers.total.num_clients == 4 - late
    closing = answers.closing
    assert (closing.seconds, closing.cause, closing.virtual) == (waited, cause, False)
    assert waited <= clock.now <= waited + 2


def test_of_answers_in_one_poll_no_more_count_than_the_goal(tmp_path, monkeypatch):
    fleet = Fleet(tmp_path, rounds__cohort=2, rounds__over_select=2.0)
    records, answers, _ = asked_at(fleet, monkeypatch, (5, 5, 5, 5))
    assert answers.total.num_clients == 2
    assert answers.closing.cause is Cause.GOAL
    late = [r for r in records.values() if r.status is Status.LATE]
    assert len(late) == 2
    assert all("not waited for: 2 answers" in r.reason for r in late)


def test_a_server_that_is_busy_with_an_answer_makes_no_other_late(
    tmp_path, monkeypatch
):
    fleet = Fleet(tmp_path, rounds__minimum=1)
    accept = under_test.accept_answer

    def slowly(*arguments, **options):
        under_test.time.sleep(300.0)
        return accept(*arguments, **options)

    monkeypatch.setattr(under_test, "accept_answer", slowly)
    records, *_ = asked_at(fleet, monkeypatch, (10, 10, 15, 15))
    assert {r.status for r in records.values()} == {Status.ACCEPTED}


def test_a_refused_answer_does_not_count_for_the_quorum(tmp_path, monkeypatch):
    fleet = Fleet(tmp_path, rounds__minimum=1)
    first, second, *_ = fleet.task.clients
    fleet.spoil = {first: payload(b"rubbish"), second: Error(code=0, reason="full")}
    records, answers, _ = asked_at(fleet, monkeypatch, (0, 0, 50, 100))
    statuses = [records[name].status.value for name in fleet.task.clients]
    assert statuses == ["refused", "failed", "accepted", "accepted"]
    assert answers.closing.seconds == 100.0


def test_delivery_tells_of_each_client_what_it_said():
    table = {
        1: ConfigRecordDict({"examples": 12, "accuracy": 0.5}),
        2: Error(code=0, reason="disk full"),
        3: None,
    }
    grid = FakeGrid(table, lambda node, _: table[node])
    nodes = {"a": 1, "b": 2, "c": 3}
    rows = deliver(
        grid, nodes, b"structure", b"blob", config=run_of(3, rounds__deadline_s=0.3)
    )
    assert rows == [
        NetworkDelivered(client="a", bytes_down=13, examples=12, accuracy=0.5),
        NetworkDelivered(client="b", bytes_down=13, reason="disk full"),
        NetworkDelivered(client="c", bytes_down=13, reason="no answer"),
    ]


@pytest.mark.parametrize(
    "kind",
    [
        {"privacy__epsilon": 8.0},
        {"privacy__local_noise": 0.1, "update__stateless": True},
    ],
)
def test_under_noise_delivery_tells_nothing_that_a_client_measured(kind):
    table = {1: ConfigRecordDict({"examples": 12, "accuracy": 0.5})}
    grid = FakeGrid(table, lambda node, _: table[node])
    private = kind | {"run__controls": []}
    config = run_of(3, rounds__deadline_s=0.3, **private)
    rows = deliver(grid, {"a": 1}, b"structure", b"blob", config=config)
    assert rows == [NetworkDelivered(client="a", bytes_down=13)]


# What a client notes beside its answer -> why that answer does not count.
BAD_NOTES = {
    "a number": ({LOST: 1}, "1; want true, alone"),
    "a text": ({LOST: "yes\x1b[2J"}, "str; want true"),
    "nothing to note": ({LOST: False}, "False; want true"),
    "another note": ({"other": True}, "NoneType; want true"),
    "one note too many": ({LOST: True, "other": True}, "want true, alone"),
    "lost what it never had": ({LOST: True}, "without an accepted answer"),
}


class Noting(Fleet):
    """A fleet of which one client has notes beside its answer."""

    notes: ClassVar = {}

    def answer(self, node, message):
        found = super().answer(node, message)
        if node == self.nodes["client-000"]:
            found[NOTES] = ConfigRecord(self.notes)
        return found


@pytest.mark.parametrize(("notes", "why"), BAD_NOTES.values(), ids=BAD_NOTES)
def test_notes_that_are_not_as_they_should_be_refuse_the_answer(
    tmp_path, monkeypatch, notes, why
):
    monkeypatch.setattr(Noting, "notes", notes)
    first, *others = Noting(tmp_path).ask().records
    assert first.status is Status.REFUSED
    assert not first.residual_lost
    assert re.search(why, first.reason)
    assert first.reason.isprintable()
    assert {record.status for record in others} == {Status.ACCEPTED}


class Trap:
    """A reply that raises whatever is done with it."""

    def __getattr__(self, name):
        message = f"{name}\x1b[2J\nround 99: accuracy 0.999"
        raise ZeroDivisionError(message)


class TrapGrid(FakeGrid):
    """A grid that cannot put together the replies of some nodes, as Flower's does.

    Whatever is pulled in the same call is lost with it.
    """

    def __init__(self, nodes, answer, trapped=()):
        super().__init__(nodes, answer)
        self._trapped, self._broken = set(trapped), set()

    def push_messages(self, messages):
        numbers = super().push_messages(messages)
        for number, message in zip(numbers, messages, strict=True):
            if message.metadata.dst_node_id in self._trapped:
                self._broken.add(number)
        return numbers

    def pull_messages(self, numbers):
        found = super().pull_messages(numbers)
        if self._broken & set(numbers):
            self._broken -= set(numbers)
            message = "Failed to deserialise\x1b[31m\n" + "x" * 10_000
            raise ValueError(message)
        return found


class LikeReply:
    """A message of Flower's that holds what Flower's own would not."""

    def __init__(self, content):
        self.content = content

    def has_error(self):
        return False


def like(content):
    return lambda _message, _number: LikeReply(content)


def array_like(**fields):
    class Like:
        stype, data = STYPE, b""

    for name, value in fields.items():
        setattr(Like, name, value)
    return like(type("Content", (), {"array_records": {RECORD: {ARRAY: Like}}}))


# What a node sends back -> what the refusal says.
BAD_REPLIES = {
    "no record": (RecordDict(), "KeyError"),
    "a record without an array": (RecordDict({RECORD: ArrayRecord({})}), "KeyError"),
    "values instead of an array": (ConfigRecordDict({"a": b"1"}), "KeyError"),
    "a text for bytes": (array_like(data="x" * 100), "a str; want bytes"),
    "a number for bytes": (array_like(data=7), "a int; want bytes"),
    "a number for a type": (array_like(stype=7), "'7'; want 'fedprune"),
    "a type that cannot be shown": (array_like(stype="\x1b[2J\n"), "want 'fedprune"),
    "nothing inside": (like(None), "AttributeError"),
    "an object that raises": (lambda *_: Trap(), "ZeroDivisionError"),
    "an object that cannot be put together": (None, "ValueError: Failed to"),
    "an error with escapes": (
        Error(code=0, reason="\x1b[2J\x1b[H\nround 99: accuracy 0.999"),
        "failed: \\\\x1b",
    ),
    "ten megabytes of reasons": (Error(code=0, reason="\x1b[1m" * 2_000_000), "failed"),
    "an error without a reason": (Error(code=0), "failed"),
}


def with_objects(monkeypatch):
    """Let a node's reply be any object."""
    honest = FakeGrid._reply

    def reply(message, number, found):
        if callable(found):
            return found(message, number)
        return honest(message, number, found)

    monkeypatch.setattr(FakeGrid, "_reply", staticmethod(reply))


@pytest.mark.parametrize(("reply", "why"), BAD_REPLIES.values(), ids=BAD_REPLIES)
def test_whatever_a_client_answers_it_is_refused_by_name_and_the_others_count(
    tmp_path, monkeypatch, reply, why
):
    with_objects(monkeypatch)
    fleet = Fleet(tmp_path)
    bad, *others = fleet.task.clients
    fleet.spoil = {bad: reply}
    trapped = [fleet.nodes[bad]] if reply is None else []
    grid = TrapGrid(fleet.nodes.values(), fleet.answer, trapped)
    found = collect(fleet.work, FlowerEngine(grid, fleet.nodes))
    records = {record.client_id: record for record in found.records}
    assert {records[name].status for name in others} == {Status.ACCEPTED}
    assert records[bad].status in {Status.REFUSED, Status.FAILED}
    reason = records[bad].reason
    assert f"client {bad}" in reason
    assert re.search(why, reason)
    assert reason.isprintable()
    assert len(reason) <= 500
    assert found.total.num_clients == len(others)


def test_an_answer_that_the_gate_dropped_is_refused_and_not_failed(tmp_path):
    fleet = Fleet(tmp_path)
    bad, *others = fleet.task.clients
    fleet.spoil = {bad: Error(code=OVERSIZED, reason="over 9 bytes")}
    grid = FakeGrid(fleet.nodes.values(), fleet.answer)
    found = collect(fleet.work, FlowerEngine(grid, fleet.nodes))
    records = {record.client_id: record for record in found.records}
    assert records[bad].status is Status.REFUSED
    assert records[bad].reason == f"refused update of client {bad}: over 9 bytes"
    assert found.total.num_clients == len(others)


def test_a_device_that_is_away_is_said_in_our_words(tmp_path):
    fleet = Fleet(tmp_path)
    away, crashed, *_ = fleet.task.clients
    flower = "Error: Node Unavailable — The destination node failed to report a ..."
    fleet.spoil = {
        away: Error(code=ErrorCode.NODE_UNAVAILABLE, reason=flower),
        crashed: Error(code=ErrorCode.CLIENT_APP_CRASHED, reason="ClientApp stopped"),
    }
    grid = FakeGrid(fleet.nodes.values(), fleet.answer)
    found = collect(fleet.work, FlowerEngine(grid, fleet.nodes))
    records = {record.client_id: record for record in found.records}
    assert records[away].status is Status.FAILED
    assert records[away].reason == (
        f"client {away} failed: it is away: the server has not heard of it for 60 s"
    )
    assert "its executor stopped responding" in records[crashed].reason


def test_an_answer_that_finds_a_fault_of_ours_is_refused_and_the_others_count(
    tmp_path, monkeypatch
):
    real = codec.decode_update

    def fails(data, expected):
        if expected.client_id == "client-001":
            raise RecursionError
        return real(data, expected)

    monkeypatch.setattr(codec, "decode_update", fails)
    records = {r.client_id: r for r in Fleet(tmp_path).ask().records}
    assert records["client-001"].status is Status.REFUSED
    assert "client client-001: RecursionError" in records["client-001"].reason
    assert sum(r.status is Status.ACCEPTED for r in records.values()) == 3


def test_a_message_that_flower_does_not_take_fails_its_client_alone(
    tmp_path, monkeypatch
):
    real = FakeGrid.push_messages

    def push(self, messages):
        return [None, *real(self, list(messages)[1:])]

    monkeypatch.setattr(FakeGrid, "push_messages", push)
    statuses = [r.status for r in Fleet(tmp_path).ask().records]
    assert statuses == [Status.FAILED, *[Status.ACCEPTED] * 3]


# What a client says of the network that it was sent -> why that does not count.
BAD_DELIVERIES = {
    "bytes for a share": ({"examples": 1, "accuracy": b"1"}, "bytes; want a share"),
    "a text for a share": ({"examples": 1, "accuracy": "1"}, "str; want a share"),
    "a list for a share": ({"examples": 1, "accuracy": [0.5]}, "list; want a share"),
    "more than all": ({"examples": 1, "accuracy": 1.5}, "1.5; want a share"),
    "an endless share": ({"examples": 1, "accuracy": float("inf")}, "inf; want"),
    "no share": ({"examples": 1}, "NoneType; want a share"),
    "bytes for a count": ({"examples": b"1", "accuracy": 0.5}, "bytes; want a count"),
    "a count below zero": ({"examples": -1, "accuracy": 0.5}, "-1; want a count"),
    "nothing": ({"other": 1}, "want a count"),
}


@pytest.mark.parametrize(("values", "why"), BAD_DELIVERIES.values(), ids=BAD_DELIVERIES)
def test_what_a_client_says_of_the_delivery_is_checked_and_can_be_logged(
    log, values, why
):
    good = ConfigRecordDict({"examples": 12, "accuracy": 0.5})
    table = {1: good, 2: ConfigRecordDict(values)}
    grid = FakeGrid(table, lambda node, _: table[node])
    first, second = deliver(
        grid, {"a": 1, "b": 2}, b"", b"", config=run_of(3, rounds__deadline_s=5)
    )
    for row in (first, second):
        log.write(row)
    assert first.accuracy == 0.5
    assert why in second.reason
    assert [e.client for e in read_events(log.path)] == ["a", "b"]


@pytest.mark.parametrize("reply", [lambda *_: Trap(), None, like(None), RecordDict()])
def test_a_delivery_or_a_greeting_that_cannot_be_read_stays_with_its_node(
    log, monkeypatch, reply
):
    with_objects(monkeypatch)
    table = {1: {"client-id": "a", "examples": 1, "accuracy": 1.0}, 2: reply}
    trapped = [2] if reply is None else []
    rows = deliver(
        TrapGrid(table, names(table), trapped), {"a": 1, "b": 2}, b"", b"",
        config=run_of(3, rounds__deadline_s=5),
    )  # fmt: skip
    assert rows[0].reason == ""
    assert rows[1].reason.isprintable()
    found = enrol(TrapGrid(table, names(table), trapped), run_of(1), log)
    assert nodes_of(found) == {"a": 1}
    (said,) = read_events(log.path)[-1].refused
    assert said.startswith("node 2: ")
    assert said.isprintable()


def test_a_lost_connection_refuses_no_client_and_ends_it(tmp_path, monkeypatch):
    def lost(_self, _numbers):
        message = "connection refused"
        raise httpx.ConnectError(message)

    monkeypatch.setattr(FakeGrid, "pull_messages", lost)
    with pytest.raises(httpx.ConnectError):
        Fleet(tmp_path).ask()


def test_a_node_is_told_the_names_of_the_classes(log):
    grid = FakeGrid([7], names({7: {"client-id": "b", "examples": 9}}))
    enrol(grid, run_of(1), log, labels=("cat", "dog"))
    (message,) = grid.sent
    assert message.content.config_records[RUN]["labels"] == ["cat", "dog"]
