"""Chromium through playwright: one page at one width in one colour scheme.

Needs ``playwright`` and ``axe-playwright-python`` of the ``dev`` extra, and a Chromium
of the machine: that of ``FEDPRUNE_CHROMIUM``, or one on the search path.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fedprune.common.errors import ConfigError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

SCHEMES = ("light", "dark")
WIDTHS = (1280, 400)  # pixels
_VARIABLE = "FEDPRUNE_CHROMIUM"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
_OPEN = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"
_SETTLE_MS = 400  # until plots are drawn
# The page itself, and boxes in it whose content must not be scrolled sideways: tables
# on a narrow screen.  Commands and configurations may be.
_LOST = """() => {
  const root = document.documentElement;
  const own = root.scrollWidth - root.clientWidth;
  const boxes = innerWidth < 640 ? [...document.querySelectorAll(".scroll")] : [];
  const inside = boxes.map((one) => one.scrollWidth - one.clientWidth);
  const edges = [0];
  for (const one of document.querySelectorAll("main *, header *")) {
    if (!one.checkVisibility() || one.closest("pre, .scroll, svg, .hidden")) continue;
    edges.push(Math.floor(one.getBoundingClientRect().right - innerWidth));
  }
  return Math.max(own, ...inside, ...edges);
}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The findings of a browser on a page.

    Attributes:
        lost: Pixels that lie off the right edge, 0 = none.
        errors: Lines of the console that are errors or warnings, and exceptions.
        violations: Rules of WCAG 2 A and AA that are broken, with the first place.
        requests: Addresses that the page asked for, but for itself.
    """

    lost: int
    errors: tuple[str, ...]
    violations: tuple[str, ...]
    requests: tuple[str, ...]


def missing() -> str:
    """Return what lacks for a browser, "" if nothing does."""
    for name in ("playwright", "axe_playwright_python"):
        if find_spec(name) is None:
            return f"the package {name} (pip install 'fedprune[dev]')"
    return "" if _found() else f"Chromium (set {_VARIABLE} to it)"


@contextmanager
def chromium() -> Iterator["Browser"]:
    """Yield a browser without a window.

    Raises:
        ConfigError: If something lacks for it.
    """
    lacking = missing()
    if lacking:
        msg = f"pages are tested in a browser, and this machine lacks {lacking}"
        raise ConfigError(msg)
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - of an extra

    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=_found(), args=[*_QUIET])
        try:
            yield browser
        finally:
            browser.close()


def examine(browser: "Browser", address: str, scheme: str, width: int) -> Seen:
    """Load a page, open all that a reader can open, and look at it.

    Args:
        browser: The browser.
        address: The page; that of a live page has its token.
        scheme: "light" or "dark".
        width: Of the window, in pixels.
    """
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 - of an extra

    page = _opened(browser, scheme, width)
    errors, requests = _listen(page)
    try:
        page.goto(address)
        page.wait_for_timeout(_SETTLE_MS)
        page.evaluate(_OPEN)
        page.wait_for_timeout(_SETTLE_MS // 2)
        lost = int(page.evaluate(_LOST))
        rules = {"runOnly": {"type": "tag", "values": [*_RULES]}}
        found = Axe().run(page, options=rules).response["violations"]
        host = page.evaluate("location.origin")
    finally:
        page.close()
    return Seen(
        lost=lost,
        errors=tuple(errors),
        violations=tuple(
            f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found
        ),
        requests=tuple(
            one for one in requests if not one.startswith((address, host, "data:"))
        ),
    )


def _opened(browser: "Browser", scheme: str, width: int) -> "Page":
    return browser.new_page(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
    )


def _listen(page: "Page") -> tuple[list[str], list[str]]:
    """Return lists that fill with the errors and the requests of a page."""
    errors: list[str] = []
    requests: list[str] = []

    def hear(said: "ConsoleMessage") -> None:
        if said.type in ("error", "warning"):
            errors.append(said.text)

    page.on("console", hear)
    page.on("pageerror", lambda one: errors.append(str(one)))
    page.on("request", lambda one: requests.append(one.url))
    return errors, requests


def _found() -> str:
    named = os.environ.get(_VARIABLE, "")
    return named or next((path for path in map(shutil.which, _NAMES) if path), "")
