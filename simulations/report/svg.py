"""Figures as inline SVG: same data, same bytes; text in the font of the page."""

import io
import re
from collections.abc import Callable
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from fedprune.simulations.report.style import FAINT, INK, LINE, MUTED
from fedprune.simulations.report.text import Html

_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fedprune",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": "#c3cad3",
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.solid_capstyle": "round",
}


def draw(
    name: str, label: str, extent: tuple[float, float], paint: Callable[[Figure], None]
) -> Html:
    """Return a figure as SVG.

    Args:
        name: Unique on the page; prefix of every id inside.
        label: What a screen reader says.
        extent: Width and height in inches.
        paint: Draws on an empty figure.
    """
    # A Figure without pyplot: no global state, no backend of the user's is touched.
    with mpl.rc_context(_RC):
        figure = Figure(figsize=extent, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.03)  # type: ignore[union-attr, call-arg]
        figure.patch.set_alpha(0)
        paint(figure)
        out = io.StringIO()
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(out, format="svg", dpi=200, metadata=metadata)
    return Html(_inline(out.getvalue(), name, label))


def _inline(svg: str, name: str, label: str) -> str:
    """Return the ``svg`` element alone, its ids made unique on the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    # The page scales the figure; a fixed size would stand in the way.
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
