"""The page of a document: its templates, and what a browser may do with it.

A page is one file that loads nothing.  Its content security policy names its own script
and style by their digests, so that no other can run, whatever a run folder holds.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fedprune.server.report.parts import Document, Panel

_PACKAGE: Final = "fedprune.server.report"
_UNSAFE: Final = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
STYLE: Final = "page.css"
_LIGHT, _DARK = ":root", ':root[data-theme="dark"]'  # in the style
SCRIPTS: Final = ("echarts.min.js", "page.js")


def page(document: Document, *, live: bool = False) -> str:
    """Return the whole page of a document.

    Args:
        document: What it shows.
        live: Whether it is served, and asks its server for what is new.
    """
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            document=document,
            live=live,
            policy=policy(live=live),
            figures=embedded(document.charts),
            style=_static(STYLE),
            scripts=[_static(name) for name in SCRIPTS],
        )
    )


def head(document: Document) -> str:
    """Return the markup of the head of a page."""
    return _macro("head", document)


def part(one: Panel) -> str:
    """Return the markup of a part of a page; the figures of its plot are not in it."""
    return _macro("part", one)


def render(template: str, **values: Any) -> str:  # noqa: ANN401 - what a template shows
    """Return another page in the style of the report, which runs no script.

    Args:
        template: Name of a template in ``templates``.
        values: What it shows; every text is escaped.
    """
    style = _static(STYLE)
    allowed = f"default-src 'none'; style-src {_digest(style)}"
    shown = _environment().get_template(template)
    return shown.render(policy=allowed, style=style, **values)


def policy(*, live: bool) -> str:
    """Return the content security policy of a page.

    Args:
        live: Whether the page may ask the server that it came from.
    """
    scripts = " ".join(_digest(_static(name)) for name in SCRIPTS)
    parts_ = [
        "default-src 'none'",
        f"script-src {scripts}",
        f"style-src {_digest(_static(STYLE))}",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join([*parts_, "connect-src 'self'"] if live else parts_)


def embedded(value: Mapping[str, Any]) -> Markup:
    r"""Return JSON that can stand inside a script element.

    Raises:
        ValueError: If a number is not finite.

    >>> embedded({"a": "</script>"})
    Markup('{"a":"\\u003c/script\\u003e"}')
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.translate(_UNSAFE))  # noqa: S704 - nothing in it ends the element


def _macro(name: str, value: Document | Panel) -> str:
    template = _environment().get_template("part.html.jinja").module
    return str(getattr(template, name)(value))


@cache
def _static(name: str) -> Markup:
    """Return one of our own files, which is markup by itself."""
    text = (files(_PACKAGE) / "static" / name).read_text(encoding="utf-8").strip()
    text = _in_all_places(text) if name == STYLE else text
    return Markup(text)  # noqa: S704 - a file of this package


def _in_all_places(style: str) -> str:
    """Return a style whose colours hold wherever they are wanted.

    Both sets stand in it once: the light ones, and the dark ones for a reader who has
    chosen them.  A browser that runs no script knows of the system alone, and paper is
    light whatever the reader has chosen.
    """
    light, dark = _colours(style, _LIGHT), _colours(style, _DARK)
    system = f':root:not([data-theme="light"]) {dark}'
    return (
        f"{style}\n@media (prefers-color-scheme: dark) {{\n{system}\n}}"
        f"\n@media print {{\n{_DARK}, :root:not([data-theme]), :root {light}\n}}"
    )


def _colours(style: str, selector: str) -> str:
    """Return the block of declarations behind a selector, with its braces."""
    start = style.index(f"{selector} {{") + len(selector) + 1
    return style[start : style.index("}", start) + 1]


@cache
def _digest(text: str) -> str:
    found = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(found).decode()}'"


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
