"""Covariances in an answer: told only where they are asked for, within their range."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.codec.examples import KNOWN, SETTINGS, make_expected, make_update

from fedprune.common import codec
from fedprune.common.codec.fields import read_settings, settings_fields
from fedprune.common.errors import PayloadError, Reason
from fedprune.common.messages import Covariances

CHANNELS, PAIRS = 5, 6
RNG = np.random.default_rng(3)
TOLD = Covariances(
    mean=RNG.normal(size=CHANNELS).astype(np.float16).astype(np.float32),
    deviation=RNG.random(CHANNELS).astype(np.float16).astype(np.float32),
    correlation=(2 * RNG.random(PAIRS) - 1).astype(np.float16).astype(np.float32),
)
ASKED = make_expected(covariances=(CHANNELS, PAIRS))


def message(**changes):
    told = replace(TOLD, **changes)
    return codec.encode_update(replace(make_update(9), covariances=told), KNOWN)


def test_they_come_back_as_told():
    found = codec.decode_update(message(), ASKED).covariances
    for name in ("mean", "deviation", "correlation"):
        assert np.array_equal(getattr(found, name), getattr(TOLD, name))


def test_a_client_may_abstain_and_other_answers_have_the_bytes_of_before():
    plain = codec.encode_update(make_update(9), KNOWN)
    found = codec.decode_update(plain, ASKED)
    assert found.covariances is None
    assert codec.decode_update(plain, make_expected()).covariances is None
    grown = len(message()) - len(plain)
    # 2 bytes each, three headers of arrays, one of the field.
    assert grown == 2 * (2 * CHANNELS + PAIRS) + 7
    assert codec.decode_update(message(), ASKED).fixed == found.fixed + grown


def test_they_are_refused_where_none_were_asked_for():
    with pytest.raises(PayloadError, match="update"):
        codec.decode_update(message(), make_expected())


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"mean": TOLD.mean[:-1]}, Reason.BAD_SIZE, "covariances.mean"),
        ({"deviation": -TOLD.deviation}, Reason.BAD_VALUE, "covariances.deviation"),
        (
            {"correlation": np.float32([1.01] + [0.0] * (PAIRS - 1))},
            Reason.BAD_VALUE,
            "covariances.correlation",
        ),
        (
            {"correlation": np.float32([np.nan] * PAIRS)},
            Reason.NON_FINITE,
            "covariances.correlation",
        ),
        ({"mean": TOLD.mean * np.inf}, Reason.NON_FINITE, "covariances.mean"),
    ],
)
def test_what_no_examples_have_is_refused(changes, reason, field):
    with pytest.raises(PayloadError) as caught:
        codec.decode_update(message(**changes), ASKED)
    assert caught.value.reason is reason
    assert caught.value.field == field


def test_the_setting_travels_only_where_it_is_set():
    assert len(settings_fields(SETTINGS)) < len(
        settings_fields(replace(SETTINGS, covariances=True))
    )
    for value in (False, True):
        settings = replace(SETTINGS, covariances=value)
        assert read_settings(tuple(settings_fields(settings))) == settings
