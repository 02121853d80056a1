"""Executor of a SuperNode's messages, in one process that stays.

Flower starts a new Python for every message, and runs the code in the message's app
bundle.  This process runs installed code only, and keeps torch, data and networks in
memory, which saves memory, and seconds in every round.

It uses the SuperNode's runtime interface of Flower 1.41 as ``flower-superexec`` and
``flwr-clientapp`` do: names that Flower does not document.  No other file of the client
imports them; they may move in any minor release, so ``flwr`` is pinned below
1.42 (the server's are in ``server/devices/serverapp.py``).
"""

import argparse
import logging
import os
import sys
import threading
import time
from pathlib import Path

import httpx
from flwr.app import Context, Error, Message
from flwr.common.constant import ErrorCode, SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest, SendTaskHeartbeatRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.retry import RetryInvoker, exponential
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import (
    pull_task_input,
    push_message,
    push_task_output,
)

from fedprune.client import app as client_app
from fedprune.common.errors import FedPruneError, IntegrityError
from fedprune.common.flower.bundle import check_app
from fedprune.common.system.logs import plain_logs
from fedprune.common.text import say

_POLL_S = 0.2
_RETRY_S = 1.0
_INPUT_S = 300.0  # time limit for the message of a task
_PUSH_S = 30.0
_GUARDED = frozenset({"/flwr.proto.Runtime/AcquireTask"})


class Executor:
    """Executes one task of a SuperNode after another.

    Args:
        address: The SuperNode's runtime interface, on this machine.
        secret: Shared with the SuperNode, so that no other user can pull tasks.
    """

    def __init__(self, address: str, secret: bytes) -> None:
        self._address = address
        self._busy = threading.Lock()
        self._node = RuntimeHttpClient.from_server_address(
            server_address=address,
            insecure=True,  # the loopback of this machine
            root_certificates=None,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperExec"),
                SuperExecAuthHttpInterceptor(
                    master_secret=secret, protected_methods=_GUARDED
                ),
            ],
        )

    def run(self) -> None:
        """Work until the process that started this one has ended.

        Every task has a thread, since one whose run has ended waits for its message
        for ever; messages are answered one after another.
        """
        parent = os.getppid()
        while os.getppid() == parent:
            token = self._next()
            if token:
                threading.Thread(target=self._task, args=(token,), daemon=True).start()

    def _next(self) -> str:
        """Return the token of the next task, "" after a pause without one."""
        wanted = AcquireTaskRequest(supported_task_types={TaskType.CLIENT_APP})
        try:
            found = self._node.AcquireTask(wanted)
        except httpx.HTTPError:
            time.sleep(_RETRY_S)  # the SuperNode is not up yet, or again
            return ""
        if found.HasField("task") and found.token:
            return str(found.token)
        time.sleep(_POLL_S)
        return ""

    def _task(self, token: str) -> None:
        """Pull the input of one task, answer it, push the answer."""
        client = RuntimeHttpClient.from_server_address(
            server_address=self._address,
            insecure=True,
            root_certificates=None,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"),
                RuntimeTokenHttpInterceptor(token),
            ],
            retry_invoker=patience(),
        )
        heartbeat = HeartbeatSender(lambda: beat(client))
        heartbeat.start()
        late = threading.Timer(_INPUT_S, heartbeat.stop)
        late.daemon = True
        late.start()
        try:
            message, context, _, fab = pull_task_input(client)
            late.cancel()
            with self._busy:
                reply, why = answer(message, context, fab.content)
            push_message(client, reply, context)
            push_task_output(
                client=client,
                context=context,
                sub_status=SubStatus.FAILED if why else SubStatus.COMPLETED,
                details=why,
            )
        except (httpx.HTTPError, RuntimeError) as error:
            say(f"a task was lost: {error}")
        finally:
            late.cancel()
            if heartbeat.is_running:
                heartbeat.stop()
            client.close()


def answer(message: Message, context: Context, fab: bytes) -> tuple[Message, str]:
    """Return the reply to a message, and the reason of a failure, else ""."""
    started = time.monotonic()
    say(f"{_name(message)}: received")
    try:
        check_app(fab)
        reply = client_app.app(message=message, context=context)
    except IntegrityError as error:
        return _failed(message, ErrorCode.INVALID_FAB, error)
    except (Exception, SystemExit) as error:
        return _failed(message, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, error)
    seconds = time.monotonic() - started
    say(f"{_name(message)}: answered in {seconds:.1f} s")
    return reply, ""


def _failed(message: Message, code: int, error: BaseException) -> tuple[Message, str]:
    known = isinstance(error, FedPruneError)
    why = str(error) if known else f"{type(error).__name__}: {error}"
    say(f"{_name(message)}: {why}")
    return Message(Error(code=code, reason=why), reply_to=message), why


def _name(message: Message) -> str:
    group, kind = message.metadata.group_id, message.metadata.message_type
    return f"round {group}" if group else kind


def beat(client: RuntimeHttpClient) -> bool:
    """Send the SuperNode a heartbeat of a task; return whether it was reached.

    A restarted SuperNode does not know the task.  Flower's own heartbeat then ends the
    process, and the next tasks with it; here only the answer is lost.
    """
    try:
        client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
    except httpx.TransportError:
        return False
    except httpx.HTTPStatusError:
        pass  # it was reached
    return True


def patience() -> RetryInvoker:
    """Return the retry policy of requests: short, as the node is on this machine.

    A refused request is not retried; Flower's own policy ends the process when a token
    is no longer known.
    """
    return RetryInvoker(
        wait_gen_factory=exponential,
        recoverable_exceptions=httpx.TransportError,
        max_tries=None,
        max_time=_PUSH_S,
    )


def main(arguments: list[str] | None = None) -> None:
    """Run an executor: ``python -m fedprune.client.executor ADDRESS SECRET_FILE``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("secret", type=Path)
    chosen = parser.parse_args(arguments)
    plain_logs()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    try:
        Executor(chosen.address, chosen.secret.read_bytes()).run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
