"""Code of the user: functions named ``module:function`` or ``file.py:function``."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from sysconfig import get_paths
from traceback import walk_tb
from types import ModuleType
from typing import Any, TypeVar

from fedprune.common.errors import ConfigError
from fedprune.common.spec import digest_of

T = TypeVar("T")

OWN_CODE = ", in your code at"  # in every message with a place of the user's code
_PATHS = ("stdlib", "platstdlib", "purelib", "platlib")
_INSTALLED = (
    str(Path(__file__).parents[1]),
    *(get_paths()[name] for name in _PATHS),
    *map(str, {Path(get_paths()[name]).resolve() for name in _PATHS}),
)

_loading: list[str] = []  # sources of user code that run at this moment

# Prefixes of names with a colon that are not code: networks and data.
MODEL_LIBRARIES = ("timm", "torchvision", "hf")
DATA_KINDS = ("npz", "folder", "parquet", "hf-dataset")
TASK_PREFIX = "task:"  # before the reference of a task that makes its network
PYTHON = "python"  # instead of a name: a network or task that Python code makes
RANDOM = "@random"  # behind the name of a library's network: no weights of its own


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"``, or an empty string without a similar name.

    >>> did_you_mean("lenet", ["lenet5", "mlp"])
    "; did you mean 'lenet5'?"
    >>> did_you_mean("transformer", ["lenet5", "mlp"])
    ''
    """
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def split_blocks(name: str) -> tuple[str, tuple[str, ...]]:
    """Return a model's name without its list of dropped blocks, and that list.

    >>> split_blocks("resnet18[-stages.2.1,-stages.3.1]")
    ('resnet18', ('stages.2.1', 'stages.3.1'))
    >>> split_blocks("mlp")
    ('mlp', ())

    Raises:
        ConfigError: If the part in brackets is not a list of ``-BLOCK``.
    """
    if not name.endswith("]") or "[" not in name:
        return name, ()
    whole, _, inside = name[:-1].partition("[")
    parts = [part.strip() for part in inside.split(",")]
    if not whole or not all(part.startswith("-") and part[1:] for part in parts):
        msg = f"model '{name}' drops blocks as 'NAME[-BLOCK,-BLOCK]'"
        raise ConfigError(msg)
    return whole, tuple(part[1:] for part in parts)


def split_reference(reference: str) -> tuple[str, str]:
    """Split ``module:function`` or ``file.py:function`` at the last colon.

    Raises:
        ConfigError: If one of the two halves is empty or not an identifier.
    """
    source, _, name = reference.rpartition(":")
    if not source or source.endswith(":") or not name.isidentifier():
        msg = f"'{reference}' is not 'module:function' or 'file.py:function'"
        raise ConfigError(msg)
    return source, name


def is_file_reference(reference: str) -> bool:
    """Return whether the code is in a file rather than in an installed module."""
    return reference.rpartition(":")[0].endswith(".py")


def check_reference(reference: str) -> None:
    """Check that a reference's file or top module exists; none of its code is run.

    Raises:
        ConfigError: If the reference is malformed or there is no such file or module.
    """
    source, _ = split_reference(reference)
    if is_file_reference(reference):
        _file_path(source)
        return
    top = source.partition(".")[0]
    if top not in sys.modules and (not top.isidentifier() or find_spec(top) is None):
        msg = (
            f"there is no module '{top}' for '{reference}'; code in a file is named "
            f"'path/to/file.py:function'"
        )
        raise ConfigError(msg)


def load_function(reference: str) -> Callable[..., Any]:
    """Load the function of a reference; its module runs once.

    A file is loaded from its location, relative to the working folder; its folder is
    appended to ``sys.path``, never put first, so that it cannot shadow an installed
    module.  The bytes of the file are run, never bytecode beside it.

    Args:
        reference: ``module:function`` or ``file.py:function``.

    Raises:
        ConfigError: If there is no such file, module or function, or its code fails.
    """
    source, name = split_reference(reference)
    module = (
        _load_file(source) if is_file_reference(reference) else _load_module(source)
    )
    found = getattr(module, name, None)
    if callable(found):
        function: Callable[..., Any] = found
        return function
    known = [key for key, value in vars(module).items() if callable(value)]
    what = "no function" if found is None else "something not callable"
    msg = f"'{source}' has {what} named '{name}'{did_you_mean(name, known)}"
    raise ConfigError(msg)


def in_own_code(error: BaseException) -> str:
    """Return the place in the user's code where an error arose, for a message.

    Of the innermost frame of the error or of its causes that is neither FedPrune's,
    nor Python's, nor an installed package's.

    Returns:
        ``, in your code at FILE:LINE (FUNCTION)``, or "" without such a frame.
    """
    found = ""
    cause: BaseException | None = error
    while cause is not None:
        for frame, line in walk_tb(cause.__traceback__):
            code = frame.f_code
            if _is_own(code.co_filename):
                name = Path(code.co_filename).name
                found = f"{OWN_CODE} {name}:{line} ({code.co_name})"
        cause = cause.__cause__
    return found


def _is_own(file: str) -> bool:
    """Return whether a file of code is the user's; cells of a session are too."""
    if file.startswith("<"):
        return file.startswith(("<ipython-input", "<stdin>"))
    return not file.startswith(_INSTALLED)


def call_factory(factory: Callable[[], T]) -> T:
    """Return the result of a caller's factory; its own errors pass unchanged.

    Raises:
        ConfigError: If it exits: the program would end without a message.
    """
    try:
        return factory()
    except SystemExit as error:
        msg = f"the factory of the network called exit({error.code!r})"
        raise ConfigError(msg) from error


def is_loading() -> bool:
    """Return whether a file or module of the user runs now, to load its code."""
    return bool(_loading)


@contextmanager
def _noted(source: str) -> Iterator[None]:
    """Note that a source runs while the block does."""
    _loading.append(source)
    try:
        yield
    finally:
        _loading.remove(source)


def _load_module(name: str) -> ModuleType:
    try:
        with _noted(name):
            return import_module(name)
    except (Exception, SystemExit) as error:
        msg = f"cannot import '{name}': {type(error).__name__}: {error}"
        raise ConfigError(msg) from error


def _file_path(source: str) -> Path:
    path = Path(source).expanduser().resolve()
    if not path.is_file():
        msg = f"there is no file '{source}' (looked at {path})"
        raise ConfigError(msg)
    return path


def _load_file(source: str) -> ModuleType:
    path = _file_path(source)
    source_bytes = path.read_bytes()
    # Named after path and content: the same file runs once, an edited one again.
    digest = digest_of(str(path).encode(), source_bytes).hex()
    name = f"fedprune_user_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    return _execute(path, source_bytes, name)


def _execute(path: Path, source: bytes, name: str) -> ModuleType:
    """Run a file's bytes as a module; its loader might use a .pyc instead."""
    spec = spec_from_file_location(name, path)
    if spec is None:
        msg = f"'{path}' cannot be loaded as Python code"
        raise ConfigError(msg)
    module = module_from_spec(spec)
    # Registered before it runs, because dataclasses look their module up.
    sys.modules[name] = module
    try:
        code = compile(source, str(path), "exec", dont_inherit=True)
        with _noted(str(path)):
            exec(code, vars(module))  # noqa: S102 - the user's own code, on the user's request
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        msg = f"the code in '{path}' failed: {type(error).__name__}: {error}"
        raise ConfigError(msg) from error
    return module
