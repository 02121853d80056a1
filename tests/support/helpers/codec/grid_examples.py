"""Grids to send, and what forges their messages: every forgery has a right digest."""

import contextlib
from dataclasses import replace
from unittest import mock

import numpy as np
from hypothesis import strategies as st

from fedprune.common import codec
from fedprune.common.codec.delta import levels, positions
from fedprune.common.codec.delta.options import lanes_for
from fedprune.common.codec.entropy.raw_bits import split_raw
from fedprune.common.codec.frame import Kind, seal
from fedprune.common.codec.grid.body import (
    Base,
    change_between,
    choose_header,
    code_grid,
    nothing,
    raw_of,
)
from fedprune.common.codec.grid.quantise import TOP, tidy
from fedprune.common.messages import GridWeights
from fedprune.common.spec import ModelSpec, TensorSpec
from helpers.codec.examples import BASE, SPEC
from helpers.codec.forgery import Liar, no_change

GRID = codec.on_grid(BASE, SPEC, None)
NAME = codec.BaseName(round=3, name=GRID.name)


def moved(grid=GRID, spec=SPEC, share=0.3, seed=5) -> GridWeights:
    """Return a grid of which a share of the weights has moved by a few steps."""
    rng = np.random.default_rng(seed)
    weights = codec.grid_values(grid, spec)
    step = np.abs(weights).mean() * 0.2 if len(weights) else 0.0
    noise = rng.normal(scale=step + 1e-6, size=spec.size)
    noise = np.where(rng.random(spec.size) < share, noise, 0)
    return codec.on_grid((weights + noise).astype(np.float32), spec, grid)


NEXT = moved()
FULL = codec.encode_full(GRID, SPEC)
CHANGE = codec.encode_change(NEXT, SPEC, NAME, GRID)


@st.composite
def specs(draw) -> ModelSpec:
    """Return shapes of a few small tensors, empty ones and single weights included."""
    shapes = st.lists(
        st.lists(st.integers(0, 5), min_size=0, max_size=3), min_size=0, max_size=4
    )
    tensors = [
        TensorSpec(name=f"t{number}", shape=tuple(shape))
        for number, shape in enumerate(draw(shapes))
    ]
    return ModelSpec(tensors=tuple(tensors), moments=0, units=0)


@st.composite
def grids(draw, spec: ModelSpec) -> GridWeights:
    """Return any grid of a network: sparse or dense, small or extreme levels."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    top = draw(st.sampled_from([0, 1, 3, 127, 1023, TOP]))
    density = draw(st.sampled_from([0.0, 0.1, 1.0]))
    found = rng.integers(-top, top + 1, spec.size)
    found = np.where(rng.random(spec.size) < density, found, 0).astype(np.int16)
    low, high = draw(st.sampled_from([(1, 63), (40, 42), (63, 63)]))
    codes = rng.integers(low, high + 1, spec.rows).astype(np.uint8)
    return tidy(codes, found, spec)


def lie(  # noqa: PLR0913 - one keyword for each thing to lie about
    run=-1, change=no_change, *, grid=GRID, base=None, header=None, content=None,
    raw=None,
):  # fmt: skip
    """Return a message whose body holds what no encoder writes."""
    start = nothing(SPEC) if base is None else Base(grid=base, spec=SPEC)
    found = change_between(start, grid)
    head = replace(choose_header(start, found)[0], **(header or {}))
    if content is not None:
        found = replace(found, **content(found))
    writer = Liar(lanes_for(SPEC.size, head.count), run, change)
    with contextlib.ExitStack() as stack:
        checks = {"_check_rows": positions, "_check_columns": positions}
        for name, module in (checks | {"_check_sizes": levels}).items():
            stack.enter_context(mock.patch.object(module, name))
        body = code_grid(writer, head, start, found)
    first, rest = split_raw(raw_of(body, found), writer.lanes)
    if raw is not None:
        first, rest = raw(first, rest)
    states, words = writer.finish(first)
    stream = states.astype("<u4").tobytes() + words.astype("<u2").tobytes()
    fields = [head.flags.pack(), head.count, head.bits, stream, rest]
    if base is None:
        return seal(Kind.FULL, fields)
    return seal(Kind.CHANGE, [3, base.name, *fields])
