"""Bytes of the replies on their way into Flower's store, counted as they come.

A node announces a reply, then sends its objects one by one.  Flower stores each as it
comes, hands the reply to the run before it is whole, and lets the run wait for the
rest.  Here a reply has a limit, and the run gets it whole or not at all.  This module
knows no Flower.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from enum import Enum

OVERSIZED = 413  # code of the error that takes the place of an oversized reply
ROOM = 64 << 10  # bytes that Flower may put around the payload of one reply
EXPIRY_S = 180.0  # Flower gives up an upload without progress after this time


class Verdict(Enum):
    """Decision on one object of a reply."""

    STORE = "store"
    OVER = "over"
    UNKNOWN = "unknown"  # of no reply that is on its way; Flower decides


@dataclass(slots=True)
class _Upload:
    """A reply on its way: the message that it answers, and what has come of it."""

    answers: str
    notice: object
    waiting: set[str] = field(default_factory=set)
    taken: int = 0
    touched: float = 0.0


class Uploads:
    """All replies on their way; safe for threads.

    What it holds is bounded by the replies on their way: an upload leaves it when it
    is whole, refused, or without progress for ``EXPIRY_S``.  After a restart of the
    SuperLink the uploads begun before it are unknown, and Flower's own rules hold.

    Args:
        clock: Seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._uploads: dict[str, _Upload] = {}
        self._roots: dict[str, str] = {}

    def announce(self, root: str, answers: str, notice: object) -> None:
        """Begin a reply, before Flower stores the announcement.

        Args:
            root: Id of the reply; bytes of an earlier try of it count on.
            answers: Id of the message that it answers.
            notice: What ``notice`` returns of it.
        """
        with self._lock:
            self._forget_old()
            upload = self._uploads.setdefault(root, _Upload(answers, notice))
            upload.touched = self._clock()

    def begin(self, root: str, session: str, objects: Iterable[str]) -> None:
        """Note the objects that Flower asks for; with none the reply is whole."""
        with self._lock:
            upload = self._uploads.get(root)
            if upload is None:
                return
            upload.waiting = set(objects)
            if upload.waiting:
                self._roots[session] = root
            else:
                self._drop(root)

    def withdraw(self, root: str) -> None:
        """Forget a reply that Flower refused, or that was."""
        with self._lock:
            self._drop(root)

    def admit(self, session: str, name: str, size: int, limit: int) -> Verdict:
        """Return whether an object may be stored, and count its bytes.

        Args:
            session: The upload's session.
            name: Id of the object.
            size: Its length in bytes.
            limit: Most bytes of payload in the whole reply.
        """
        with self._lock:
            upload = self._uploads.get(self._roots.get(session, ""))
            if upload is None or name not in upload.waiting:
                return Verdict.UNKNOWN
            upload.touched = self._clock()
            upload.taken += size
            return Verdict.OVER if upload.taken > limit + ROOM else Verdict.STORE

    def stored(self, session: str, name: str) -> None:
        """Note that an object is stored; after the last one the reply is whole."""
        with self._lock:
            root = self._roots.get(session, "")
            upload = self._uploads.get(root)
            if upload is None:
                return
            upload.waiting.discard(name)
            if not upload.waiting:
                self._drop(root)

    def notice(self, session: str) -> object | None:
        """Return what was announced of the reply of a session, or None."""
        with self._lock:
            upload = self._uploads.get(self._roots.get(session, ""))
            return None if upload is None else upload.notice

    def ready(self, answered: Collection[str]) -> list[str]:
        """Return those of these messages whose replies are not on their way."""
        with self._lock:
            self._forget_old()
            coming = {upload.answers for upload in self._uploads.values()}
            return [number for number in answered if number not in coming]

    def __len__(self) -> int:
        """Return the number of replies on their way."""
        with self._lock:
            return len(self._uploads)

    def _forget_old(self) -> None:
        old = self._clock() - EXPIRY_S
        for root in [r for r, u in self._uploads.items() if u.touched < old]:
            self._drop(root)

    def _drop(self, root: str) -> None:
        self._uploads.pop(root, None)
        for session in [s for s, r in self._roots.items() if r == root]:
            del self._roots[session]
