"""The target of a search: upper bounds on figures, ``accuracy_drop<=0.5, size<=0.3``.

A figure is a share of the dense reference, 0 < share; ``accuracy_drop`` is in
percentage points of the headline metric, on the clients' validation parts.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from fedprune.common.errors import ConfigError
from fedprune.common.text import printable
from fedprune.common.user_code import did_you_mean

DROP: Final = "accuracy_drop"
BYTES: Final = "bytes"
# Name of a size in a target -> the limit of ``prune.budget`` that cuts to it.
SIZES: Final[Mapping[str, str]] = {
    "params": "params",
    "flops": "flops",
    "latency": "latency",
    "size": "bytes",
}
NAMES: Final = (DROP, *SIZES, BYTES)
_BOUND = re.compile(r"(?P<name>[^<>=]*)(?P<sign>[<>=]+)(?P<value>[^<>=]*)")
_LONGEST = 80  # characters of a wrong part that an error repeats
_MOST_POINTS = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Upper bounds on the figures of a network.

    Attributes:
        bounds: Name of a figure -> its largest value, in the order of ``NAMES``, at
            least one.
    """

    bounds: Mapping[str, float]

    @property
    def sizes(self) -> dict[str, float]:
        """The bounds on what a cut can reach: params, flops, latency, size."""
        return {name: self.bounds[name] for name in SIZES if name in self.bounds}

    @property
    def bounds_accuracy(self) -> bool:
        """True if it says how much accuracy may be lost, so that smaller is better."""
        return DROP in self.bounds

    def excess(self, figures: Mapping[str, float | None]) -> float:
        """Return by how much figures exceed the bounds, 0 where they meet all.

        A point of accuracy counts as much as a share that is twice its bound; a figure
        that is not known is as far off as can be.

        Args:
            figures: Name -> measured value.
        """
        return sum(
            _excess(name, bound, figures.get(name))
            for name, bound in self.bounds.items()
        )

    @override
    def __str__(self) -> str:
        """Return the text that ``parse_target`` reads."""
        return ", ".join(f"{name}<={bound:g}" for name, bound in self.bounds.items())


def parse_target(text: str) -> Target:
    """Return the target of ``--target``.

    >>> str(parse_target("latency<=0.4,accuracy_drop <= 0.5"))
    'accuracy_drop<=0.5, latency<=0.4'

    Raises:
        ConfigError: With the part that is wrong, and what is wanted.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, bound = _bound(part.strip())
        if name in found:
            raise _refusal(part, f'"{name}" stands twice; want each name once')
        found[name] = bound
    return Target(bounds={name: found[name] for name in NAMES if name in found})


def _bound(part: str) -> tuple[str, float]:
    """Return name and value of one bound."""
    match = _BOUND.fullmatch(part)
    if match is None or match["sign"] != "<=":
        advice = f"want NAME<=NUMBER with a name of {', '.join(NAMES)}"
        raise _refusal(part, f'{advice}, such as "accuracy_drop<=0.5"')
    name, value = (printable(match[key].strip(), _LONGEST) for key in ("name", "value"))
    if name not in NAMES:
        known = f"{', '.join(NAMES)}{did_you_mean(name, NAMES)}"
        raise _refusal(part, f'found "{name}", want one of {known}')
    number = _number(value)
    if name == DROP and not 0.0 <= number <= _MOST_POINTS:
        raise _refusal(part, f'found "{value}", want points, 0 to {_MOST_POINTS:g}')
    if name != DROP and not 0.0 < number <= 1.0:
        raise _refusal(
            part, f'found "{value}", want a share of the dense network, 0 < share <= 1'
        )
    return name, number


def _number(text: str) -> float:
    """Return a number, nan for any other text."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _refusal(part: str, wanted: str) -> ConfigError:
    shown = printable(part.strip(), _LONGEST)
    return ConfigError(f'--target "{shown}": {wanted}')


def _excess(name: str, bound: float, value: float | None) -> float:
    if value is None:
        return math.inf
    return max(value - bound, 0.0) / (1.0 if name == DROP else bound)
