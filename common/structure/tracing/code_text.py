"""The code of classes and functions as text, for the name of a traced network.

Compiled code counts, not source text: names, constants and instructions, so a changed
comment does not matter.  Other releases of Python compile otherwise.  Code of torch and
of Python's standard library counts by its name.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from types import CodeType

Plain = Callable[[object], str]

_CONSTANTS = (bool, int, float, complex, str, bytes, tuple)
_KNOWN = frozenset({"torch", *sys.stdlib_module_names}) - {"__main__"}


def is_known(item: object) -> bool:
    """Return whether a class or function is torch's or Python's own."""
    return str(getattr(item, "__module__", "")).partition(".")[0] in _KNOWN


def code_of_class(kind: type, plain: Plain) -> str:
    """Return the code and constants that a class and its bases define; "" for torch's.

    ``__init__`` is left out: its result is in the module itself.

    Args:
        kind: The class.
        plain: Writes a constant as text.
    """
    return "; ".join(
        f"{name}={_item(name, item, plain)}"
        for base in kind.__mro__
        if not is_known(base)
        for name, item in sorted(vars(base).items())
        if name != "__init__"
    )


def _item(name: str, item: object, plain: Plain) -> str:
    if isinstance(item, _CONSTANTS) and not name.startswith("__"):
        return plain(item)
    return code_of_function(item, plain)


def code_of_function(function: object, plain: Plain) -> str:
    """Return the code of a function or of a wrapped one; "" where none is visible.

    Args:
        function: The function, method, property or callable.
        plain: Writes a constant as text.
    """
    for name in ("__func__", "fget", "__wrapped__"):
        function = getattr(function, name, None) or function
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType) or is_known(function):
        return ""
    defaults = getattr(function, "__defaults__", None)
    named = getattr(function, "__kwdefaults__", None)
    closed_over = plain(_closed_over(function))
    return f"{_text(code, plain)} {plain(defaults)} {plain(named)} {closed_over}"


def _closed_over(function: object) -> list[object]:
    """Return the constants in the closure of a function."""
    found: list[object] = []
    for cell in getattr(function, "__closure__", None) or ():
        with suppress(ValueError):  # not filled yet
            if isinstance(cell.cell_contents, _CONSTANTS):
                found.append(cell.cell_contents)
    return found


def _text(code: CodeType, plain: Plain) -> str:
    constants = ", ".join(
        _text(item, plain) if isinstance(item, CodeType) else plain(item)
        for item in code.co_consts
    )
    names = (*code.co_names, *code.co_varnames, *code.co_freevars)
    return f"({code.co_code.hex()} {' '.join(names)} [{constants}])"
