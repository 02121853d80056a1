"""The import graph of a checkout, read from the source."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

_NAME = "fedprune."


@dataclass(frozen=True, slots=True, kw_only=True)
class Imports:
    """Chains and cycles of an import graph.

    Attributes:
        longest: The longest chain of modules, each imported by the one before.
        cycles: Whether modules import each other, 0 or 1.
    """

    longest: Sequence[str]
    cycles: int


def read_imports(root: Path, packages: Sequence[str]) -> Imports:
    """Return the module-level import graph of packages.

    Args:
        root: Folder of the packages.
        packages: Their names.
    """
    paths = {
        _dotted(path.relative_to(root)): path
        for name in packages
        for path in (root / name).rglob("*.py")
    }
    graph = {name: _targets(path, paths) - {name} for name, path in paths.items()}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError:
        return Imports(longest=(), cycles=1)
    chains: dict[str, list[str]] = {}
    for name in order:  # imports come before the module
        below = max(
            (chains[other] for other in sorted(graph[name])), key=len, default=[]
        )
        chains[name] = [name, *below]
    return Imports(longest=max(chains.values(), key=len), cycles=0)


def _dotted(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _targets(path: Path, known: Mapping[str, Path]) -> set[str]:
    """Return the modules of ours that a file imports at module level."""
    found = set()
    for name in _names(ast.parse(path.read_text(encoding="utf-8")).body):
        while name and name not in known:
            name = name.rpartition(".")[0]  # noqa: PLW2901 - its module
        found.add(name)
    return found - {""}


def _names(body: Sequence[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix(_NAME) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            module = node.module.removeprefix(_NAME)
            yield from (f"{module}.{alias.name}" for alias in node.names)
