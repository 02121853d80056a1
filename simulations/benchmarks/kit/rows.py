"""Long benchmarks in pieces: each is measured once and stored in a folder."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import t as student
from typing_extensions import override

from fedprune.common.errors import IntegrityError
from fedprune.common.system.atomic import write_json_atomic
from fedprune.common.system.json_file import read_json
from fedprune.simulations.benchmarks.kit.harness import commit

Raw = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean and its interval.

    Attributes:
        mean: Mean over the seeds of the mean over examples.
        low: Lower end, -inf for one seed.
        high: Upper end, inf for one seed.
        seeds: Number of seeds, >= 1.
    """

    mean: float
    low: float
    high: float
    seeds: int

    def scaled(self, factor: float) -> "Interval":
        """Return it in another unit; factor > 0."""
        return Interval(
            mean=factor * self.mean,
            low=factor * self.low,
            high=factor * self.high,
            seeds=self.seeds,
        )

    @override
    def __str__(self) -> str:
        """Return its ends and the number of seeds, for a table."""
        if self.seeds == 1:
            return "n = 1, no interval"
        low, high = f"{self.low:+.3g}", f"{self.high:+.3g}"
        return f"95 % interval {low} to {high}, n = {self.seeds}"


class RowStore:
    """Store of raw results, one JSON file each; stored results are not measured again.

    Args:
        folder: Folder of the files; made when needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._commit = commit()  # of the code that runs, whatever happens meanwhile

    def find(self, name: str) -> Raw | None:
        """Return a stored result, or None.

        Raises:
            IntegrityError: If the stored file is not a result.
        """
        path = self._folder / f"{name}.json"
        return _read(path) if path.is_file() else None

    def get(self, name: str, work: Callable[[], Raw]) -> Raw:
        """Return a stored result, or measure and store it.

        Args:
            name: Its name, also that of its file.
            work: Measures it; returns JSON values, all numbers finite.

        Returns:
            The result, with the commit that it was measured on as ``commit``.

        Raises:
            IntegrityError: If the stored file is not a result.
        """
        stored = self.find(name)
        if stored is not None:
            return stored
        found = {"commit": self._commit, **work()}
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json_atomic(self._folder / f"{name}.json", found)
        print(f"{name}: measured", flush=True)
        return found


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and half width of its 95 % interval by Student's t; NaN for n = 1.

    >>> mean, half = interval([1.0, 2.0, 3.0])
    >>> round(mean, 3), round(half, 3)
    (2.0, 2.484)
    """
    count = len(values)
    mean = sum(values) / count
    if count == 1:
        return mean, math.nan
    variance = sum((value - mean) ** 2 for value in values) / (count - 1)
    quantile = float(student.ppf(0.975, count - 1))
    return mean, quantile * math.sqrt(variance / count)


def over_seeds(values: Sequence[float]) -> Interval:
    """Return mean and 95 % interval of one value a seed; without ends for one seed.

    >>> over_seeds([1.0]).low, round(over_seeds([1.0, 2.0, 3.0]).high, 2)
    (-inf, 4.48)
    """
    mean, half = interval(values)
    half = math.inf if math.isnan(half) else half
    return Interval(mean=mean, low=mean - half, high=mean + half, seeds=len(values))


def spread_text(values: Sequence[float]) -> str:
    """Return the 95 % interval of a mean and the values, for a figure's detail."""
    mean, half = interval(values)
    each = ", ".join(f"{value:+.2f}" for value in values)
    if math.isnan(half):
        return f"n = 1, no interval: {each}"
    low, high = mean - half, mean + half
    return f"95 % interval {low:+.2f} to {high:+.2f}, n = {len(values)}: {each}"


def origin(found: Sequence[Raw]) -> str:
    """Return the other commits that results were measured on, or ""."""
    others = sorted({str(raw["commit"]) for raw in found} - {commit()})
    return f"; measured on {', '.join(others)}" if others else ""


def _read(path: Path) -> Raw:
    value = read_json(path, "a stored result")
    if not isinstance(value, dict) or "commit" not in value:
        msg = f"{path} is not a stored result; delete it to measure it again"
        raise IntegrityError(msg)
    return value
