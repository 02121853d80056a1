"""Requests that the gate hands on: nodes at one port, the operator at another.

Flower 1.41 serves three interfaces at one port, and anyone who reaches it may list,
start and stop runs and register keys.  Here it has two doors::

    the port of --listen      the interface for nodes, and nothing else
    a port of the loopback    control, for requests with the operator's token;
                              the interface for runs, which has Flower's own secret

A request is refused before its body is read.  This module knows no Flower.
"""

import hmac
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Refusal: TypeAlias = tuple[int, str]  # HTTP status and text

TOKEN_HEADER = "x-fedprune-operator"  # noqa: S105 - a name

# Flower splits arrays into objects of 5 MiB, one a request.
OBJECT_BYTES = 5 << 20
_ROOM = 64 << 10
_OTHER_BYTES = 1 << 20
_OBJECT_PATH = "/v1/fleet/push-object"
_NODE_PATH = re.compile(r"/v1/fleet/[a-z-]+")
_CONTROL = "/v1/control/"
_RUNS = "/v1/runtime/"
_FORBIDDEN, _NO_PAGE, _NO_LENGTH, _TOO_LARGE = 403, 404, 411, 413


class Gate:
    """ASGI layer around Flower's app that refuses what a door is not for.

    Args:
        app: Flower's app.
        control: Port of the operator's door.
        token: What the operator's requests carry, not empty.
    """

    def __init__(self, app: App, *, control: int, token: str) -> None:
        self._app = app
        self._control = control
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, or answer it with the reason why not."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await _answer(send, *refusal)

    def _refusal(self, scope: Scope) -> Refusal | None:
        if scope["type"] != "http":
            return _NO_PAGE, "no such interface"
        # The address of this end of the connection: no request can choose it.
        _, port = scope["server"]
        if port == self._control:
            return self._of_operator(scope)
        return _of_node(scope)

    def _of_operator(self, scope: Scope) -> Refusal | None:
        path = str(scope["path"])
        if path.startswith(_RUNS):
            return None
        if not path.startswith(_CONTROL):
            return _NO_PAGE, "this port is for the operator"
        found = _header(scope, TOKEN_HEADER.encode()) or b""
        if hmac.compare_digest(found, self._token):
            return None
        return _FORBIDDEN, "only the operator of this server may ask this"


def _of_node(scope: Scope) -> Refusal | None:
    """Return why a request at the nodes' port is refused, or None."""
    path = str(scope["path"])
    if scope["method"] != "POST" or not _NODE_PATH.fullmatch(path):
        return _NO_PAGE, "this port is for nodes"
    # Without a length a body could be of any size; with one, no more is read.
    length = _header(scope, b"content-length")
    # Beside a transfer encoding a length is ignored.
    chunked = any(key == b"transfer-encoding" for key, _ in scope["headers"])
    if length is None or not length.isdigit() or chunked:
        return _NO_LENGTH, "want a Content-Length"
    most = OBJECT_BYTES + _ROOM if path == _OBJECT_PATH else _OTHER_BYTES
    if int(length) > most:
        return _TOO_LARGE, f"{int(length)} bytes; want at most {most}"
    return None


def _header(scope: Scope, name: bytes) -> bytes | None:
    """Return the only value of a header; None without one and of several."""
    values = [value for key, value in scope["headers"] if key == name]
    return values[0] if len(values) == 1 else None


async def _answer(send: Send, status: int, text: str) -> None:
    body = json.dumps({"code": status, "message": text}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
