"""A live page on an address of this machine, in a thread of its own."""

import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn

from fedprune.common.errors import ConfigError
from fedprune.server.live.pages import TOKEN, Door, Pages, Seen
from fedprune.server.live.watched import Watched

_ANY = ("0.0.0.0", "::", "")  # noqa: S104 - refused
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_MOST_CONNECTIONS = 32
_MOST_HEADERS = 16384  # bytes
_ATTENTIVE_S = 3.0  # a page that asked this long ago is still open
_LINGER_S = 3.0  # until it must have been told the end
_JOIN_S = 5.0


class LivePage:
    """Serves the page of a run until it is closed; use it as a context.

    Args:
        host: Address of this machine, or a name of it that browsers use.
        port: Its port; 0 = any free one.

    Raises:
        ConfigError: If it cannot listen there.
    """

    def __init__(self, host: str, port: int) -> None:
        if host in _ANY:
            msg = "--watch-at: want the one address that browsers call, such as "
            msg += f"127.0.0.1; found '{host}', which is all of them"
            raise ConfigError(msg)
        self._socket = _listen(host, port)
        self._port = int(self._socket.getsockname()[1])
        self._host, self._token, self._seen = host, secrets.token_urlsafe(24), Seen()
        self._watched = Watched()
        door = Door(
            token=self._token,
            hosts=_names(host, self._port),
            cookie=f"fedprune-{self._port}",
        )
        app = Pages(self._watched, door, self._seen).application()
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,  # it would have the token
                lifespan="off",
                loop="asyncio",
                http="h11",
                ws="none",
                server_header=False,
                date_header=False,
                limit_concurrency=_MOST_CONNECTIONS,
                h11_max_incomplete_event_size=_MOST_HEADERS,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=1,
            )
        )
        self.thread = threading.Thread(
            target=self._server.run,
            kwargs={"sockets": [self._socket]},
            name="fedprune-live-page",
            daemon=True,
        )

    @property
    def address(self) -> str:
        """Its URL, with the token."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}/?{TOKEN}={self._token}"

    @property
    def is_local(self) -> bool:
        """True if only this machine reaches it."""
        return self._host in _LOOPBACK

    def follow(self, source: Callable[[], Path | None]) -> None:
        """Show the run of a folder from now on.

        Args:
            source: Returns the folder, None as long as there is none.
        """
        self._watched.follow(source)

    def __enter__(self) -> Self:
        """Start to serve."""
        self.thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let open pages see the end, and stop."""
        if kind is None:
            self._linger()
        self._seen.closing = True
        self._server.should_exit = True
        self.thread.join(_JOIN_S)
        self._socket.close()

    def _linger(self) -> None:
        """Wait until a page that is open has been told the last state."""
        end = time.monotonic() + _LINGER_S
        while time.monotonic() < end and self.thread.is_alive():
            is_open = time.monotonic() - self._seen.at < _ATTENTIVE_S
            if not self._seen.at or not is_open or self._seen.ended:
                return
            time.sleep(0.1)


def parse_place(text: str) -> tuple[str, int]:
    """Return host and port of ``--watch-at``.

    Raises:
        ConfigError: If it is not HOST:PORT.

    >>> parse_place("127.0.0.1:0")
    ('127.0.0.1', 0)
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004
        msg = f"--watch-at: found '{text}', want HOST:PORT, such as 127.0.0.1:8080; "
        msg += "port 0 is any free one"
        raise ConfigError(msg)
    return host.strip("[]"), int(port)


def _names(host: str, port: int) -> frozenset[str]:
    """Return the values of ``Host`` that are ours."""
    hosts = {host, *(_LOOPBACK if host in _LOOPBACK else ())}
    return frozenset(
        f"[{one}]:{port}" if ":" in one else f"{one}:{port}" for one in hosts
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        found = socket.socket(family, kind)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(place)
            found.listen(64)
        except OSError:
            found.close()
            raise
    except OSError as error:
        msg = f"--watch-at: cannot listen at {host}:{port}: {error.strerror or error}"
        msg += f"; want another port, or {host}:0 for a free one"
        raise ConfigError(msg) from error
    return found
