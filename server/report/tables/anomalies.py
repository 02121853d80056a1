"""Clients whose answers stand out: seldom counted, long, or with votes of their own."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from fedprune.server.report.charts.maps import voted
from fedprune.server.report.data import RunData
from fedprune.server.report.parts import Panel, Table, cells
from fedprune.server.report.text import DASH
from fedprune.server.rounds.records import Status
from fedprune.server.runs.events import NetworkCut, of_run

_MOST = 10  # clients that are shown
_FAR = 3.0  # robust standard deviations from the median client
_MAD = 1.4826  # of a normal distribution, standard deviation over median distance
_SLACK = 0.1  # distances this near to the median never stand out
_LONG = 1.75  # usual lengths, robust.max_norm


@dataclass(frozen=True, slots=True, kw_only=True)
class Conduct:
    """The answers of one client over a run.

    Attributes:
        client: Its id.
        asked: Rounds that asked it.
        missing: Rounds in which its answer did not count.
        length: Mean L2 norm of its deltas over the median one of the round; 0 = none.
        shortened: Rounds in which its delta was shortened.
        votes: Mean distance of its votes from the consensus, 0 = equal, 1 = apart.
    """

    client: str
    asked: int
    missing: int
    length: float
    shortened: int
    votes: float | None


def conducts(run: RunData) -> list[Conduct]:
    """Return the conduct of each client that the events name, by id."""
    asked, missing = defaultdict[str, int](int), defaultdict[str, int](int)
    shortened, lengths = defaultdict[str, int](int), defaultdict[str, list[float]](list)
    usual: dict[int, list[float]] = defaultdict(list)
    accepted = [e for e in run.answers() if e.status is Status.ACCEPTED]
    for event in accepted:
        usual[event.round].append(event.norm or 0.0)
    for event in run.answers():
        asked[event.client] += 1
        missing[event.client] += event.status is not Status.ACCEPTED
    for event in accepted:
        middle = median(usual[event.round])
        if middle > 0.0:
            lengths[event.client].append((event.norm or 0.0) / middle)
        shortened[event.client] += event.factor < 1.0
    apart = _distances(of_run(run.events, NetworkCut))
    return [
        Conduct(
            client=client,
            asked=asked[client],
            missing=missing[client],
            length=fmean(lengths[client]) if lengths[client] else 0.0,
            shortened=shortened[client],
            votes=apart.get(client),
        )
        for client in sorted(asked)
    ]


def _distances(cuts: Sequence[NetworkCut]) -> Mapping[str, float]:
    """Return half the L1 distance of each client's votes from the consensus, 0..1."""
    found: dict[str, list[float]] = defaultdict(list)
    for cut in (cut for cut in cuts if voted(cut)):
        whole = sum(cut.consensus) or 1.0
        for client, votes in cut.votes.items():
            pairs = zip(votes, cut.consensus, strict=True)
            found[client].append(sum(abs(v - c / whole) for v, c in pairs) / 2)
    return {client: fmean(values) for client, values in found.items()}


def standing_out(found: Sequence[Conduct]) -> list[tuple[float, Conduct]]:
    """Return the clients that stand out and by how much, the farthest first.

    By how much: the share of answers that did not count, the share that was shortened,
    and how far length and votes are from the median client, the largest of these.
    """
    votes = [one.votes for one in found if one.votes is not None]
    ranked = []
    for one in found:
        far = [
            one.missing / max(one.asked, 1),
            one.shortened / max(one.asked, 1),
            one.length / _LONG if one.length > _LONG else 0.0,
            _far(one.votes, votes) if one.votes is not None else 0.0,
        ]
        if max(far) > 0.0:
            ranked.append((max(far), one))
    return sorted(ranked, key=lambda pair: (-pair[0], pair[1].client))


def _far(value: float, values: Sequence[float]) -> float:
    """Return a distance above the median in units of what stands out, else 0."""
    middle = median(values)
    spread = _MAD * median(abs(one - middle) for one in values)
    reach = max(_FAR * spread, _SLACK)
    far = (value - middle) / reach
    return far if far > 1.0 else 0.0


def anomalies(run: RunData) -> Panel | None:
    """Return the clients that stand out; None where clients have no lines."""
    found = conducts(run)
    if not found:
        return None
    ranked = standing_out(found)
    title = "Clients that stand out"
    if not ranked:
        return Panel(name="odd", title=title, note=f"None of {len(found)}.")
    rows = tuple(
        cells(
            one.client,
            f"{one.missing} of {one.asked}",
            f"{one.length:.2f}" if one.length else DASH,
            str(one.shortened),
            DASH if one.votes is None else f"{one.votes:.2f}",
        )
        for _, one in ranked[:_MOST]
    )
    more = len(ranked) - len(rows)
    note = (
        f"{len(ranked)} of {len(found)} clients, the farthest first"
        + (f"; {more} more are not shown" if more else "")
        + ".  Length: of the delta, over the median client's.  Votes apart: from the "
        "consensus, 0 = equal, 1 = nothing in common.  Rare data stands out too."
    )
    head = ("client", "not counted", "length", "shortened", "votes apart")
    table = Table(label=title, head=head, rows=rows)
    return Panel(name="odd", title=title, note=note, tables=[("", table)])
