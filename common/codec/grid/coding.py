"""A grid as one message: whole, or as the change since an earlier broadcast.

``grid/format.py`` gives the format; both kinds decode to the same integers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fedprune.common.codec import checks
from fedprune.common.codec.delta.levels import Levels
from fedprune.common.codec.delta.options import CodingFlags, lanes_for
from fedprune.common.codec.entropy.coder import (
    WORD_BYTES,
    Encoder,
    close_stream,
    open_stream,
)
from fedprune.common.codec.entropy.raw_bits import join_raw, split_raw, to_bits
from fedprune.common.codec.frame import Kind, kind_of, seal, unseal
from fedprune.common.codec.grid.body import (
    BITS,
    Base,
    GridBody,
    GridHeader,
    change_between,
    choose_header,
    code_grid,
    levels_of,
    nothing,
    raw_bits,
    raw_of,
)
from fedprune.common.codec.grid.quantise import TOP, filled_rows, rescaled
from fedprune.common.errors import DataError, PayloadError, Reason, StaleUpdate
from fedprune.common.messages import GridWeights
from fedprune.common.spec import ModelSpec

Observer = Callable[[str, int], None]

_BODY = 5  # flags, count, bits, stream, raw
_BASE = 2  # round and name of the base
_ENTRY = 8  # bytes, more than a position and its level need
_FRAME = 1 << 14  # more than the lanes and fields of a small network


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseName:
    """The broadcast that a change is encoded against, its base.

    Attributes:
        round: The round that sent it, >= 1.
        name: ``GridWeights.name`` of it, as it was sent.
    """

    round: int
    name: bytes


def encode_full(grid: GridWeights, spec: ModelSpec) -> bytes:
    """Return a grid as a message that stands alone.

    Raises:
        DataError: If the grid has not the shapes of this network.
    """
    return seal(Kind.FULL, _encode(nothing(spec), grid))


def encode_change(
    grid: GridWeights, spec: ModelSpec, name: BaseName, base: GridWeights
) -> bytes:
    """Return a grid as its change since a base that the receiver has stored.

    Args:
        grid: The grid to send.
        spec: Its shapes.
        name: The broadcast that the receiver has stored.
        base: That broadcast in these shapes, with the same rows and columns cut.

    Raises:
        DataError: If one of the two has not the shapes of this network.
    """
    fields = _encode(Base(grid=base, spec=spec), grid)
    return seal(Kind.CHANGE, [int(name.round), name.name, *fields])


def is_grid(data: bytes) -> bool:
    """Return whether a message declares that it is a grid; nothing else is checked."""
    return kind_of(data) in (Kind.FULL, Kind.CHANGE)


def base_name(data: bytes, spec: ModelSpec) -> BaseName | None:
    """Return the base of a message, or None if it stands alone.

    Raises:
        PayloadError: If the bytes are not a valid change.
    """
    if kind_of(data) is not Kind.CHANGE:
        return None
    return _base_name(_change_items(data, spec))


def _change_items(data: bytes, spec: ModelSpec) -> tuple[object, ...]:
    """Return the fields of a change; their number and the digest are checked."""
    return checks.array(unseal(data, Kind.CHANGE, _cap(spec)), "grid", _BASE + _BODY)


def _base_name(items: tuple[object, ...]) -> BaseName:
    return BaseName(
        round=checks.integer(items[0], "grid.base.round", 1, checks.MAX_ROUND),
        name=checks.digest(items[1], "grid.base"),
    )


def decode_full(
    data: bytes, spec: ModelSpec, observer: Observer | None = None
) -> GridWeights:
    """Return the grid of a message of kind "full"; trust nothing in ``data``.

    Raises:
        PayloadError: If the bytes are not a valid grid of this network.
    """
    items = checks.array(unseal(data, Kind.FULL, _cap(spec)), "grid", _BODY)
    return _decode(items, nothing(spec), observer)


def decode_change(
    data: bytes,
    spec: ModelSpec,
    stored: GridWeights,
    base: GridWeights,
    observer: Observer | None = None,
) -> GridWeights:
    """Return the grid of a message of kind "change"; trust nothing in ``data``.

    Args:
        data: The message.
        spec: Shapes of the network that is sent.
        stored: The broadcast that the receiver has stored, as it was sent.
        base: The same in the shapes of ``spec``.
        observer: Called with the bytes of the stream up to the end of each part.

    Raises:
        StaleUpdate: If the message is encoded against another broadcast.
        PayloadError: If the bytes are not a valid change of this network.
    """
    if kind_of(data) is not Kind.CHANGE:
        raise PayloadError(Reason.UNKNOWN, "kind", "not a change of a broadcast")
    items = _change_items(data, spec)
    name = _base_name(items)
    if name.name != stored.name:
        detail = f"{name.name.hex()}; {stored.name.hex()} is stored"
        raise StaleUpdate(Reason.MISMATCH, "grid.base", detail)
    return _decode(items[_BASE:], Base(grid=base, spec=spec), observer)


def _cap(spec: ModelSpec) -> int:
    return _ENTRY * (spec.size + spec.rows) + _FRAME


def _encode(base: Base, grid: GridWeights) -> list[object]:
    """Return the fields of a body."""
    _check_shapes(base.spec, grid, base.grid)
    change = change_between(base, grid)
    if not len(change.positions) and np.array_equal(grid.codes, base.grid.codes):
        return [0, 0, 0, b"", b""]
    header, prepared = choose_header(base, change)
    writer = Encoder(lanes_for(base.spec.size, header.count))
    body = code_grid(writer, header, base, change, prepared)
    first, rest = split_raw(raw_of(body, change), writer.lanes)
    stream = close_stream(writer, first)
    return [header.flags.pack(), header.count, header.bits, stream, rest]


def _check_shapes(spec: ModelSpec, *grids: GridWeights) -> None:
    for grid in grids:
        if len(grid.codes) != spec.rows or len(grid.levels) != spec.size:
            msg = (
                f"a grid of {len(grid.codes)} rows and {len(grid.levels)} levels; want "
                f"{spec.rows} and {spec.size}"
            )
            raise DataError(msg)


def _decode(
    items: tuple[object, ...], base: Base, observer: Observer | None
) -> GridWeights:
    header = _header(items, base.spec.size)
    stream = checks.blob(items[3], "grid.stream")
    raw = checks.blob(items[4], "grid.raw")
    if not stream:
        if header.flags.pack() or header.count or header.bits or raw:
            detail = "no stream, but fields of one; want none"
            raise PayloadError(Reason.BAD_VALUE, "grid.stream", detail)
        _check_canonical(base.grid, base)
        return base.grid
    decoder = open_stream(
        stream, lanes_for(base.spec.size, header.count), "grid.stream"
    )

    def passed(part: str) -> None:
        if observer is not None:
            observer(part, WORD_BYTES * decoder.words_taken)

    body = code_grid(decoder, header, base, None, observer=passed)
    if len(body.positions) != header.count:
        detail = f"{len(body.positions)} positions; want {header.count}"
        raise PayloadError(Reason.BAD_SIZE, "grid.positions", detail)
    count = raw_bits(body)
    bits = to_bits(join_raw(decoder.finish(), raw, (count + 7) // 8), count)
    grid = _assemble(body, levels_of(body, bits), header, base)
    if not header.count and np.array_equal(grid.codes, base.grid.codes):
        detail = "a stream in which nothing changes"
        raise PayloadError(Reason.BAD_VALUE, "grid.stream", detail)
    return grid


def _header(items: tuple[object, ...], size: int) -> GridHeader:
    flags = CodingFlags.unpack(items[0])
    if flags.known_positions or flags.everywhere:
        detail = f"{flags.pack()}: known_positions or everywhere in a broadcast"
        raise PayloadError(Reason.BAD_VALUE, "grid.flags", detail)
    count = checks.integer(items[1], "grid.count", 0, size)
    bits = checks.integer(items[2], "grid.bits", 1 if count else 0, BITS)
    if bits and not count:
        detail = f"{bits} bits, but no level; want 0"
        raise PayloadError(Reason.BAD_VALUE, "grid.bits", detail)
    return GridHeader(flags=flags, count=count, bits=bits)


def _assemble(
    body: GridBody, moved: Levels, header: GridHeader, base: Base
) -> GridWeights:
    """Return the grid; refuse levels and steps that are not canonical."""
    largest = max(int(moved.max(initial=0)), -int(moved.min(initial=0)))
    if largest.bit_length() != header.bits or np.any(moved == 0):
        detail = f"levels of 0, or none of {header.bits} bits"
        raise PayloadError(Reason.BAD_VALUE, "grid.levels", detail)
    levels = rescaled(base.grid, body.codes, base.spec)
    levels[body.positions] += moved
    bad = np.flatnonzero((levels > TOP) | (levels < -TOP))
    if len(bad):
        tensor = base.spec.tensor_at(int(bad[0]))
        detail = f"level {levels[bad[0]]}; want at most {TOP}"
        raise PayloadError(Reason.BAD_VALUE, f"grid.levels of '{tensor}'", detail)
    grid = GridWeights(codes=body.codes, levels=levels.astype(np.int16))
    _check_canonical(grid, base)
    return grid


def _check_canonical(grid: GridWeights, base: Base) -> None:
    """Refuse a grid whose rows of zeros are not exactly those of code 0."""
    odd = np.flatnonzero(filled_rows(grid.levels, base.spec) != (grid.codes > 0))
    if len(odd):
        tensor = base.side_info.layout.spec.tensor_at(
            int(base.side_info.layout.bounds[odd[0]])
        )
        detail = f"row {odd[0]} has step {grid.codes[odd[0]]}"
        raise PayloadError(Reason.BAD_VALUE, f"grid.steps of '{tensor}'", detail)
