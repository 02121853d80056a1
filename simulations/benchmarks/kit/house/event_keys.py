"""String keys of events outside of the package that reads and writes them."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from fedprune.server.runs import events
from fedprune.server.runs.events.kinds import KINDS
from fedprune.simulations.benchmarks.kit.harness import Figure

_ROOM = Path(events.__file__).resolve().parent
_KEYS = {"event", "time", *(f.name for kind in KINDS.values() for f in fields(kind))}
# What events are called in our code: other mappings have keys of the same names.
_NAMES = {"e", "event", "cut", "started", "last", "first"}
_READERS = {"number", "number_of", "getattr"}  # called with an event and a key


def event_keys(files: Sequence[Path]) -> list[str]:
    """Return ``file:line`` of each field of an event that is read by a string.

    That is a subscript, a ``.get`` or a call of ``number`` or ``getattr`` with the name
    of a field, on something that is called as events are.

    Args:
        files: Python files; those of the events' own package are left out.
    """
    return [
        f"{path.name}:{line}"
        for path in files
        if _ROOM not in path.resolve().parents
        for line in _lines(ast.parse(path.read_text(encoding="utf-8")))
    ]


def event_keys_figure(files: Sequence[Path]) -> Figure:
    """Return the row of the benchmark."""
    found = event_keys(files)
    return Figure(
        name="string keys of events outside their package",
        value=len(found),
        reference="154 at commit 60537a7",
        goal="== 0",
        detail=", ".join(found) or "fields of events are attributes",
    )


def _lines(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        source, key = _read(node)
        if isinstance(key, ast.Constant) and key.value in _KEYS and _is_event(source):
            yield key.lineno


def _read(node: ast.AST) -> tuple[ast.expr | None, ast.expr | None]:
    """Return what a node reads from and by which key, (None, None) of another node."""
    if isinstance(node, ast.Subscript):
        return node.value, node.slice
    if not isinstance(node, ast.Call) or not node.args:
        return None, None
    called = node.func
    if isinstance(called, ast.Attribute) and called.attr == "get":
        return called.value, node.args[0]
    if isinstance(called, ast.Name) and called.id in _READERS and len(node.args) > 1:
        return node.args[0], node.args[1]
    return None, None


def _is_event(source: ast.expr | None) -> bool:
    if isinstance(source, ast.Attribute):
        return source.attr in _NAMES
    if isinstance(source, ast.Subscript):
        return isinstance(source.value, ast.Name) and source.value.id == "rounds"
    return isinstance(source, ast.Name) and source.id in _NAMES
