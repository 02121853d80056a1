import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprune.common.data.partition import (
    client_ids,
    partition,
    split_validation,
)
from fedprune.common.errors import ConfigError

TARGETS = np.arange(1000) % 10

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


OWN = {
    "nothing": ("None", "0 examples to 0 clients"),
    "one array": ("np.arange(len(targets))", "0 examples to 0 clients"),
    "shares": ("[rng.random(100) for _ in range(clients)]", "0 examples to 0 clients"),
    "too few clients": ("[np.arange(len(targets))]", "1000 examples to 1 clients"),
    "one example twice": (
        "[np.arange(len(targets)) // 2 * 2] + [[] for _ in range(clients - 1)]",
        "1000 examples to 10 clients; want each of 1000 at exactly one of 10",
    ),
    "one example left out": (
        "np.array_split(np.arange(1, len(targets)), clients)",
        "999 examples to 10 clients",
    ),
}


@pytest.mark.parametrize(("result", "message"), OWN.values(), ids=OWN)
def test_a_partition_of_ones_own_has_to_deal_each_example_once(
    result, message, tmp_path
):
    path = tmp_path / "mine.py"
    text = "import numpy as np\n\n\ndef deal(targets, clients, rng):\n"
    path.write_text(f"{text}    return {result}\n")
    with pytest.raises(ConfigError, match=f"mine.py:deal' gives {message}"):
        partition(TARGETS, kind=f"{path}:deal", clients=10, seed=0)


def test_a_partition_of_ones_own_gives_lists_in_any_order(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "def deal(targets, clients):\n"
        "    order = list(range(len(targets)))[::-1]\n"
        "    return [order[first::clients] for first in range(clients)]\n"
    )
    parts = partition(TARGETS[:7], kind=f"{path}:deal", clients=3, seed=0)
    assert [part.tolist() for part in parts] == [[0, 3, 6], [2, 5], [1, 4]]


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
