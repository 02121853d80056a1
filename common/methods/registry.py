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
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, TypeVar

from fedprune.common.errors import ConfigError, PayloadError, Reason
from fedprune.common.methods.method import Kind, Method
from fedprune.common.user_code import (
    did_you_mean,
    is_file_reference,
    load_function,
    split_reference,
)

PACKAGE = "fedprune.common.methods"
OFF = "none"
OWN = "own:"  # in messages, before the name of a user's own function

_LONGEST = 100  # characters of a user's own function's name
_NO_FUNCTIONS = (
    (inspect.isclass, "a class"),
    (inspect.iscoroutinefunction, "an async function"),
    (inspect.isasyncgenfunction, "an async generator"),
    (inspect.isgeneratorfunction, "a generator"),
)
_NO_NAMES = (
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.VAR_KEYWORD,
    inspect.Parameter.POSITIONAL_ONLY,
)

F = TypeVar("F", bound=Callable[..., Any])


_registered: dict[str, dict[str, Method]] = {}
_loaded: dict[tuple[str, str], Method] = {}  # users' own, of this process
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
        taken = called == OFF or called in kind.others or called.startswith(OWN)
        if taken or not _NAME.fullmatch(called):
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
    return (*first, *methods(kind), *kind.others)


def parts(kind: Kind, name: str) -> tuple[str, ...]:
    """Return the names in a value: the value itself, or the terms of "a+b".

    A value that names no method, such as "none", has none.

    >>> from fedprune.common.methods.kinds import PENALTY
    >>> parts(PENALTY, "bn-l1+group"), parts(PENALTY, "none")
    (('bn-l1', 'group'), ())
    """
    if (kind.optional and name == OFF) or name in kind.others:
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
    terms = reference.partition(":")[0].split("+")
    if len(terms) > 1 and any(term in methods(kind) for term in terms):
        msg = f"{kind.key} is '{name}'; your own function stands alone, without '+'"
        raise ConfigError(msg)
    if ":" not in reference:
        known = names(kind)
        msg = f"{kind.key} is '{name}'; want one of {', '.join(known)}, or your own "
        msg += f"'file.py:function'{did_you_mean(name, known)}"
        raise ConfigError(msg)
    _, function = split_reference(reference)
    if len(function) > _LONGEST:
        msg = (
            f"{kind.key} names a function of {len(function)} characters; want at most "
        )
        msg += f"{_LONGEST}: a message says its name"
        raise ConfigError(msg)


def forget_loaded() -> None:
    """Load users' own functions anew when they are next needed: at a run's start."""
    _loaded.clear()


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
    # A relative name means another file in another working folder.
    place = str(Path(name).absolute()) if is_file_reference(name) else name
    key = (kind.name, place)
    if key in _loaded:
        return _loaded[key]
    made = _made(kind, name, load_function(name), own=True)
    # Pinned: a file that is edited while a run goes on does not change the run.
    _loaded[key] = made
    return made


def find_all(kind: Kind, name: str) -> tuple[Method, ...]:
    """Return the methods of a value: () for "none", several for "a+b".

    Raises:
        ConfigError: As for ``find``, and for methods that do not fit together.
    """
    found = tuple(find(kind, part) for part in parts(kind, name))
    for need in sorted(kind.once):
        several = [one.name for one in found if need in one.needs]
        if len(several) > 1:
            msg = f"{kind.key} is '{name}'; want one of {' and '.join(several)} at most"
            raise ConfigError(msg)
    return found


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
    needs, options = [], []
    for parameter in _parameters(kind, name, function):
        if parameter.default is not parameter.empty:
            options.append(parameter.name)
            continue
        if parameter.name not in kind.inputs:
            near = did_you_mean(parameter.name, kind.inputs)
            msg = f"{kind.name} '{name}' asks for '{parameter.name}'{near}; a function "
            msg += f"for {kind.key} may ask for {', '.join(kind.inputs)}"
            raise ConfigError(msg)
        needs.append(parameter.name)
    _check_form(kind, name, frozenset(needs), options)
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
        ConfigError: If it is no plain function of named parameters.
    """
    for is_one, what in _NO_FUNCTIONS:
        if is_one(function):
            msg = f"{kind.name} '{name}' is {what}; want a function that returns its "
            msg += "result"
            raise ConfigError(msg)
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        msg = f"{kind.name} '{name}' does not say its parameters; want a function with "
        msg += "named parameters"
        raise ConfigError(msg) from error
    for parameter in found:
        if parameter.kind in _NO_NAMES:
            msg = f"{kind.name} '{name}' takes '{parameter}' without a name; want the "
            msg += f"inputs by their names, of {', '.join(kind.inputs)}"
            raise ConfigError(msg)
    return found


def _origin(function: Callable[..., Any]) -> tuple[str, str]:
    """Return where a function is written; the same when its module is read again."""
    return function.__module__, function.__qualname__


def _check_form(
    kind: Kind, name: str, needs: frozenset[str], options: Sequence[str]
) -> None:
    """Refuse inputs that do not fit together.

    Raises:
        ConfigError: With the sets that fit.
    """
    fits = [must <= needs <= must | besides for must, besides in kind.forms]
    if kind.forms and not any(fits):
        sets = "; or ".join(_form(must, besides) for must, besides in kind.forms)
        msg = f"{kind.name} '{name}' asks for {', '.join(sorted(needs)) or 'nothing'}; "
        msg += f"want {sets}"
        given = [option for option in options if option in kind.inputs]
        if given:
            msg += f"; '{given[0]}' has a default, so it is an option of its own"
        raise ConfigError(msg)


def _form(must: frozenset[str], besides: frozenset[str]) -> str:
    more = f" and maybe {', '.join(sorted(besides))}" if besides else ""
    return f"{', '.join(sorted(must))}{more}"
