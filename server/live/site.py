"""The web application of a live page: who may ask, and what a browser may do with it.

Nobody reaches it without the token, not even on this machine: other users and any web
page that is open in a browser could ask too.  The address that the program prints has
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
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
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
    """What the pages have been told.

    Attributes:
        at: When a page last asked, by the monotonic clock; 0 = never.
        ended: Whether it was told then that the run has ended.
    """

    at: float = 0.0
    ended: bool = False


def site(
    watched: Watched, token: str, hosts: Collection[str], cookie: str, seen: Seen
) -> Starlette:
    """Return the application.

    Args:
        watched: The run.
        token: What a browser must know.
        hosts: Values of ``Host`` that are ours.
        cookie: Name of the cookie; cookies of all ports of a host are in one jar.
        seen: Is told what the pages know.
    """

    async def show(request: Request) -> Response:
        if TOKEN in request.query_params:  # checked before
            answer: Response = RedirectResponse("/", status_code=303)
            answer.set_cookie(cookie, token, httponly=True, samesite="strict")
            return answer
        return HTMLResponse(page.page(watched.told().document, live=True))

    async def figures(request: Request) -> Response:
        known, end = request.headers.get("if-none-match"), time.monotonic() + _HOLD_S
        while (told := watched.told()).tag == known:
            seen.at = time.monotonic()
            if seen.at > end or await request.is_disconnected():
                return Response(status_code=304, headers={"ETag": told.tag})
            await asyncio.sleep(_LOOK_S)
        seen.at, seen.ended = time.monotonic(), told.document.ended
        headers = {"ETag": told.tag}
        return Response(told.body, headers=headers, media_type="application/json")

    def guarded(handler: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            refused = _refusal(request, token, hosts, cookie)
            return await handler(request) if refused is None else refused

        return handle

    async def nothing(request: Request) -> Response:
        del request
        return PlainTextResponse("no such page\n", status_code=404)

    routes = [("/", show), ("/figures.json", figures), ("/{rest:path}", nothing)]
    app = Starlette(
        routes=[
            Route(path, _with_headers(guarded(handler)), methods=["GET"])
            for path, handler in routes
        ]
    )
    app.router.redirect_slashes = False
    return app


def _with_headers(handler: Handler) -> Handler:
    async def handle(request: Request) -> Response:
        answer = await handler(request)
        for name, value in _HEADERS.items():
            answer.headers[name] = value
        only_here = "frame-ancestors 'none'"
        answer.headers["Content-Security-Policy"] = f"{page.policy(live=True)}; {only_here}"
        return answer

    return handle


def _refusal(
    request: Request, token: str, hosts: Collection[str], cookie: str
) -> Response | None:
    """Return the answer to a request that is not allowed; None of one that is."""
    if request.headers.get("host", "") not in hosts:
        return PlainTextResponse("not a name of this page\n", status_code=421)
    if len(str(request.url)) > _LONGEST:
        return PlainTextResponse("too long\n", status_code=414)
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    given = [request.cookies.get(cookie, "")]
    given += [bearer] if scheme.lower() == "bearer" else []
    given += [request.query_params[TOKEN]] if TOKEN in request.query_params else []
    # A wrong token in the address is refused, whatever the cookie says.
    if TOKEN in request.query_params:
        given = given[-1:]
    known = [hmac.compare_digest(one.encode(), token.encode()) for one in given]
    if any(known):
        return None
    told = "open the address that the program printed: it has the token\n"
    return PlainTextResponse(told, status_code=401)
