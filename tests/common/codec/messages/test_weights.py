import numpy as np
import pytest
from helpers.codec.examples import BASE, MATRIX, SPEC, edit
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprune.common.codec import check_weights, decode_weights, encode_weights
from fedprune.common.errors import DataError, PayloadError, Reason
from fedprune.common.spec import weights_digest

KINDS = ["grid", "float32"]


def round_trip(weights, spec=SPEC, values="float32"):
    return decode_weights(encode_weights(np.float32(weights), spec, values), spec)


def test_float32_weights_travel_exactly():
    assert round_trip(BASE).tobytes() == BASE.tobytes()


@pytest.mark.parametrize("values", KINDS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), density=st.sampled_from([0.0, 0.05, 0.5]))
def test_exact_zeros_stay_exact_zeros(values, seed, density):
    rng = np.random.default_rng(seed)
    weights = np.where(rng.random(SPEC.size) < density, BASE, np.float32(0))
    found = round_trip(weights, values=values)
    assert np.all(found[weights == 0] == 0)


@pytest.mark.parametrize("values", KINDS)
def test_what_was_decoded_encodes_to_what_it_was_decoded_from(values):
    data = encode_weights(BASE, SPEC, values)
    assert encode_weights(BASE.copy(), SPEC, values) == data
    first = decode_weights(data, SPEC)
    assert weights_digest(decode_weights(data, SPEC)) == weights_digest(first)


@pytest.mark.parametrize("values", KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_not_encoded(values, bad):
    weights = BASE.copy()
    weights[109] = bad
    with pytest.raises(DataError, match=r"1 weights are not finite.*conv.bias"):
        encode_weights(weights, SPEC, values)


def test_a_wrong_number_of_weights_is_not_encoded():
    with pytest.raises(DataError, match="3 weights to encode"):
        encode_weights(BASE[:3], SPEC, "float32")


def test_other_weights_than_promised_are_refused():
    check_weights(BASE, weights_digest(BASE))
    with pytest.raises(PayloadError) as caught:
        check_weights(BASE + 1, weights_digest(BASE))
    assert caught.value.reason == Reason.BAD_DIGEST


def forged(raw):
    data = encode_weights(np.float32([1, 2, 3, 4, 5]), MATRIX, "float32")
    return edit(data, lambda items: items.__setitem__(2, raw))


def refusal(data, spec=MATRIX):
    with pytest.raises(PayloadError) as caught:
        decode_weights(data, spec)
    return caught.value


GOOD = np.float32([63.5, -1, 0, 0, 1.5]).tobytes()
ATTACKS = {
    "one byte less": GOOD[:-1],
    "one byte more": GOOD + b"\0",
    "no bytes": b"",
    "text": "x" * 20,
}


def test_the_forger_of_weights_makes_valid_ones():
    assert decode_weights(forged(GOOD), MATRIX).tolist() == [63.5, -1, 0, 0, 1.5]


@pytest.mark.parametrize("raw", ATTACKS.values(), ids=ATTACKS)
def test_forged_weights_are_refused_by_name(raw):
    assert refusal(forged(raw)).field == "weights.data"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_float32_weights_that_are_not_finite_are_refused(bad):
    error = refusal(forged(np.float32([1, 2, 3, bad, 5]).tobytes()))
    assert (error.reason, error.field) == (Reason.NON_FINITE, "w")


@pytest.mark.parametrize("values", KINDS)
def test_weights_of_another_network_are_refused(values):
    refusal(encode_weights(BASE, SPEC, values))
    refusal(encode_weights(np.ones(5, np.float32), MATRIX, values), SPEC)
