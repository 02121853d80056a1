"""Codebooks: few values for each tensor, exactly those that were written come back."""

import bisect
import itertools

import numpy as np
import pytest
from helpers.codec.examples import BASE, SPEC, edit, items_of
from helpers.codec.grid_examples import specs
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprune.common import codec
from fedprune.common.codec.messages.codebook import make_codebook
from fedprune.common.errors import ConfigError, PayloadError
from fedprune.common.spec import ModelSpec, TensorSpec

SMALL = ModelSpec(
    tensors=(TensorSpec(name="w", shape=(2, 4)), TensorSpec(name="b", shape=(3,))),
    moments=0,
    units=0,
)
WEIGHTS = np.float32([0, 1, 1.5, -2, -2.5, 0, 1, 8, 0.25, -1, 3])


def plain_means(weights, bits):
    """Return the centroids of k-means, one weight after another; few are kept."""
    if len(set(weights)) <= 1 << bits:
        return sorted(set(weights))
    count = 1 << bits
    even = np.linspace(min(weights), max(weights), count)
    # Midway to the middles of as many equal parts of the sorted weights.
    middles = np.quantile(weights, [(i + 0.5) / count for i in range(count)])
    centres = ((even + middles) / 2).tolist()
    for _ in range(200):
        groups = [[] for _ in centres]
        # Nearest by the middles: rounded distances could break a tie otherwise.
        middles = [(a + b) / 2 for a, b in itertools.pairwise(centres)]
        for w in weights:
            groups[bisect.bisect_left(middles, w)].append(w)
        moved = [sum(g) / len(g) for g in groups if g]
        if moved == centres:
            return centres
        centres = moved
    return centres


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-40, 40).filter(bool), min_size=1, max_size=30),
    st.integers(1, 4),
)
def test_centroids_are_those_of_plain_k_means_from_the_same_starts(weights, bits):
    found = make_codebook(np.float32(weights), bits)
    means = plain_means([float(w) for w in weights], bits)
    wanted = {float(np.float32(c)) for c in means}
    assert set(found.values.tolist()) == wanted - {0.0}


def test_a_codebook_of_weights_with_tails_has_values_in_them_and_few_errors():
    rng = np.random.default_rng(5)
    weights = rng.standard_t(4, 20_000).astype(np.float32)
    codebook = make_codebook(weights, 6)
    assert len(codebook.values) > 56
    found = codebook.values[codebook.symbols - 1]
    share = np.mean((found - weights) ** 2) / np.mean(weights**2)
    assert share < 0.003  # 0.0024; from even starts 0.0046, with 48 values


def test_weights_whose_centroid_is_0_become_0_and_not_the_next_value():
    codebook = make_codebook(np.float32([-2, -1, 0, 1, 2, 40, 41]), 1)
    assert codebook.values.tolist() == [40.5]
    assert codebook.symbols.tolist() == [0, 0, 0, 0, 0, 1, 1]


def test_known_weights_have_a_known_codebook():
    codebook = make_codebook(WEIGHTS[:8], 2)
    assert codebook.values.tolist() == [-2.25, np.float32(3.5 / 3), 8]
    assert codebook.symbols.tolist() == [0, 2, 2, 1, 1, 0, 2, 3]


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 6), st.sampled_from([0.0, 0.5, 1.0]))
def test_every_weight_comes_back_as_the_nearest_value_of_its_tensor(
    data, bits, density
):
    spec = data.draw(specs())
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    weights = rng.normal(size=spec.size).astype(np.float32)
    weights = np.where(rng.random(spec.size) < density, weights, np.float32(0))
    blob = codec.encode_codebook(weights, spec, bits)
    assert codec.encode_codebook(weights, spec, bits) == blob
    found = codec.decode_weights(blob, spec)
    start = 0
    for tensor in spec.tensors:
        part = slice(start, start + tensor.size)
        start += tensor.size
        if len(tensor.shape) < 2:
            halves = weights[part].astype(np.float16).astype(np.float32)
            assert found[part].tobytes() == halves.tobytes()
            continue
        values = np.unique(found[part][found[part] != 0])
        assert len(values) <= 1 << bits
        assert np.array_equal(found[part] == 0, weights[part] == 0)
        alive = weights[part] != 0
        if alive.any():
            away = np.abs(weights[part][alive][:, None] - values[None, :])
            mine = np.abs(weights[part][alive] - found[part][alive])
            np.testing.assert_allclose(mine, away.min(axis=1), rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(1, 6))
def test_weights_on_a_codebook_are_coded_again_without_loss(data, bits):
    spec = data.draw(specs())
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    weights = rng.normal(size=spec.size).astype(np.float32)
    found = codec.decode_weights(codec.encode_codebook(weights, spec, bits), spec)
    moved = np.where(found == 0, found, found * np.float32(1.5) + np.float32(0.125))
    for coded in (found, moved.astype(np.float16).astype(np.float32)):
        again = codec.decode_weights(codec.encode_codebook(coded, spec, bits), spec)
        assert again.tobytes() == coded.tobytes()


def test_more_bits_lose_less():
    lost = []
    for bits in range(1, 7):
        found = codec.decode_weights(codec.encode_codebook(BASE, SPEC, bits), SPEC)
        lost.append(float(np.square(found - BASE).sum()))
    assert lost == sorted(lost, reverse=True)
    assert lost[-1] < lost[0] / 50


@pytest.mark.parametrize("bits", [0, 7, -1])
def test_other_numbers_of_bits_are_refused(bits):
    with pytest.raises(ConfigError, match=f"codebook of {bits} bits"):
        codec.encode_codebook(WEIGHTS, SMALL, bits)


def test_a_bias_beyond_float16_is_refused_by_name():
    weights = WEIGHTS.copy()
    weights[9] = 1e5
    with pytest.raises(ConfigError, match="b holds 100000; float16"):
        codec.encode_codebook(weights, SMALL, 2)


GOLDEN = (
    "98020a02c40103c40c000010c05555953f00000041c42028e60400de0c0500de"
    "0c0500780605007806050028e60400de0c050044130500c406003400bc0042c4"
    "10689daffddcaeb3b55056d26e7400de03"
)


def test_a_codebook_of_version_2_is_read_and_written_as_ever():
    wanted = [0, 3.5 / 3, 3.5 / 3, -2.25, -2.25, 0, 3.5 / 3, 8, 0.25, -1, 3]
    found = codec.decode_weights(bytes.fromhex(GOLDEN), SMALL)
    assert found.tolist() == np.float32(wanted).tolist()
    assert codec.encode_codebook(WEIGHTS, SMALL, 2).hex() == GOLDEN


GOOD = codec.encode_codebook(WEIGHTS, SMALL, 2)
BITS, COUNTS, VALUES, STREAM, HALVES = range(2, 7)
NAN = float("nan")


def put(item, value):
    return edit(GOOD, lambda items: items.__setitem__(item, value))


def stream(change):
    return put(STREAM, change(items_of(GOOD)[STREAM]))


def values(*numbers):
    return put(VALUES, np.float32(numbers).tobytes())


ATTACKS = {
    "no bits": (put(BITS, 0), "codebook.bits"),
    "7 bits": (put(BITS, 7), "codebook.bits"),
    "bits of a float": (put(BITS, 2.0), "codebook.bits"),
    "a count too few": (put(COUNTS, b""), "codebook.counts"),
    "a count too many": (put(COUNTS, b"\3\1"), "codebook.counts"),
    "more values than bits": (put(COUNTS, b"\5"), "codebook.counts"),
    "a value less": (values(-2.25, 1), "codebook.values"),
    "a value more": (values(-2.25, 1, 8, 9), "codebook.values"),
    "a value of NaN": (values(-2.25, NAN, 8), "codebook.values"),
    "values that fall": (values(8, 1, -2.25), "codebook.values of 'w'"),
    "a value twice": (values(1, 1, 8), "codebook.values of 'w'"),
    "a value of 0": (values(-1, 0, 8), "codebook.values of 'w'"),
    "a value of -0": (values(-1, -0.0, 8), "codebook.values of 'w'"),
    "a value that no weight has": (
        edit(
            GOOD,
            lambda items: items.__setitem__(
                slice(COUNTS, STREAM), [b"\4", np.float32([-2.25, 1, 8, 9]).tobytes()]
            ),
        ),
        "codebook.values of 'w'",
    ),
    "a number without a value": (
        edit(
            GOOD,
            lambda items: items.__setitem__(
                slice(COUNTS, STREAM), [b"\2", np.float32([-2.25, 1]).tobytes()]
            ),
        ),
        "codebook.values of 'w'",
    ),
    "no stream": (put(STREAM, b""), "codebook.stream"),
    "half a word": (stream(lambda s: s[:-1]), "codebook.stream"),
    "a word more": (stream(lambda s: s + b"ab"), "delta.words"),
    "a state below the least": (stream(lambda s: bytes(4) + s[4:]), "codebook.stream"),
    "a bias less": (put(HALVES, bytes(4)), "codebook.halves"),
    "a bias of infinity": (
        put(HALVES, np.float16([np.inf, 0, 0]).tobytes()),
        "codebook.halves",
    ),
    "cut off": (GOOD[:-1], "message"),
    "a byte more": (GOOD + b"\0", "message"),
}


@pytest.mark.parametrize(("data", "field"), ATTACKS.values(), ids=ATTACKS)
def test_forged_codebooks_are_refused_by_name(data, field):
    with pytest.raises(PayloadError) as caught:
        codec.decode_weights(data, SMALL)
    assert caught.value.field == field, caught.value


def test_a_codebook_of_another_network_is_refused():
    with pytest.raises(PayloadError):
        codec.decode_weights(GOOD, SPEC)
