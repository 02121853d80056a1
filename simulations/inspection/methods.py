"""The methods of each kind as a listing and as a table: made from the registry."""

from collections.abc import Iterator, Sequence

from fedprune.common.errors import ConfigError
from fedprune.common.methods.kinds import KINDS
from fedprune.common.methods.registry import OFF, Kind, Method, methods
from fedprune.common.user_code import did_you_mean


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
            "inputs": {name: given.text for name, given in kind.inputs.items()},
            "returns": kind.returns,
            "methods": {
                name: {
                    "side": one.side.value,
                    "needs": needs_of(one),
                    "summary": one.summary,
                }
                for name, one in methods(kind).items()
            },
        }
        for kind in kinds
    }


def as_text(kinds: Sequence[Kind]) -> Iterator[str]:
    """Yield the lines of a listing; of a single kind with what its methods may need."""
    for kind in kinds:
        yield f"{kind.key}: {kind.name}, or your own file.py:function"
        if kind.optional:
            yield f'  {OFF:<20} "{OFF}" switches it off'
        for name, one in methods(kind).items():
            summary = one.summary.replace("``", "")
            yield f"  {name:<20} {summary} [{one.side}; {', '.join(needs_of(one))}]"
        if kind.sums:
            yield f"  {'a+b':<20} one after another, the strength shared"
        if len(kinds) == 1:
            yield "a function may ask for, by the names of its parameters:"
            for name, given in kind.inputs.items():
                yield f"  {name:<20} {given.text}"
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
    """Return what a method needs, in the order of its kind."""
    return [name for name in one.kind.inputs if name in one.needs]
