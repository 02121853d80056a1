"""The page of a run while it goes on: read from its events, served to a browser."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedprune.server.live.serving import LivePage

__all__ = ["watching"]


@contextmanager
def watching(*, wanted: bool, at: str) -> "Iterator[LivePage | None]":
    """Serve a live page while the block runs, and print its address on standard error.

    Args:
        wanted: Whether there is to be one at all.
        at: HOST:PORT, port 0 = any free one.

    Raises:
        ConfigError: If it cannot be served there.
    """
    if not wanted:
        yield None
        return
    from fedprune.server.live.serving import LivePage, parse_place  # noqa: PLC0415

    with LivePage(*parse_place(at)) as page:
        if not page.is_local:
            told = "warning: --watch-at: the page and its token travel unencrypted"
            print(told, file=sys.stderr)  # noqa: T201 - the command's own output
        print(f"live page: {page.address}", file=sys.stderr, flush=True)  # noqa: T201
        yield page
