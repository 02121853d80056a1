"""A device pulls no more of a message than it would read, and says why."""

import ast
import inspect
from importlib import import_module
from types import SimpleNamespace

import pytest
from flwr.app import Message, Metadata, RecordDict
from flwr.app.message import make_message

from fedprune.client.device.pace import FIRST_S, Pace
from fedprune.client.supernode import ROOM, Bounded

MOST = 1000
PART = bytes(1 << 10)


def asked():
    metadata = Metadata(
        run_id=7, message_id="m", src_node_id=1, dst_node_id=2, reply_to_message_id="",
        group_id="3", created_at=1.0, ttl=10.0, message_type="train",
    )  # fmt: skip
    return make_message(metadata=metadata, content=RecordDict())


class Flower:
    """Flower's step: pulls all objects, stores nothing of a message that fails."""

    def __init__(self, count):
        self.count, self.pulled, self.inserted = count, 0, []
        self.pace = Pace(next_s=3.0)
        self.step = Bounded(self._step, self._insert, MOST, self.pace)

    def _step(self, *, receive, pull_object, **_):
        found = receive()
        if found is None:
            return None
        try:
            for number in range(self.count):
                assert pull_object(7, str(number)) == PART
        except ValueError:
            return None
        return found[0].metadata.run_id

    def _insert(self, message, state, store):
        assert (state, store) == ("state", "store")
        self.inserted.append(message)

    def _pull(self, run, name):
        self.pulled += 1
        return PART

    def __call__(self, message):
        found = None if message is None else (message, SimpleNamespace())
        return self.step(
            state="state",
            object_store="store",
            receive=lambda: found,
            pull_object=self._pull,
            node_config={},
        )


FIT = (2 * MOST + ROOM) // len(PART)


@pytest.mark.parametrize("count", [0, 1, FIT])
def test_a_message_within_the_limit_comes_through(count):
    flower = Flower(count)
    assert flower(asked()) == 7
    assert (flower.pulled, flower.inserted) == (count, [])


def test_a_larger_one_is_dropped_as_it_comes_and_answered_with_the_reason():
    flower = Flower(3 * FIT)
    assert flower(asked()) == 7
    assert flower.pulled == FIT + 1
    (reply,) = flower.inserted
    assert isinstance(reply, Message)
    assert reply.metadata.reply_to_message_id == "m"
    assert reply.error.reason == "the message is over 1000 bytes (device.max_bytes)"


def test_each_message_has_the_whole_limit():
    flower = Flower(FIT)
    assert [flower(asked()) for _ in range(3)] == [7, 7, 7]


def test_no_message_is_no_answer():
    flower = Flower(0)
    assert flower(None) is None
    assert flower.inserted == []
    assert flower.pace.next_s == 3.0


@pytest.mark.parametrize("count", [0, 3 * FIT])
def test_after_a_message_it_asks_for_the_next_one_soon(count):
    flower = Flower(count)
    flower(asked())
    assert flower.pace.next_s == FIRST_S


def test_flower_uses_nothing_of_the_module_time_but_its_pauses():
    text = inspect.getsource(import_module("flwr.supernode.start_client_internal"))
    used = {
        node.attr
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "time"
    }
    assert used == {"sleep"}
