"""The methods of each kind as a listing and as a table: made from the registry."""

from collections.abc import Collection, Iterator, Sequence
from inspect import signature

from fedprune.common.errors import ConfigError
from fedprune.common.methods.kinds import KINDS
from fedprune.common.methods.method import Kind, Method
from fedprune.common.methods.registry import OFF, methods
from fedprune.common.user_code import did_you_mean

SUM = "a+b"
OWN_FORMS = ("module:function", "file.py:function")


def kinds_of(name: str) -> tuple[Kind, ...]:
    """Return the kind of a name or key, or all kinds for "".

    Raises:
        ConfigError: If there is no such kind.
    """
    found = tuple(kind for kind in KINDS if name in ("", kind.name, kind.key))
    if not found:
        known = [kind.name for kind in KINDS]
        msg = f"there is no kind of methods '{name}'{did_you_mean(name, known)}; want "
        msg += f"one of {', '.join(known)}"
        raise ConfigError(msg)
    return found


def as_data(kinds: Sequence[Kind]) -> dict[str, object]:
    """Return kinds and their methods as JSON would hold them."""
    return {
        kind.key: {
            "kind": kind.name,
            "values": list(values_of(kind)),
            "inputs": {name: given.text for name, given in kind.inputs.items()},
            "together": [
                {
                    "required": _in_order(kind, required),
                    "optional": _in_order(kind, optional),
                }
                for required, optional in kind.forms
            ],
            "once": _in_order(kind, kind.once),
            "returns": kind.returns,
            "methods": {
                name: {
                    "side": one.side.value,
                    "needs": needs_of(one),
                    "options": options_of(one),
                    "laws": list(one.laws),
                    "summary": one.summary,
                }
                for name, one in methods(kind).items()
            },
        }
        for kind in kinds
    }


def as_text(kinds: Sequence[Kind]) -> Iterator[str]:
    """Yield the lines of a listing; of a single kind with the inputs of its methods."""
    for kind in kinds:
        yield f"{kind.key}: {kind.name}, or your own file.py:function"
        if kind.optional:
            yield f'  {OFF:<20} "{OFF}" switches it off'
        for name, text in kind.others.items():
            yield f"  {name:<20} {text}"
        for name, one in methods(kind).items():
            summary = one.summary.replace("``", "")
            yield f"  {name:<20} {summary} [{'; '.join(_facts(one))}]"
        if kind.sums:
            yield f"  {SUM:<20} one after another, the strength shared"
        if len(kinds) == 1:
            yield from _signature(kind)


def _facts(one: Method) -> Iterator[str]:
    yield one.side.value
    yield ", ".join(needs_of(one))
    options = [f"{name}={value}" for name, value in options_of(one).items()]
    if options:
        yield f"options {', '.join(options)}"
    if one.laws:
        yield f"laws {', '.join(one.laws)}"


def _signature(kind: Kind) -> Iterator[str]:
    """Yield the lines on parameters and return value of a kind's functions."""
    yield "a function may ask for, by the names of its parameters:"
    for name, given in kind.inputs.items():
        yield f"  {name:<20} {given.text}"
    if kind.forms:
        yield "of these go together, one line each:"
    else:
        yield "any of these go together"
    for required, optional in kind.forms:
        more = ", ".join(_in_order(kind, optional))
        line = ", ".join(_in_order(kind, required))
        yield f"  {line}{f', and maybe {more}' if more else ''}"
    for name in _in_order(kind, kind.once):
        yield f"in {SUM} at most one may ask for {name}"
    yield "parameters with a default are options of the function, left as they are"
    yield f"it returns {kind.returns}"


def as_markdown(kinds: Sequence[Kind]) -> Iterator[str]:
    """Yield the lines of the guide's table of methods."""
    yield "| key | method | side | needs | what it does |"
    yield "|---|---|---|---|---|"
    for kind in kinds:
        for name, one in methods(kind).items():
            needs = ", ".join(f"`{need}`" for need in needs_of(one))
            summary = one.summary.replace("``", "`")
            cells = (f"`{kind.key}`", f"`{name}`", one.side.value, needs, summary)
            yield f"| {' | '.join(cells)} |"


def needs_of(one: Method) -> list[str]:
    """Return the inputs that a method needs, in the order of its kind."""
    return _in_order(one.kind, one.needs)


def options_of(one: Method) -> dict[str, str]:
    """Return the parameters of a method that have a default: name -> default, as code.

    FedPrune leaves them as they are.
    """
    parameters = signature(one.function).parameters.values()
    return {
        given.name: repr(given.default)
        for given in parameters
        if given.default is not given.empty
    }


def values_of(kind: Kind) -> tuple[str, ...]:
    """Return the forms that the value of a key may have."""
    off = (OFF,) if kind.optional else ()
    return ("NAME", *off, *((SUM,) if kind.sums else ()), *OWN_FORMS)


def _in_order(kind: Kind, names: Collection[str]) -> list[str]:
    """Return some inputs in the order of their kind."""
    return [name for name in kind.inputs if name in names]
