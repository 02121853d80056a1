"""The parts of the report of one run, from top to bottom."""

from collections import Counter
from collections.abc import Iterator

from simulations.report import maps, plots
from simulations.report.data import RunData, number
from simulations.report.style import STATUS
from simulations.report.text import (
    DASH,
    Cell,
    Html,
    count,
    less,
    milliseconds,
    percent,
    points,
    section,
    show,
    size,
    table,
)

_MAX_ROWS = 200


def cards(run: RunData) -> str:
    """Return the five figures that tell whether the run was worth it."""
    get = run.summary.get
    ratio = _pair(run, "latency_ms_final", "latency_ms_dense")
    found: tuple[tuple[str, str, str], ...] = (
        (
            "accuracy",
            percent(number(run.summary, "accuracy_final"), 2),
            _against(run),
        ),
        (
            "parameters",
            count(number(run.summary, "params_final")),
            less(*_pair(run, "params_final", "params_dense")),
        ),
        (
            "FLOPs of one example",
            count(number(run.summary, "flops_final")),
            less(*_pair(run, "flops_final", "flops_dense")),
        ),
        (
            "sent up, all clients",
            size(get("bytes_up")),
            less(*_pair(run, "bytes_up", "bytes_up_control")),
        ),
        (
            "latency",
            milliseconds(number(run.summary, "latency_ms_final")),
            less(*ratio).replace("less", "faster").replace("more", "slower"),
        ),
    )
    boxes = "".join(
        f'<div class="card"><small>{show(name)}</small><b>{show(value)}</b>'
        f"<small>{show(note) or '&nbsp;'}</small></div>"
        for name, value, note in found
    )
    return f'<div class="cards">{boxes}</div>'


def headline(run: RunData) -> str:
    """Return the table dense control, before and after the cut, final."""
    get = {key: number(run.summary, key) for key in run.summary}.get
    before, after = _around_last_cut(run)
    control, final = get("accuracy_control"), get("accuracy_final")
    rows: list[list[Cell]] = [
        [
            "Accuracy",
            percent(control, 2),
            percent(get("accuracy_before_cut"), 2),
            percent(get("accuracy_after_cut"), 2),
            _with(percent(final, 2), _difference(final, control)),
        ]
    ]
    for name, key, form in (
        ("Parameters", "params", count),
        ("FLOPs of one example", "flops", count),
    ):
        dense, last = get(f"{key}_dense"), get(f"{key}_final")
        middle = [form(before.get(key)), form(after.get(key))]
        rows.append([name, form(dense), *middle, _with(form(last), less(last, dense))])
    for name, ours, theirs in (
        ("Bytes up, all clients", "bytes_up", "bytes_up_control"),
        ("Bytes down, all clients", "bytes_down", "bytes_down_control"),
        ("Model file", "model_bytes_final", "model_bytes_dense"),
    ):
        last, dense = get(ours), get(theirs)
        rows.append(
            [name, size(dense), DASH, DASH, _with(size(last), less(last, dense))]
        )
    last, dense = _pair(run, "latency_ms_final", "latency_ms_dense")
    faster = less(last, dense).replace("less", "faster").replace("more", "slower")
    rows.append(
        [
            "Latency",
            milliseconds(dense),
            DASH,
            DASH,
            _with(milliseconds(last), faster),
        ]
    )
    head = ["", "FedAvg, dense", "before the last cut", "after the last cut", "final"]
    body = table(head, rows, kind="headline")
    return section(
        "Dense FedAvg against the pruned network",
        body.text,
        "FedAvg ran in the same code, for the same rounds, on the same clients.",
    )


def figures(run: RunData) -> Iterator[str]:
    """Yield the parts that are pictures."""
    lines = plots.lines_of(run)
    measure = "test" if run.measure == "accuracy" else "the clients' validation"
    left = section(
        "Accuracy by round",
        plots.accuracy_by_round(lines, run).text,
        f"Measured on {measure} data, on what the server broadcast.",
    )
    right = section(
        "Accuracy by bytes sent", plots.accuracy_by_bytes(lines).text, _reach(lines)
    )
    yield f'<div class="pair">{left}{right}</div>'
    wide = maps.widths(run)
    left = section(
        "Kept channels",
        wide.text if wide else "<p>No groups are known yet.</p>",
        "Each bar is one group; every cut leaves a shorter, darker bar.",
    )
    right = section(
        "Size by round",
        plots.size_by_round(run).text,
        "As a share of the dense network; zeros as a share of all weights sent.",
    )
    yield f'<div class="pair">{left}{right}</div>'
    ballots = maps.votes(run)
    if ballots:
        note = (
            "The last vote: light is a channel that the client wants to keep. "
            "Above: what was kept in the end (importance against cost)."
        )
        yield section("Votes", ballots.text, note)
    strip = maps.participation(run)
    if strip:
        yield section("Who took part", strip.text, _statuses(run))


def _with(value: str, note: str) -> Cell:
    if not note:
        return value
    bad = " class='worse'" if note.endswith(("more", "slower")) else ""
    return Html(f"{show(value)}<small{bad}>{show(note)}</small>")


def _pair(run: RunData, new: str, old: str) -> tuple[float | None, float | None]:
    return number(run.summary, new), number(run.summary, old)


def _difference(new: float | None, old: float | None) -> str:
    return points(None if new is None or old is None else new - old)


def _against(run: RunData) -> str:
    text = _difference(*_pair(run, "accuracy_final", "accuracy_control"))
    return f"{text} to dense" if text else ""


def _around_last_cut(
    run: RunData,
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Return parameters and FLOPs before and after the last cut that stands."""
    standing = [cut.event for cut in run.cuts if not cut.undone]
    keys = ("params", "flops")
    if not standing:
        return {}, {}
    after = {key: number(standing[-1], key) for key in keys}
    if len(standing) > 1:
        return {key: number(standing[-2], key) for key in keys}, after
    return {key: number(run.summary, f"{key}_dense") for key in keys}, after


def _reach(lines: list[plots.Line]) -> str:
    found = plots.reach(lines)
    if found is None:
        return "Real messages up, all clients together."
    target, ours, theirs = found
    return (
        f"{percent(target)} is reached after {size(ours)} instead of {size(theirs)}: "
        f"{less(ours, theirs)}."
    )


def _statuses(run: RunData) -> str:
    counts = Counter(str(event.get("status")) for event in run.clients())
    return "; ".join(
        f"{counts[status]:,} {status}" for status in STATUS if counts[status]
    )
