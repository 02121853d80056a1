"""Who holds which examples: splits of one data set over clients, seeded."""

import numpy as np

from fedprune.common.errors import ConfigError
from fedprune.common.named_code.user_code import did_you_mean
from fedprune.common.seeding import Use, generator
from fedprune.common.spec import Indices

KINDS = ("iid", "dirichlet", "shards")

# A regression is split by the rank of its target: this many bins of equal count.
_BINS = 10
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
    """Deal every example to exactly one client.

    ``iid``: at random, sizes differ by at most one.  ``dirichlet``: the shares of each
    class over the clients are drawn from Dirichlet(alpha) (Hsu et al. 2019,
    arXiv:1909.06335); a regression is split by bins of its targets' ranks; a client
    may end up with no examples.  ``shards``: each client holds at most
    ``classes_per_client`` classes, and each class is dealt evenly to the clients that
    hold it, as in McMahan et al. 2017, arXiv:1602.05629, but with pure classes.

    Args:
        targets: int64[n] classes, or float32[n] or float32[n, k] values.
        kind: One of ``KINDS``.
        clients: Number of clients, 1 <= clients <= n.
        seed: Seed of the run; equal arguments give equal parts.
        alpha: Evenness of ``dirichlet``, > 0; small = each class at few clients.
        classes_per_client: Classes of a client under ``shards``, >= 1.

    Returns:
        One int64[k] for each client, rising.

    Raises:
        ConfigError: If an argument is out of its range or does not fit the data.
    """
    _check(targets, kind, clients, alpha)
    rng = generator(seed, 0, f"{kind}/{clients}", Use.PARTITION)
    if kind == "iid":
        parts = np.array_split(rng.permutation(len(targets)), clients)
    elif kind == "dirichlet":
        parts = _dirichlet(_labels(targets), clients, alpha, rng)
    else:
        parts = _shards(targets, clients, classes_per_client, rng)
    return [np.sort(part).astype(np.int64) for part in parts]


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


def _check(targets: np.ndarray, kind: str, clients: int, alpha: float) -> None:
    if kind not in KINDS:
        near = did_you_mean(kind, KINDS)
        msg = f"there is no partition '{kind}'{near} (known: {', '.join(KINDS)})"
        raise ConfigError(msg)
    if not 1 <= clients <= len(targets):
        count = len(targets)
        msg = f"{clients} clients for {count} examples; want 1 <= clients <= examples"
        raise ConfigError(msg)
    if not (alpha > 0.0 and np.isfinite(alpha)):
        msg = f"alpha is {alpha}; want a finite alpha > 0"
        raise ConfigError(msg)


def _labels(targets: np.ndarray) -> Indices:
    """Return classes as they are, and values as bins of their rank, int64[n]."""
    if np.issubdtype(targets.dtype, np.integer):
        return targets.astype(np.int64)
    values = targets.reshape(len(targets), -1)[:, 0]
    order = np.argsort(values, kind="stable")
    labels = np.empty(len(values), dtype=np.int64)
    labels[order] = np.arange(len(values)) * _BINS // len(values)
    return labels


def _dirichlet(
    labels: Indices, clients: int, alpha: float, rng: np.random.Generator
) -> list[Indices]:
    pieces: list[list[Indices]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        shares = rng.dirichlet(np.full(clients, alpha))
        ends = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
        for owned, piece in zip(pieces, np.split(members, ends), strict=True):
            owned.append(piece)
    return [np.concatenate(owned) for owned in pieces]


def _shards(
    targets: np.ndarray, clients: int, per_client: int, rng: np.random.Generator
) -> list[Indices]:
    if not np.issubdtype(targets.dtype, np.integer):
        msg = "partition 'shards' deals classes, the targets are values; want 'iid'"
        raise ConfigError(msg)
    classes = np.unique(targets)
    if not 1 <= per_client <= len(classes) <= clients * per_client:
        msg = (
            f"{clients} clients of {per_client} classes cannot hold {len(classes)} "
            f"classes; want 1 <= classes_per_client <= classes <= "
            f"clients * classes_per_client"
        )
        raise ConfigError(msg)
    holders = _deal_classes(len(classes), clients, per_client, rng)
    pieces: list[list[Indices]] = [[] for _ in range(clients)]
    for label, owners in zip(classes, holders, strict=True):
        members = rng.permutation(np.flatnonzero(targets == label))
        for owner, piece in zip(
            owners, np.array_split(members, len(owners)), strict=True
        ):
            pieces[owner].append(piece)
    return [np.concatenate(owned) for owned in pieces]


def _deal_classes(
    classes: int, clients: int, per_client: int, rng: np.random.Generator
) -> list[list[int]]:
    """Return the clients that hold each class.

    Every class has floor or ceil of clients * per_client / classes holders.  Each
    client in turn takes the classes with most holders still wanted, which always
    comes out even; ties at random.
    """
    wanted = np.full(classes, clients * per_client // classes)
    wanted[rng.permutation(classes)[: clients * per_client % classes]] += 1
    holders: list[list[int]] = [[] for _ in range(classes)]
    for client in rng.permutation(clients).tolist():
        taken = np.lexsort((rng.random(classes), -wanted))[:per_client]
        wanted[taken] -= 1
        for label in taken.tolist():
            holders[label].append(client)
    return holders
