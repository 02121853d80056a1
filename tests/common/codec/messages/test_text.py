"""Texts in messages: the same again, never longer, and nothing forged gets through."""

import bz2
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprune.common.codec.messages.text import compress_text, read_text
from fedprune.common.errors import PayloadError, Reason
from fedprune.common.spec import MAX_STRUCTURE

JSON = b'{"dims":[[0,0,[[0,16,1]]],[1,0,[[0,16,1]]],[2,0,[[16,16,1]]]]}' * 4
TEXT = bz2.compress(JSON, 9)
WORDS = st.lists(st.sampled_from([b"[0,1]", b"conv", b"\xff", b"a", b"12,"]))
GOLDEN = (
    "425a6839314159265359b13f7b0c00007bdb80400010047110000a0422080a20"
    "0070530004d02a49191a1a19347a60e0e4b0c860589d93a250a128c074589b14"
    "51d944c125c973c347a7c7c7e2ee48a70a121627ef6180"
)


def test_a_known_text_has_known_bytes():
    assert compress_text(JSON) == (True, bytes.fromhex(GOLDEN))
    found = read_text("x", len(JSON), coded=True, data=bytes.fromhex(GOLDEN))
    assert found == JSON


@settings(max_examples=60, deadline=None)
@given(st.one_of(WORDS.map(b"".join), st.binary(max_size=60)))
def test_a_text_comes_back_and_is_never_longer(text):
    coded, data = compress_text(text)
    assert len(data) <= len(text)
    assert read_text("x", len(text), coded, data) == text


def refusal(size, coded, data):
    with pytest.raises(PayloadError) as caught:
        read_text("name", size, coded, data)
    return caught.value


DAMAGED = TEXT[:40] + bytes([TEXT[40] ^ 4]) + TEXT[41:]
HOSTILE = {
    "nothing": (b"", Reason.BAD_SIZE),
    "a head alone": (TEXT[:4], Reason.BAD_SIZE),
    "a stream cut off": (TEXT[:-1], Reason.BAD_SIZE),
    "a byte behind it": (TEXT + b"\0", Reason.BAD_SIZE),
    "a second stream behind it": (TEXT + bz2.compress(b""), Reason.BAD_SIZE),
    "a damaged stream": (DAMAGED, Reason.BAD_VALUE),
    "no stream": (b"x" * 40, Reason.BAD_VALUE),
    "a shorter text": (bz2.compress(JSON[:-1]), Reason.BAD_SIZE),
    "a longer text": (bz2.compress(JSON + b" "), Reason.BAD_SIZE),
    "as many bytes as the text has": (JSON, Reason.BAD_SIZE),
    "a bomb": (bz2.compress(bytes(1 << 26)), Reason.BAD_SIZE),
}


@pytest.mark.parametrize(("data", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_forged_text_is_refused_by_name_and_in_little_memory(data, reason):
    tracemalloc.start()
    error = refusal(len(JSON), coded=True, data=data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (error.field, error.reason) == ("name", reason)
    assert peak < 8 << 20  # libbzip2 itself takes 3.7 MB for a stream of level 9


FIELDS = {
    "a size above the cap": (MAX_STRUCTURE + 1, True, TEXT, "name.size"),
    "a size below 0": (-1, True, TEXT, "name.size"),
    "a size that is a bool": (True, False, b"x", "name.size"),
    "coded by a number": (len(JSON), 1, TEXT, "name.coded"),
    "text instead of bytes": (len(JSON), True, "x", "name"),
    "plain bytes of another size": (len(JSON), False, TEXT, "name"),
    "a stream said to be plain": (len(TEXT) + 1, False, TEXT, "name"),
}


@pytest.mark.parametrize(
    ("size", "coded", "data", "field"), FIELDS.values(), ids=FIELDS
)
def test_fields_of_a_text_are_checked_before_it_is_read(size, coded, data, field):
    assert refusal(size, coded, data).field == field
