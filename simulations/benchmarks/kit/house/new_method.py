"""Edits that a new method needs outside of its own file: one of each kind is added."""

import ast
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from fedprune.common.codec.fields import SETTINGS
from fedprune.common.config.method_key import MethodKey
from fedprune.common.errors import ConfigError, PayloadError
from fedprune.common.methods.kinds import KINDS
from fedprune.common.methods.method import Kind
from fedprune.common.methods.registry import PACKAGE, check_name, names, unregister
from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.inspection.methods import as_data

_NAME = "house-{number}"
_FEWEST = 3  # names of one kind that make a copied list
_FILE = '''"""A method that the house benchmark adds."""

from fedprune.common.methods.kinds import KINDS
from fedprune.common.methods.registry import method


@method(KINDS[{number}], "{name}")
def added({inputs}):
    """Added."""
'''
# Settings of a plan that name a method, by the key of the kind.
_ON_THE_WIRE = {
    "prune.importance": "importance",
    "client.penalty": "penalty",
    "update.choice": "choice",
}


def edits_figure(files: Sequence[Path]) -> Figure:
    """Return the figure of the edits beside the file of a new method.

    Args:
        files: The product's source files.
    """
    copies = [found for path in files for found in _copied_lists(path)]
    unknown = [found for kind in KINDS for found in _unknown_places(kind)]
    return Figure(
        name="edits outside the own file for a new method",
        value=len(copies) + len(unknown),
        reference="6 at commit a29d834, for a criterion",
        goal="== 0",
        detail=f"one of each of {len(KINDS)} kinds is added as a file; places that do "
        f"not know it: {', '.join(unknown) or 'none'}; copied lists of names: "
        f"{', '.join(copies) or 'none'}",
    )


def _unknown_places(kind: Kind) -> Iterator[str]:
    """Add one file with a method of a kind; yield the places that do not know it."""
    number = KINDS.index(kind)
    name = _NAME.format(number=number)
    inputs = ", ".join(sorted(kind.forms[0][0]) if kind.forms else [*kind.inputs][:1])
    package = import_module(PACKAGE)
    with tempfile.TemporaryDirectory(prefix="fedprune-house-") as folder:
        text = _FILE.format(number=number, name=name, inputs=inputs)
        (Path(folder) / f"added_{number}.py").write_text(text, encoding="utf-8")
        package.__path__.append(folder)
        try:
            yield from _missing(kind, name)
        finally:
            package.__path__.remove(folder)
            sys.modules.pop(f"{PACKAGE}.added_{number}", None)
            unregister(kind, name)


def _missing(kind: Kind, name: str) -> Iterator[str]:
    try:
        check_name(kind, name)
    except ConfigError:
        yield f"configuration of {kind.key}"
    if name not in names(kind) or name not in MethodKey(kind).describe():
        yield f"help of {kind.key}"
    if f"'{name}'" not in repr(as_data([kind])):
        yield f"listing of {kind.key}"
    setting = _ON_THE_WIRE.get(kind.key)
    if setting is not None:
        try:
            SETTINGS[setting](name, setting)
        except PayloadError:
            yield f"wire of {kind.key}"


def _copied_lists(path: Path) -> Iterator[str]:
    """Yield the literals of a file that hold several names of one kind."""
    if "/methods/" in path.as_posix():
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            found = {e.value for e in node.elts if isinstance(e, ast.Constant)}
        elif isinstance(node, ast.Dict):
            found = {k.value for k in node.keys if isinstance(k, ast.Constant)}
        else:
            continue
        if any(len(found & {*names(kind)}) >= _FEWEST for kind in KINDS):
            yield f"{path.name}:{node.lineno}"
