"""Late answers of devices: looked for in the next rounds, and used once."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from helpers.grids import Clock, FakeGrid
from helpers.tiny_federation import answer_to, make_setting, make_task, start

from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.store import ClientStore
from fedprune.common import codec
from fedprune.common.flower.payload import ARRAY, LOST, NOTES, RECORD, STYPE
from fedprune.server.devices import flower_engine as under_test
from fedprune.server.devices.flower_engine import FlowerEngine
from fedprune.server.rounds.answers import aggregate
from fedprune.server.rounds.finish import finish_round
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.waiting.collecting import collect


class HoldingGrid(FakeGrid):
    """Hands the replies of some nodes over later."""

    held: frozenset[int] = frozenset()

    def pull_messages(self, numbers):
        nodes = {f"m{i}": m.metadata.dst_node_id for i, m in enumerate(self.sent, 1)}
        return super().pull_messages([n for n in numbers if nodes[n] not in self.held])


class Fleet:
    """Tiny devices, round by round.

    ``spoil`` has what a client answers instead; those in ``lost`` have no residual.
    """

    def __init__(self, root, **changes):
        base = {"rounds__cuts": 0, "rounds__warmup": 0, "rounds__final": 12}
        self.task = make_task(**base | {"rounds__late": "use"} | changes)
        self.run_spec = make_setting(self.task)
        self.state = start(self.task, self.run_spec)
        self.nodes = {name: 10 + i for i, name in enumerate(self.task.clients)}
        self.cache, self.root = ModelCache(self.task), root
        self.spoil, self.lost = {}, set()
        self.grid = HoldingGrid(self.nodes.values(), self.answer)
        self.engine = FlowerEngine(self.grid, self.nodes)

    def answer(self, node, message):
        name = next(n for n, number in self.nodes.items() if number == node)
        data = self.spoil.get(name)
        if data is None:
            sent = message.content.array_records[RECORD][ARRAY].data
            plan = codec.decode_plan(sent, 1 << 20)
            data = answer_to(plan, self.cache, ClientStore(self.root, name))
        array = Array("uint8", (len(data),), STYPE, data)
        content = RecordDict({RECORD: ArrayRecord({ARRAY: array})})
        if name in self.lost:
            content[NOTES] = ConfigRecord({LOST: True})
        return content

    def hold(self, *names):
        self.grid.held = frozenset(self.nodes[name] for name in names)

    def round(self):
        work = plan_round(self.state, self.run_spec)
        answers = collect(work, self.engine)
        self.state, report = finish_round(self.state, work, answers, self.run_spec)
        return work, answers, report


@pytest.fixture(autouse=True)
def _grid_of_ours(monkeypatch):
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    monkeypatch.setattr(under_test, "time", Clock())
    monkeypatch.setattr(under_test, "_POLL_S", 1.0)


def test_an_answer_that_comes_a_round_later_is_used_then_and_once(tmp_path):
    fleet = Fleet(tmp_path)
    slow = fleet.task.clients[0]
    fleet.hold(slow)
    _, answers, report = fleet.round()
    assert answers.arrived == ()
    assert fleet.state.pending == ()  # when it will come is not known
    _, _, report = fleet.round()
    assert report.late.arrived == ()
    fleet.hold()
    before = fleet.state
    work, answers, report = fleet.round()
    (used,) = report.late.used
    assert (used.client_id, used.round) == (slow, 1)
    assert slow not in {record.client_id for record in answers.records}
    alone = aggregate(answers, work)
    assert not np.allclose(fleet.state.weights - before.weights, alone, atol=1e-6)
    assert fleet.state.ledgers[slow].acknowledged == 1
    _, answers, report = fleet.round()
    assert slow in {record.client_id for record in answers.accepted}
    assert not any(record.residual_lost for record in answers.records)
    assert report.late.arrived == ()
    assert fleet.state.totals.late_used == 1


def test_an_answer_to_an_earlier_question_is_not_read_once_its_client_is_asked_again(
    tmp_path,
):
    fleet = Fleet(tmp_path, rounds__put_aside=1)
    slow = fleet.task.clients[0]
    fleet.hold(slow)
    fleet.round()
    fleet.round()
    fleet.hold()
    _, answers, report = fleet.round()
    assert slow in {record.client_id for record in answers.accepted}
    assert report.late.arrived == ()


def test_a_late_answer_that_is_refused_changes_nothing(tmp_path):
    fleet = Fleet(tmp_path)
    slow = fleet.task.clients[0]
    fleet.spoil = {slow: b"rubbish"}
    fleet.hold(slow)
    fleet.round()
    fleet.hold()
    _, answers, report = fleet.round()
    assert answers.arrived == report.late.arrived == ()


def test_answers_of_long_ago_are_forgotten(tmp_path):
    fleet = Fleet(tmp_path, rounds__put_aside=11)
    slow = fleet.task.clients[0]
    fleet.hold(slow)
    for _ in range(10):
        fleet.round()
    fleet.hold()
    _, answers, _ = fleet.round()
    assert answers.arrived == ()


def test_where_late_answers_are_dropped_nothing_is_kept_of_them(tmp_path):
    fleet = Fleet(tmp_path, rounds__late="drop")
    fleet.hold(fleet.task.clients[0])
    fleet.round()
    fleet.hold()
    _, answers, _ = fleet.round()
    assert answers.arrived == ()


def test_an_answer_that_came_with_the_goal_is_read_in_the_next_round(tmp_path):
    fleet = Fleet(tmp_path, rounds__cohort=2, rounds__over_select=2.0)
    fleet.round()  # four are asked, and all four answers are there at once
    first = {name: line.acknowledged for name, line in fleet.state.ledgers.items()}
    surplus = [name for name, round_ in first.items() if not round_]
    assert len(surplus) == 2
    assert len(fleet.engine._behind) == 2
    assert len(fleet.grid._replies) == 2


def test_a_residual_that_is_missing_is_told_of_with_a_late_answer_too(tmp_path):
    fleet = Fleet(tmp_path)
    slow = fleet.task.clients[0]
    fleet.round()
    fleet.hold(slow)
    fleet.lost = {slow}
    fleet.round()
    fleet.hold()
    _, answers, _ = fleet.round()
    (came,) = answers.arrived
    assert (came.client_id, came.residual_lost) == (slow, True)
