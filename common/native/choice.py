"""The choice between the compiled kernels and numpy, made once a process."""

import os
from functools import cache
from pathlib import Path

from fedprune.common.errors import ConfigError
from fedprune.common.native.library import Kernels
from fedprune.common.native.self_test import check
from fedprune.common.text import error_line

VARIABLE = "FEDPRUNE_CODER"
NUMPY, NATIVE = "numpy", "native"
LIBRARY = Path(__file__).resolve().parent / "libkernels.so.1"


@cache
def kernels() -> Kernels | None:
    """Return the kernels of this process, or None if it runs numpy.

    Raises:
        ConfigError: If ``FEDPRUNE_CODER`` has another value, or asks for kernels that
            this installation has not.
    """
    wish = os.environ.get(VARIABLE, "")
    if wish not in {"", NUMPY, NATIVE}:
        msg = f'{VARIABLE} is "{wish}"; want "{NUMPY}" or "{NATIVE}"'
        raise ConfigError(msg)
    if wish == NUMPY:
        return None
    found, reason = load(LIBRARY)
    if found is None and wish == NATIVE:
        msg = f'{VARIABLE} is "{NATIVE}", but {reason}'
        raise ConfigError(msg)
    return found


def describe() -> str:
    """Return the coder that this process runs and, of numpy, why.

    Raises:
        ConfigError: As ``kernels``.
    """
    if kernels() is not None:
        return NATIVE
    if os.environ.get(VARIABLE) == NUMPY:
        return f"{NUMPY}, as {VARIABLE} asks"
    return f"{NUMPY}: {load(LIBRARY)[1]}"


def load(path: Path) -> tuple[Kernels | None, str]:
    """Return the kernels of a library that passes the self-test, or None and why."""
    if not path.is_file():
        return None, "kernels are not compiled: install again with a C compiler"
    try:
        found = Kernels(path)
        check(found)
    except Exception as error:  # kernels that are wrong may refuse the known inputs
        return None, f"the kernels do not work here: {error_line(error)}"
    return found, ""
