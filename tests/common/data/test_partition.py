import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprune.common.data.partition import (
    KINDS,
    client_ids,
    partition,
    split_validation,
)
from fedprune.common.errors import ConfigError

classes = st.lists(st.integers(0, 6), min_size=1, max_size=120).map(np.array)
values = st.lists(
    st.floats(-1e6, 1e6, width=32, allow_nan=False), min_size=1, max_size=60
).map(lambda drawn: np.array(drawn, np.float32))
TARGETS = np.arange(1000) % 10


@st.composite
def calls(draw):
    """Draw targets and arguments that fit them."""
    kind = draw(st.sampled_from(KINDS))
    targets = draw(classes if kind == "shards" else classes | values)
    clients = draw(st.integers(1, len(targets)))
    found = len(np.unique(targets))
    fewest = -(-found // clients)
    return targets, {
        "kind": kind,
        "clients": clients,
        "seed": draw(st.integers(0, 99)),
        "alpha": draw(st.sampled_from([1e-3, 0.1, 1.0, 1e3])),
        "classes_per_client": draw(st.integers(fewest, found))
        if fewest <= found
        else 1,
    }


@given(calls())
@settings(max_examples=200, deadline=None)
def test_every_example_goes_to_exactly_one_client(call):
    targets, arguments = call
    parts = partition(targets, **arguments)
    assert len(parts) == arguments["clients"]
    dealt = np.concatenate(parts)
    assert sorted(dealt.tolist()) == list(range(len(targets)))
    for part in parts:
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()


@given(calls())
@settings(max_examples=30, deadline=None)
def test_equal_arguments_give_equal_parts(call):
    targets, arguments = call
    first, second = partition(targets, **arguments), partition(targets, **arguments)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_gives_other_parts(kind):
    first = partition(TARGETS, kind=kind, clients=10, seed=0)
    second = partition(TARGETS, kind=kind, clients=10, seed=1)
    assert any(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_parts_of_version_1_never_change():
    parts = {
        kind: partition(TARGETS[:12] % 3, kind=kind, clients=3, seed=0)
        for kind in KINDS
    }
    assert {kind: [p.tolist() for p in v] for kind, v in parts.items()} == {
        "iid": [[2, 3, 7, 10], [4, 6, 8, 9], [0, 1, 5, 11]],
        "dirichlet": [[0, 1, 4, 6, 7, 10, 11], [2, 3, 5, 8, 9], []],
        "shards": [[0, 2, 10], [1, 5, 8, 11], [3, 4, 6, 7, 9]],
    }


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


BAD = {
    "an unknown kind": ({"kind": "dirichlett"}, "did you mean 'dirichlet'"),
    "no clients": ({"clients": 0}, "0 clients for 1000 examples"),
    "more clients than examples": ({"clients": 1001}, "1001 clients for 1000 examples"),
    "alpha 0": ({"alpha": 0.0}, r"alpha is 0\.0"),
    "alpha NaN": ({"alpha": float("nan")}, "alpha is nan"),
    "alpha without end": ({"alpha": float("inf")}, "alpha is inf"),
    "more classes than there are": (
        {"kind": "shards", "classes_per_client": 11},
        "cannot hold 10 classes",
    ),
    "no class": ({"kind": "shards", "classes_per_client": 0}, "of 0 classes"),
    "shards of values": ({"kind": "shards", "targets": TARGETS / 2}, "want 'iid'"),
}


@pytest.mark.parametrize(("changed", "message"), BAD.values(), ids=BAD)
def test_arguments_that_do_not_fit_are_refused(changed, message):
    arguments = {"targets": TARGETS, "kind": "dirichlet", "clients": 10, "seed": 0}
    with pytest.raises(ConfigError, match=message):
        partition(**{**arguments, **changed})


@given(
    st.sets(st.integers(0, 10**6), max_size=80),
    st.sampled_from([0.0, 0.001, 0.1, 0.5, 0.99]),
    st.integers(2, 30),
)
def test_a_split_keeps_every_example_once_and_both_parts_rising(chosen, share, minimum):
    indices = np.array(sorted(chosen), dtype=np.int64)
    train, held = split_validation(
        indices, share=share, minimum=minimum, seed=0, client_id="client-000"
    )
    assert sorted([*train.tolist(), *held.tolist()]) == indices.tolist()
    assert (np.diff(train) > 0).all()
    assert (np.diff(held) > 0).all()
    if share == 0.0 or len(indices) < minimum:
        assert len(held) == 0
    else:
        assert len(held) == max(1, int(share * len(indices)))
        assert len(train) >= 1


def test_a_client_below_20_examples_gives_none_away():
    for count, wanted in ((19, 0), (20, 2), (39, 3)):
        _, held = split_validation(np.arange(count), seed=0, client_id="a")
        assert len(held) == wanted


def test_the_split_depends_on_the_seed_and_the_name_of_the_client():
    def held(seed, client_id):
        return split_validation(np.arange(100), seed=seed, client_id=client_id)[
            1
        ].tolist()

    assert held(0, "client-000") == held(0, "client-000")
    assert held(0, "client-000") != held(0, "client-001")
    assert held(0, "client-000") != held(1, "client-000")


@pytest.mark.parametrize(
    ("share", "minimum", "message"),
    [
        (1.0, 20, r"is 1\.0; want 0 <="),
        (-0.1, 20, "is -0.1"),
        (0.1, 1, "minimum .* is 1"),
    ],
)
def test_a_split_out_of_range_is_refused(share, minimum, message):
    with pytest.raises(ConfigError, match=message):
        split_validation(
            np.arange(50), share=share, minimum=minimum, seed=0, client_id="a"
        )


@pytest.mark.parametrize("clients", [1, 10, 1000, 1001, 12_345])
def test_client_names_are_different_and_in_alphabetic_order(clients):
    names = client_ids(clients)
    assert len(set(names)) == clients
    assert names == sorted(names)
    assert names[0].startswith("client-000")
