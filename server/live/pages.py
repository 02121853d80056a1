"""The web application of a live page: who may ask, and what a browser may do with it.

Without the token nothing is told, on this machine either: other users and any web page
that is open in a browser could ask too.  The address that the program prints has
the token once; the answer to it is a cookie, and the token leaves the address.  A
request whose ``Host`` is another name is refused, so that no foreign name that was
pointed here (DNS rebinding) can use the cookie.  Only GET, nothing is changed by it.
"""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import Route

from fedprune.server.live.watched import Watched
from fedprune.server.report import page

TOKEN = "token"  # noqa: S105 - the name of a parameter
_HOLD_S = 10.0  # that a request waits for what is new
_LOOK_S = 0.25  # between two looks at the log
_LONGEST = 4096  # characters of an address
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(slots=True)
class Seen:
    """The last answer that a page got.

    Attributes:
        at: When a page last asked, by the monotonic clock; 0 = never.
        ended: Whether it was told then that the run has ended.
        closing: Whether the server is about to end: no request is held any longer.
    """

    at: float = 0.0
    ended: bool = False
    closing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Lets in who has the token.

    Attributes:
        token: What a browser must know.
        hosts: Values of ``Host`` that are ours.
        cookie: Name of its cookie; cookies of all ports of a host are in one jar.
    """

    token: str
    hosts: Collection[str]
    cookie: str

    def refusal(self, request: Request) -> Response | None:
        """Return the answer to a request that is not allowed; None of one that is."""
        if request.headers.get("host", "") not in self.hosts:
            return PlainTextResponse("not a name of this page\n", status_code=421)
        if len(str(request.url)) > _LONGEST:
            return PlainTextResponse("too long\n", status_code=414)
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = [request.cookies.get(self.cookie, "")]
        given += [bearer] if scheme.lower() == "bearer" else []
        if TOKEN in request.query_params:  # a wrong one is refused beside any cookie
            given = [request.query_params[TOKEN]]
        if any(map(self._knows, given)):
            return None
        told = "open the address that the program printed: it has the token\n"
        return PlainTextResponse(told, status_code=401)

    def _knows(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())


class Pages:
    """The page and its figures.

    Args:
        watched: The run.
        door: Lets them in.
        seen: Is told what the pages know.
    """

    def __init__(self, watched: Watched, door: Door, seen: Seen) -> None:
        self._watched = watched
        self._door = door
        self._seen = seen

    def application(self) -> Starlette:
        """Return the application."""
        handlers = (
            ("/", self._page),
            ("/figures.json", self._figures),
            ("/{rest:path}", _nothing),
        )
        return Starlette(
            routes=[
                Route(path, self._guarded(handler), methods=["GET"])
                for path, handler in handlers
            ]
        )

    def _guarded(self, handler: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            answer = self._door.refusal(request) or await handler(request)
            policy = f"{page.policy(live=True)}; frame-ancestors 'none'"
            for name, value in (_HEADERS | {"Content-Security-Policy": policy}).items():
                answer.headers[name] = value
            return answer

        return handle

    async def _page(self, request: Request) -> Response:
        if TOKEN not in request.query_params:
            document = self._watched.told().document
            return HTMLResponse(page.page(document, live=True))
        # The door has compared it; it goes from the address into a cookie.
        answer = RedirectResponse("/", status_code=303)
        name, token = self._door.cookie, self._door.token
        answer.set_cookie(name, token, httponly=True, samesite="strict")
        return answer

    async def _figures(self, request: Request) -> Response:
        """Answer as soon as there is something that the page does not know."""
        known, end = request.headers.get("if-none-match"), time.monotonic() + _HOLD_S
        while (told := self._watched.told()).tag == known:
            self._seen.at = time.monotonic()
            over = self._seen.closing or self._seen.at > end
            if over or await request.is_disconnected():
                return Response(status_code=304, headers={"ETag": told.tag})
            await asyncio.sleep(_LOOK_S)
        self._seen.at, self._seen.ended = time.monotonic(), told.document.ended
        headers = {"ETag": told.tag}
        return Response(told.body, headers=headers, media_type="application/json")


async def _nothing(request: Request) -> Response:
    del request
    return PlainTextResponse("no such page\n", status_code=404)
