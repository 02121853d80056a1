"""Tasks of an executor: pulled, answered, pushed, or lost without its end."""

import threading
from queue import SimpleQueue
from types import SimpleNamespace

import httpx
import pytest
from flwr.app import Context, Error, Message, RecordDict
from flwr.common.constant import ErrorCode, SubStatus
from flwr.supercore.task_identity import TaskIdentity
from helpers.log_lines import texts

from fedprune.client import executor
from fedprune.client.executor import Executor, answer
from fedprune.common.errors import ConfigError, IntegrityError

TOKEN = "t"  # noqa: S105 - of a task


class Found(SimpleNamespace):
    """An answer to a request for a task."""

    def HasField(self, _name):  # noqa: N802 - protobuf's name
        return self.task


@pytest.fixture
def message(monkeypatch):
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    made = Message(RecordDict(), dst_node_id=1, message_type="train", group_id="3")
    made.metadata.__dict__["_message_id"] = "m"
    return made


CONTEXT = Context(1, 1, {}, RecordDict(), {})


@pytest.fixture
def app(monkeypatch):
    """Return what the client app does with a message; it can be replaced."""
    does = SimpleNamespace(
        answer=lambda message: Message(RecordDict(), reply_to=message)
    )
    monkeypatch.setattr(executor, "check_app", lambda _: None)
    monkeypatch.setattr(
        executor.client_app, "app", lambda message, context: does.answer(message)
    )
    return does


def fail(error):
    def raising(*_):
        raise error

    return raising


def test_a_message_is_answered_and_its_round_is_said(message, app, capsys):
    reply, why = answer(message, CONTEXT, b"")
    assert why == ""
    assert not reply.has_error()
    first, second = texts(capsys.readouterr().out)
    assert first == "round 3: received"
    assert second.startswith("round 3: answered in ")


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ConfigError("no such network"), "no such network"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_an_app_that_fails_is_an_answer_with_its_reason(message, app, error, why):
    app.answer = fail(error)
    reply, said = answer(message, CONTEXT, b"")
    assert said == reply.error.reason == why
    assert reply.error.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION


def test_another_app_is_not_run(message, app, monkeypatch):
    monkeypatch.setattr(executor, "check_app", fail(IntegrityError("not this one")))
    app.answer = fail(AssertionError())
    reply, _ = answer(message, CONTEXT, b"other")
    assert reply.error == Error(ErrorCode.INVALID_FAB, "not this one")


@pytest.fixture
def working(monkeypatch, message, app):
    """Return an executor between stand-ins for Flower's functions, and its pushes."""
    pushed = []
    client = SimpleNamespace(
        AcquireTask=lambda _: Found(task=True, token=TOKEN), close=lambda: None
    )
    monkeypatch.setattr(
        executor.RuntimeHttpClient, "from_server_address", lambda **_: client
    )
    monkeypatch.setattr(executor, "beat", lambda _: True)
    monkeypatch.setattr(
        executor,
        "pull_task_input",
        lambda _: (message, CONTEXT, None, SimpleNamespace(content=b"")),
    )
    monkeypatch.setattr(
        executor, "push_message", lambda _, reply, __: pushed.append(reply)
    )
    monkeypatch.setattr(
        executor,
        "push_task_output",
        lambda *, sub_status, details, **_: pushed.append((sub_status, details)),
    )
    made = Executor("127.0.0.1:1", b"secret")
    made.client, made.pushed = client, pushed
    return made


def test_a_task_is_pulled_answered_and_pushed(working, app):
    working._task(TOKEN)
    reply, end = working.pushed
    assert not reply.has_error()
    assert end == (SubStatus.COMPLETED, "")
    app.answer = fail(ConfigError("no such network"))
    working._task(TOKEN)
    assert working.pushed[2].error.reason == "no such network"
    assert working.pushed[3] == (SubStatus.FAILED, "no such network")


@pytest.mark.parametrize("error", [httpx.ConnectError("gone"), RuntimeError("gone")])
def test_a_task_of_a_node_that_is_gone_is_lost_alone(
    working, monkeypatch, capsys, error
):
    monkeypatch.setattr(executor, "pull_task_input", fail(error))
    working._task(TOKEN)
    assert working.pushed == []
    assert texts(capsys.readouterr().out) == ["a task was lost: gone"]
    timers = [t for t in threading.enumerate() if isinstance(t, threading.Timer)]
    assert all(timer.finished.is_set() for timer in timers)


def test_the_next_task_has_its_token_and_none_is_waited_for(working, monkeypatch):
    pauses = []
    monkeypatch.setattr(executor.time, "sleep", pauses.append)
    assert working._next() == TOKEN
    assert pauses == []
    working.client.AcquireTask = lambda _: Found(task=False, token="")
    assert working._next() == ""
    working.client.AcquireTask = fail(httpx.ConnectError("not up"))
    assert working._next() == ""
    assert len(pauses) == 2


def test_an_executor_works_until_its_parent_has_ended(working, monkeypatch):
    parents = iter([7, 7, 7, 1])
    tokens = iter([TOKEN, ""])
    begun = SimpleQueue()
    monkeypatch.setattr(executor.os, "getppid", lambda: next(parents))
    monkeypatch.setattr(Executor, "_next", lambda _: next(tokens))
    monkeypatch.setattr(Executor, "_task", lambda _, token: begun.put(token))
    working.run()
    assert begun.get(timeout=20) == TOKEN
    assert begun.empty()


def test_ctrl_c_ends_an_executor_with_130(working, monkeypatch, tmp_path):
    (tmp_path / "secret").write_bytes(b"s")
    monkeypatch.setattr(Executor, "run", fail(KeyboardInterrupt()))
    with pytest.raises(SystemExit) as ended:
        executor.main(["127.0.0.1:1", str(tmp_path / "secret")])
    assert ended.value.code == 130
