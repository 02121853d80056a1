"""The registry of methods: functions that the configuration chooses.

A method is registered where it is written, by a decorator::

    @method(IMPORTANCE, "l1", laws=("scales",))
    def mean_magnitude(weights: ChannelWeights) -> Scores:
        "The mean magnitude of the weights that produce each channel."

The names of its parameters are inputs of its kind (``fedprune.common.methods.kinds``);
it is called with these and nothing else.  Every module of this package is searched, so
a new file in it is a new method: configuration, wire, help and tables list the methods
that are found.

A key accepts the user's own function as well, ``module:function`` or
``file.py:function``, from this user's command line or TOML file only.  A message never
names code: it contains ``own:function``, and a receiver runs the function that its own
configuration names for that key, if it has this name (``resolve``).
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar

from fedprune.common.errors import ConfigError, PayloadError, Reason
from fedprune.common.user_code import (
    did_you_mean,
    load_function,
    split_reference,
)

PACKAGE = "fedprune.common.methods"
OFF = "none"
OWN = "own:"  # in messages, before the name of a user's own function

F = TypeVar("F", bound=Callable[..., Any])


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
    """

    name: str
    key: str
    side: Side
    inputs: Mapping[str, Input]
    returns: str
    forms: tuple[tuple[frozenset[str], frozenset[str]], ...] = ()
    optional: bool = False
    sums: bool = False


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
        """Call it with those of the inputs that it needs."""
        return self.function(**{need: inputs[need] for need in self.needs})


_registered: dict[str, dict[str, Method]] = {}
_NAME = re.compile(r"[a-z0-9]+([:-][a-z0-9]+)*")  # "+" joins names


def method(
    kind: Kind, name: str = "", *, laws: tuple[str, ...] = ()
) -> Callable[[F], F]:
    """Register a function as a method.

    Args:
        kind: Its kind.
        name: Its name; "" = the function's, with dashes.
        laws: Names of laws that it satisfies beyond those of its kind.

    Raises:
        ValueError: If another function has this name, or it cannot be a name: letters,
            digits, "-" and ":".
        ConfigError: If it asks for what its kind does not give.
    """

    def register(function: F) -> F:
        called = name or function.__name__.replace("_", "-")
        if not _NAME.fullmatch(called) or called == OFF or called.startswith(OWN):
            msg = f"a {kind.name} cannot be called {called!r}; want 'my-name'"
            raise ValueError(msg)
        known = _registered.setdefault(kind.name, {})
        found = known.get(called)
        if found is not None and _origin(found.function) != _origin(function):
            msg = f"{kind.name} '{called}' is registered twice"
            raise ValueError(msg)
        known[called] = _made(kind, called, function, laws=laws)
        return function

    return register


def unregister(kind: Kind, name: str) -> None:
    """Forget a method, where a measurement or a notebook has added it for a while."""
    _registered.get(kind.name, {}).pop(name, None)


def methods(kind: Kind) -> dict[str, Method]:
    """Return the registered methods of a kind in alphabetic order, name -> method."""
    _discover(tuple(import_module(PACKAGE).__path__))
    return dict(sorted(_registered.get(kind.name, {}).items()))


@cache
def _discover(folders: tuple[str, ...]) -> None:
    """Import every module of the package, which registers its methods."""
    for module in iter_modules(folders):
        import_module(f"{PACKAGE}.{module.name}")


def names(kind: Kind) -> tuple[str, ...]:
    """Return the valid names of a key beside a user's own functions."""
    first = (OFF,) if kind.optional else ()
    return (*first, *methods(kind))


def parts(kind: Kind, name: str) -> tuple[str, ...]:
    """Return the names in a value: the value itself, or the terms of "a+b".

    >>> from fedprune.common.methods.kinds import PENALTY
    >>> parts(PENALTY, "bn-l1+group"), parts(PENALTY, "none")
    (('bn-l1', 'group'), ())
    """
    if kind.optional and name == OFF:
        return ()
    known = methods(kind)
    terms = tuple(name.split("+"))
    if kind.sums and len(terms) > 1 and all(term in known for term in terms):
        return terms
    return (name,)


def own_code(kind: Kind, name: str) -> str:
    """Return the reference to a user's own code in a value, or ""."""
    known = methods(kind)
    return next((part for part in parts(kind, name) if part not in known), "")


def check_name(kind: Kind, name: str) -> None:
    """Refuse a value that is neither the name of a method nor a reference to code.

    The code itself is not searched: a configuration may be read on another machine.

    Raises:
        ConfigError: With the known names.
    """
    reference = own_code(kind, name)
    if name and not reference:
        return
    if ":" not in reference:
        known = names(kind)
        msg = f"{kind.key} is '{name}'; want one of {', '.join(known)}, or your own "
        msg += f"'file.py:function'{did_you_mean(name, known)}"
        raise ConfigError(msg)
    split_reference(reference)


def find(kind: Kind, name: str) -> Method:
    """Return one method; a user's own is loaded, which runs its file.

    Only for names from this user's own configuration.

    Raises:
        ConfigError: If no method has this name, or a parameter is not an input.
    """
    found = methods(kind).get(name)
    if found is not None:
        return found
    check_name(kind, name)
    return _made(kind, name, load_function(name), own=True)


def find_all(kind: Kind, name: str) -> tuple[Method, ...]:
    """Return the methods of a value: () for "none", several for "a+b"."""
    return tuple(find(kind, part) for part in parts(kind, name))


def resolve(kind: Kind, received: str, own: str) -> str:
    """Return a message's value of a key; code is the one of this side's configuration.

    Args:
        kind: The kind.
        received: The value in the message.
        own: The value in this side's own configuration.

    Raises:
        PayloadError: If it is a function that the own configuration does not name.
    """
    if not received.startswith(OWN):
        return received
    function = received.removeprefix(OWN)
    reference = own_code(kind, own)
    if not reference or reference.rpartition(":")[2] != function:
        detail = (
            f"the sender's own function '{function}', and {kind.key} is '{own}' here; "
            f"want 'file.py:{function}' in this device's configuration"
        )
        raise PayloadError(Reason.UNKNOWN, kind.key, detail)
    return own


def wire_name(kind: Kind, name: str) -> str:
    """Return the value of a key as a message contains it."""
    reference = own_code(kind, name)
    return f"{OWN}{split_reference(reference)[1]}" if reference else name


def _made(
    kind: Kind,
    name: str,
    function: Callable[..., Any],
    *,
    laws: tuple[str, ...] = (),
    own: bool = False,
) -> Method:
    """Return a function as a method of a kind, after a check of its parameters."""
    needs = []
    for parameter in _parameters(kind, name, function):
        if parameter.default is not parameter.empty:
            continue
        if parameter.name not in kind.inputs:
            near = did_you_mean(parameter.name, kind.inputs)
            msg = f"{kind.name} '{name}' asks for '{parameter.name}'{near}; a function "
            msg += f"for {kind.key} may ask for {', '.join(kind.inputs)}"
            raise ConfigError(msg)
        needs.append(parameter.name)
    _check_form(kind, name, frozenset(needs))
    return Method(
        kind=kind,
        name=name,
        function=function,
        needs=frozenset(needs),
        laws=laws,
        own=own,
    )


def _parameters(
    kind: Kind, name: str, function: Callable[..., Any]
) -> list[inspect.Parameter]:
    """Return the parameters of a function.

    Raises:
        ConfigError: If it does not say them, as some that are written in C.
    """
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        msg = f"{kind.name} '{name}' does not say its parameters; want a function with "
        msg += "named parameters"
        raise ConfigError(msg) from error


def _origin(function: Callable[..., Any]) -> tuple[str, str]:
    """Return where a function is written; the same when its module is read again."""
    return function.__module__, function.__qualname__


def _check_form(kind: Kind, name: str, needs: frozenset[str]) -> None:
    """Refuse inputs that do not fit together.

    Raises:
        ConfigError: With the sets that fit.
    """
    fits = [must <= needs <= must | besides for must, besides in kind.forms]
    if kind.forms and not any(fits):
        sets = "; or ".join(_form(must, besides) for must, besides in kind.forms)
        msg = f"{kind.name} '{name}' asks for {', '.join(sorted(needs)) or 'nothing'}; "
        msg += f"want {sets}"
        raise ConfigError(msg)


def _form(must: frozenset[str], besides: frozenset[str]) -> str:
    more = f" and maybe {', '.join(sorted(besides))}" if besides else ""
    return f"{', '.join(sorted(must))}{more}"
