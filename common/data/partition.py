"""Partition of a data set: seeded splits of its examples among clients."""

import numpy as np

from fedprune.common.data.examples import IGNORED
from fedprune.common.errors import ConfigError
from fedprune.common.methods.kinds import NATURAL, PARTITION
from fedprune.common.methods.registry import find, wire_name
from fedprune.common.seeding import Use, generator
from fedprune.common.spec import Indices

_MIN_WIDTH = 3


def client_ids(clients: int) -> list[str]:
    """Return the names of simulated clients, in alphabetic order.

    >>> client_ids(2)
    ['client-000', 'client-001']
    """
    width = max(_MIN_WIDTH, len(str(clients - 1)))
    return [f"client-{number:0{width}d}" for number in range(clients)]


def partition(
    targets: np.ndarray,
    *,
    kind: str,
    clients: int,
    seed: int,
    alpha: float = 0.5,
    classes_per_client: int = 2,
) -> list[Indices]:
    """Give every example to exactly one client.

    Args:
        targets: int64[n] classes, int64[n, ...] several labels (the first decides) or
            classes of positions (the most frequent decides), or float32[n, ...]
            values.
        kind: A registered partition (``fedprune.common.methods.partition``), or a
            user's own.
        clients: Number of clients, 1 <= clients <= n.
        seed: Seed of the run; equal arguments give equal parts.
        alpha: Evenness of "dirichlet", > 0; small = each class at few clients.
        classes_per_client: Classes of a client under "shards", >= 1.

    Returns:
        One int64[k] for each client, rising.

    Raises:
        ConfigError: If an argument is out of its range or does not fit the data, or
            the partition does not give each example to one client.
    """
    _check(targets, clients, alpha)
    if kind == NATURAL:
        msg = "the partition is 'natural': the data name the clients of the examples, "
        msg += "which are not dealt out; want another kind"
        raise ConfigError(msg)
    method = find(PARTITION, kind)
    rng = generator(seed, 0, f"{wire_name(PARTITION, kind)}/{clients}", Use.PARTITION)
    found = method(
        targets=_one_class(targets),
        clients=clients,
        rng=rng,
        alpha=alpha,
        classes=classes_per_client,
    )
    parts = _as_parts(found)
    given = np.sort(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.int64)
    if len(parts) != clients or not np.array_equal(given, np.arange(len(targets))):
        msg = (
            f"partition '{kind}' gives {len(given)} examples to {len(parts)} clients; "
            f"want each of {len(targets)} at exactly one of {clients}"
        )
        raise ConfigError(msg)
    return parts


def split_validation(
    indices: Indices,
    *,
    share: float = 0.1,
    minimum: int = 20,
    seed: int,
    client_id: str,
) -> tuple[Indices, Indices]:
    """Split a client's examples into a training and a validation part.

    The same client gets the same split in every round and on every engine.  The
    validation part holds ``max(1, floor(share * n))`` examples; it is empty when the
    client holds fewer than ``minimum`` examples or ``share`` is 0.

    Args:
        indices: The client's examples, int64[n], rising.
        share: Share of the validation part, 0 <= share < 1.
        minimum: Fewest examples of a client that gives some away, >= 2.
        seed: Seed of the run.
        client_id: The client.

    Returns:
        Training part and validation part, both rising; together they are ``indices``.

    Raises:
        ConfigError: If ``share`` or ``minimum`` is out of its range.
    """
    if not 0.0 <= share < 1.0:
        msg = f"the share of the validation part is {share}; want 0 <= share < 1"
        raise ConfigError(msg)
    if minimum < 2:  # noqa: PLR2004 - one example cannot be split
        msg = f"the minimum for a validation part is {minimum}; want at least 2"
        raise ConfigError(msg)
    if share == 0.0 or len(indices) < minimum:
        return indices, indices[:0]
    count = max(1, int(share * len(indices)))
    rng = generator(seed, 0, client_id, Use.VALIDATION)
    order = rng.permutation(len(indices))
    return np.sort(indices[order[count:]]), np.sort(indices[order[:count]])


def _one_class(targets: np.ndarray) -> np.ndarray:
    """Return one class of each example, int64[n]; values stay as they are.

    Of rows of 0 and 1 the first label, otherwise the most frequent class of the
    positions that count, of equals the smaller.
    """
    if targets.ndim == 1 or targets.dtype.kind == "f":
        return targets
    rows = targets.reshape(len(targets), -1)
    if targets.ndim == 2 and np.isin(rows, (0, 1)).all():  # noqa: PLR2004 - [n, labels]
        first: np.ndarray = rows.argmax(axis=1)
        return first
    found = np.zeros(len(rows), dtype=np.int64)
    for place, row in enumerate(rows):
        classes, counts = np.unique(row[row != IGNORED], return_counts=True)
        found[place] = classes[counts.argmax()] if len(classes) else 0
    return found


def _as_parts(found: object) -> list[Indices]:
    """Return the parts that a partition returned, rising; none where it is no list."""
    given = found if isinstance(found, list | tuple) else []
    try:
        arrays = [np.asarray(part) for part in given]
    except ValueError:  # rows of different lengths
        return []
    if any(p.ndim != 1 or (p.size and p.dtype.kind not in "iu") for p in arrays):
        return []
    return [np.sort(part).astype(np.int64) for part in arrays]


def _check(targets: np.ndarray, clients: int, alpha: float) -> None:
    if not 1 <= clients <= len(targets):
        count = len(targets)
        msg = f"{clients} clients for {count} examples; want 1 <= clients <= examples"
        raise ConfigError(msg)
    if not (alpha > 0.0 and np.isfinite(alpha)):
        msg = f"alpha is {alpha}; want a finite alpha > 0"
        raise ConfigError(msg)
