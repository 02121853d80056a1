"""Parts of each partition: even parts, skewed classes, few classes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprune.common.data.partition import partition
from fedprune.common.errors import ConfigError

TARGETS = np.arange(1000) % 10


@given(st.integers(1, 50), st.integers(0, 9))
def test_iid_parts_differ_by_at_most_one_example(clients, seed):
    parts = partition(TARGETS[:50], kind="iid", clients=clients, seed=seed)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def skew(alpha, targets=TARGETS):
    """Return the mean share of a client's commonest class over five seeds."""
    shares = []
    for seed in range(5):
        parts = partition(targets, kind="dirichlet", clients=10, seed=seed, alpha=alpha)
        shares += [np.bincount(targets[p]).max() / len(p) for p in parts if len(p)]
    return float(np.mean(shares))


def test_a_smaller_alpha_makes_clients_more_one_sided():
    even, middle, uneven = skew(1000.0), skew(0.5), skew(0.05)
    assert even < 0.16
    assert even < middle < uneven
    assert uneven > 0.6


def test_dirichlet_shares_have_the_variance_of_a_dirichlet_distribution():
    clients, alpha, count = 5, 0.7, 2000
    shares = [
        len(part) / count
        for seed in range(200)
        for part in partition(
            np.zeros(count, int),
            kind="dirichlet",
            clients=clients,
            seed=seed,
            alpha=alpha,
        )
    ]
    mean = 1 / clients
    wanted = mean * (1 - mean) / (clients * alpha + 1)
    assert float(np.mean(shares)) == pytest.approx(mean)
    assert float(np.var(shares)) == pytest.approx(wanted, rel=0.15)


def test_a_regression_is_dealt_by_the_rank_of_its_target_whatever_its_scale():
    stream = np.random.default_rng(0)
    targets = stream.normal(size=500).astype(np.float32)
    arguments = {"kind": "dirichlet", "clients": 5, "seed": 0, "alpha": 0.1}
    parts = partition(targets, **arguments)
    stretched = partition(np.exp(targets)[:, None], **arguments)
    assert all(np.array_equal(a, b) for a, b in zip(parts, stretched, strict=True))
    spread = np.std([targets[part].mean() for part in parts if len(part)])
    even = partition(targets, **{**arguments, "kind": "iid"})
    assert spread > 3 * np.std([targets[part].mean() for part in even])


@given(st.integers(1, 10), st.integers(1, 40), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_shards_hold_exactly_k_classes_and_every_class_has_equally_many_holders(
    per_client, clients, seed
):
    if clients * per_client < 10:
        with pytest.raises(ConfigError, match="cannot hold 10 classes"):
            partition(
                TARGETS,
                kind="shards",
                clients=clients,
                seed=seed,
                classes_per_client=per_client,
            )
        return
    parts = partition(
        TARGETS,
        kind="shards",
        clients=clients,
        seed=seed,
        classes_per_client=per_client,
    )
    held = [set(TARGETS[part].tolist()) for part in parts]
    assert {len(kinds) for kinds in held} == {per_client}
    holders = [sum(label in kinds for kinds in held) for label in range(10)]
    assert max(holders) - min(holders) <= 1


def test_shards_of_a_class_are_dealt_evenly_to_its_holders():
    parts = partition(TARGETS, kind="shards", clients=20, seed=0, classes_per_client=3)
    for label in range(10):
        sizes = [int((TARGETS[part] == label).sum()) for part in parts]
        sizes = [size for size in sizes if size]
        assert max(sizes) - min(sizes) <= 1


PARTS = {
    "iid": [[2, 3, 7, 10], [4, 6, 8, 9], [0, 1, 5, 11]],
    "dirichlet": [[0, 1, 4, 6, 7, 10, 11], [2, 3, 5, 8, 9], []],
    "shards": [[0, 2, 10], [1, 5, 8, 11], [3, 4, 6, 7, 9]],
}


@pytest.mark.parametrize("kind", PARTS)
def test_the_parts_of_version_1_never_change(kind):
    parts = partition(TARGETS[:12] % 3, kind=kind, clients=3, seed=0)
    assert [part.tolist() for part in parts] == PARTS[kind]


@given(st.integers(1, 50), st.integers(0, 9), st.sampled_from([0.01, 0.5, 100.0]))
def test_by_quantity_every_client_has_an_example(clients, seed, alpha):
    arguments = {"kind": "quantity", "clients": clients, "seed": seed, "alpha": alpha}
    assert min(len(part) for part in partition(TARGETS[:50], **arguments)) >= 1


def test_by_quantity_a_smaller_alpha_makes_sizes_more_uneven_and_labels_stay_mixed():
    arguments = {"kind": "quantity", "clients": 10, "seed": 0}
    spread = []
    for alpha in (0.1, 1.0, 1000.0):
        parts = partition(TARGETS, alpha=alpha, **arguments)
        spread.append(np.std([len(part) for part in parts]))
        greatest = max(parts, key=len)
        shares = np.bincount(TARGETS[greatest], minlength=10) / len(greatest)
        assert shares.max() < 0.2
    assert spread[0] > spread[1] > spread[2]


SEVERAL = {
    "rows of labels": (np.eye(10, dtype=int)[TARGETS], TARGETS),
    "classes of positions": (
        np.stack([TARGETS + 1, TARGETS + 1, 0 * TARGETS], axis=1),
        TARGETS + 1,
    ),
    "positions that do not count": (
        np.stack([TARGETS + 1, -100 + 0 * TARGETS, -100 + 0 * TARGETS], axis=1),
        TARGETS + 1,
    ),
}


@pytest.mark.parametrize(("targets", "alone"), SEVERAL.values(), ids=SEVERAL)
def test_of_several_targets_one_class_decides(targets, alone):
    arguments = {"kind": "dirichlet", "clients": 10, "seed": 0}
    found = partition(targets, **arguments)
    for part, wanted in zip(found, partition(alone, **arguments), strict=True):
        np.testing.assert_array_equal(part, wanted)
