"""The document of a page: its parts in order, with tables as text and plots as figures.

Templates show it, and a live page is sent it again and again.  Everything in it is a
number, a text or a list of these: nothing is markup, and every text is escaped by the
template that shows it, or by the page's script, which writes text and no markup.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Spec: TypeAlias = Mapping[str, Any]  # JSON that page.js draws: see charts/specs.py


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it shows.
        value: The number that it is sorted by; None = its text.
        kind: Style: "better", "worse", "best", or the name of a colour; "" for none.
    """

    text: str
    value: float | None = None
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table; the first cell of a row names the row.

    Attributes:
        label: What it is of, for readers that do not see the heading above it.
        head: Names of the columns.
        rows: Its rows, each as long as the head.
        kind: Style: "words" has text in its columns; "" has numbers.
        sortable: Whether a reader may sort it and find rows by words.
    """

    label: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    kind: str = ""
    sortable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A plot, in one view or several of the same figures.

    Attributes:
        name: Its id on the page.
        label: What it shows, in a sentence for who does not see it.
        views: Name of a view -> what is drawn; a single one needs no name.
        tall: Pixels of its height.
    """

    name: str
    label: str
    views: Mapping[str, Spec]
    tall: int = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class More:
    """Something that a reader opens: a table, or text as it is.

    Attributes:
        title: What it holds.
        table: The table, or None.
        text: The text, or "".
    """

    title: str
    table: Table | None = None
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One part of the page.

    Attributes:
        name: Its id on the page.
        title: Its heading.
        note: How to read it, in a sentence or two.
        lines: Sentences below it.
        text: Text as it is, such as a command.
        chart: Its plot, or None.
        tables: Its tables, each with a heading of its own or "".
        more: What a reader opens.
        half: Whether it has half of the page's width.
    """

    name: str
    title: str
    note: str = ""
    lines: Sequence[str] = ()
    text: str = ""
    chart: Chart | None = None
    tables: Sequence[tuple[str, Table]] = ()
    more: Sequence[More] = ()
    half: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A main figure.

    Attributes:
        name: What it is.
        value: Its value.
        note: What it is compared with.
    """

    name: str
    value: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A whole page.

    Attributes:
        title: Its heading.
        about: One line on what it is of.
        state: Where a run stands, such as "finished"; "" of a comparison.
        ended: Whether nothing more will come.
        cards: The main figures.
        notes: Warnings.
        parts: Everything below.
    """

    title: str
    about: str
    state: str = ""
    ended: bool = True
    cards: Sequence[Card] = ()
    notes: Sequence[str] = ()
    parts: Sequence[Panel] = ()

    @property
    def charts(self) -> dict[str, dict[str, object]]:
        """All plots by their names, as JSON for the page's script."""
        found = [part.chart for part in self.parts if part.chart is not None]
        return {
            chart.name: {"label": chart.label, "views": chart.views} for chart in found
        }


def cells(*texts: str) -> tuple[Cell, ...]:
    """Return plain cells."""
    return tuple(map(Cell, texts))
