"""The frame of every message: one strict msgpack array with a digest at its end.

A plan holds a message that all clients share, of megabytes.  The digest of that message
stands for it in the digest of the plan, so that to address a plan hashes a few bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from typing import Any, NoReturn, TypeAlias

import msgpack
import xxhash

from fedprune.common.codec.checks import shown
from fedprune.common.errors import PayloadError, Reason
from fedprune.common.spec import DIGEST_SIZE

VERSION = 2
MAX_ITEMS = 256  # all items of one frame, arrays included; the largest has 67
MAX_DEPTH = 4
MAX_TEXT = 512  # bytes of one str: 128 characters of UTF-8

_BUFFER = 4096  # bytes; msgpack's own choice is 256 kB for the smallest message
_LARGE = 1 << 16  # bytes of a bin whose header has four bytes of length
_LARGE_BIN, _LENGTH = b"\xc6", 4
_HEAD = 2  # version and kind
_TAIL = b"\xc4" + bytes([DIGEST_SIZE])  # msgpack's header in front of the digest

_FIXED = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCB: 8}  # nil, false, true, float64
_SIGNED = {0xD0: (1, 1 << 5), 0xD1: (2, 1 << 7), 0xD2: (4, 1 << 15), 0xD3: (8, 1 << 31)}
_ARRAYS = {0xDC: (2, 1 << 4), 0xDD: (4, 1 << 16)}
_RUNS = {  # bin and str
    0xC4: (1, 0), 0xC5: (2, 1 << 8), 0xC6: (4, 1 << 16),
    0xD9: (1, 1 << 5), 0xDA: (2, 1 << 8), 0xDB: (4, 1 << 16),
}  # fmt: skip
# First byte -> bytes of the number behind it, and the least that needs so many.
_NUMBERS = _RUNS | _ARRAYS | _SIGNED | {
    0xCC: (1, 1 << 7), 0xCD: (2, 1 << 8), 0xCE: (4, 1 << 16), 0xCF: (8, 1 << 32),
}  # fmt: skip


Bytes: TypeAlias = bytes | memoryview  # views are of single bytes


@dataclass(frozen=True, slots=True)
class Bin:
    """A bin whose bytes are these parts: a large one is copied into a message once."""

    parts: Sequence[Bytes]


class Kind(IntEnum):
    """Kinds of messages; the values are on the wire."""

    SHARED = 2
    WEIGHTS = 4
    BROADCAST = 5
    STORED = 6
    FULL = 7
    CHANGE = 8
    MODEL = 9
    CODEBOOK = 10
    MASK = 11
    PLAN = 12  # 1 was a plan whose digest covered all of it
    UPDATE = 13  # 3 was an update with a digest of blake2b


def seal(kind: Kind, fields: Sequence[object]) -> bytes:
    """Return the message ``[version, kind, *fields, digest]``."""
    items = [VERSION, int(kind), *fields]
    parts = _parts(items, len(items) + 1)
    digest = _digest(kind, parts, items[-1])
    return b"".join((*parts, _TAIL, digest))


def unseal(data: bytes, kind: Kind, max_bytes: int) -> tuple[Any, ...]:
    """Return the fields of a message, which are not validated yet.

    Checked in this order: size, structure of the frame, version and kind, digest.  The
    digest detects damage; it does not protect against a hostile sender.  Damage in the
    message inside a plan is found when that one is unsealed.

    Raises:
        PayloadError: If the bytes are not a message of this version and kind.
    """
    if type(data) is bytes and len(data) > max_bytes:
        detail = f"{len(data)} bytes; want at most {max_bytes}"
        raise PayloadError(Reason.TOO_LARGE, "message", detail)
    items = unpack(data, "message")
    if len(items) <= _HEAD:
        _refuse("message", f"{len(items)} items; want version, kind, fields, digest")
    _check_head(items[0], items[1], kind)
    if type(items[-1]) is not bytes or len(items[-1]) != DIGEST_SIZE:
        _refuse("digest", f"{shown(items[-1])}; want {DIGEST_SIZE} bytes")
    body = memoryview(data)[: -len(_TAIL) - DIGEST_SIZE]
    if _digest(kind, (body,), items[-2]) != items[-1]:
        detail = "differs from the bytes: damaged on the way"
        raise PayloadError(Reason.BAD_DIGEST, "digest", detail)
    return items[_HEAD:-1]


def kind_of(data: bytes) -> Kind | None:
    """Return the kind that a message declares, or None; nothing else is checked."""
    head = data[2:3] if data[:1] < b"\xdc" else data[4:5]
    known = {bytes([kind]): kind for kind in Kind}
    return known.get(head)


def pack(fields: Sequence[object]) -> bytes:
    """Return an array of plain values as msgpack, without a digest."""
    return b"".join(packed(fields).parts)


def packed(fields: Sequence[object]) -> Bin:
    """Return what ``pack`` does as an item of another array."""
    return Bin(_parts(fields, len(fields)))


def _parts(fields: Sequence[object], count: int) -> list[Bytes]:
    """Return the start of a msgpack array of ``count`` items in parts.

    A large bin is parts as they are: msgpack would copy it twice.
    """
    packer = msgpack.Packer(use_bin_type=True, autoreset=False, buf_size=_BUFFER)
    packer.pack_array_header(count)
    parts: list[Bytes] = []
    for field in fields:
        blocks = _blocks(field)
        size = sum(map(len, blocks))
        if size >= _LARGE:
            header = _LARGE_BIN + size.to_bytes(_LENGTH, "big")
            parts += [packer.bytes(), header, *blocks]
            packer.reset()
        else:
            packer.pack(b"".join(blocks) if isinstance(field, Bin) else field)
    return [*parts, packer.bytes()]


def _blocks(field: object) -> Sequence[Bytes]:
    """Return the bytes of a bin, in parts; none of what is something else."""
    if isinstance(field, Bin):
        return field.parts
    return [field] if isinstance(field, bytes | memoryview) else []


def unpack(data: bytes, field: str) -> tuple[Any, ...]:
    """Return the items of one canonical msgpack array, arrays as tuples.

    Raises:
        PayloadError: If the bytes are anything else, or not in the shortest form.
    """
    if type(data) is not bytes:
        _refuse(field, f"{shown(data)}; want bytes")
    _walk(data, field)
    try:
        items = msgpack.unpackb(
            data,
            raw=False,
            use_list=False,
            strict_map_key=True,
            max_array_len=MAX_ITEMS,
            max_str_len=MAX_TEXT,
            max_bin_len=len(data),
            max_map_len=0,
            max_ext_len=0,
        )
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        detail = f"not a msgpack array: {type(error).__name__}"
        raise PayloadError(Reason.BAD_FRAME, field, detail) from error
    if type(items) is not tuple:
        _refuse(field, f"{shown(items)}; want an array")
    return items


def _walk(data: bytes, field: str) -> None:
    """Follow the headers once; msgpack itself bounds neither depth nor items.

    Without it, 10 kB of nested array headers make msgpack allocate 34 MB.  It also
    refuses types that no message uses (maps, ext types, timestamps, float32) and all
    but the shortest form of a number or length, so equal values have equal bytes: a
    frame that passes is one that ``pack`` writes, without the cost of packing it again.
    """
    position, items, pending = 0, 0, [1]
    while pending:
        if pending[-1] == 0:
            pending.pop()
            continue
        pending[-1] -= 1
        items += 1
        position, children = _step(data, position, field)
        if children:
            pending.append(children)
        if items + sum(pending) > MAX_ITEMS or len(pending) > MAX_DEPTH + 1:
            _refuse(field, f"want at most {MAX_ITEMS} items, {MAX_DEPTH} deep")
    if position != len(data):
        _refuse(field, f"{len(data)} bytes; its headers announce {position}")


def _step(data: bytes, position: int, field: str) -> tuple[int, int]:
    """Return the end of the item at ``position``, and the number of its items."""
    if position >= len(data):
        _refuse(field, f"ends after {len(data)} bytes, before its last item")
    head = data[position]
    position += 1
    if head < 0x80 or head >= 0xE0:  # noqa: PLR2004 - small ints, as msgpack has them
        return position, 0
    if 0x90 <= head < 0xA0:  # noqa: PLR2004 - arrays of up to 15 items
        return position, head & 0x0F
    if 0xA0 <= head < 0xC0:  # noqa: PLR2004 - str of up to 31 bytes
        return position + (head & 0x1F), 0
    if head in _FIXED:
        return position + _FIXED[head], 0
    if head not in _NUMBERS:
        _refuse(field, f"holds type byte 0x{head:02x}, which no message uses")
    number, position = _number(data, position, field)
    if head in _ARRAYS:
        return position, number
    return position + (number if head in _RUNS else 0), 0


def _number(data: bytes, position: int, field: str) -> tuple[int, int]:
    """Return the number at ``position``, after its type byte, and its end."""
    head = data[position - 1]
    width, least = _NUMBERS[head]
    end = position + width
    number = int.from_bytes(data[position:end], "big", signed=head in _SIGNED)
    # ~n counts negative numbers from -1 downwards, and is negative for the others.
    if (~number if head in _SIGNED else number) < least:
        _refuse(field, f"not in the shortest form: {number} in {width} bytes")
    return number, end


def _digest(kind: Kind, parts: Sequence[Bytes], last: object) -> bytes:
    """Return the digest of a message.

    Args:
        kind: Its kind.
        parts: Its bytes in front of the digest, one after another.
        last: Its last item in front of the digest; if a bin, the parts end with it.
    """
    # Of updates there is one from each client: blake2b, here and where they are read,
    # was an eighth of a dense client's CPU (record 0100).
    update = kind is Kind.UPDATE
    state = xxhash.xxh3_128() if update else blake2b(digest_size=DIGEST_SIZE)
    inner = last if kind is Kind.PLAN and isinstance(last, bytes | memoryview) else b""
    if len(inner) >= DIGEST_SIZE:
        parts = [*_without_end(parts, len(inner)), inner[-DIGEST_SIZE:]]
    for part in parts:
        state.update(part)
    return state.digest()


def _without_end(parts: Sequence[Bytes], count: int) -> list[Bytes]:
    """Return parts without their last ``count`` bytes."""
    kept = list(parts)
    while count and kept:
        part = memoryview(kept.pop())
        if len(part) > count:
            kept.append(part[: len(part) - count])
        count -= min(count, len(part))
    return kept


def _check_head(version: object, found: object, kind: Kind) -> None:
    if type(version) is not int or version != VERSION:
        detail = f"{shown(version)}; this program reads {VERSION}"
        raise PayloadError(Reason.UNKNOWN, "version", detail)
    if type(found) is not int or found != kind:
        detail = f"{shown(found)}; want {int(kind)} ({kind.name.lower()})"
        raise PayloadError(Reason.UNKNOWN, "kind", detail)


def _refuse(field: str, detail: str) -> NoReturn:
    raise PayloadError(Reason.BAD_FRAME, field, detail)
