"""The laws of every registered method: those of its kind, and those that it names."""

import re
from itertools import pairwise

import numpy as np
import pytest
from helpers.masks import FC, MATRICES, ODD, PLAN, SPEC, masked, weights
from helpers.methods import all_methods, each
from helpers.scores import view
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprune.common.aggregate import Accumulator, Limits
from fedprune.common.codec import Layout
from fedprune.common.data.partition import partition
from fedprune.common.messages import SparseDelta
from fedprune.common.methods.kinds import (
    AGGREGATION,
    CHOICE,
    CONSENSUS,
    IMPORTANCE,
    KINDS,
    MASK,
    PARTITION,
    RATE_SCHEDULE,
    SCHEDULE,
)
from fedprune.common.methods.registry import methods
from fedprune.common.sparsity.masks import full_mask
from fedprune.common.sparsity.sparsify import COMMON, sparsify


def votes(clients, units=12, seed=0):
    """Return normalised scores and numbers of examples of some clients."""
    rng = np.random.default_rng(seed)
    scores = rng.lognormal(size=(clients, units))
    scores /= scores.sum(axis=1, keepdims=True)
    counts = rng.integers(1, 90, clients).astype(np.float64)
    for array in (scores, counts):
        array.setflags(write=False)
    return {"scores": scores, "num_examples": counts}


def reordered(given_, order):
    return {key: value[order] for key, value in given_.items()}


@each(CONSENSUS)
@given(clients=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_the_order_of_clients_does_not_matter_to_a_consensus(method, clients, seed):
    given_ = votes(clients, seed=seed)
    order = np.random.default_rng(seed).permutation(clients)
    found = method(**reordered(given_, order))
    assert found.shape == (12,)
    np.testing.assert_allclose(found, method(**given_), rtol=1e-12)


@each(CONSENSUS)
def test_the_vote_of_one_client_alone_is_returned(method):
    given_ = votes(1)
    np.testing.assert_allclose(method(**given_), given_["scores"][0], rtol=1e-15)


@each(CONSENSUS)
@pytest.mark.parametrize("clients", [2, 3, 8])
def test_clients_that_agree_are_followed(method, clients):
    one = votes(1)["scores"]
    given_ = votes(clients) | {"scores": np.repeat(one, clients, axis=0)}
    np.testing.assert_allclose(method(**given_), one[0], rtol=1e-12)


@each(CONSENSUS)
@pytest.mark.parametrize("clients", [1, 2, 5])
def test_the_order_of_the_channels_does_not_matter_to_a_consensus(method, clients):
    given_ = votes(clients)
    order = np.random.default_rng(3).permutation(12)
    turned = given_ | {"scores": given_["scores"][:, order]}
    np.testing.assert_allclose(method(**turned), method(**given_)[order], rtol=1e-15)


def answers(clients=5, size=9, seed=0, share=0.6):
    """Return deltas of some clients, each of which sends a share of its entries."""
    rng = np.random.default_rng(seed)
    sent = rng.random((clients, size)) < share
    deltas = np.where(sent, rng.normal(size=(clients, size)), 0.0).astype(np.float32)
    counts = rng.integers(1, 90, clients).astype(np.float64)
    return {"deltas": deltas, "sent": sent, "num_examples": counts}


def one_delta(method, given_, hostile=1):
    """Return what a rule makes of the answers."""
    deltas, sent, counts = (given_[k] for k in ("deltas", "sent", "num_examples"))
    total = Accumulator(deltas.shape[1], Limits(clients=len(deltas), max_examples=1000))
    for row, there, count in zip(deltas, sent, counts, strict=True):
        places = np.flatnonzero(there)
        delta = SparseDelta(size=len(row), indices=places, values=row[places])
        total.add(delta, int(count))
    for array in given_.values():
        array.setflags(write=False)
    return method(total=total, hostile=hostile, **given_)


@each(AGGREGATION)
@given(clients=st.integers(1, 8), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_order_of_clients_does_not_matter_to_a_rule(method, clients, seed):
    given_ = answers(clients, seed=seed)
    order = np.random.default_rng(seed).permutation(clients)
    found = one_delta(method, given_)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    turned = one_delta(method, reordered(given_, order))
    np.testing.assert_allclose(turned, found, rtol=1e-6, atol=1e-9)


@each(AGGREGATION)
@pytest.mark.parametrize("clients", [1, 2, 7])
def test_equal_deltas_give_that_delta(method, clients):
    row = np.random.default_rng(0).normal(size=(1, 9)).astype(np.float32)
    given_ = answers(clients, share=2.0) | {"deltas": row.repeat(clients, axis=0)}
    np.testing.assert_allclose(one_delta(method, given_), row[0], rtol=1e-5, atol=1e-8)


@each(AGGREGATION)
def test_where_no_client_sends_anything_nothing_moves(method):
    assert not one_delta(method, answers(share=-1.0)).any()


UNIT = st.floats(0.0, 1.0)


@each(SCHEDULE)
@given(end=st.floats(0.01, 1.0), power=st.floats(0.1, 10.0), one=UNIT, other=UNIT)
def test_a_density_starts_at_one_ends_at_its_end_and_never_rises(
    method, end, power, one, other
):
    early, late = sorted((one, other))
    found = [
        method(progress=at, end=end, power=power) for at in (0.0, early, late, 1.0)
    ]
    assert found[0] == pytest.approx(1.0, abs=1e-12)
    assert found[-1] == pytest.approx(end, abs=1e-12)
    assert all(b <= a + 1e-12 for a, b in pairwise(found))


@each(RATE_SCHEDULE)
@given(start=st.floats(1e-6, 10.0), progress=UNIT)
def test_a_rate_starts_at_its_start_and_is_positive(method, start, progress):
    assert method(progress=0.0, start=start) == pytest.approx(start)
    assert 0.0 < method(progress=progress, start=start) < float("inf")


LAYOUT = Layout(SPEC)


@each(CHOICE)
@given(density=st.floats(1e-3, 1.0), zeros=UNIT, seed=st.integers(0, 99), bits=UNIT)
@settings(max_examples=20, deadline=None)
def test_at_most_the_count_is_sent_and_always_the_same(
    method, density, zeros, seed, bits
):
    rng = np.random.default_rng(seed)
    total = rng.laplace(size=SPEC.size).astype(np.float32)
    total[rng.random(SPEC.size) < zeros] = 0.0
    total.setflags(write=False)
    count = int(np.ceil(density * SPEC.size))
    given_ = {
        "total": total,
        "count": count,
        "layout": LAYOUT,
        "value_bits": bits + 0.1,
        "common": rng.random(SPEC.size),
    }
    chosen = method(**given_)
    assert chosen.dtype == bool
    assert chosen.shape == total.shape
    assert chosen.sum() <= count
    np.testing.assert_array_equal(method(**given_), chosen)


@each(CHOICE)
def test_of_a_vector_of_zeros_nothing_is_sent(method):
    if COMMON in method.needs:
        method = None  # its entries are known before there is a vector
    zeros = np.zeros(SPEC.size, np.float32)
    assert len(sparsify(zeros, 0.5, method, layout=LAYOUT).indices) == 0
    one = zeros.copy()
    one[700] = -1e-20
    assert sparsify(one, 0.01, method, layout=LAYOUT).indices.tolist() == [700]


CLASSES = st.lists(st.integers(0, 6), min_size=1, max_size=120).map(np.array)
VALUES = st.lists(
    st.floats(-1e6, 1e6, width=32, allow_nan=False), min_size=1, max_size=60
).map(lambda drawn: np.array(drawn, np.float32))
TARGETS = np.arange(1000) % 10


@st.composite
def calls(draw):
    """Draw targets and arguments that fit them."""
    kind = draw(st.sampled_from([*methods(PARTITION)]))
    needs = methods(PARTITION)[kind].needs
    targets = draw(CLASSES if "classes" in needs else CLASSES | VALUES)
    clients = draw(st.integers(1, len(targets)))
    found = len(np.unique(targets))
    fewest = -(-found // clients)
    return targets, {
        "kind": kind,
        "clients": clients,
        "seed": draw(st.integers(0, 99)),
        "alpha": draw(st.sampled_from([1e-3, 0.1, 1.0, 1e3])),
        "classes_per_client": draw(st.integers(min(fewest, found), found)),
    }


@pytest.mark.slow
@given(calls())
@settings(max_examples=200, deadline=None)
def test_every_example_goes_to_exactly_one_client_and_equal_seeds_agree(call):
    targets, arguments = call
    targets.setflags(write=False)
    parts = partition(targets, **arguments)
    assert len(parts) == arguments["clients"]
    dealt = np.concatenate(parts)
    assert sorted(dealt.tolist()) == list(range(len(targets)))
    for part, again in zip(parts, partition(targets, **arguments), strict=True):
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
        np.testing.assert_array_equal(part, again)


@pytest.mark.parametrize("kind", methods(PARTITION))
def test_another_seed_gives_other_parts(kind):
    first = partition(TARGETS, kind=kind, clients=10, seed=0)
    second = partition(TARGETS, kind=kind, clients=10, seed=1)
    assert any(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))


FULL = full_mask(SPEC, PLAN)
KIND_OF_MASK = pytest.mark.parametrize("kind", methods(MASK))


@KIND_OF_MASK
def test_a_mask_is_nested_named_after_its_parent_and_spares_vectors(kind):
    first = masked(kind, FULL, weights())
    again = masked(kind, first, weights(1))
    assert first.parent == FULL.digest
    assert again.parent == first.digest
    assert not (again.keep & ~first.keep).any()
    assert again.keep[1152:1160].all()
    assert len({FULL.digest, first.digest, again.digest}) == 3
    assert masked(kind, FULL, weights()).digest == first.digest


@KIND_OF_MASK
@pytest.mark.parametrize("density", [1e-6, 0.3])
def test_of_each_tensor_something_stays(kind, density):
    keep = masked(kind, FULL, weights(), density).keep
    for start, size in ((0, 1152), (1160, 240), (1400, 24)):
        assert keep[start : start + size].any()


@each(MASK, lambda one: not one.laws)
@pytest.mark.parametrize("density", [0.01, 0.1, 0.333, 1.0])
def test_exactly_the_asked_share_of_the_matrices_stays(method, density):
    mask = masked(method.name, FULL, weights(), density)
    wanted = np.ceil(density * MATRICES)
    said = "a mask of another density names the law that it keeps instead"
    assert mask.keep.sum() - 8 == wanted, said


def scales(method):
    """A factor on the weights is a factor on the scores."""
    found, tripled = method(weights=view()), method(weights=view(factor=-3.0))
    np.testing.assert_allclose(tripled, 3.0 * found, rtol=1e-9)


def scale_free(method):
    """A factor on the weights changes nothing."""
    found, tripled = method(weights=view()), method(weights=view(factor=-3.0))
    np.testing.assert_allclose(tripled, found, rtol=1e-9)


def robust_consensus(method):
    """One client of ten, whatever it says, does not leave what the others say."""
    noise = np.random.default_rng(0).uniform(0.9, 1.1, (10, 12))
    scores = votes(1)["scores"] * noise
    scores[4] = 0.0
    scores[4, 7] = 1.0
    found = method(scores=scores, num_examples=np.full(10, 5.0))
    others = np.delete(scores, 4, axis=0)
    assert (found >= others.min(axis=0)).all()
    assert (found <= others.max(axis=0)).all()


def robust_rule(method):
    """One client of five, whatever it sends, does not leave what the others send."""
    given_ = answers(5, share=2.0)
    given_["deltas"][2] = 1e4
    found = one_delta(method, given_)
    others = np.delete(given_["deltas"], 2, axis=0)
    assert (found >= others.min(axis=0)).all()
    assert (found <= others.max(axis=0)).all()


def whole(method):
    """The entries of a block stay or go together, at any density."""
    for density in (0.05, 0.25, 0.6):
        mask = masked(method.name, FULL, weights(), density)
        fc = mask.keep[FC].reshape(10, 6, 4)[:8].reshape(2, 4, 6, 4)
        odd = mask.keep[ODD].reshape(4, 6)
        for part in (fc.swapaxes(1, 2).reshape(12, 16), odd[:, :4].reshape(1, 16)):
            assert (part.all(axis=1) | ~part.any(axis=1)).all()


def one_step(method):
    """What stays has nothing to do with a density, and does not change any more."""
    first = masked(method.name, FULL, weights(), 0.9)
    assert (masked(method.name, FULL, weights(), 0.01).keep == first.keep).all()
    assert (masked(method.name, first, weights(), 0.01).keep == first.keep).all()
    assert not first.keep.all()


CHECKS = {
    ("importance", "scales"): scales,
    ("importance", "scale-free"): scale_free,
    ("consensus", "robust"): robust_consensus,
    ("aggregation", "robust"): robust_rule,
    ("mask", "whole"): whole,
    ("mask", "one step"): one_step,
}
# The inputs that a law is checked with, where that is not all of the kind's.
GIVEN = {
    ("importance", "scales"): frozenset(["weights"]),
    ("importance", "scale-free"): frozenset(["weights"]),
}
NAMED = {
    f"{title}: {law}": (one, law)
    for title, one in all_methods(KINDS).items()
    for law in one.laws
}
PAGE = "docs/extending.md has the laws"


def misfit(method, law):
    """Return why a law cannot be checked of a method, or ""."""
    kind = method.kind.name
    known = sorted(name for of, name in CHECKS if of == kind)
    if law not in known:
        found = f"{kind} '{method.name}' names the law '{law}', which has no check"
        return f"{found}; want one of {known or 'none'}, or a row in CHECKS; {PAGE}"
    given_ = GIVEN.get((kind, law), method.needs)
    if not method.needs <= given_:
        more = ", ".join(sorted(method.needs - given_))
        found = f"{kind} '{method.name}' names the law '{law}' and asks for {more}"
        return f"{found}; want a function of {', '.join(given_)} alone; {PAGE}"
    return ""


@pytest.mark.parametrize(("method", "law"), NAMED.values(), ids=NAMED)
def test_a_method_keeps_the_laws_that_it_names(method, law):
    assert not misfit(method, law)
    CHECKS[method.kind.name, law](method)


def test_every_check_of_a_law_has_a_method():
    unused = {*CHECKS} - {(one.kind.name, law) for one, law in NAMED.values()}
    assert not unused, "no method names these laws: remove their checks"


@pytest.mark.parametrize(
    ("kind", "name", "law", "words"),
    [
        (IMPORTANCE, "taylor", "scales", "asks for product_sums; want a function of w"),
        (IMPORTANCE, "l1", "robust", "no check; want one of .'scale-free', 'scales'"),
        (CHOICE, "rate", "whole", "no check; want one of none, or a row in CHECKS"),
    ],
)
def test_a_law_that_does_not_fit_a_method_is_one_sentence(kind, name, law, words):
    method = methods(kind)[name]
    assert re.search(words, misfit(method, law))
    assert "\n" not in misfit(method, law)


BROKEN = {
    "scales": (IMPORTANCE, "l1-group"),
    "scale-free": (IMPORTANCE, "l2"),
    "robust consensus": (CONSENSUS, "mean"),
    "robust rule": (AGGREGATION, "mean"),
    "whole": (MASK, "unstructured"),
    "one step": (MASK, "unstructured"),
}


@pytest.mark.parametrize(
    ("check", "broken"),
    [*zip(CHECKS.values(), BROKEN.values(), strict=True)],
    ids=BROKEN,
)
def test_the_check_of_a_law_finds_a_method_that_breaks_it(check, broken):
    kind, name = broken
    with pytest.raises(AssertionError):
        check(methods(kind)[name])
