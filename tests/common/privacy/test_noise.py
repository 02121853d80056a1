"""Noise: its distribution, and that it cannot be known without the key."""

import numpy as np
import pytest

from fedprune.common.errors import ConfigError
from fedprune.common.privacy.noise import NoiseKey, _Stream, discrete_gaussian

KEY = NoiseKey(bytes(range(32)))


@pytest.mark.parametrize("sigma", [0.3, 1.0, 7.5, 40.0])
def test_integers_have_the_probabilities_of_a_discrete_gaussian(sigma):
    size = 200_000
    found = discrete_gaussian(_Stream(bytes(32)), sigma, size)
    reach = int(8 * sigma) + 8
    places = np.arange(-reach, reach + 1)
    wanted = np.exp(-(places**2) / (2 * sigma**2))
    wanted *= size / wanted.sum()
    counts = np.bincount(found + reach, minlength=len(places))
    enough = wanted > 5
    terms = (counts - wanted)[enough] ** 2 / wanted[enough]
    degrees = int(enough.sum()) - 1
    # Chi squared: mean ``degrees``, variance twice that; the seed is fixed.
    assert terms.sum() < degrees + 5 * np.sqrt(2 * degrees)
    assert counts[~enough].sum() < 1.5 * wanted[~enough].sum() + 20


def test_wide_noise_has_its_standard_deviation():
    found = discrete_gaussian(_Stream(bytes(32)), 3e9, 100_000)
    assert found.std() == pytest.approx(3e9, rel=0.01)
    assert abs(found.mean()) < 5 * 3e9 / np.sqrt(100_000)


def test_the_same_sum_gets_the_same_noise_and_any_other_one_of_its_own():
    sums = np.arange(1000, dtype=np.int64)
    first = KEY.hidden(sums, 50.0, "run", "3", "delta") - sums
    np.testing.assert_array_equal(
        KEY.hidden(sums, 50.0, "run", "3", "delta") - sums, first
    )
    moved = sums.copy()
    moved[0] += 1
    others = [
        KEY.hidden(moved, 50.0, "run", "3", "delta") - moved,
        KEY.hidden(sums, 50.0, "run", "4", "delta") - sums,
        KEY.hidden(sums, 50.0, "run", "3", "scores") - sums,
        KEY.hidden(sums, 50.0, "run3", "", "delta") - sums,
        NoiseKey(bytes(32)).hidden(sums, 50.0, "run", "3", "delta") - sums,
    ]
    for other in others:
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.2


def test_the_same_sum_with_more_noise_gets_no_multiple_of_it():
    """Of two of them the sum could be calculated."""
    sums = np.arange(1000, dtype=np.int64)
    few = KEY.hidden(sums, 1e6, "run", "3", "delta") - sums
    more = KEY.hidden(sums, 2e6, "run", "3", "delta") - sums
    assert abs(np.corrcoef(few, more)[0, 1]) < 0.2


@pytest.mark.parametrize("sigma", [1e14, 1e300, np.inf, np.nan, 0.0, -1.0])
def test_noise_that_integers_do_not_hold_is_refused(sigma):
    with pytest.raises(ConfigError, match=r"privacy\.clip"):
        KEY.hidden(np.zeros(3, dtype=np.int64), sigma, "run")


def test_a_key_is_shown_by_a_digest_alone():
    assert KEY.secret.hex() not in repr(KEY)
    assert "secret" not in repr(KEY)
    assert len(KEY.name) == 16
    assert KEY.name not in KEY.secret.hex()
