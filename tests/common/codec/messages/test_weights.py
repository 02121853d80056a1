import numpy as np
import pytest
from helpers.codec.examples import BASE, MATRIX, SPEC, edit
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprune.common.codec import check_weights, decode_weights, encode_weights
from fedprune.common.errors import ConfigError, DataError, PayloadError, Reason
from fedprune.common.messages import weights_digest

KINDS = ["int8", "float32"]


def round_trip(weights, spec=SPEC, values="int8"):
    return decode_weights(encode_weights(np.float32(weights), spec, values), spec)


def test_float32_weights_travel_exactly():
    assert round_trip(BASE, values="float32").tobytes() == BASE.tobytes()


def test_known_int8_weights_decode_to_known_values():
    found = round_trip([127, -63.4, 0, 0, 1 / 3], MATRIX)
    assert found.tolist() == [127, -63, 0, 0, float(np.float16(1 / 3))]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1e-30, 1e-3, 1.0, 1e4]))
def test_int8_weights_are_within_half_a_step(seed, factor):
    weights = np.random.default_rng(seed).uniform(-1, 1, SPEC.size) * factor
    weights = weights.astype(np.float32)
    found = round_trip(weights)
    start = 0
    for tensor in SPEC.tensors:
        part = slice(start, start + tensor.size)
        start += tensor.size
        if len(tensor.shape) < 2:
            halves = weights[part].astype(np.float16).astype(np.float32)
            np.testing.assert_array_equal(found[part], halves)
        elif tensor.size:
            rows = weights[part].reshape(tensor.rows, -1)
            error = np.abs(found[part].reshape(rows.shape) - rows.astype(np.float64))
            most = np.abs(rows).max(axis=1, keepdims=True)
            # Quotient and product are float32: 127 levels lose up to 2**-17 of one.
            assert np.all(error <= most / 254 * (1 + 2**-14))


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


def test_a_row_of_subnormal_scale_becomes_zeros():
    found = round_trip([1e-37, -1e-37, 1, 0, 0], MATRIX)
    assert found.tolist() == [0, 0, 1, 0, 0]


@pytest.mark.parametrize("values", KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_not_encoded(values, bad):
    weights = BASE.copy()
    weights[109] = bad
    with pytest.raises(DataError, match=r"1 weights are not finite.*conv.bias"):
        encode_weights(weights, SPEC, values)


def test_a_wrong_number_of_weights_is_not_encoded():
    with pytest.raises(DataError, match="3 weights to encode"):
        encode_weights(BASE[:3], SPEC, "int8")


def test_a_bias_beyond_float16_is_a_configuration_error_that_names_it():
    with pytest.raises(ConfigError, match=r"b holds 70000.*float32"):
        encode_weights(np.float32([1, 1, 1, 1, 70000]), MATRIX, "int8")


def test_other_weights_than_promised_are_refused():
    check_weights(BASE, weights_digest(BASE))
    with pytest.raises(PayloadError) as caught:
        check_weights(BASE + 1, weights_digest(BASE))
    assert caught.value.reason == Reason.BAD_DIGEST


def int8_raw(scales, levels, half):
    planes = np.float32(scales).view(np.uint8).reshape(-1, 4).T.tobytes()
    return planes + np.int8(levels).tobytes() + np.float16([half]).tobytes()


def forged(raw):
    data = encode_weights(np.float32([1, 1, 1, 1, 1]), MATRIX, "int8")

    def change(items):
        items[3], items[4] = False, raw

    return edit(data, change)


GOOD = int8_raw([0.5, 0], [127, -2, 0, 0], 1.5)
ATTACKS = {
    "a scale of NaN": (int8_raw([np.nan, 0], [1, 1, 0, 0], 1), "w"),
    "a scale of infinity": (int8_raw([np.inf, 0], [1, 1, 0, 0], 1), "w"),
    "a negative scale": (int8_raw([-1, 0], [1, 1, 0, 0], 1), "w"),
    "a subnormal scale": (int8_raw([1e-40, 0], [1, 1, 0, 0], 1), "w"),
    "a scale of 0 with levels": (int8_raw([0, 0], [1, 1, 0, 0], 1), "w"),
    "a scale of -0 with zeros": (int8_raw([1, -0.0], [1, 1, 0, 0], 1), "w"),
    "a scale above 0 with zeros": (int8_raw([1, 1], [1, 1, 0, 0], 1), "w"),
    "level -128": (int8_raw([1, 0], [1, -128, 0, 0], 1), "w"),
    "a scale that overflows": (int8_raw([3e38, 0], [127, 1, 0, 0], 1), "w"),
    "a float16 of NaN": (int8_raw([1, 0], [1, 1, 0, 0], np.nan), "b"),
    "a float16 of infinity": (int8_raw([1, 0], [1, 1, 0, 0], np.inf), "b"),
    "one byte less": (GOOD[:-1], "weights.data"),
    "one byte more": (GOOD + b"\0", "weights.data"),
    "no bytes": (b"", "weights.data"),
}


def test_the_forger_of_weights_makes_valid_ones():
    assert decode_weights(forged(GOOD), MATRIX).tolist() == [63.5, -1, 0, 0, 1.5]


@pytest.mark.parametrize(("raw", "field"), ATTACKS.values(), ids=ATTACKS)
def test_forged_weights_are_refused_by_name(raw, field):
    with pytest.raises(PayloadError) as caught:
        decode_weights(forged(raw), MATRIX)
    assert caught.value.field == field


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_float32_weights_that_are_not_finite_are_refused(bad):
    data = encode_weights(np.float32([1, 2, 3, 4, 5]), MATRIX, "float32")
    raw = np.float32([1, 2, 3, bad, 5]).tobytes()

    def change(items):
        items[3], items[4] = False, raw

    with pytest.raises(PayloadError) as caught:
        decode_weights(edit(data, change), MATRIX)
    assert caught.value.reason == Reason.NON_FINITE
    assert caught.value.field == "w"


@pytest.mark.parametrize("kind", [2, -1, True, 1.0, "int8", None])
def test_an_unknown_kind_of_weights_is_refused(kind):
    data = encode_weights(BASE, SPEC, "int8")
    with pytest.raises(PayloadError) as caught:
        decode_weights(edit(data, lambda items: items.__setitem__(2, kind)), SPEC)
    assert caught.value.field == "weights.values"


def test_weights_of_another_network_are_refused():
    with pytest.raises(PayloadError):
        decode_weights(encode_weights(BASE, SPEC, "int8"), MATRIX)
    with pytest.raises(PayloadError):
        decode_weights(encode_weights(np.ones(5, np.float32), MATRIX, "int8"), SPEC)
