"""Which requests the gate hands on, by port, path, token, and length."""

import asyncio

import pytest

from fedprune.server.devices.gate.doors import OBJECT_BYTES, TOKEN_HEADER, Gate

PUBLIC, CONTROL, TOKEN = 8000, 8001, "secret"
NODE = ("pull-messages", "push-messages", "push-object", "activate-node", "get-fab")
OPERATOR = ("start-run", "stop-run", "list-runs", "register-node", "list-nodes")


def ask(path, port=PUBLIC, method="POST", kind="http", headers=None):
    """Return the status of a request; 200 when it comes through."""
    sent = []

    async def app(scope, receive, send):
        sent.append({"status": 200})

    async def send(event):
        sent.append(event)

    pairs = {"content-length": "2", **(headers or {})}
    scope = {
        "type": kind,
        "method": method,
        "path": path,
        "server": ("10.0.0.1", port),
        "headers": [(k.encode(), v.encode()) for k, v in pairs.items() if v],
    }
    gate = Gate(app, control=CONTROL, token=TOKEN)
    asyncio.run(gate(scope, None, send))
    return sent[0]["status"]


@pytest.mark.parametrize("name", NODE)
def test_nodes_have_their_interface_and_only_at_their_port(name):
    assert ask(f"/v1/fleet/{name}") == 200
    assert ask(f"/v1/fleet/{name}", CONTROL, headers={TOKEN_HEADER: TOKEN}) == 404


@pytest.mark.parametrize("name", OPERATOR)
def test_control_is_the_operator_s_who_has_the_token(name):
    path = f"/v1/control/{name}"
    assert ask(path, CONTROL, headers={TOKEN_HEADER: TOKEN}) == 200
    assert ask(path, CONTROL) == 403
    assert ask(path, CONTROL, headers={TOKEN_HEADER: "secre"}) == 403
    assert ask(path, PUBLIC, headers={TOKEN_HEADER: TOKEN}) == 404


def test_runs_have_their_interface_at_the_operator_s_port():
    assert ask("/v1/runtime/pull-messages", CONTROL) == 200
    assert ask("/v1/runtime/pull-messages", PUBLIC) == 404


@pytest.mark.parametrize(
    "path",
    [
        "/", "/health", "/docs", "/openapi.json", "/v1/fleet/", "/v1/fleet",
        "/v1/fleet/../control/stop-run", "//v1/fleet/get-run", "/V1/fleet/get-run",
        "/v1/fleet/get-run?", "/v1/fleet/get-run/", "/v1/fleet/get-run\n",
    ],
)  # fmt: skip
def test_nothing_else_is_at_the_nodes_port(path):
    assert ask(path) == 404


def test_only_posts_come_through():
    assert ask("/v1/fleet/get-run", method="GET") == 404
    assert ask("/v1/fleet/get-run", kind="websocket") == 404


@pytest.mark.parametrize(
    ("name", "length", "status"),
    [
        ("push-object", str(OBJECT_BYTES + (64 << 10)), 200),
        ("push-object", str(OBJECT_BYTES + (64 << 10) + 1), 413),
        ("push-messages", str(1 << 20), 200),
        ("push-messages", str((1 << 20) + 1), 413),
        ("push-object", "", 411),
        ("push-object", "-1", 411),
        ("push-object", "1e3", 411),
    ],
)
def test_a_body_of_no_length_or_too_long_is_not_read(name, length, status):
    headers = {"content-length": length}
    assert ask(f"/v1/fleet/{name}", headers=headers) == status


@pytest.mark.parametrize("name", ["push-object", "push-messages"])
def test_a_length_beside_a_transfer_encoding_is_none(name):
    """Servers of HTTP then read chunks to their end, whatever the length says."""
    headers = {"content-length": "2", "transfer-encoding": "chunked"}
    assert ask(f"/v1/fleet/{name}", headers=headers) == 411


def test_the_start_and_end_of_the_app_come_through():
    assert ask("", kind="lifespan") == 200
