"""Oversized replies never reach Flower's store; its own state is the real one."""

import time
from types import SimpleNamespace

import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Message,
    Metadata,
    RecordDict,
)
from flwr.app.message import make_message
from flwr.app.message.message import remove_content_from_message
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import PullAppMessagesRequest
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.error import FlowerError
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
)
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.servicer.fleet import fleet_handlers
from flwr.superlink.servicer.runtime import runtime_handlers

from fedprune.common.flower.bundle import LIMIT_KEY
from fedprune.common.flower.payload import ARRAY, RECORD, payload_array
from fedprune.server.devices.gate.bounded import Bounded
from fedprune.server.devices.gate.uploads import OVERSIZED, ROOM, Uploads

# Flower's own migrations of its database.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

LIMIT = 1 << 20
SMALL, LARGE = 1000, 3 * LIMIT


class Link:
    """Flower's state of a server with one node and one run, and our handlers."""

    def __init__(self, folder):
        database = str(folder / "link.db")
        store = ObjectStoreFactory(database)
        factory = LinkStateFactory(database, NoOpFederationManager(), store)
        self.state = factory.state()
        self.handlers = Bounded(
            Uploads(),
            fleet_handlers.push_messages,
            fleet_handlers.push_object,
            runtime_handlers.pull_messages,
        )
        self.node = self.state.create_node("aid", "name", b"key", 60.0)
        self.state.activate_node(self.node, 60.0)
        self.run = self.state.create_run(
            None, None, None, {LIMIT_KEY: LIMIT}, NOOP_FEDERATION_ID, None, "aid",
            TaskType.SERVER_APP,
        )  # fmt: skip
        (task,) = self.state.get_tasks(run_ids=[self.run])
        self.state.claim_task(task.task_id)
        self.state.activate_task(task.task_id)

    def ask(self, number):
        """Send the node a message; return it."""
        content = RecordDict({"n": ConfigRecord({"n": number})})
        metadata = Metadata(
            run_id=self.run, message_id="", src_node_id=SUPERLINK_NODE_ID,
            dst_node_id=self.node, reply_to_message_id="", group_id="1",
            created_at=time.time(), ttl=600.0, message_type="train",
        )  # fmt: skip
        asked = make_message(metadata=metadata, content=content)
        asked.metadata.__dict__["_message_id"] = asked.object_id
        assert self.state.store_message_ins(remove_content_from_message(asked))
        return asked

    def announce(self, reply, node=None, number=None):
        proto = message_to_proto(remove_content_from_message(reply))
        proto.metadata.message_id = number or reply.object_id
        request = PushMessagesRequest(
            node=Node(node_id=node or self.node),
            messages_list=[proto],
            message_object_trees=[get_object_tree(reply)],
        )
        return self.handlers.push_messages(request, self.state)

    def push(self, reply, session, names):
        """Push objects as a node does; return how many were stored, in all bytes."""
        parts, taken = get_all_nested_objects(reply), 0
        for name in names:
            request = PushObjectRequest(
                node=Node(node_id=self.node),
                run_id=self.run,
                object_id=name,
                object_content=parts[name].deflate(),
                session_id=session,
            )
            if not self.handlers.push_object(request, self.state).stored:
                break
            taken += len(request.object_content)
        return taken

    def pull(self, *asked):
        """Return the replies as a run gets them: (message, error) and the objects."""
        numbers = [message.object_id for message in asked]
        request = PullAppMessagesRequest(message_ids=numbers)
        task = SimpleNamespace(run_id=self.run)
        return list(
            self.handlers.pull_messages(request, self.state, task).messages_list
        )


@pytest.fixture(scope="module")
def link(tmp_path_factory):
    return Link(tmp_path_factory.mktemp("link"))


def reply_to(asked, size, parts=1):
    arrays = {
        f"{ARRAY}{k}": payload_array(bytes([k]) * (size // parts), Array)
        for k in range(parts)
    }
    made = Message(RecordDict({RECORD: ArrayRecord(arrays)}), reply_to=asked)
    made.metadata.__dict__["_message_id"] = made.object_id
    return made


@pytest.mark.slow
def test_a_reply_within_the_limit_arrives_when_it_is_whole(link):
    asked = link.ask(1)
    reply = reply_to(asked, SMALL)
    answer = link.announce(reply)
    first, *others = answer.objects_to_push
    assert link.push(reply, answer.session_id, [first]) > 0
    assert link.pull(asked) == []
    assert link.push(reply, answer.session_id, others) > 0
    (found,) = link.pull(asked)
    assert found.metadata.message_id == reply.object_id
    assert not found.HasField("error")


@pytest.mark.parametrize("parts", [1, 8])
def test_an_oversized_reply_is_dropped_and_its_node_named(link, parts):
    asked = link.ask(parts)
    reply = reply_to(asked, LARGE, parts)
    before = len(link.state.object_store)
    answer = link.announce(reply)
    taken = link.push(reply, answer.session_id, answer.objects_to_push)
    assert taken <= LIMIT + ROOM
    (found,) = link.pull(asked)
    assert found.error.code == OVERSIZED
    assert f"over {LIMIT} bytes" in found.error.reason
    assert found.metadata.src_node_id == link.node
    # Nothing is left of it but the error.
    assert len(link.state.object_store) == before + 1
    assert len(link.handlers._uploads) == 0


def test_a_dropped_reply_is_not_taken_up_again(link):
    asked = link.ask(1)
    reply = reply_to(asked, LARGE)
    for _ in range(3):
        answer = link.announce(reply)
        taken = link.push(reply, answer.session_id, answer.objects_to_push)
        assert taken <= LIMIT + ROOM
    (found,) = link.pull(asked)
    assert found.error.code == OVERSIZED


def test_another_reply_of_the_node_is_not_touched(link):
    first, second = link.ask(1), link.ask(2)
    good, bad = reply_to(first, SMALL), reply_to(second, LARGE)
    one, two = link.announce(good), link.announce(bad)
    link.push(bad, two.session_id, two.objects_to_push)
    link.push(good, one.session_id, one.objects_to_push)
    codes = [found.error.code for found in link.pull(first, second)]
    assert sorted(codes) == [0, OVERSIZED]


def test_a_node_speaks_for_itself_only(link):
    reply = reply_to(link.ask(1), SMALL)
    with pytest.raises(FlowerError, match="of the node itself"):
        link.announce(reply, node=link.node + 1)
    with pytest.raises(FlowerError, match="of the node itself"):
        link.announce(reply, number="0" * 64)
    assert len(link.handlers._uploads) == 0


@pytest.mark.slow
def test_a_node_sends_no_instruction_to_another(link):
    """Without keys a stranger may call itself the server's own node."""
    metadata = Metadata(
        run_id=link.run, message_id="", src_node_id=SUPERLINK_NODE_ID,
        dst_node_id=link.node, reply_to_message_id="", group_id="1",
        created_at=time.time(), ttl=600.0, message_type="train",
    )  # fmt: skip
    content = RecordDict({"n": ConfigRecord({"n": 1})})
    forged = make_message(metadata=metadata, content=content)
    with pytest.raises(FlowerError, match="of the node itself"):
        link.announce(forged, node=SUPERLINK_NODE_ID)
    assert forged.object_id not in {
        one.metadata.message_id for one in link.state.get_message_ins(link.node, 9)
    }


def test_an_object_without_a_session_is_not_stored(link):
    reply = reply_to(link.ask(1), SMALL)
    answer = link.announce(reply)
    assert link.push(reply, "", answer.objects_to_push) == 0
