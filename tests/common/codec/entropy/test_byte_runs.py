"""Texts and runs of bytes: the same again, small, and nothing forged gets through."""

import tracemalloc

import numpy as np
import pytest
from helpers.codec.slow_byte_runs import SlowSection, SlowText
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprune.common.codec.entropy.byte_runs import even_parts, squeeze, unsqueeze
from fedprune.common.codec.entropy.text import CODED, squeeze_text, unsqueeze_text
from fedprune.common.errors import PayloadError, Reason

# By hand: no generator's stream may change these bytes.
JSON = b'{"dims":[[0,0,[[0,16,1]]],[1,0,[[0,16,1]]],[2,0,[[16,16,1]]]],"units":32}'
BYTES = bytes(i * i % 7 for i in range(300))
PARTS = (np.arange(300) // 100).astype(np.uint8)
GOLDEN_TEXT = (
    "95ce90124fede067b8dbe972da33d2f423d8c3773e312e7f42ce1359d24592c5"
    "923b9b54f3d3c9d8fe9db365"
)
GOLDEN_SECTION = (
    "48000402b00138015100ca000c008400c5011200b2001000610140002901a400"
    "16c6d37b5dba794d8cb9d0ac4b84ec821f8cb27ed38d3190ff826d0b550b64c3"
    "b65cc351763ac0e8de3846b076024b0894f49e7c588a0848fd5963d0cf2d9ccb"
    "835b7ac8ede4fd3778549ab60cdd000a"
)
WORDS = st.lists(st.sampled_from([b"[0,1]", b"conv", b"\xff", b"a", b"12,"]))


def test_a_known_text_has_known_bytes():
    coded, data = squeeze_text(JSON)
    assert coded
    assert data.hex() == GOLDEN_TEXT
    assert unsqueeze_text(data, "x", len(JSON), coded=True) == JSON


def test_known_bytes_have_known_bytes():
    coded, data = squeeze(BYTES, PARTS)
    assert coded
    assert data.hex() == GOLDEN_SECTION
    found = unsqueeze(data, "x", 300, coded=True, parts_of=lambda _: PARTS)
    assert found == BYTES


@settings(max_examples=60, deadline=None)
@given(st.one_of(WORDS.map(b"".join), st.binary(max_size=60)))
def test_a_text_comes_back_and_is_never_longer(text):
    coded, data = squeeze_text(text)
    assert len(data) <= len(text)
    assert unsqueeze_text(data, "x", len(text), coded=coded) == text
    if coded:
        assert SlowText(data).text(len(text)) == text


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 3000), st.integers(1, 64))
def test_bytes_come_back_and_are_never_longer(seed, size, parts):
    rng = np.random.default_rng(seed)
    raw = (rng.normal(size=size) * 9).astype(np.int8).tobytes()
    of = np.sort(rng.integers(parts, size=size)).astype(np.uint8)
    coded, data = squeeze(raw, of)
    assert len(data) <= len(raw)
    assert unsqueeze(data, "x", size, coded=coded, parts_of=lambda _: of) == raw
    if coded:
        assert SlowSection(data, of).bytes() == raw


def test_a_text_that_repeats_itself_takes_next_to_nothing():
    assert len(squeeze_text(b"0123456789" * 1000)[1]) < 30


def test_what_is_too_long_to_be_decoded_soon_is_not_coded():
    coded, data = squeeze_text(bytes(CODED + 1))
    assert (coded, len(data)) == (False, CODED + 1)
    short = squeeze_text(bytes(CODED))[1]
    with pytest.raises(PayloadError):
        unsqueeze_text(short, "x", CODED + 1, coded=True)


TEXT = squeeze_text(JSON)[1]
SECTION = squeeze(BYTES, even_parts(300))[1]
STATE = (65536).to_bytes(4, "little")
FORGED = {
    "nothing": b"",
    "a state cut off": TEXT[:3],
    "half a word": TEXT[:-1],
    "a word less": TEXT[:-2],
    "a word more": TEXT + bytes(2),
    "a state below 2**16": bytes(4) + TEXT[4:],
    "a state alone": STATE,
    "another first state": b"\x01" + TEXT[1:],
    "only ones": b"\xff" * 40,
    "as many bytes as the text has": bytes(len(JSON)),
}


@pytest.mark.parametrize("data", FORGED.values(), ids=FORGED)
def test_a_forged_text_is_refused_by_name(data):
    with pytest.raises(PayloadError) as caught:
        unsqueeze_text(data, "name", len(JSON), coded=True)
    assert caught.value.field == "name"


@pytest.mark.parametrize("size", [0, 1, 29, len(JSON) - 1, len(JSON) + 1, 10_000])
def test_a_text_of_another_size_is_refused(size):
    with pytest.raises(PayloadError) as caught:
        unsqueeze_text(TEXT, "name", size, coded=True)
    assert caught.value.field == "name"
    with pytest.raises(PayloadError) as caught:
        unsqueeze_text(JSON, "name", size, coded=False)
    assert caught.value.reason == Reason.BAD_SIZE


def test_a_repeat_from_before_the_text_is_refused():
    # A state of ones in all its low bits: 0 is a byte, 1 a repeat (slot < share).
    with pytest.raises(PayloadError, match="a repeat of"):
        unsqueeze_text(STATE + bytes(40), "name", 100, coded=True)


FORGED_SECTIONS = {
    "nothing": b"",
    "a state cut off": SECTION[:31],
    "half a word": SECTION[:-1],
    "a word less": SECTION[:-2],
    "a word more": SECTION + bytes(2),
    "a state below 2**16": bytes(4) + SECTION[4:],
    "another first state": bytes([SECTION[0] ^ 1]) + SECTION[1:],
    "as many bytes as the section has": bytes(300),
}


@pytest.mark.parametrize("data", FORGED_SECTIONS.values(), ids=FORGED_SECTIONS)
def test_a_forged_section_is_refused_by_name(data):
    with pytest.raises(PayloadError) as caught:
        unsqueeze(data, "name", 300, coded=True)
    assert caught.value.field == "name"


@pytest.mark.parametrize("size", [0, 1, 299, 301, 1 << 32])
def test_a_section_of_another_size_is_refused_before_its_bytes_are_made(size):
    tracemalloc.start()
    with pytest.raises(PayloadError) as caught:
        unsqueeze(SECTION, "name", size, coded=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.field == "name"
    assert peak < 1 << 20
