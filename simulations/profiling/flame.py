"""A flame graph as SVG: a box a function, as wide as its share of the CPU time.

Callers stand above what they call.  Every box says its name and share where the pointer
rests; the file needs neither scripts nor a network.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape

from markupsafe import Markup

from fedprune.common.profiling.activities import Stack
from fedprune.common.text import printable

WIDTH, ROW = 1200.0, 17  # pixels
_LETTER = 6.2  # pixels of a character of the labels
_LEAST = 0.0005  # share of the width below which a box is left out
_LONGEST = 160  # characters of a name
_COLOURS = {"client": "#9ecae1", "server": "#fdd0a2", "simulations": "#dadaeb"}
_COMMON, _FOREIGN, _HEAD = "#c7e9c0", "#e9ecef", "#f4c95d"
_HEADS = 3  # rows that are no functions: all, side, activity


@dataclass(slots=True)
class Node:
    """A function in one place of the call tree.

    Attributes:
        name: Its name.
        cpu_s: CPU seconds of it and of all that it calls.
        calls: Functions that it calls, keyed by their names.
    """

    name: str
    cpu_s: float = 0.0
    calls: "dict[str, Node]" = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Box:
    node: Node
    start: float  # share of the width, 0..1
    depth: int


def call_tree(stacks: Mapping[Stack, float], title: str) -> Node:
    """Return the tree of all stacks; a node's seconds include those of its calls."""
    root = Node(title)
    for stack, cpu_s in stacks.items():
        root.cpu_s += cpu_s
        node = root
        for name in stack:
            node = node.calls.setdefault(name, Node(name))
            node.cpu_s += cpu_s
    return root


def flame_svg(stacks: Mapping[Stack, float]) -> Markup:
    """Return the flame graph of stacks, or a sentence where there is no sample."""
    root = call_tree(stacks, "all samples")
    if root.cpu_s <= 0:
        return Markup("<p>No sample was taken: the run was too short.</p>")
    boxes = list(_boxes(root, root.cpu_s, 0.0, 0))
    height = ROW * (1 + max(box.depth for box in boxes))
    drawn = "".join(_drawn(box, root.cpu_s) for box in boxes)
    return Markup(  # noqa: S704 - every name in it is escaped
        f'<svg class="flame" viewBox="0 0 {WIDTH:g} {height}" role="img" '
        'aria-label="flame graph" font-family="monospace" font-size="10.5">'
        f"{drawn}</svg>"
    )


def _boxes(node: Node, every: float, start: float, depth: int) -> Iterator[_Box]:
    if node.cpu_s / every < _LEAST:
        return
    yield _Box(node, start, depth)
    # The greatest first, so that equal profiles give equal pictures.
    for call in sorted(node.calls.values(), key=lambda one: (-one.cpu_s, one.name)):
        yield from _boxes(call, every, start, depth + 1)
        start += call.cpu_s / every


def _drawn(box: _Box, every: float) -> str:
    node, x, y = box.node, box.start * WIDTH, box.depth * ROW
    width = node.cpu_s / every * WIDTH
    name = printable(node.name, _LONGEST)
    about = f"{name}: {node.cpu_s:.2f} s CPU, {node.cpu_s / every:.1%}"
    room = int((width - 4) / _LETTER)
    label = ""
    if room > 2:  # noqa: PLR2004 - letters that still say something
        shown = name if len(name) <= room else name[-room:]
        label = f'<text x="{x + 2:.1f}" y="{y + 12}">{escape(shown)}</text>'
    return (
        f"<g><title>{escape(about)}</title>"
        f'<rect x="{x:.1f}" y="{y}" width="{max(width - 0.4, 0.3):.1f}" '
        f'height="{ROW - 1}" fill="{_colour(box)}"/>{label}</g>'
    )


def _colour(box: _Box) -> str:
    if box.depth < _HEADS:
        return _HEAD
    room = box.node.name.split(".", 1)[0]
    return _COMMON if room == "common" else _COLOURS.get(room, _FOREIGN)
