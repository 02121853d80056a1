"""A quantised delta as bytes, by the contexts that both ends hold.

``choose.py`` picks the contexts; ``body.py`` writes and reads with one and the same
code; the package docstring gives the format.
"""

from dataclasses import replace

import numpy as np

from fedprune.common.codec import checks
from fedprune.common.codec.delta.body import (
    Content,
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
from fedprune.common.codec.delta.header import Fields, read_fields, write_fields
from fedprune.common.codec.delta.levels import look_up
from fedprune.common.codec.delta.options import Header, Recipe, lanes_for
from fedprune.common.codec.delta.quantise import GRIDS, dequantise_delta
from fedprune.common.codec.delta.side_information import Known
from fedprune.common.codec.entropy.coder import Writer, close_stream, open_stream
from fedprune.common.codec.entropy.raw_bits import split_raw
from fedprune.common.errors import DataError, PayloadError, Reason, StaleUpdate
from fedprune.common.messages import QuantisedDelta
from fedprune.common.spec import Indices, Mask, ModelSpec, digest_of


def encode_delta(delta: QuantisedDelta, known: Known) -> bytes:
    """Return a quantised delta as bytes; equal arguments give equal bytes.

    Args:
        delta: What ``quantise_delta`` returned.
        known: What both ends hold (``hold``); with an agreed mask the delta has no
            entry outside.

    Raises:
        DataError: If delta, weights and mask do not belong together.
    """
    _check_sizes(delta, known)
    places = delta.indices if known.mask is None else np.flatnonzero(known.mask)
    if not len(places):
        return write_fields(_no_fields(delta.kind))
    content = content_of(delta, places)
    header = _choose(delta, known, places, content)
    writer = Writer(lanes_for(delta.size, len(places)))
    body = code_body(writer, header, known, content)
    first, rest = split_raw(raw_bytes(body, content), writer.lanes)
    stream = close_stream(writer, first)
    if delta.kind == "float32":
        rest = dense_at(delta, places).astype("<f4").tobytes()
    return write_fields(
        Fields(
            header=header,
            mask=b"" if known.mask is None else _mask_digest(known.mask),
            stream=stream,
            raw=rest,
        )
    )


def ideal_bytes(delta: QuantisedDelta, known: Known) -> float:
    """Return the code length of a delta under the shares that it is coded with.

    Raw bits and floats count as they are; states, rounding and fields do not count.

    Args:
        delta: A delta of at least one entry, not of kind float32.
        known: What both ends hold.
    """
    places = delta.indices if known.mask is None else np.flatnonzero(known.mask)
    content = content_of(delta, places)
    header = _choose(delta, known, places, content)
    writer = Writer(lanes_for(delta.size, len(places)))
    body = code_body(writer, header, known, content)
    return writer.ideal_bits() / 8 + len(raw_bytes(body, content))


def decode_delta(
    data: bytes,
    known: Known,
    *,
    values: str,
    max_entries: int,
) -> QuantisedDelta:
    """Return the delta in ``data``; trust nothing in it.

    Args:
        data: What ``encode_delta`` returned.
        known: What the receiver holds (``hold``).
        values: Kind of values that was asked for.
        max_entries: Most entries accepted.

    Raises:
        PayloadError: If the bytes are no delta of this network and kind.
    """
    fields = read_fields(data)
    header = fields.header
    if header.values != values:
        detail = f"{header.values}; want {values}"
        raise PayloadError(Reason.MISMATCH, "delta.values", detail)
    checks.integer(header.count, "delta.count", 0, min(max_entries, known.shape.size))
    _check_known(fields, known)
    if header.count == 0:
        return _nothing(data, values, known.shape.spec)
    lanes = lanes_for(known.shape.size, header.count)
    taker = open_stream(fields.stream, lanes, "delta.stream")

    body = code_body(taker, header, known, None)
    if len(body.indices) != header.count:
        detail = f"{len(body.indices)} positions; want {header.count}"
        raise PayloadError(Reason.BAD_SIZE, "delta.positions", detail)
    first = taker.finish()
    if values == "float32":
        return from_floats(fields, body, first, known.shape.spec)
    return from_levels(fields, body, first, known.shape.spec)


def _choose(
    delta: QuantisedDelta, known: Known, places: Indices, content: Content
) -> Header:
    """Return the contexts that leave the shortest message."""
    recipe, scores = choose(known, places, content.levels)
    header = Header(
        recipe=recipe, values=delta.kind, count=len(places), shrink=np.float32(0)
    )
    if not len(content.levels):
        return header
    counts = groups_of(places, known, delta.kind)
    entries = look_up(recipe, known, places, scores)
    scale = scale_of(header, content.codes, counts, entries)
    if recipe.base and GRIDS[delta.kind].top:
        values = dense_at(dequantise_delta(delta, known.shape.spec), places)
        shrunk = replace(header, shrink=choose_shrink(known, places, values))
        shifted = scale_of(shrunk, content.codes, counts, entries)
        alphabets = (scale.alphabet, shifted.alphabet)
        if shrunk.shrink and pays(shifted.shift, entries, alphabets, content.levels):
            header, scale = shrunk, shifted
    recipe = choose_levels(recipe, entries, scale, content.levels)
    return replace(header, recipe=recipe)


def delta_parts(data: bytes) -> dict[str, int]:
    """Return the bytes of an encoded delta: entries, and the rest, its header.

    Raises:
        PayloadError: If the bytes have not the form of a delta.
    """
    fields = read_fields(data)
    entries = len(fields.stream) + len(fields.raw)
    return {"entries": entries, "header": len(data) - entries}


def _mask_digest(mask: Mask) -> bytes:
    return digest_of(np.packbits(mask).tobytes())


def _no_fields(values: str) -> Fields:
    """Return the only form of a delta without entries."""
    header = Header(recipe=Recipe(), values=values, count=0, shrink=np.float32(0))
    return Fields(header=header, mask=b"", stream=b"", raw=b"")


def _nothing(data: bytes, values: str, spec: ModelSpec) -> QuantisedDelta:
    if data != write_fields(_no_fields(values)):
        detail = "fields of a delta without entries; want none"
        raise PayloadError(Reason.BAD_VALUE, "delta.count", detail)
    return empty_delta(spec, values)


def _check_sizes(delta: QuantisedDelta, known: Known) -> None:
    """Refuse what does not belong together."""
    size = known.shape.size
    for name, found in (
        ("a delta", delta.size),
        ("a base", len(known.base)),
        ("a mask", size if known.mask is None else len(known.mask)),
    ):
        if found != size:
            msg = f"{name} of {found} entries; want {size}"
            raise DataError(msg)
    if known.mask is not None and not np.all(known.mask[delta.indices]):
        msg = "the delta has entries outside the agreed mask"
        raise DataError(msg)


def _check_known(fields: Fields, known: Known) -> None:
    """Refuse a delta whose contexts the receiver does not hold.

    Raises:
        StaleUpdate: If it holds others.
    """
    recipe = fields.header.recipe
    if (known.mask is not None) != recipe.agreed and fields.header.count:
        detail = "want positions by the agreed mask, or without one"
        raise PayloadError(Reason.MISMATCH, "delta.recipe", detail)
    if recipe.agreed and known.mask is not None:
        wanted = _mask_digest(known.mask)
        if fields.mask != wanted:
            detail = f"{fields.mask.hex()!r}; want {wanted.hex()!r}"
            raise StaleUpdate(Reason.MISMATCH, "delta.mask", detail)
        wanted_count = int(np.count_nonzero(known.mask))
        if fields.header.count != wanted_count:
            detail = f"{fields.header.count}; the agreed mask has {wanted_count}"
            raise PayloadError(Reason.MISMATCH, "delta.count", detail)
