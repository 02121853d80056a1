"""A quantised delta as bytes, entropy coded with side information.

``choose.py`` chooses the contexts; ``body.py`` encodes and decodes with the same code;
``format.py`` gives the format.
"""

from dataclasses import replace

import numpy as np

from fedprune.common.codec import checks
from fedprune.common.codec.delta.body import (
    Content,
    Prepared,
    code_body,
    groups_of,
    scale_of,
)
from fedprune.common.codec.delta.choose import (
    choose,
    choose_levels,
    choose_shrink,
    pays,
)
from fedprune.common.codec.delta.content import (
    content_of,
    dense_at,
    empty_delta,
    from_floats,
    from_levels,
    raw_bytes,
)
from fedprune.common.codec.delta.header import (
    Fields,
    bin_of,
    read_fields,
    write_fields,
)
from fedprune.common.codec.delta.levels import Sizes, look_up
from fedprune.common.codec.delta.options import CodingFlags, Header, lanes_for
from fedprune.common.codec.delta.quantise import (
    VALUE_FORMATS,
    dequantise_delta,
    is_everywhere,
)
from fedprune.common.codec.delta.side_information import SideInformation
from fedprune.common.codec.entropy.coder import Encoder, close_stream, open_stream
from fedprune.common.codec.entropy.raw_bits import join_raw, split_raw
from fedprune.common.codec.frame import Bin
from fedprune.common.errors import DataError, PayloadError, Reason, StaleUpdate
from fedprune.common.messages import QuantisedDelta
from fedprune.common.spec import Indices, Mask, ModelSpec, all_positions, digest_of


def encode_delta(delta: QuantisedDelta, side_info: SideInformation) -> bytes:
    """Return a quantised delta as bytes; equal arguments give equal bytes.

    Args:
        delta: What ``quantise_delta`` returned.
        side_info: Side information of both ends; with an agreed mask the delta has
            no entry outside.

    Raises:
        DataError: If delta, weights and mask do not belong together.
    """
    return write_fields(_fields_of(delta, side_info))


def delta_bin(delta: QuantisedDelta, side_info: SideInformation) -> Bin:
    """Return what ``encode_delta`` does as an item of a message, with fewer copies."""
    return bin_of(_fields_of(delta, side_info))


def _fields_of(delta: QuantisedDelta, side_info: SideInformation) -> Fields:
    _check_sizes(delta, side_info)
    positions = (
        delta.indices if side_info.mask is None else np.flatnonzero(side_info.mask)
    )
    if not len(positions):
        return _no_fields(delta.kind)
    if side_info.mask is None and is_everywhere(delta):
        return _all_fields(delta)
    content = content_of(delta, positions)
    header, prepared = _choose(delta, side_info, positions, content)
    writer = Encoder(lanes_for(delta.size, len(positions)))
    body = code_body(writer, header, side_info, content, prepared)
    first, rest = split_raw(raw_bytes(body, content), writer.lanes)
    stream = close_stream(writer, first)
    if delta.kind == "float32":
        rest = dense_at(delta, positions).astype("<f4").tobytes()
    return Fields(
        header=header,
        mask=b"" if side_info.mask is None else _mask_digest(side_info.mask),
        stream=stream,
        raw=rest,
    )


def ideal_bytes(delta: QuantisedDelta, side_info: SideInformation) -> float:
    """Return the code length of a delta under the shares that it is coded with.

    Raw bits and floats count in full; states, rounding and fields do not count.

    Args:
        delta: A delta of at least one entry, not of kind float32.
        side_info: Side information of both ends.
    """
    positions = (
        delta.indices if side_info.mask is None else np.flatnonzero(side_info.mask)
    )
    content = content_of(delta, positions)
    header, prepared = _choose(delta, side_info, positions, content)
    writer = Encoder(lanes_for(delta.size, len(positions)))
    body = code_body(writer, header, side_info, content, prepared)
    return writer.ideal_bits() / 8 + len(raw_bytes(body, content))


def decode_delta(
    data: bytes,
    side_info: SideInformation,
    *,
    values: str,
    max_entries: int,
) -> QuantisedDelta:
    """Return the delta in ``data``; trust nothing in it.

    Args:
        data: What ``encode_delta`` returned.
        side_info: Side information of the receiver.
        values: Kind of values that was asked for.
        max_entries: Most entries accepted.

    Raises:
        PayloadError: If the bytes are not a valid delta of this network and kind.
    """
    fields = read_fields(data)
    return decode_fields(fields, side_info, values=values, max_entries=max_entries)


def decode_fields(
    fields: Fields,
    side_info: SideInformation,
    *,
    values: str,
    max_entries: int,
) -> QuantisedDelta:
    """Return the delta of fields that were read; else as ``decode_delta``."""
    header = fields.header
    if header.values != values:
        detail = f"{header.values}; want {values}"
        raise PayloadError(Reason.MISMATCH, "delta.values", detail)
    checks.integer(
        header.count, "delta.count", 0, min(max_entries, side_info.layout.size)
    )
    _check_known(fields, side_info)
    if header.count == 0:
        return _nothing(fields, values, side_info.layout.spec)
    if header.flags.everywhere:
        return _everything(fields, side_info.layout.spec)
    lanes = lanes_for(side_info.layout.size, header.count)
    decoder = open_stream(fields.stream, lanes, "delta.stream")

    body = code_body(decoder, header, side_info, None)
    if len(body.indices) != header.count:
        detail = f"{len(body.indices)} positions; want {header.count}"
        raise PayloadError(Reason.BAD_SIZE, "delta.positions", detail)
    first = decoder.finish()
    if values == "float32":
        join_raw(first, b"", 0)
        return from_floats(fields, body.indices, side_info.layout.spec)
    return from_levels(fields, body, first, side_info.layout.spec)


def _choose(
    delta: QuantisedDelta,
    side_info: SideInformation,
    positions: Indices,
    content: Content,
) -> tuple[Header, Prepared]:
    """Return the contexts that leave the shortest message."""
    flags, places = choose(side_info, positions, content.levels)
    header = Header(
        flags=flags, values=delta.kind, count=len(positions), shrink=np.float32(0)
    )
    scores = None if places is None else places.scores
    entries = look_up(flags, side_info, positions, scores)
    if not len(content.levels):
        return header, Prepared(places=places, entries=entries, sizes=None)
    counts = groups_of(positions, side_info, delta.kind)
    scale = scale_of(header, content.codes, counts, entries)
    if flags.base and VALUE_FORMATS[delta.kind].top:
        values = dense_at(dequantise_delta(delta, side_info.layout.spec), positions)
        shrunk = replace(header, shrink=choose_shrink(side_info, positions, values))
        shifted = scale_of(shrunk, content.codes, counts, entries)
        alphabets = (scale.alphabet, shifted.alphabet)
        if shrunk.shrink and pays(shifted.shift, entries, alphabets, content.levels):
            header, scale = shrunk, shifted
    sizes = Sizes.of(content.levels, entries, scale)
    flags = choose_levels(flags, entries, scale, sizes)
    prepared = Prepared(places=places, entries=entries, sizes=sizes)
    return replace(header, flags=flags), prepared


def delta_parts(data: bytes) -> dict[str, int]:
    """Return the bytes of an encoded delta by part: "entries", "header".

    Raises:
        PayloadError: If the bytes are not a valid delta.
    """
    entries = read_fields(data).entries
    return {"entries": entries, "header": len(data) - entries}


def _mask_digest(mask: Mask) -> bytes:
    return digest_of(np.packbits(mask).tobytes())


def _no_fields(values: str) -> Fields:
    """Return the only form of a delta without entries."""
    header = Header(flags=CodingFlags(), values=values, count=0, shrink=np.float32(0))
    return Fields(header=header, mask=b"", stream=b"", raw=b"")


def _all_fields(delta: QuantisedDelta) -> Fields:
    """Return a delta of floats that has every position: they travel as they are."""
    flags = CodingFlags(everywhere=True)
    header = Header(
        flags=flags, values=delta.kind, count=delta.size, shrink=np.float32(0)
    )
    raw = np.ascontiguousarray(delta.values, dtype="<f4")
    return Fields(header=header, mask=b"", stream=b"", raw=raw.data.cast("B"))


def _everything(fields: Fields, spec: ModelSpec) -> QuantisedDelta:
    """Return the delta of ``_all_fields``.

    Raises:
        PayloadError: If it lacks an entry, has a stream, or a value is not finite.
    """
    if fields.header.values != "float32" or fields.header.count != spec.size:
        detail = f"{fields.header.count} {fields.header.values} entries everywhere; "
        detail += f"want {spec.size} of float32"
        raise PayloadError(Reason.MISMATCH, "delta.flags", detail)
    if fields.stream:
        detail = f"{len(fields.stream)} bytes beside entries everywhere; want none"
        raise PayloadError(Reason.BAD_SIZE, "delta.stream", detail)
    return from_floats(fields, all_positions(spec.size), spec)


def _nothing(fields: Fields, values: str, spec: ModelSpec) -> QuantisedDelta:
    if fields != _no_fields(values):
        detail = "fields of a delta without entries; want none"
        raise PayloadError(Reason.BAD_VALUE, "delta.count", detail)
    return empty_delta(spec, values)


def _check_sizes(delta: QuantisedDelta, side_info: SideInformation) -> None:
    """Refuse a delta, base and mask of different sizes."""
    size = side_info.layout.size
    for name, found in (
        ("a delta", delta.size),
        ("a base", len(side_info.base)),
        ("a mask", size if side_info.mask is None else len(side_info.mask)),
    ):
        if found != size:
            msg = f"{name} of {found} entries; want {size}"
            raise DataError(msg)
    if side_info.mask is not None and not np.all(side_info.mask[delta.indices]):
        msg = "the delta has entries outside the agreed mask"
        raise DataError(msg)


def _check_known(fields: Fields, side_info: SideInformation) -> None:
    """Refuse a delta that was encoded with other side information.

    Raises:
        PayloadError: If flags or count contradict the agreed mask.
        StaleUpdate: If it names another mask.
    """
    flags = fields.header.flags
    if (side_info.mask is not None) != flags.known_positions and fields.header.count:
        detail = "want positions by the agreed mask, or without one"
        raise PayloadError(Reason.MISMATCH, "delta.flags", detail)
    if flags.known_positions and side_info.mask is not None:
        wanted = _mask_digest(side_info.mask)
        if fields.mask != wanted:
            detail = f"{fields.mask.hex()!r}; want {wanted.hex()!r}"
            raise StaleUpdate(Reason.MISMATCH, "delta.mask", detail)
        wanted_count = int(np.count_nonzero(side_info.mask))
        if fields.header.count != wanted_count:
            detail = f"{fields.header.count}; the agreed mask has {wanted_count}"
            raise PayloadError(Reason.MISMATCH, "delta.count", detail)
