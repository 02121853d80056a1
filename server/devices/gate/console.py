"""``flwr`` of the operator: Flower's command, each request with the operator's token.

``python -m fedprune.server.devices.gate.console TOKEN_FILE WORD... [--then WORD...]``:
one start of Python, of seconds, for several requests; none is asked after one that
fails.  Its names of Flower are undocumented (see ``server/devices/serverapp.py``).
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import httpx
from flwr.cli.app import app
from flwr.supercore.control import ControlHttpClient

from fedprune.server.devices.gate.doors import TOKEN_HEADER
from fedprune.server.devices.questions import THEN

Foreign: TypeAlias = Any  # an object of Flower whose type is not documented


class _Token:
    """Interceptor of Flower's client that adds the token to each request."""

    def __init__(self, token: str) -> None:
        self._token = token

    def intercept(self, context: Foreign, call_next: Foreign) -> httpx.Response:
        context.request.headers[TOKEN_HEADER] = self._token
        response: httpx.Response = call_next(context)
        return response


def main(words: Sequence[str]) -> None:
    """Run Flower's command; the first word is the file of the token."""
    token = _Token(Path(words[0]).read_text(encoding="ascii").strip())
    made = ControlHttpClient.__init__

    def with_token(
        self: Foreign, *values: Foreign, interceptors: Foreign = (), **more: Foreign
    ) -> None:
        made(self, *values, interceptors=[*interceptors, token], **more)

    ControlHttpClient.__init__ = with_token  # type: ignore[method-assign]
    for request in _split(words[1:]):
        sys.argv = ["flwr", *request]
        try:
            app()
        except SystemExit as ended:
            if ended.code:
                raise


def _split(words: Sequence[str]) -> Iterator[list[str]]:
    """Yield the words of each request."""
    found: list[str] = []
    for word in words:
        if word == THEN:
            yield found
            found = []
        else:
            found.append(word)
    yield found


if __name__ == "__main__":
    main(sys.argv[1:])
