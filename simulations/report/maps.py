"""Maps of the report: widths, votes, participation of clients."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fedprune.server.runs.events import MAIN, ClientAnswered, NetworkCut, RunName
from fedprune.simulations.report.data import RunData
from fedprune.simulations.report.style import MUTED, PRUNED, STATUS
from fedprune.simulations.report.svg import draw
from fedprune.simulations.report.text import Html

_MOST_CELLS = 1 << 24  # of a map: 128 MB of int64
_WIDE = 11.4  # inches: a figure as wide as the page
_HALF = 5.6
_MAX_NAMES = 40  # rows that still have room for their name
_MAX_GROUPS = 40
_MAX_STEPS = 6  # cuts that the legend names one by one
_KEPT = ("#f1d7bb", PRUNED)  # cut, kept


def widths(run: RunData) -> Html | None:
    """Draw the channels that each group keeps after each cut, None without groups."""
    full = run.groups
    steps = [cut.after for cut in run.cuts if cut.stands]
    if not full:
        return None
    names = list(full)[:_MAX_GROUPS]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        rows = np.arange(len(names))
        shades = ["#e9edf1", *_shades(len(steps))]
        for number_, (step, shade) in enumerate(
            zip([full, *steps], shades, strict=True)
        ):
            label = "dense" if number_ == 0 else f"cut {number_}"
            if len(steps) > _MAX_STEPS and 1 < number_ < len(steps):
                label = ""  # the shades between the first and the last explain it
            values = [step.get(name, full[name]) for name in names]
            axes.barh(rows, values, height=0.66, color=shade, label=label)
        _width_labels(axes, names, full, steps[-1] if steps else full)
        axes.set_yticks(rows, [_short(name, 22) for name in names])
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, max(full.values()) * 1.16)
        axes.set_xlabel("channels")
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        figure.legend(
            loc="outside upper left", ncols=6, columnspacing=1.2, handlelength=1.1
        )

    height = max(3.5, 1.2 + 0.23 * len(names))
    return draw("widths", "Kept channels of each group", (_HALF, height), paint)


def votes(run: RunData) -> Html | None:
    """Draw the votes of the last cut, clients by channels, None without votes.

    Each client's votes are shown as ranks, so that clients compare.  Within a group
    the channels are ordered by the consensus, greatest first.
    """
    known = [(cut.before, cut.event) for cut in run.cuts if voted(cut.event)]
    if not known:
        return None
    # A cut that removed no channel shows less than the one before it.
    before, cut = next((one for one in known[::-1] if 0 in one[1].kept), known[-1])
    kept = np.asarray(cut.kept, dtype=np.int64)
    clients = sorted(cut.votes)
    order, ends = _order(cut, before, len(kept))
    rows = [_ranks(cut.votes[client])[order] for client in clients]
    table = np.stack(rows)
    agreed = _ranks(cut.consensus)[order][None, :]
    thin = max(1.0, 0.045 * len(clients))  # rows; many clients make rows of a pixel

    def paint(figure: Figure) -> None:
        top, middle, axes = figure.subplots(
            3, 1, sharex=True, height_ratios=[thin, thin, max(len(clients), 3)]
        )
        _strip(top, kept[order][None, :], ListedColormap(_KEPT), "kept")
        _strip(middle, agreed, "cividis", "consensus")
        image = axes.imshow(
            table,
            aspect="auto",
            cmap="cividis",
            vmin=0,
            vmax=1,
            interpolation="nearest",
        )
        _name_rows(axes, clients)
        _group_borders([top, middle, axes], ends, before)
        bar = figure.colorbar(
            image, ax=[top, middle, axes], pad=0.012, aspect=28, shrink=0.9
        )
        bar.set_ticks([0, 1], labels=["least", "most"])
        bar.outline.set_visible(False)
        bar.set_label("rank of the channel in the vote", color=MUTED)

    height = 1.9 + min(0.2 * len(table), 5.0)
    return draw("votes", "Votes of clients for channels", (_WIDE, height), paint)


def participation(run: RunData, which: RunName = MAIN) -> Html | None:
    """Draw which client took part in which round, None for no client or too many."""
    events = run.answers(which)
    if not events or run.summaries(which):
        return None
    states = list(STATUS)
    names = sorted(_names(run, events))
    last = max(event.round for event in events)
    if not 0 < len(names) * last <= _MOST_CELLS:
        return None
    table = np.full((len(names), last), states.index("not asked"))
    row = {name: place for place, name in enumerate(names)}
    for event in events:
        if event.round:
            table[row[event.client], event.round - 1] = states.index(event.status)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        cells = ListedColormap(list(STATUS.values()))
        axes.imshow(
            table,
            aspect="auto",
            cmap=cells,
            vmin=0,
            vmax=len(states) - 1,
            interpolation="nearest",
            extent=(0.5, last + 0.5, len(names) - 0.5, -0.5),
        )
        _name_rows(axes, names)
        _grid_between(axes, len(names), last)
        axes.set_xlabel("round")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(
            handles=[Patch(color=STATUS[state], label=state) for state in states],
            loc="outside upper left",
            ncols=len(states),
            handlelength=1.1,
            handleheight=1.0,
        )

    height = 1.2 + min(max(0.2 * len(names), 0.6), 5.0)
    return draw("taking-part", "Participation of clients", (_WIDE, height), paint)


def voted(cut: NetworkCut) -> bool:
    """Return whether there are votes, and they fit consensus and result."""
    rows = (*cut.votes.values(), cut.consensus)
    fit = all(len(row) == len(cut.kept) for row in rows)
    return bool(cut.votes) and bool(cut.kept) and fit


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Return the rank of each value as a share, 0 = least, float64[n]."""
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return ranks / max(len(values) - 1, 1)


def _order(
    cut: NetworkCut, before: Mapping[str, int], units: int
) -> tuple[NDArray[np.int64], list[int]]:
    """Return the order of the channels, and where each group ends in it."""
    consensus = np.asarray(cut.consensus)
    ends = np.cumsum(list(before.values())).tolist() if before else []
    if not ends or ends[-1] != units:
        ends = [units]
    parts, start = [], 0
    for end in ends:
        inside = np.argsort(-consensus[start:end], kind="stable")
        parts.append(start + inside)
        start = end
    return np.concatenate(parts), ends


def _strip(axes: Axes, row: NDArray[Any], colours: Colormap | str, name: str) -> None:
    """Draw one row of cells with its name."""
    axes.imshow(
        row, aspect="auto", cmap=colours, vmin=0, vmax=1, interpolation="nearest"
    )
    axes.set_yticks([0], [name])
    axes.tick_params(length=0, labelbottom=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _group_borders(
    all_axes: Sequence[Axes], ends: Sequence[int], before: Mapping[str, int]
) -> None:
    starts = [0, *ends[:-1]]
    for one in all_axes:
        for end in ends[:-1]:
            one.axvline(end - 0.5, color="white", lw=1.6)
    axes = all_axes[-1]
    axes.set_xlabel("channels, by group; in a group by the consensus")
    if len(ends) != len(before):
        return
    # A name needs room: 6 points a letter on a figure of about 700 points.
    room = [
        (end - start) / ends[-1] * 115 for start, end in zip(starts, ends, strict=True)
    ]
    shown = [
        ((start + end - 1) / 2, _short(name, max(int(space), 1)))
        for start, end, space, name in zip(starts, ends, room, before, strict=True)
        if space >= 5  # noqa: PLR2004
    ]
    axes.set_xticks([x for x, _ in shown], [name for _, name in shown])
    axes.tick_params(axis="x", length=0)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    if len(names) <= _MAX_NAMES:
        axes.set_yticks(range(len(names)), [_short(name, 18) for name in names])
    else:
        axes.set_yticks([])
        axes.set_ylabel(f"{len(names)} clients")
    axes.tick_params(axis="y", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _grid_between(axes: Axes, rows: int, columns: int) -> None:
    """Draw white lines between cells that are large enough to stand apart."""
    if rows <= _MAX_NAMES:
        axes.hlines(
            np.arange(rows - 1) + 0.5, 0.5, columns + 0.5, color="white", lw=1.5
        )
    if columns <= 120:  # noqa: PLR2004
        axes.vlines(np.arange(1, columns) + 0.5, -0.5, rows - 0.5, color="white", lw=1)


def _names(run: RunData, events: Sequence[ClientAnswered]) -> set[str]:
    known = run.started.client_examples if run.started else None
    return {event.client for event in events} | set(known or ())


def _width_labels(
    axes: Axes, names: Sequence[str], full: Mapping[str, int], last: Mapping[str, int]
) -> None:
    for place, name in enumerate(names):
        kept = last.get(name, full[name])
        text = f"{full[name]}" if kept == full[name] else f"{full[name]} → {kept}"
        axes.annotate(
            text,
            (full[name], place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=MUTED,
        )


def _shades(steps: int) -> list[str]:
    """Return one colour per cut, from pale to that of our run."""
    if steps == 0:
        return []
    pale, full = np.array([0xC4, 0xDE, 0xE6]), np.array([0x1F, 0x6F, 0x8B])
    shares = np.linspace(0 if steps > 1 else 1, 1, steps)
    mixed = [np.rint(pale + (full - pale) * share).astype(int) for share in shares]
    return ["#" + "".join(f"{part:02x}" for part in colour) for colour in mixed]


def _short(name: str, room: int) -> str:
    """Return the end of a name that is too long: layers differ there."""
    return name if len(name) <= room else "…" + name[-(room - 1) :] if room > 1 else "…"
