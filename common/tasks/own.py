"""A user's own task: found by ``task.use``, and the digest of its code."""

import ast
import hashlib
import inspect
import sys
from functools import partial
from pathlib import Path
from textwrap import dedent
from types import CodeType, FunctionType

from torch import nn

from fedprune.common.errors import ConfigError
from fedprune.common.models.factory import Factory, checked_network
from fedprune.common.tasks.task import Task
from fedprune.common.text import first_line
from fedprune.common.user_code import load_function


def load_task(use: str) -> Task:
    """Return the task of ``task.use``; the built-in one for "".

    Args:
        use: ``file.py:MyTask`` or ``module:MyTask``: a subclass of ``Task`` that is
            made without arguments, or a function that returns one.

    Raises:
        ConfigError: If there is no such code, it fails, or it returns something else.
    """
    if not use:
        return Task()
    make = load_function(use)
    try:
        found: object = make()
    except (Exception, SystemExit) as error:
        msg = f"task.use = '{use}' failed: {first_line(error, kind=True)}"
        raise ConfigError(msg) from error
    if not isinstance(found, Task):
        msg = f"task.use = '{use}' gives a {type(found).__name__}; want a subclass of "
        msg += "fedprune.Task"
        raise ConfigError(msg)
    return found


def load_given(use: str) -> Task | Factory:
    """Return what a Python caller would hand over: a task, or a network's function.

    Args:
        use: ``file.py:NAME`` or ``module:NAME``: a subclass of ``Task``, a function
            that returns one, or a function or class that makes the uncut network.

    Raises:
        ConfigError: If there is no such code, it fails, or it makes something else.
    """
    make = load_function(use)
    if isinstance(make, type) and issubclass(make, Task):
        return load_task(use)
    try:
        found: object = make()
    except (Exception, SystemExit) as error:
        msg = f"--use '{use}' failed: {first_line(error, kind=True)}"
        raise ConfigError(msg) from error
    if isinstance(found, Task):
        return found
    if isinstance(found, nn.Module):
        return partial(checked_network, make)
    msg = f"--use '{use}' gives a {type(found).__name__}; want a fedprune.Task, or the "
    msg += "function that makes the network"
    raise ConfigError(msg)


def python_task(where: Path, call: str) -> str:
    """Return the message about a task that only a caller's Python code makes.

    Args:
        where: Folder of the run.
        call: How Python code hands it over.
    """
    msg = f"Python code handed over the task of {where}; name it: --use FILE.py:CLASS "
    return f"{msg}(in Python {call})"


def code_digest(task: Task) -> str:
    """Return the digest of a task's own code, hex; "" for the built-in one.

    Of the syntax, so that comments, docstrings and layout do not count.  A class in a
    file counts with the whole file, one of a notebook or a session alone.
    """
    own = [kind for kind in type(task).__mro__ if issubclass(kind, Task)]
    texts = [_syntax(kind) for kind in own if kind is not Task]
    if not texts:
        return ""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _syntax(kind: type) -> str:
    """Return the syntax of a class, or its byte code where the source is not known."""
    module = sys.modules.get(kind.__module__)
    path = getattr(module, "__file__", None)
    try:
        if path is not None and Path(path).is_file():
            text = Path(path).read_text(encoding="utf-8")
        else:
            text = dedent(inspect.getsource(kind))
        return _without_docs(text)
    except (OSError, TypeError, SyntaxError, UnicodeDecodeError):
        return _byte_code(kind)


def _without_docs(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _byte_code(kind: type) -> str:
    found = [kind.__qualname__]
    for name, value in sorted(vars(kind).items()):
        code = value.__code__ if isinstance(value, FunctionType) else None
        found.append(f"{name} {_instructions(code) if code else ''}")
    return "\n".join(found)


def _instructions(code: CodeType) -> str:
    inner = [_instructions(x) for x in code.co_consts if isinstance(x, CodeType)]
    plain = [repr(x) for x in code.co_consts if not isinstance(x, CodeType)]
    return f"{code.co_code.hex()} {code.co_names} {plain} {inner}"
