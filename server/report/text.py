"""Numbers and strings as the report shows them; its templates escape all of them."""

from dataclasses import dataclass

from fedprune.common.text import printable

DASH = "–"  # noqa: RUF001 - the typographic dash is meant
MINUS = "−"  # noqa: RUF001 - the typographic minus is meant
TIMES = "×"  # noqa: RUF001 - the typographic sign is meant
_KILO = 1000.0


SHARES = frozenset({"accuracy", "iou"})  # metrics that are shares, 0..1


def count(value: float | None) -> str:
    """Return a whole number with groups of three.

    >>> count(1234567)
    '1,234,567'
    """
    return DASH if value is None else f"{value:,.0f}"


def size(value: float | None) -> str:
    """Return bytes in the unit that reads best, three digits or more.

    >>> size(5), size(12_345), size(3_000_000)
    ('5 B', '12.3 kB', '3.00 MB')
    """
    if value is None:
        return DASH
    if value < _KILO:
        return f"{value:.0f} B"
    for unit in ("kB", "MB", "GB"):
        value /= _KILO
        if value < _KILO:
            return f"{_three(value)} {unit}"
    return f"{_three(value / _KILO)} TB"


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share as a percentage.

    >>> percent(0.5), percent(0.98765, 2)
    ('50.0 %', '98.77 %')
    """
    return DASH if value is None else f"{100 * value:.{digits}f} %"


def score(value: float | None, metric: str) -> str:
    """Return what a network scored: a share as a percentage, else the number itself.

    >>> score(0.9876, "accuracy"), score(0.9876, "r2"), score(35.0, "perplexity")
    ('98.76 %', '0.9876', '35.0000')
    """
    if value is None or metric in SHARES:
        return percent(value, 2)
    return f"{value:.4f}"


def metric_name(metric: str) -> str:
    """Return a metric's name for a heading; it may come from another user.

    >>> metric_name("r2"), metric_name("iou")
    ('R²', 'iou')
    """
    return "R²" if metric == "r2" else printable(metric, 40)


def points(value: float | None, metric: str) -> str:
    """Return a difference of two scores, signed; of shares in percentage points."""
    if value is None:
        return ""
    sign = "+" if value >= 0 else MINUS
    if metric not in SHARES:
        return f"{sign}{abs(value):.4f}"
    return f"{sign}{abs(100 * value):.2f} points"


@dataclass(frozen=True, slots=True)
class Words:
    """Words for a smaller and a greater figure.

    Attributes:
        smaller: Of a new figure below the old one.
        greater: Of a new figure above it.
    """

    smaller: str
    greater: str


FEWER = Words("fewer", "more")
SMALLER = Words("smaller", "larger")
FASTER = Words("faster", "slower")


def times(new: float | None, old: float | None, words: Words = FEWER) -> str:
    """Return how many times smaller ``new`` is than ``old``, empty when unknown.

    >>> times(2, 9) == f"4.5{TIMES} fewer", times(3, 1) == f"3.0{TIMES} more"
    (True, True)
    >>> times(None, 1)
    ''
    """
    if not new or not old:
        return ""
    if new > old:
        return f"{_ratio(new / old)}{TIMES} {words.greater}"
    return f"{_ratio(old / new)}{TIMES} {words.smaller}"


def milliseconds(value: float | None) -> str:
    """Return a time in milliseconds."""
    return DASH if value is None else f"{value:.3g} ms"


def seconds(value: float | None) -> str:
    """Return a human-readable duration.

    >>> seconds(5), seconds(185)
    ('5.0 s', '3 min 05 s')
    """
    if value is None:
        return DASH
    minute = 60
    if value < minute:
        return f"{value:.1f} s"
    return f"{int(value // minute)} min {int(value % minute):02d} s"


def _three(value: float) -> str:
    """Return three digits: 1.23, 12.3, 123."""
    decimals = 2 if value < 10 else 1 if value < 100 else 0  # noqa: PLR2004
    return f"{value:.{decimals}f}"


def _ratio(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"  # noqa: PLR2004
