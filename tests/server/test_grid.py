"""Rounds over Flower's grid, with a grid of our own in this process."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client.bench import Workbench
from client.round import run_round
from client.state import ClientStore
from common import codec
from common.errors import RoundError
from common.messages import Status
from common.transport import ARRAY, RECORD, STYPE
from server import grid as under_test
from server.events import EventLog, read_events
from server.grid import GridEngine, deliver, enrol
from server.loop import collect
from server.plan import plan_round
from tests.tiny_federation import ask_all, make_setting, make_task, start


class FakeGrid:
    """Hands messages to a function of the node, and its replies back.

    Args:
        nodes: Node ids.
        answer: (node, message) -> content, an ``Error``, or None for no answer.
    """

    def __init__(self, nodes, answer):
        self.nodes, self._answer = list(nodes), answer
        self._replies, self.sent = {}, []

    def get_node_ids(self):
        return self.nodes

    def push_messages(self, messages):
        numbers = []
        for message in messages:
            self.sent.append(message)
            number = f"m{len(self.sent)}"
            numbers.append(number)
            found = self._answer(message.metadata.dst_node_id, message)
            if found is not None:
                self._replies[number] = self._reply(message, number, found)
        return numbers

    def pull_messages(self, numbers):
        return [self._replies.pop(n) for n in numbers if n in self._replies]

    def send_and_receive(self, messages, *, timeout=None):
        return self.pull_messages(self.push_messages(messages))

    @staticmethod
    def _reply(message, number, found):
        message.metadata.__dict__["_message_id"] = number
        return Message(found, reply_to=message)


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
    monkeypatch.setattr(under_test, "_ENROL_S", 0.3)
    monkeypatch.setattr(under_test, "_HELLO_S", 0.05)


@pytest.fixture
def log(tmp_path):
    with EventLog(tmp_path / "events.jsonl") as opened:
        yield opened


def test_nodes_are_enrolled_by_the_names_that_they_say(log):
    table = {7: {"client-id": "b"}, 9: {"client-id": "a"}}
    assert enrol(FakeGrid(table, names(table)), 2, log) == {"b": 7, "a": 9}
    told = read_events(log.path)[-1]
    assert (told["connected"], told["wanted"]) == (["a", "b"], 2)


def test_a_node_that_does_not_answer_at_first_is_asked_again(log):
    asked = []

    def answer(node, message):
        asked.append(node)
        late = node == 2 and asked.count(2) < 2
        return None if late else ConfigRecordDict({"client-id": f"c{node}"})

    assert enrol(FakeGrid([1, 2], answer), 2, log) == {"c1": 1, "c2": 2}
    assert asked.count(1) == 1


def test_too_few_clients_end_the_run_with_the_names_that_came(log):
    table = {1: {"client-id": "a"}, 2: Error(code=0, reason="no such data")}
    with pytest.raises(RoundError, match=r"1 of 3 .*\['a'\]; node 2: no such data"):
        enrol(FakeGrid(table, names(table)), 3, log)


def test_the_second_node_of_a_name_is_left_out(log):
    table = {1: {"client-id": "a"}, 2: {"client-id": "a"}, 3: {"client-id": "b"}}
    assert enrol(FakeGrid(table, names(table)), 2, log) == {"a": 1, "b": 3}
    with pytest.raises(RoundError, match="another node is client 'a' already"):
        enrol(FakeGrid(table, names(table)), 3, log)


def test_a_node_cannot_pose_as_the_client_of_another_key(log):
    table = {1: {"client-id": "b"}, 2: {"client-id": "b"}, 3: {"client-id": "c"}}
    owners = {1: "a", 2: "b", 3: "c"}
    grid = FakeGrid(table, names(table))
    assert enrol(grid, 2, log, owners) == {"b": 2, "c": 3}
    with pytest.raises(RoundError, match=r"node 1 says .* 'b'; its key is that of 'a'"):
        enrol(FakeGrid(table, names(table)), 3, log, owners)


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
    table = {1: {"client-id": "a"}, 2: said or {"other": 1}}
    with pytest.raises(
        RoundError, match=r"node 2: (it does not say|client .*want 1 to)"
    ):
        enrol(FakeGrid(table, names(table)), 2, log)


class Fleet:
    """Tiny clients behind a fake grid."""

    def __init__(self, root, **changes):
        self.task = make_task(**changes)
        self.setting = make_setting(self.task)
        self.work = plan_round(start(self.task, self.setting), self.setting)
        self.nodes = {name: 10 + i for i, name in enumerate(self.task.clients)}
        self.bench, self.root = Workbench(self.task), root
        self.spoil = {}

    def answer(self, node, message):
        name = next(n for n, number in self.nodes.items() if number == node)
        if name in self.spoil:
            return self.spoil[name]
        array = message.content.array_records[RECORD][ARRAY]
        assert array.stype == STYPE
        plan = codec.decode_plan(array.data, 1 << 20)
        return payload(run_round(plan, self.bench, ClientStore(self.root, name)))

    def ask(self):
        grid = FakeGrid(self.nodes.values(), self.answer)
        return collect(self.work, GridEngine(grid, self.nodes))


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


def test_nobody_is_waited_for_once_the_goal_is_reached(tmp_path):
    fleet = Fleet(tmp_path, rounds__cohort=3, rounds__over_select=1.4)
    assert len(fleet.work.asking.orders) == 4
    fleet.spoil = {fleet.task.clients[0]: None}
    records = fleet.ask().records  # the deadline is ten minutes
    assert sum(r.status is Status.ACCEPTED for r in records) == 3
    assert sum(r.status is Status.LATE for r in records) == 1


def test_delivery_tells_of_each_client_what_it_said():
    table = {
        1: ConfigRecordDict({"examples": 12, "accuracy": 0.5}),
        2: Error(code=0, reason="disk full"),
        3: None,
    }
    grid = FakeGrid(table, lambda node, _: table[node])
    nodes = {"a": 1, "b": 2, "c": 3}
    rows = deliver(grid, nodes, (b"structure", b"blob"), deadline_s=0.3)
    assert rows == [
        {"client": "a", "bytes_down": 13, "examples": 12, "accuracy": 0.5},
        {"client": "b", "bytes_down": 13, "reason": "disk full"},
        {"client": "c", "bytes_down": 13, "reason": "no answer"},
    ]
