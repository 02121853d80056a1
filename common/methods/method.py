"""Methods as values: their kind, what they may need, and how they are called."""

import inspect
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedprune.common.errors import ConfigError
from fedprune.common.text import first_line


class Side(StrEnum):
    """The side that runs a method."""

    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A value that methods of a kind get if they have a parameter of this name.

    Attributes:
        text: Type, shape, unit and range, for authors of methods.
        side: The side that has the value, if the inputs of the kind differ in it;
            else None.
    """

    text: str
    side: Side | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of methods: one key of the configuration.

    Attributes:
        name: Its name, such as "importance".
        key: The key, such as "prune.importance".
        side: The side that runs its methods, unless an input has another side.
        inputs: The possible inputs of its methods, by parameter name.
        returns: Their return value: type, shape and range, for authors of methods.
        forms: Sets of inputs that fit together, as (required, optional); empty = any.
        optional: Whether the key may be "none".
        sums: Whether "a+b" applies one method after another.
        once: Inputs of at most one method of a sum.
        others: Value of the key that names no method -> what does the work.
    """

    name: str
    key: str
    side: Side
    inputs: Mapping[str, Input]
    returns: str
    forms: tuple[tuple[frozenset[str], frozenset[str]], ...] = ()
    optional: bool = False
    sums: bool = False
    once: frozenset[str] = frozenset()
    others: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A function that does the work of a key.

    Attributes:
        kind: Its kind.
        name: The value of the key: a registered name or a reference to code.
        function: The function.
        needs: Names of its parameters without a default, all of them inputs of the
            kind.
        laws: Names of the laws that the tests check.
        own: Whether it is a user's own function.
    """

    kind: Kind
    name: str
    function: Callable[..., Any] = field(repr=False)
    needs: frozenset[str]
    laws: tuple[str, ...] = ()
    own: bool = False

    @property
    def side(self) -> Side:
        """The side that runs it."""
        sides = {self.kind.inputs[need].side for need in self.needs} - {None}
        return Side.CLIENT if Side.CLIENT in sides else self.kind.side

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    def __call__(self, **inputs: Any) -> Any:  # noqa: ANN401 - each kind has its own
        """Call it with those of the inputs that it needs.

        Arrays are handed to a user's own function for reading only.

        Raises:
            ConfigError: If a user's own function fails, with file and line.
        """
        if not self.own:
            return self.function(**{need: inputs[need] for need in self.needs})
        given = {need: _for_reading(inputs[need]) for need in self.needs}
        try:
            return self.function(**given)
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            what = f"{type(error).__name__}: {first_line(error)}"
            msg = f"{self.kind.key} '{self.name}' failed{_line_of(error)}: {what}"
            raise ConfigError(msg) from error


def finite_numbers(
    method: Method, found: object, count: int
) -> NDArray[np.floating[Any]]:
    """Return what a rule returned, as floats[count], after a check.

    Raises:
        ConfigError: If it is not a finite real number for each position.
    """
    try:
        numbers = np.asarray(found)
    except ValueError:  # rows of different lengths
        numbers = np.zeros(0, dtype=object)
    real = numbers.dtype.kind in "biuf"
    key = f"{method.kind.key} '{method.name}' returned"
    if not real or numbers.shape != (count,):
        what = f"{numbers.dtype}{list(numbers.shape)}" if real else type(found).__name__
        msg = f"{key} {what}; want {count} finite numbers, one for each position"
        raise ConfigError(msg)
    wrong = np.count_nonzero(~np.isfinite(numbers))
    if wrong:
        msg = f"{key} {wrong} numbers that are not finite; want {count} finite numbers"
        raise ConfigError(msg)
    return numbers.astype(np.result_type(numbers, np.float32), copy=False)


def _for_reading(value: object) -> object:
    """Return an array as a view that cannot be written to, other values unchanged."""
    if not isinstance(value, np.ndarray):
        return value
    view = value.view()
    view.flags.writeable = False
    return view


def _line_of(error: BaseException) -> str:
    """Return " at FILE:LINE", the last line of the user's code that was running."""
    frames = list(traceback.extract_tb(error.__traceback__))[1:]
    own = [frame for frame in frames if "site-packages" not in frame.filename]
    return f" at {own[-1].filename}:{own[-1].lineno}" if own else ""
