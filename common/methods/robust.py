"""Steps of the aggregation rules that outvote hostile clients.

Sums are numpy's own, not BLAS's: those depend on the number of threads.
"""

from hashlib import blake2b
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedprune.common.spec import Indices, Mask

Rows: TypeAlias = NDArray[np.float64]  # [clients, weights]
Row: TypeAlias = NDArray[np.float64]

_FAR = 3.0  # robust standard deviations: a mask farther from the others is odd
_MAD = 1.4826  # of a normal distribution, standard deviation over median distance
_SMALLEST = 1e-6  # a distance of Weiszfeld's, as a share of the median one


def majority(sent: Mask, hostile: int) -> Row:
    """Return the factor on weights with too few senders, float64[weights], 0..1.

    ``min(1, m / (2 * hostile + 1))`` for ``m`` senders; 1 where all clients sent.

    >>> majority(np.array([[True, True], [True, False], [True, False]]), 1).tolist()
    [1.0, 0.3333333333333333]
    """
    enough = min(2 * hostile + 1, len(sent))
    factor: Row = np.minimum(sent.sum(axis=0) / max(enough, 1), 1.0)
    return factor


def trust(sent: Mask, hostile: int) -> Row:
    """Return the share of senders times their majority, float64[weights], 0..1."""
    factor: Row = sent.sum(axis=0) / len(sent) * majority(sent, hostile)
    return factor


def buckets(rows: Rows, size: int) -> Rows:
    """Return the means of groups of ``size`` rows, the last one maybe smaller.

    The groups follow a digest of the rows: no order of the clients changes them.
    """
    digests = [blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
    order = sorted(range(len(rows)), key=digests.__getitem__)
    starts = range(0, len(rows), size)
    return np.stack([rows[order[at : at + size]].mean(axis=0) for at in starts])


def norms(rows: Rows) -> Row:
    """Return the L2 norm of each row, float64[rows]."""
    found: Row = np.sqrt((rows * rows).sum(axis=1))
    return found


def centred_clip(rows: Rows, steps: int, radius: float | None = None) -> Row:
    """Return the mean of rows that are clipped around the mean before, from zero.

    Args:
        rows: float64[rows, weights].
        steps: Repetitions, >= 1.
        radius: Distance to which a row is clipped; None = the median one of each step.
    """
    centre: Row = np.zeros(rows.shape[1])
    for _ in range(steps):
        offsets = rows - centre
        lengths = norms(offsets)
        reach = float(np.median(lengths)) if radius is None else radius
        factors = np.minimum(1.0, reach / np.maximum(lengths, np.finfo(float).tiny))
        centre = centre + (factors[:, None] * offsets).mean(axis=0)
    return centre


def weiszfeld(rows: Rows, weights: Row, steps: int) -> Row:
    """Return the geometric median of weighted rows by Weiszfeld's smoothed steps."""
    share = weights / weights.sum()
    centre: Row = (share[:, None] * rows).sum(axis=0)
    for _ in range(steps):
        lengths = norms(rows - centre)
        least = _SMALLEST * float(np.median(lengths))
        if least <= 0.0:  # most rows are the centre
            break
        pull = share / np.maximum(lengths, least)
        centre = (pull[:, None] * rows).sum(axis=0) / pull.sum()
    return centre


def distances(rows: Rows) -> Rows:
    """Return the squared distance of each two rows, float64[rows, rows]."""
    found = np.zeros((len(rows), len(rows)))
    for first in range(len(rows)):
        apart = rows[first + 1 :] - rows[first]
        found[first, first + 1 :] = (apart * apart).sum(axis=1)
    return found + found.T


def krum(rows: Rows, hostile: int, clients: int) -> Indices:
    """Return the ``clients - hostile`` rows of least Krum score, rising.

    The score is the sum of the squared distances to the ``clients - hostile - 2``
    nearest others; of equals the row with the smaller entries is first.

    Args:
        rows: float64[rows, weights], of which some may have been left out before.
        hostile: Clients that are left out, those before included.
        clients: Clients before any were left out.
    """
    wanted = max(min(clients - hostile, len(rows)), 1)
    if wanted == len(rows):
        return np.arange(len(rows))
    near = max(min(clients - hostile - 2, len(rows) - 1), 1)
    apart = np.sort(distances(rows), axis=1)[:, 1 : near + 1]
    scores = apart.sum(axis=1)
    # Ties by content, not by place: the order of the clients must not matter.
    order = sorted(range(len(rows)), key=lambda at: (scores[at], rows[at].tobytes()))
    return np.sort(np.array(order[:wanted], dtype=np.int64))


def without_odd_masks(sent: Mask, hostile: int) -> Indices:
    """Return the clients whose entries other clients sent too, rising.

    At most ``hostile`` are left out: those whose mean Jaccard similarity to the others
    is far below the median one.
    """
    everyone = np.arange(len(sent))
    if hostile == 0 or len(sent) <= 2 * hostile:
        return everyone
    agreement = _agreement(sent)
    usual = float(np.median(agreement))
    spread = _MAD * float(np.median(np.abs(agreement - usual)))
    odd = np.flatnonzero(agreement < usual - _FAR * spread - np.finfo(float).eps)
    worst = odd[np.argsort(agreement[odd], kind="stable")][:hostile]
    return np.setdiff1d(everyone, worst)


def _agreement(sent: Mask) -> Row:
    """Return the mean Jaccard similarity of each mask to the others, float64[rows]."""
    counts = sent.sum(axis=1)
    total = np.zeros(len(sent))
    for first in range(len(sent)):
        both = (sent[first] & sent[first + 1 :]).sum(axis=1)
        either = counts[first] + counts[first + 1 :] - both
        alike = both / np.maximum(either, 1)
        total[first] += alike.sum()
        total[first + 1 :] += alike
    return total / max(len(sent) - 1, 1)
