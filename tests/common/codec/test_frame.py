import contextlib
from hashlib import blake2b

import msgpack
import pytest
from helpers.codec.examples import body_of, seal_again
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprune.common.codec import Kind, seal, unseal
from fedprune.common.codec.frame import Bin, pack, unpack
from fedprune.common.errors import PayloadError, Reason

FIELDS = [1, "ä", b"\0\1", None, True, 0.5, [2, [-300, b""]]]
MESSAGE = seal(Kind.UPDATE, FIELDS)


def refused(data, kind=Kind.UPDATE, max_bytes=1 << 20):
    with pytest.raises(PayloadError) as caught:
        unseal(data, kind, max_bytes)
    return caught.value


def test_unseal_returns_the_fields_that_were_sealed():
    assert unseal(MESSAGE, Kind.UPDATE, len(MESSAGE)) == (
        1, "ä", b"\0\1", None, True, 0.5, (2, (-300, b"")),
    )  # fmt: skip


def test_the_bytes_of_a_sealed_message_never_change():
    assert MESSAGE.hex() == (
        "9a020d01a2c3a4c4020001c0c3cb3fe00000000000009202"
        "92d1fed4c400c410afe609d169773a119d253351846c4fed"
    )


def test_an_update_whose_digest_is_of_blake2b_is_refused_by_its_kind():
    old = bytes.fromhex(
        "9a020301a2c3a4c4020001c0c3cb3fe00000000000009202"
        "92d1fed4c400c4102ebbb6b801c81f66bec9679d8f9778e0"
    )
    error = refused(old)
    assert (error.field, error.reason) == ("kind", Reason.UNKNOWN)


def test_every_truncated_message_is_refused():
    for end in range(len(MESSAGE)):
        assert refused(MESSAGE[:end]).reason in (Reason.BAD_FRAME, Reason.BAD_DIGEST)


def test_every_flipped_bit_is_refused():
    for bit in range(8 * len(MESSAGE)):
        forged = bytearray(MESSAGE)
        forged[bit // 8] ^= 1 << (bit % 8)
        assert refused(bytes(forged))


def test_the_size_is_checked_before_anything_else():
    assert refused(b"\xff" * 101, max_bytes=100).reason == Reason.TOO_LARGE


def test_the_kind_is_checked_before_the_digest():
    assert refused(MESSAGE[:-1] + b"\0", kind=Kind.PLAN).field == "kind"


def test_a_newer_version_is_refused_by_name():
    forged = seal_again(b"\x9a\x03" + body_of(MESSAGE)[2:])
    assert refused(forged).field == "version"


def test_a_version_of_true_is_not_a_version():
    forged = seal_again(b"\x9a\xc3" + body_of(MESSAGE)[2:])
    assert refused(forged).field == "version"


NOT_STRICT = {
    "empty": b"",
    "no array": b"\x01",
    "a map": b"\x91\x80",
    "a map in place of the array": b"\x81\x01\x02",
    "duplicate keys": b"\x91\x82\xa1a\x01\xa1a\x02",
    "ext": b"\x91\xd4\x05\x00",
    "timestamp": b"\x91" + msgpack.packb(msgpack.Timestamp(1, 0)),
    "float32": b"\x91\xca\x3f\x80\x00\x00",
    "the byte that msgpack never uses": b"\x91\xc1",
    "non-UTF-8": b"\x91\xa1\xff",
    "a surrogate": b"\x91\xa3\xed\xa0\x80",
    "a long form of 0 as uint8": b"\x91\xcc\x00",
    "a long form of 5 as uint64": b"\x91\xcf" + bytes(7) + b"\x05",
    "a long form of 5 as int64": b"\x91\xd3" + bytes(7) + b"\x05",
    "a long form of -1 as int8": b"\x91\xd0\xff",
    "a long form of -33 as int16": b"\x91\xd1\xff\xdf",
    "a positive int64": b"\x91\xd3\x7f" + bytes(7),
    "a long form of a bin": b"\x91\xc5\x00\x01a",
    "a long form of a str": b"\x91\xd9\x01a",
    "a long form of an array": b"\xdc\x00\x01\x01",
    "a long form of a long array": b"\xdd\x00\x00\x00\x01\x01",
    "trailing bytes": b"\x91\x01\x00",
    "two arrays": b"\x91\x01\x91\x01",
    "an array of 2^32-1 items": b"\xdd\xff\xff\xff\xff",
    "a bin of 2^32-1 bytes": b"\x91\xc6\xff\xff\xff\xff",
    "a str of 2^31 bytes": b"\x91\xdb\x80\x00\x00\x00",
    "a str above the limit": b"\x91\xda\x03\xe8" + b"a" * 1000,
    "a cut length": b"\x91\xc6\x00",
    "a cut float": b"\x91\xcb\x00",
    "five deep": b"\x91\x91\x91\x91\x91\xc0",
    "2 000 deep": b"\x91" * 2000 + b"\xc0",
    "100 000 deep": b"\x91" * 100_000 + b"\xc0",
    "10 kB of nested array headers": b"\xdc\xff\xff" * 3333,
    "257 items": b"\xdc\x01\x01" + b"\xc0" * 257,
    "320 items in small arrays": b"\xdc\x00\x14" + (b"\x9f" + b"\xc0" * 15) * 20,
}


EDGES = [
    sign * (1 << bits) + step
    for bits in (0, 4, 5, 7, 8, 15, 16, 31, 32, 62)
    for sign in (1, -1)
    for step in (-1, 0, 1)
]


@pytest.mark.parametrize(
    "fields",
    [
        *[[edge] for edge in [*EDGES, 2**63, 2**64 - 1, -(2**63)]],
        *[[bytes(n)] for n in (0, 1, 31, 32, 255, 256, 65535, 65536)],
        *[["a" * n] for n in (0, 1, 31, 32, 255, 256, 512)],
        *[[None] * n for n in (0, 1, 15, 16, 255)],
    ],
    ids=lambda fields: f"{str(fields)[:12]}-{len(str(fields))}",
)
def test_unpack_reads_every_form_that_pack_writes(fields):
    assert unpack(pack(fields), "it") == tuple(fields)


LARGE = [bytes(range(256)) * n for n in (256, 300)]
MIXED = [
    [LARGE[0]],
    [1, LARGE[0], "a", LARGE[1]],
    [LARGE[0], LARGE[1], bytes(65535), 7],
    [[LARGE[0], 3], None, LARGE[1]],  # one inside of an array
    [LARGE[0][:65535], *[None] * 20, LARGE[0]],
]


@pytest.mark.parametrize("fields", MIXED, ids=range(len(MIXED)))
def test_large_bins_are_packed_as_msgpack_does(fields):
    assert pack(fields) == msgpack.packb(fields, use_bin_type=True)
    for kind in (Kind.UPDATE, Kind.PLAN):
        sealed = seal(kind, fields)
        body = msgpack.packb([2, int(kind), *fields, bytes(16)])[:-18]
        assert body_of(sealed) == body
        assert unseal(sealed, kind, len(sealed)) == unpack(pack(fields), "it")
    assert seal(Kind.UPDATE, fields) == seal_again(body_of(seal(Kind.UPDATE, fields)))


@pytest.mark.parametrize("sizes", [[], [0], [3, 4], [65_535], [1, 65_535], [70_000, 9]])
def test_a_bin_in_parts_is_packed_as_one(sizes):
    parts = [bytes([size % 251]) * size for size in sizes]
    assert pack([1, Bin(parts), "a"]) == pack([1, b"".join(parts), "a"])
    assert seal(Kind.UPDATE, [Bin(parts), 2]) == seal(Kind.UPDATE, [b"".join(parts), 2])


@pytest.mark.parametrize("size", [0, 15, 16, 65_535, 65_536, 100_000])
@pytest.mark.parametrize("kind", [Kind.UPDATE, Kind.PLAN])
def test_a_view_is_packed_as_the_bytes_that_it_shows(size, kind):
    data = (bytes(range(251)) * 400)[:size]
    view = memoryview(data)
    assert pack([view, 1, view]) == pack([data, 1, data])
    assert seal(kind, [view, 1, view]) == seal(kind, [data, 1, data])
    assert seal(kind, [Bin([view, b"a"]), 1]) == seal(kind, [data + b"a", 1])


@pytest.mark.parametrize("size", [16, 17, 60_000, 65_536, 100_000])
@pytest.mark.parametrize("front", [[], [b"x" * 70_000], ["name", 4]])
def test_a_plan_is_digested_without_what_the_digest_of_its_last_part_covers(
    size, front
):
    inner = bytes(range(1, 101)) * (size // 100 + 1)
    inner = inner[:size]
    sealed = seal(Kind.PLAN, [*front, inner])
    body = body_of(sealed)
    digest = blake2b(body[:-size] + inner[-16:], digest_size=16).digest()
    assert sealed[-16:] == digest
    assert unseal(sealed, Kind.PLAN, len(sealed))[-1] == inner


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=1, max_size=12), st.integers(0, 3))
def test_what_unpack_accepts_is_what_pack_writes(data, count):
    packed = bytes([0x90 + count]) + data
    with contextlib.suppress(PayloadError):
        assert pack(unpack(packed, "it")) == packed


@pytest.mark.parametrize("data", NOT_STRICT.values(), ids=NOT_STRICT)
def test_unpack_refuses_what_is_not_strict(data):
    with pytest.raises(PayloadError) as caught:
        unpack(data, "it")
    assert caught.value.reason == Reason.BAD_FRAME
    assert caught.value.field == "it"


@pytest.mark.parametrize("data", NOT_STRICT.values(), ids=NOT_STRICT)
def test_the_slow_msgpack_refuses_the_same(data, monkeypatch):
    fallback = pytest.importorskip("msgpack.fallback")

    def unpackb(packed, **options):
        unpacker = fallback.Unpacker(None, max_buffer_size=len(packed), **options)
        unpacker.feed(packed)
        return unpacker._unpack()

    monkeypatch.setattr(msgpack, "unpackb", unpackb)
    assert unpack(pack(FIELDS), "it")[0] == 1
    with pytest.raises(PayloadError):
        unpack(data, "it")


@pytest.mark.parametrize("data", [None, "text", bytearray(MESSAGE), 5])
def test_what_is_not_bytes_is_refused(data):
    with pytest.raises(PayloadError, match="want bytes"):
        unseal(data, Kind.UPDATE, 1 << 20)


def test_a_message_without_fields_or_digest_is_refused():
    assert refused(pack([2, 13])).reason == Reason.BAD_FRAME
    for last in ("no digest", b"short", None):
        error = refused(pack([2, 13, last]))
        assert (error.field, error.reason) == ("digest", Reason.BAD_FRAME)
    assert refused(pack([2, 13, bytes(16)])).reason == Reason.BAD_DIGEST
