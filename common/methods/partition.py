"""Partitions of the training examples over the clients."""

from typing import TypeAlias

import numpy as np

from fedprune.common.errors import ConfigError
from fedprune.common.methods.kinds import PARTITION
from fedprune.common.methods.registry import method
from fedprune.common.spec import Indices

Parts: TypeAlias = list[Indices]

# A regression is split by the rank of its target: this many bins of equal count.
_BINS = 10


@method(PARTITION)
def iid(targets: np.ndarray, clients: int, rng: np.random.Generator) -> Parts:
    """Equal random parts; sizes differ by at most one."""
    return np.array_split(rng.permutation(len(targets)), clients)


@method(PARTITION)
def dirichlet(
    targets: np.ndarray, clients: int, rng: np.random.Generator, alpha: float
) -> Parts:
    """Skewed labels: shares of each class drawn from Dirichlet(alpha).

    Yurochkin et al. 2019, arXiv:1905.12022; a regression is split by bins of its
    targets' ranks; a client may get no examples.
    """
    labels = _labels(targets)
    pieces: list[list[Indices]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        shares = rng.dirichlet(np.full(clients, alpha))
        ends = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
        for owned, piece in zip(pieces, np.split(members, ends), strict=True):
            owned.append(piece)
    return [np.concatenate(owned) for owned in pieces]


@method(PARTITION)
def quantity(
    targets: np.ndarray, clients: int, rng: np.random.Generator, alpha: float
) -> Parts:
    """Skewed sizes, drawn from Dirichlet(alpha), with random labels.

    As in Li et al. 2022, arXiv:2102.02079, Sect. 4.1.4; every client gets one example,
    the shares are those of the others.
    """
    order = rng.permutation(len(targets))
    shares = rng.dirichlet(np.full(clients, alpha))
    spare = len(targets) - clients
    ends = np.rint(np.cumsum(shares)[:-1] * spare).astype(np.int64)
    return np.split(order, ends + np.arange(1, clients))


@method(PARTITION)
def shards(
    targets: np.ndarray, clients: int, rng: np.random.Generator, classes: int
) -> Parts:
    """Few classes a client, each class in equal parts to the clients that have it.

    As in McMahan et al. 2017, arXiv:1602.05629, but with pure classes.
    """
    if not np.issubdtype(targets.dtype, np.integer):
        msg = "partition 'shards' assigns classes, the targets are values; want 'iid'"
        raise ConfigError(msg)
    found = np.unique(targets)
    if not 1 <= classes <= len(found) <= clients * classes:
        msg = (
            f"{clients} clients of {classes} classes cannot hold {len(found)} "
            f"classes; want 1 <= classes_per_client <= classes <= "
            f"clients * classes_per_client"
        )
        raise ConfigError(msg)
    holders = _assign_classes(len(found), clients, classes, rng)
    pieces: list[list[Indices]] = [[] for _ in range(clients)]
    for label, owners in zip(found, holders, strict=True):
        members = rng.permutation(np.flatnonzero(targets == label))
        for owner, piece in zip(
            owners, np.array_split(members, len(owners)), strict=True
        ):
            pieces[owner].append(piece)
    return [np.concatenate(owned) for owned in pieces]


def _labels(targets: np.ndarray) -> Indices:
    """Return classes as they are, and values as bins of their rank, int64[n]."""
    if np.issubdtype(targets.dtype, np.integer):
        return targets.astype(np.int64)
    values = targets.reshape(len(targets), -1)[:, 0]
    order = np.argsort(values, kind="stable")
    labels = np.empty(len(values), dtype=np.int64)
    labels[order] = np.arange(len(values)) * _BINS // len(values)
    return labels


def _assign_classes(
    classes: int, clients: int, per_client: int, rng: np.random.Generator
) -> list[list[int]]:
    """Return the clients of each class.

    Every class has floor or ceil of clients * per_client / classes clients.  Each
    client in turn takes the classes that still need most clients, which always gives
    these counts; ties at random.
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
