"""``flower-supernode`` of a device: Flower's own, with a limit on what it pulls.

Flower stores a message of any size before the executor sees its length.  Here the
bytes of a message are counted as they come; past the limit it is dropped and answered
with an error, as an executor would.  Flower asks for messages every 3 s; here sooner
after one (``device/pace.py``).  Its names of Flower are undocumented (see
``client/executor.py``).
"""

import sys
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeAlias

from flwr.app import Error, Message
from flwr.common.constant import ErrorCode
from flwr.supernode.cli import flower_supernode

from fedprune.client.device.pace import Pace
from fedprune.common.system.logs import PlainFormatter, plain_logs

Foreign: TypeAlias = Any  # an object of Flower whose type is not documented

ROOM = 64 << 10  # bytes that Flower may put around the payload of one message
_ARRAYS = 2  # payloads in the largest kind of message: a network and its structure


class Bounded:
    """Flower's step that receives one message, with a limit.

    Args:
        step: Flower's own.
        insert: Flower's way to store a reply of the node itself.
        max_bytes: ``device.max_bytes``, the largest payload that the device reads.
        pace: Told of each message.
    """

    def __init__(
        self,
        step: Callable[..., int | None],
        insert: Callable[..., None],
        max_bytes: int,
        pace: Pace,
    ) -> None:
        self._step = step
        self._pace = pace
        self._insert = insert
        self._max_bytes = max_bytes
        self._most = _ARRAYS * max_bytes + ROOM

    def __call__(
        self,
        *,
        state: Foreign,
        object_store: Foreign,
        receive: Callable[[], tuple[Message, Foreign] | None],
        pull_object: Callable[[int, str], bytes],
        **others: Foreign,
    ) -> int | None:
        """Receive a message, or answer one that is too large with an error."""
        received: list[Message] = []
        counted = _Counted(pull_object, self._most)

        def noted() -> tuple[Message, Foreign] | None:
            found = receive()
            if found is not None:
                received.append(found[0])
            return found

        run = self._step(
            state=state,
            object_store=object_store,
            receive=noted,
            pull_object=counted,
            **others,
        )
        if received:
            self._pace.restart()
        if run is not None or not counted.is_over:
            return run
        (message,) = received
        reason = f"the message is over {self._max_bytes} bytes (device.max_bytes)"
        error = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason)
        self._insert(Message(error, reply_to=message), state, object_store)
        return message.metadata.run_id


class _Counted:
    """Pulls objects until they have more bytes than the limit; safe for threads."""

    def __init__(self, pull: Callable[[int, str], bytes], most: int) -> None:
        self._pull = pull
        self._most = most
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def is_over(self) -> bool:
        """True once the limit was passed."""
        return self._taken > self._most

    def __call__(self, run: int, name: str) -> bytes:
        """Return an object; raise when it, or one before it, passes the limit."""
        self._check()
        content = self._pull(run, name)
        with self._lock:
            self._taken += len(content)
        self._check()
        return content

    def _check(self) -> None:
        if self.is_over:
            msg = f"over {self._most} bytes"
            raise ValueError(msg)


def main() -> None:
    """Run it: ``device.max_bytes``, then Flower's own words."""
    flower: Foreign = import_module("flwr.supernode.start_client_internal")
    plain_logs()
    servers = import_module("uvicorn.config")
    for name in servers.LOGGING_CONFIG["formatters"]:
        servers.LOGGING_CONFIG["formatters"][name] = {"()": PlainFormatter}
    pace = Pace()
    flower.time = pace  # the module uses its function sleep alone
    flower._pull_and_store_message = Bounded(  # noqa: SLF001
        flower._pull_and_store_message,  # noqa: SLF001
        flower._insert_message,  # noqa: SLF001
        int(sys.argv[1]),
        pace,
    )
    sys.argv = ["flower-supernode", *sys.argv[2:]]
    flower_supernode()


if __name__ == "__main__":
    main()
