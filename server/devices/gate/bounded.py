"""Flower's handlers of replies, with the limit of ``uploads.py``.

Its names of Flower are undocumented (see ``server/devices/serverapp.py``).
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from flwr.app import Error, Metadata
from flwr.app.message import make_message
from flwr.proto.fleet_pb2 import PushMessagesRequest, PushMessagesResponse
from flwr.proto.message_pb2 import PushObjectRequest, PushObjectResponse
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullAppMessagesResponse
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.superlink.servicer.fleet import fleet_handlers
from flwr.superlink.servicer.runtime import runtime_handlers

from fedprune.common.flower.bundle import LIMIT_KEY
from fedprune.server.devices.gate.uploads import OVERSIZED, Uploads, Verdict

Foreign: TypeAlias = Any  # an object of Flower whose type is not documented

_NO_RUN = 0  # the limit of a run that Flower does not know: it stores nothing of it


class Bounded:
    """The three handlers through which a reply passes.

    Args:
        uploads: The replies on their way.
        push_messages: Flower's handler of a node's announcement.
        push_object: Flower's handler of a node's object.
        pull_messages: Flower's handler of a run's question for replies.
    """

    def __init__(
        self,
        uploads: Uploads,
        push_messages: Callable[..., PushMessagesResponse],
        push_object: Callable[..., PushObjectResponse],
        pull_messages: Callable[..., PullAppMessagesResponse],
    ) -> None:
        self._uploads = uploads
        self._push_messages = push_messages
        self._push_object = push_object
        self._pull_messages = pull_messages
        self._limits: dict[int, int] = {}

    def push_messages(
        self, request: PushMessagesRequest, state: Foreign
    ) -> PushMessagesResponse:
        """Take the announcement of one reply, and count what follows."""
        metadata = _announced(request)
        root = metadata.message_id
        self._uploads.announce(root, metadata.reply_to_message_id, metadata)
        try:
            response = self._push_messages(request=request, state=state)
        except BaseException:
            self._uploads.withdraw(root)
            raise
        self._uploads.begin(root, response.session_id, response.objects_to_push)
        return response

    def push_object(
        self, request: PushObjectRequest, state: Foreign
    ) -> PushObjectResponse:
        """Store one object, or drop the reply that it makes too large."""
        session, name = request.session_id, request.object_id
        if not session:  # what Flower takes from nodes older than 1.41
            return PushObjectResponse(stored=False)
        limit = self._limit(request.run_id, state)
        size = len(request.object_content)
        if self._uploads.admit(session, name, size, limit) is Verdict.OVER:
            self._replace(session, limit, state)
            return PushObjectResponse(stored=False)
        response = self._push_object(request=request, state=state)
        if response.stored:
            self._uploads.stored(session, name)
        return response

    def pull_messages(
        self, request: PullAppMessagesRequest, state: Foreign, task: Foreign
    ) -> PullAppMessagesResponse:
        """Hand a run the replies that are whole."""
        ready = self._uploads.ready(request.message_ids)
        return self._pull_messages(
            PullAppMessagesRequest(message_ids=ready), state, task
        )

    def _limit(self, run: int, state: Foreign) -> int:
        """Return the largest payload of a reply in a run, in bytes."""
        if run not in self._limits:
            found = state.get_run_info(run_ids=[run])
            if not found:
                return _NO_RUN
            self._limits[run] = int(found[0].override_config[LIMIT_KEY])
        return self._limits[run]

    def _replace(self, session: str, limit: int, state: Foreign) -> None:
        """Drop what is stored of a reply; an error takes its place."""
        announced = self._uploads.notice(session)
        if announced is None:  # another object has done it
            return
        # Deletes the announcement too, so that another reply can take its place.
        state._cleanup_push_session(session, cleanup_messages=True)  # noqa: SLF001
        instead = _refusal(announced, limit)
        if state.store_message_res(instead) is not None:
            state._store_generated_message(instead)  # noqa: SLF001
        self._uploads.withdraw(announced.message_id)  # type: ignore[attr-defined]


def _announced(request: PushMessagesRequest) -> Foreign:
    """Return the metadata of an announced reply, checked against its node.

    Raises:
        FlowerError: If it speaks for another node, or is not what its objects say.
    """
    if len(request.messages_list) == len(request.message_object_trees) == 1:
        metadata = request.messages_list[0].metadata
        tree = request.message_object_trees[0]
        own = metadata.src_node_id == request.node.node_id
        # Flower takes what answers nothing for an instruction to another node.
        own = own and metadata.reply_to_message_id != ""
        if own and metadata.message_id == tree.object_id:
            return metadata
    text = "want one reply of the node itself"
    raise FlowerError(ApiErrorCode.INVALID_PROTOBUF_PAYLOAD, text)


def _refusal(announced: Foreign, limit: int) -> Foreign:
    """Return the error message in the place of an oversized reply."""
    reason = f"dropped as it came: over {limit} bytes (update.max_bytes)"
    metadata = Metadata(
        run_id=announced.run_id,
        message_id="",
        src_node_id=announced.src_node_id,
        dst_node_id=announced.dst_node_id,
        reply_to_message_id=announced.reply_to_message_id,
        group_id=announced.group_id,
        created_at=announced.created_at,
        ttl=announced.ttl,
        message_type=announced.message_type,
        src_task_id=announced.src_task_id or None,
        dst_task_id=announced.dst_task_id or None,
    )
    message = make_message(metadata=metadata, error=Error(OVERSIZED, reason))
    message.metadata.__dict__["_message_id"] = message.object_id
    return message


def install() -> None:
    """Put the handlers into Flower's place."""
    handlers = Bounded(
        Uploads(),
        fleet_handlers.push_messages,
        fleet_handlers.push_object,
        runtime_handlers.pull_messages,
    )
    fleet: Foreign = fleet_handlers
    runs: Foreign = runtime_handlers
    fleet.push_messages = handlers.push_messages
    fleet.push_object = handlers.push_object
    runs.pull_messages = handlers.pull_messages
