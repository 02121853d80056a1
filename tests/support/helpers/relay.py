"""A TCP relay on the loopback that can be cut, as a network is."""

import contextlib
import selectors
import socket
import threading

_CHUNK = 65536


class Relay:
    """Carries bytes between clients and a port; ``cut`` loses all of them, or resets.

    Args:
        target: Port of the server.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open = threading.Event()
        self._open.set()
        self._ended = threading.Event()
        self._resets = False
        self.carried = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def cut(self, *, reset: bool = False) -> None:
        """Stop carrying: silently, as a lost network does, or with resets."""
        self._resets = reset
        self._open.clear()

    def mend(self) -> None:
        self._resets = False
        self._open.set()

    def close(self) -> None:
        self._ended.set()
        self._listener.close()
        self._thread.join(5)

    def _accept(self) -> None:
        self._listener.settimeout(0.2)
        while not self._ended.is_set():
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            if self._resets:
                near.close()
                continue
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError), near:
            far = socket.create_connection(("127.0.0.1", self._target))
            with far, selectors.DefaultSelector() as ready:
                ready.register(near, selectors.EVENT_READ, far)
                ready.register(far, selectors.EVENT_READ, near)
                while not self._resets and not self._ended.is_set():
                    if not self._open.wait(0.2):
                        continue
                    for key, _ in ready.select(0.2):
                        data = key.fileobj.recv(_CHUNK)
                        if not data:
                            return
                        key.data.sendall(data)
                        self.carried += len(data)
